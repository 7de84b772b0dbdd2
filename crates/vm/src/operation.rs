//! The long operations of a VM, as data: which steps each takes and where it ends.
//!
//! An operation is a durable row from before its first step until its outcome is recorded. Because
//! every step can be repeated and undone from any state, the row says only which operation it is:
//! after a crash the server does not go on in the middle, it takes the operation to the end it has
//! on failure, which is always safe. A create that nobody was told of is removed; a stop is
//! completed.

use freestyle_store::{InstanceChange, Persistence, VmChange, VmPhase, VmRecord};
use serde_json::json;

use crate::engine::Step;
use crate::error::VmError;
use crate::model::{AptPackage, ExecOutput};

/// A long operation on one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Makes a VM for an account.
    Create { packages: Vec<AptPackage> },
    /// Makes a VM for the pool.
    Provision,
    /// Hands a VM of the pool to an account.
    Claim { packages: Vec<AptPackage> },
    /// Boots a stopped VM from its disk.
    Start,
    /// Shuts the guest down.
    Stop,
    /// Ends the process, or cleans up after one that ended by itself.
    Kill,
    /// Removes the VM.
    Delete,
}

/// Where an operation leaves its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The guest has answered.
    Running,
    /// Paused in the pool.
    Ready,
    /// Only the disk is left.
    Stopped,
    /// Nothing is left.
    Deleted,
}

impl Operation {
    /// The name in the store. Part of the database's format.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Provision => "provision",
            Self::Claim { .. } => "claim",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Delete => "delete",
        }
    }

    /// What the store keeps beside the name: nothing is needed to take an operation to its end.
    pub(crate) fn params(&self) -> serde_json::Value {
        json!({})
    }

    /// The steps that come first. If one fails, the rest are left out.
    pub(crate) fn steps(&self) -> &'static [Step] {
        use Step::{Boot, Greet, MakeDisk, MakeNetwork, Restore, ShutDown, Warm};
        match self {
            Self::Create { .. } => &[MakeDisk, MakeNetwork, Restore, Greet],
            Self::Provision => &[MakeDisk, MakeNetwork, Restore, Warm],
            Self::Claim { .. } => &[Greet],
            Self::Start => &[MakeNetwork, Boot, Greet],
            Self::Stop => &[ShutDown],
            Self::Kill | Self::Delete => &[],
        }
    }

    /// Packages to install once the guest answers.
    pub(crate) fn packages(&self) -> &[AptPackage] {
        match self {
            Self::Create { packages } | Self::Claim { packages } => packages,
            _ => &[],
        }
    }

    /// Where the VM is when all steps were done.
    pub(crate) fn success(&self, vm: &VmRecord) -> Outcome {
        match self {
            Self::Create { .. } | Self::Claim { .. } | Self::Start => Outcome::Running,
            Self::Provision => Outcome::Ready,
            Self::Stop | Self::Kill => Outcome::without_process(vm),
            Self::Delete => Outcome::Deleted,
        }
    }

    /// Where the VM is taken when a step failed, or after a crash of the server.
    pub(crate) fn failure(kind: &str, vm: &VmRecord) -> Outcome {
        match kind {
            "start" | "stop" | "kill" => Outcome::without_process(vm),
            _ => Outcome::Deleted,
        }
    }

    /// Whether it may be given up in the middle when the VM is to be killed or deleted.
    pub(crate) fn yields_to(&self, next: &Operation) -> bool {
        let ends = matches!(next, Self::Kill | Self::Delete);
        ends && !matches!(self, Self::Kill | Self::Delete)
    }
}

impl Outcome {
    /// What becomes of a VM that has no process any more: ephemeral ones and those of the pool go.
    pub(crate) fn without_process(vm: &VmRecord) -> Self {
        match (&vm.account_id, vm.persistence) {
            (None, _) | (_, Persistence::Ephemeral { .. }) => Self::Deleted,
            _ => Self::Stopped,
        }
    }

    /// The steps that lead here from any state.
    pub(crate) fn steps(self) -> &'static [Step] {
        match self {
            Self::Running | Self::Ready => &[],
            Self::Stopped => &[Step::EndProcess, Step::RemoveNetwork],
            Self::Deleted => &[Step::EndProcess, Step::RemoveNetwork, Step::RemoveDisk],
        }
    }

    /// What is recorded once they are done.
    pub(crate) fn change(self, vm: &VmRecord, last_exit: &str) -> VmChange {
        let phase = match self {
            Self::Running => VmPhase::Running,
            Self::Ready => VmPhase::Ready,
            Self::Stopped => VmPhase::Stopped,
            Self::Deleted => VmPhase::Deleted,
        };
        let instance = match (&vm.instance, self) {
            (Some(instance), Self::Stopped) => InstanceChange::End {
                instance: instance.id.clone(),
                last_exit: last_exit.to_owned(),
            },
            _ => InstanceChange::Keep,
        };
        VmChange { phase: Some(phase), instance }
    }
}

/// The command that installs packages, without a question to anyone.
pub(crate) fn install_command(packages: &[AptPackage]) -> String {
    let names: Vec<&str> = packages.iter().map(AptPackage::as_str).collect();
    format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get update -q && \
         apt-get install -q -y --no-install-recommends -- {}",
        names.join(" ")
    )
}

/// What an installation comes to: a failure says how apt ended, with the end of what it printed.
pub(crate) fn installed(result: Result<ExecOutput, VmError>) -> Result<(), VmError> {
    let (how, stdout, stderr) = match result {
        Ok(output) if output.status == 0 => return Ok(()),
        Ok(output) => {
            (format!("ended with status {}", output.status), output.stdout, output.stderr)
        }
        Err(VmError::ExecTimedOut { timeout, stdout, stderr }) => {
            (format!("did not end within {} s", timeout.as_secs()), stdout, stderr)
        }
        Err(error) => return Err(error),
    };
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(12)..];
    Err(VmError::SetupFailed { reason: format!("apt-get {how}:\n{}", tail.join("\n")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_reach_apt_as_names_only() {
        for bad in ["", "-y", "a b", "a;reboot", "$(id)", "a\nb", "--", "ä"] {
            assert!(AptPackage::parse(bad).is_err(), "{bad:?}");
        }
        let packages = ["redis-server", "g++", "libc6:amd64=2.41-12"]
            .map(|name| AptPackage::parse(name).unwrap());
        assert!(install_command(&packages).ends_with("-- redis-server g++ libc6:amd64=2.41-12"));
    }
}
