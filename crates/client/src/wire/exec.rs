//! Running a command and waiting for it (protocol section 6).

use serde::{Deserialize, Serialize};

/// The body of `POST /v1/vms/{vm_id}/exec-await`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ExecRequest {
    /// Given to `sh -c`.
    pub command: String,
    /// The terminal to run in.
    #[serde(default)]
    pub terminal: Option<String>,
    /// The command's process group is killed after this many milliseconds; no limit where absent.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(minimum = 1, maximum = 86_400_000))]
    pub timeout_ms: Option<u64>,
}

impl ExecRequest {
    /// A command without a time limit.
    pub fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), terminal: None, timeout_ms: None }
    }
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ExecResponse {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: Option<String>,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: Option<String>,
    /// Exit code, or 128 + the number of the signal that ended it.
    pub status_code: Option<i32>,
}
