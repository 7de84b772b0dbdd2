//! The long operations of a VM, as data: which steps each takes and where it ends.
//!
//! An operation is a durable row from before its first step until its outcome is recorded. Because
//! every step can be repeated and undone from any state, the row says only which operation it is:
//! after a crash the server does not go on in the middle, it takes the operation to the end it has
//! on failure, which is always safe. A create that nobody was told of is removed; a stop is
//! completed.

use freestyle_store::{OperationId, Persistence, Settled, VmRecord};

use crate::engine::Step;
use crate::error::VmError;
use crate::model::{AptPackage, ExecOutput};

/// A long operation on one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Makes a VM for an account.
    Create,
    /// Makes a VM for the pool.
    Provision,
    /// Hands a VM of the pool to an account.
    Claim,
    /// Boots a stopped VM from its disk.
    Start,
    /// Shuts the guest down.
    Stop,
    /// Ends the process, or cleans up after one that ended by itself.
    Kill,
    /// Removes the VM.
    Delete,
    /// Removes the VM if it is still the pool's.
    Discard,
}

/// An operation that has its row in the store: it was begun, and its end is not recorded yet.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    /// Identifier of the row.
    pub(crate) id: OperationId,
    /// What it says.
    pub(crate) operation: Operation,
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
    const ALL: [Self; 8] = [
        Self::Create,
        Self::Provision,
        Self::Claim,
        Self::Start,
        Self::Stop,
        Self::Kill,
        Self::Delete,
        Self::Discard,
    ];

    /// The name in the store. Part of the database's format.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Provision => "provision",
            Self::Claim => "claim",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Delete => "delete",
            Self::Discard => "discard",
        }
    }

    /// The steps that come first. If one fails, the rest are left out.
    pub(crate) fn steps(self) -> &'static [Step] {
        use Step::{Boot, Greet, MakeDisk, MakeNetwork, Restore, ShutDown, Warm};
        match self {
            Self::Create => &[MakeDisk, MakeNetwork, Restore, Greet],
            Self::Provision => &[MakeDisk, MakeNetwork, Restore, Warm],
            Self::Claim => &[Greet],
            Self::Start => &[MakeNetwork, Boot, Greet],
            Self::Stop => &[ShutDown],
            Self::Kill | Self::Delete | Self::Discard => &[],
        }
    }

    /// Where the VM is when all steps were done.
    pub(crate) fn success(self, vm: &VmRecord) -> Outcome {
        match self {
            Self::Create | Self::Claim | Self::Start => Outcome::Running,
            Self::Provision => Outcome::Ready,
            Self::Stop | Self::Kill => Outcome::without_process(vm),
            Self::Delete | Self::Discard => Outcome::Deleted,
        }
    }

    /// Where the VM is taken when a step failed, or after a crash of the server.
    pub(crate) fn failure(self, vm: &VmRecord) -> Outcome {
        match self {
            Self::Start | Self::Stop | Self::Kill => Outcome::without_process(vm),
            Self::Create | Self::Provision | Self::Claim | Self::Delete | Self::Discard => {
                Outcome::Deleted
            }
        }
    }

    /// Whether a request for it overtakes those that wait.
    pub(crate) fn is_urgent(self) -> bool {
        matches!(self, Self::Kill | Self::Delete | Self::Discard)
    }

    /// Whether it is given up in the middle when `next` is requested.
    pub(crate) fn yields_to(self, next: Self) -> bool {
        match next {
            Self::Kill | Self::Delete => !self.is_urgent(),
            // Not a claim, which makes the VM an account's.
            Self::Discard => self == Self::Provision,
            _ => false,
        }
    }
}

impl Begun {
    /// Reads what an earlier server wrote. A kind that this build does not know is an error: its
    /// end on failure is not known either, and the wrong one would destroy the VM.
    pub(crate) fn read(row: &freestyle_store::Operation) -> Result<Self, VmError> {
        let known = Operation::ALL.into_iter().find(|known| known.as_str() == row.kind);
        let operation = known.ok_or_else(|| {
            VmError::Internal(format!(
                "VM {} has an unfinished operation {} of a kind that this server does not know, \
                 {:?}: run the version that began it",
                row.vm_id, row.id, row.kind
            ))
        })?;
        Ok(Self { id: row.id.clone(), operation })
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
    pub(crate) fn settled(self, last_exit: &str) -> Settled<'_> {
        match self {
            Self::Running => Settled::Running,
            Self::Ready => Settled::Ready,
            Self::Stopped => Settled::Stopped { last_exit },
            Self::Deleted => Settled::Deleted,
        }
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
    use freestyle_store::VmId;

    use super::*;

    #[test]
    fn an_operation_is_read_as_it_was_written_and_an_unknown_one_refused() {
        let row = |kind: &str| freestyle_store::Operation {
            id: OperationId::random(),
            vm_id: VmId::random(),
            kind: kind.to_owned(),
            started_at: 0,
        };
        for operation in Operation::ALL {
            assert_eq!(Begun::read(&row(operation.as_str())).unwrap().operation, operation);
        }
        for unknown in ["", "Create", "suspend"] {
            assert!(Begun::read(&row(unknown)).is_err(), "{unknown:?}");
        }
    }

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
