//! The long operations of a VM, as data: which steps each takes and where it ends.
//!
//! An operation is a durable row from before its first step until its outcome is recorded. Because
//! every step can be repeated and undone from any state, the row says only which operation it is:
//! after a crash the server does not go on in the middle, it takes the operation to the end it has
//! on failure, which is always safe. A create that nobody was told of is removed; a stop is
//! completed; a VM whose memory was being saved runs on.

use std::fmt;

use freestyle_store::{OperationId, Persistence, Settled, Sizing, SnapshotId, VmPhase, VmRecord};

use crate::engine::Step;
use crate::error::VmError;

/// A long operation on one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Makes a VM for an account.
    Create,
    /// Makes a VM for the pool.
    Provision,
    /// Hands a VM of the pool to an account.
    Claim,
    /// Boots a stopped VM from its disk, or restores a suspended one.
    Start,
    /// Takes a snapshot that is kept.
    Snapshot(SnapshotId),
    /// Takes a snapshot that lives as long as the children made from it need it.
    Fork(SnapshotId),
    /// Saves the memory and ends the process.
    Suspend(SnapshotId),
    /// Shortens the chain of layers below the disk. Gives way to everything else.
    Flatten,
    /// Shuts the guest down and gives it other sizes.
    Resize(Sizing),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The guest has answered.
    Running,
    /// Paused in the pool.
    Ready,
    /// Memory and disk are left.
    Suspended(SnapshotId),
    /// Only the disk is left.
    Stopped,
    /// Nothing is left.
    Deleted,
}

/// The name in the store. Part of the database's format.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Provision => f.write_str("provision"),
            Self::Claim => f.write_str("claim"),
            Self::Start => f.write_str("start"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Fork(id) => write!(f, "fork {id}"),
            Self::Suspend(id) => write!(f, "suspend {id}"),
            Self::Flatten => f.write_str("flatten"),
            Self::Resize(to) => {
                write!(f, "resize {} {} {}", to.vcpus, to.memory_mib, to.disk_mib)
            }
            Self::Stop => f.write_str("stop"),
            Self::Kill => f.write_str("kill"),
            Self::Delete => f.write_str("delete"),
            Self::Discard => f.write_str("discard"),
        }
    }
}

impl Operation {
    /// What [`Operation`]'s `Display` wrote; `None` if this build does not know it.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let operation = match words.next()? {
            "create" => Self::Create,
            "provision" => Self::Provision,
            "claim" => Self::Claim,
            "start" => Self::Start,
            "snapshot" => Self::Snapshot(words.next()?.parse().ok()?),
            "fork" => Self::Fork(words.next()?.parse().ok()?),
            "suspend" => Self::Suspend(words.next()?.parse().ok()?),
            "flatten" => Self::Flatten,
            "resize" => Self::Resize(Sizing {
                vcpus: words.next()?.parse().ok()?,
                memory_mib: words.next()?.parse().ok()?,
                disk_mib: words.next()?.parse().ok()?,
            }),
            "stop" => Self::Stop,
            "kill" => Self::Kill,
            "delete" => Self::Delete,
            "discard" => Self::Discard,
            _ => return None,
        };
        words.next().is_none().then_some(operation)
    }

    /// The steps that come first. If one fails, the rest are left out.
    pub(crate) fn steps(&self, vm: &VmRecord) -> Vec<Step> {
        use Step::{Boot, Greet, MakeDisk, MakeNetwork, Restore, ShutDown, Warm};
        match self {
            Self::Create => vec![MakeDisk, MakeNetwork, Restore, Greet],
            Self::Provision => vec![MakeDisk, MakeNetwork, Restore, Warm],
            // A VM of the pool is in no VPC yet.
            Self::Claim if vm.nic.is_some() => vec![MakeNetwork, Greet],
            Self::Claim => vec![Greet],
            Self::Start if vm.phase == VmPhase::Suspended => vec![MakeNetwork, Restore, Greet],
            Self::Start => vec![MakeNetwork, Boot, Greet],
            Self::Snapshot(id) => vec![Step::Snapshot { id: id.clone(), durable: true }],
            Self::Fork(id) => vec![Step::Snapshot { id: id.clone(), durable: false }],
            Self::Suspend(id) => vec![Step::Suspend { id: id.clone() }],
            Self::Flatten => vec![Step::Flatten],
            Self::Stop | Self::Resize(_) if vm.instance.is_some() => vec![ShutDown],
            Self::Stop | Self::Resize(_) | Self::Kill | Self::Delete | Self::Discard => vec![],
        }
    }

    /// Where the VM is when all steps were done.
    pub(crate) fn success(&self, vm: &VmRecord) -> Outcome {
        match self {
            Self::Create | Self::Claim | Self::Start | Self::Flatten => Outcome::Running,
            Self::Provision => Outcome::Ready,
            Self::Snapshot(_) | Self::Fork(_) => match &vm.suspended {
                Some(memory) => Outcome::Suspended(memory.clone()),
                None => Outcome::Running,
            },
            Self::Suspend(id) => Outcome::Suspended(id.clone()),
            Self::Stop | Self::Kill => Outcome::without_process(vm),
            Self::Resize(_) => Outcome::Stopped,
            Self::Delete | Self::Discard => Outcome::Deleted,
        }
    }

    /// Where the VM is taken when a step failed, or after a crash of the server. `alive` says whether
    /// it has a process, `saved` whether the snapshot that a [`Operation::Suspend`] makes is complete.
    pub(crate) fn failure(&self, vm: &VmRecord, alive: bool, saved: bool) -> Outcome {
        match self {
            Self::Create | Self::Provision | Self::Claim | Self::Delete | Self::Discard => {
                Outcome::Deleted
            }
            Self::Stop | Self::Kill => Outcome::without_process(vm),
            Self::Resize(_) => Outcome::Stopped,
            Self::Start | Self::Snapshot(_) | Self::Fork(_) | Self::Suspend(_) | Self::Flatten => {
                match (&vm.suspended, self) {
                    (Some(memory), _) => Outcome::Suspended(memory.clone()),
                    (None, Self::Suspend(id)) if saved && !alive => Outcome::Suspended(id.clone()),
                    (None, Self::Start) => Outcome::without_process(vm),
                    (None, _) if alive => Outcome::Running,
                    (None, _) => Outcome::without_process(vm),
                }
            }
        }
    }

    /// What must be done on the way to any outcome but its own success.
    pub(crate) fn undo(&self) -> Option<Step> {
        match self {
            Self::Snapshot(id) | Self::Fork(id) | Self::Suspend(id) => {
                Some(Step::Abandon { id: id.clone() })
            }
            Self::Flatten => Some(Step::StopFlattening),
            _ => None,
        }
    }

    /// Whether the guest of a running VM runs all the while.
    pub(crate) fn leaves_running(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::Fork(_) | Self::Flatten)
    }

    /// Whether it gives way to any request.
    pub(crate) fn is_background(&self) -> bool {
        *self == Self::Flatten
    }

    /// Whether it gives the VM a process where it has none.
    pub(crate) fn needs_instance(&self) -> bool {
        matches!(self, Self::Start)
    }

    /// Whether a request for it overtakes those that wait.
    pub(crate) fn is_urgent(&self) -> bool {
        matches!(self, Self::Kill | Self::Delete | Self::Discard)
    }

    /// Whether it is given up in the middle when `next` is requested.
    pub(crate) fn yields_to(&self, next: &Self) -> bool {
        match next {
            Self::Kill | Self::Delete => !self.is_urgent(),
            // Not a claim, which makes the VM an account's.
            Self::Discard => *self == Self::Provision,
            _ => false,
        }
    }

    /// How the run ended that it ends, in words.
    pub(crate) fn ending(&self) -> &'static str {
        match self {
            Self::Stop | Self::Resize(_) => "stopped",
            Self::Kill => "killed",
            _ => "ended",
        }
    }
}

impl Begun {
    /// Reads what an earlier server wrote. A kind that this build does not know is an error: its
    /// end on failure is not known either, and the wrong one would destroy the VM.
    pub(crate) fn read(row: &freestyle_store::Operation) -> Result<Self, VmError> {
        let operation = Operation::parse(&row.kind).ok_or_else(|| {
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
    pub(crate) fn steps(&self) -> &'static [Step] {
        match self {
            Self::Running | Self::Ready => &[],
            Self::Suspended(_) | Self::Stopped => &[Step::EndProcess, Step::RemoveNetwork],
            Self::Deleted => &[Step::EndProcess, Step::RemoveNetwork, Step::RemoveDisk],
        }
    }

    /// What is recorded once they are done.
    pub(crate) fn settled<'a>(&'a self, last_exit: &'a str) -> Settled<'a> {
        match self {
            Self::Running => Settled::Running,
            Self::Ready => Settled::Ready,
            Self::Suspended(snapshot) => Settled::Suspended { snapshot },
            Self::Stopped => Settled::Stopped { last_exit },
            Self::Deleted => Settled::Deleted,
        }
    }
}

#[cfg(test)]
mod tests {
    use freestyle_store::VmId;

    use crate::model::DEFAULT_SIZING;

    use super::*;

    #[test]
    fn an_operation_is_read_as_it_was_written_and_an_unknown_one_refused() {
        let row = |kind: &str| freestyle_store::Operation {
            id: OperationId::random(),
            vm_id: VmId::random(),
            kind: kind.to_owned(),
            started_at: 0,
        };
        let snapshot = SnapshotId::random();
        let operations = [
            Operation::Create,
            Operation::Provision,
            Operation::Claim,
            Operation::Start,
            Operation::Snapshot(snapshot.clone()),
            Operation::Fork(snapshot.clone()),
            Operation::Suspend(snapshot),
            Operation::Flatten,
            Operation::Resize(DEFAULT_SIZING),
            Operation::Stop,
            Operation::Kill,
            Operation::Delete,
            Operation::Discard,
        ];
        for operation in operations {
            assert_eq!(Begun::read(&row(&operation.to_string())).unwrap().operation, operation);
        }
        for unknown in ["", "Create", "create 1", "suspend", "suspend x", "resize 1 2", "migrate"] {
            assert!(Begun::read(&row(unknown)).is_err(), "{unknown:?}");
        }
    }
}
