//! How a command fails, in words for a person.

use std::io;
use std::process::ExitCode;

use freestyle_client::{ApiFailure, ClientError};
use freestyle_image::ImageError;
use freestyle_store::StoreError;

/// Exit code of a command that ran over its time, as `timeout(1)` has it.
const TIMED_OUT: u8 = 124;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// In the command's own words, with what to do about it.
    #[error("{message}")]
    Failed { message: String, hint: Option<String> },
    /// The server refused or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The metadata of this host could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The base image could not be built.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Standard output or standard error is closed or full.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }

    /// What goes to standard error.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}\n");
        if let Some(hint) = self.hint() {
            text.push_str(&format!("hint: {hint}\n"));
        }
        if let Self::Client(ClientError::Api(failure)) = self
            && let Some(trace_id) = &failure.trace_id
        {
            text.push_str(&format!("trace id: {trace_id}\n"));
        }
        text
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(error) if error.code() == Some("EXEC_TIMED_OUT") => TIMED_OUT.into(),
            _ => ExitCode::FAILURE,
        }
    }

    fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed { hint, .. } => hint.as_deref(),
            Self::Client(ClientError::Unreachable { .. }) => Some(
                "is `freestyle serve` running? FREESTYLE_API_URL says where, \
                 http://127.0.0.1:8080 where it is not set",
            ),
            Self::Client(ClientError::Api(failure)) => api_hint(failure),
            Self::Image(_) => Some("`freestyle doctor` checks this host"),
            _ => None,
        }
    }
}

fn api_hint(failure: &ApiFailure) -> Option<&'static str> {
    match failure.code.as_str() {
        "UNAUTHORIZED_ERROR" => Some(
            "check FREESTYLE_API_KEY; on the server's host, `freestyle admin key create` makes a key",
        ),
        "VM_NOT_FOUND" | "FORK_VM_NOT_FOUND" => {
            Some("`freestyle vm list` shows the VMs of your account")
        }
        "IDENTITY_NOT_FOUND" => {
            Some("`freestyle identity list` shows the identities of your account")
        }
        "VM_PERMISSION_NOT_FOUND" | "PERMISSION_NOT_FOUND" => {
            Some("`freestyle identity grants` shows what an identity may use")
        }
        "VM_NOT_RUNNING" => Some("`freestyle vm start` boots a VM"),
        "SNAPSHOT_NOT_FOUND"
        | "SOURCE_SNAPSHOT_DELETED"
        | "SOURCE_SNAPSHOT_CANCELLED"
        | "SNAPSHOT_ALREADY_DELETED" => {
            Some("`freestyle vm snapshot list` shows the snapshots of your account")
        }
        "SOURCE_SNAPSHOT_BUILDING" => Some("`freestyle vm snapshot get` says when it is ready"),
        "SUSPEND_FAILED_VM_RESUMED" => Some("the VM runs on; try again in a moment"),
        "NO_LOCAL_STORAGE_CAPACITY" => Some(
            "delete VMs or snapshots that are not needed any more; on the server's host, \
             `freestyle admin storage` shows what takes space",
        ),
        "VM_OPERATION_DENIED_DURING_TRANSACTION" => Some("try again in a moment"),
        "INTERNAL_ERROR" | "DATABASE_ERROR" => Some("the server's log tells more"),
        _ => None,
    }
}
