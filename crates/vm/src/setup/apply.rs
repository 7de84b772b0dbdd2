//! Setting up a guest, phase by phase.

use std::future::Future;
use std::time::Duration;

use super::calls::Calls;
use super::{Diagnostics, Setup, accounts, files, git, packages, systemd};
use crate::error::VmError;
use crate::model::ExecOutput;

/// For what needs no network.
pub(super) const LOCAL_LIMIT: Duration = Duration::from_secs(120);
/// For packages and repositories, and for services whose spec names no time.
pub(super) const LIMIT: Duration = Duration::from_secs(1800);

/// A guest that runs.
pub trait Guest: Sync {
    /// Runs a command as root, which is killed after `timeout`.
    fn exec(
        &self,
        command: String,
        timeout: Duration,
    ) -> impl Future<Output = Result<ExecOutput, VmError>> + Send;

    /// Writes a file as root and makes its directories where they are missing.
    fn write_file(
        &self,
        path: &str,
        content: Vec<u8>,
    ) -> impl Future<Output = Result<(), VmError>> + Send;
}

/// Is told how far the setup is.
pub trait Progress: Sync {
    /// A phase begins.
    fn begin(&self, phase: Phase) -> impl Future<Output = ()> + Send;
}

/// A part of a setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Groups and users.
    Users,
    /// Debian packages.
    Packages,
    /// Files and the working directory.
    Files,
    /// Git repositories.
    Git,
    /// Services, up to the moment when all are ready.
    Systemd,
}

impl Phase {
    /// The name in build records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Packages => "packages",
            Self::Files => "files",
            Self::Git => "git",
            Self::Systemd => "systemd",
        }
    }
}

/// Why a guest is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The guest could not do what the spec asks for.
    #[error("{}: {reason}", .phase.as_str())]
    Failed {
        /// The phase in which that was.
        phase: Phase,
        /// What went wrong, in words.
        reason: String,
        /// What became of the services; only of the last phase.
        diagnostics: Option<Diagnostics>,
    },
    /// The guest does not answer any more.
    #[error(transparent)]
    Guest(#[from] VmError),
}

impl Setup {
    /// What there is to do, in this order.
    pub fn phases(&self) -> Vec<Phase> {
        let all = [
            (Phase::Users, self.groups.is_empty() && self.users.is_empty()),
            (Phase::Packages, self.packages.is_empty()),
            (Phase::Files, self.files.is_empty() && self.workdir.is_root()),
            (Phase::Git, self.git.is_empty()),
            (Phase::Systemd, self.services.is_empty()),
        ];
        all.into_iter().filter(|(_, nothing)| !nothing).map(|(phase, _)| phase).collect()
    }
}

/// Sets a guest up. The first phase that fails is the last, and what was done until then stays.
///
/// Waits for packages, repositories and, unless told otherwise, services: half an hour each at most.
pub async fn apply(
    guest: &impl Guest,
    setup: &Setup,
    progress: &impl Progress,
) -> Result<(), SetupError> {
    for phase in setup.phases() {
        progress.begin(phase).await;
        let calls = Calls { guest, phase };
        match phase {
            Phase::Users => {
                calls.run(accounts::script(&setup.groups, &setup.users), LOCAL_LIMIT).await?;
            }
            Phase::Packages => calls.run(packages::script(&setup.packages), LIMIT).await?,
            Phase::Files => write_files(&calls, setup).await?,
            Phase::Git => calls.run(git::script(&setup.git), LIMIT).await?,
            Phase::Systemd => systemd::start(&calls, setup).await?,
        }
    }
    Ok(())
}

async fn write_files(calls: &Calls<'_, impl Guest>, setup: &Setup) -> Result<(), SetupError> {
    let mut files = Vec::new();
    for (path, file) in setup.files.iter() {
        files.push((path.as_str().to_owned(), file.content.clone()));
    }
    calls.write(files).await?;
    match files::script(&setup.files, &setup.workdir) {
        Some(script) => calls.run(script, LOCAL_LIMIT).await,
        None => Ok(()),
    }
}
