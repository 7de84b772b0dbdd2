//! Running the system's `ssh` and `scp`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use super::gateway::SshConfig;
use crate::error::CliError;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program {
    Ssh,
    Scp { recursive: bool },
}

/// Signals that would end this process.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// None of them ends this process any more.
    pub(super) fn catch() -> Result<Self, CliError> {
        let catch = |kind| {
            let caught = unix::signal(kind);
            caught.map_err(|error| CliError::new(format!("cannot wait for signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// Waits for one that the program does not get as well: a terminal sends its interrupts to both.
    async fn for_us_alone(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => return,
            }
        }
    }
}

impl Program {
    /// Runs it with this process's streams until it ends, and answers its exit code.
    pub(super) async fn run(
        self,
        config: &SshConfig,
        arguments: Vec<OsString>,
        signals: &mut Signals,
    ) -> Result<ExitCode, CliError> {
        let name = match self {
            Self::Ssh => "ssh",
            Self::Scp { .. } => "scp",
        };
        let mut command = Command::new(name);
        command.arg("-F").arg(config.file());
        if let Self::Scp { recursive: true } = self {
            command.arg("-r");
        }
        let started = command.arg("--").args(arguments).spawn();
        let mut child = started.map_err(|error| {
            let message = format!("cannot run {name}: {error}");
            CliError::with_hint(message, "install OpenSSH's client (openssh-client)")
        })?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = signals.for_us_alone() => terminate(&child)?,
            }
        };
        Ok(exit_code(status))
    }
}

fn terminate(child: &Child) -> io::Result<()> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    // It may have ended already.
    pid.map_or(Ok(()), |pid| kill_process(pid, Signal::TERM).or(Ok(())))
}

/// As a shell has it: its own, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(code).unwrap_or(u8::MAX).into()
}
