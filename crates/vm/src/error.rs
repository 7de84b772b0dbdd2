//! Everything that can go wrong with a VM, as callers need to tell it apart.

use std::time::Duration;

use freestyle_store::{OperationId, SnapshotId, StoreError, VmId};

use crate::setup::Diagnostics;
use crate::terminal::PtyFailure;

/// Why a call of the VM service failed. `api` maps each variant to one error code.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The account has no such VM: it never existed, was deleted, or belongs to someone else.
    #[error("there is no VM {0}")]
    NotFound(VmId),
    /// The VM exists and its files do not.
    #[error("the files of VM {0} are missing on this host; it can only be deleted")]
    Lost(VmId),
    /// The guest does not run and this call does not start it.
    #[error("VM {0} is not running")]
    NotRunning(VmId),
    /// Another operation has the VM and this one cannot wait for it.
    #[error("VM {vm} is busy with {operation}; try again when it is done")]
    Busy {
        /// The VM.
        vm: VmId,
        /// The operation in progress.
        operation: OperationId,
    },
    /// The operation was given up because the VM was killed or deleted meanwhile.
    #[error("VM {0} was deleted or killed while the operation ran")]
    Interrupted(VmId),
    /// There is no such snapshot in the account.
    #[error("there is no snapshot {0}")]
    SnapshotNotFound(SnapshotId),
    /// The snapshot was deleted.
    #[error("snapshot {0} was deleted")]
    SnapshotDeleted(SnapshotId),
    /// The snapshot is still being taken or built.
    #[error("snapshot {0} is not ready yet; try again when it is")]
    SnapshotBuilding(SnapshotId),
    /// The snapshot was never finished.
    #[error("snapshot {id} was never finished: {reason}")]
    SnapshotFailed {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        reason: String,
    },
    /// The snapshot's files are missing or damaged.
    #[error("snapshot {id} is lost: {reason}")]
    SnapshotLost {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong with its files.
        reason: String,
    },
    /// The memory was saved on another kind of machine than this host now offers.
    #[error(
        "the saved memory of {what} cannot be restored on this host: {reason}. Its disk is intact: \
         stop the VM to give up the memory, then start it from its disk"
    )]
    MemoryIncompatible {
        /// The VM or snapshot.
        what: String,
        /// What differs.
        reason: String,
    },
    /// The self-test at start found that this host cannot save and restore memory.
    #[error("this host cannot take memory snapshots: {0}")]
    MemorySnapshotsUnavailable(String),
    /// Saving the memory failed; the VM runs on.
    #[error("VM {vm} could not be suspended and runs on: {reason}")]
    SuspendFailed {
        /// The VM.
        vm: VmId,
        /// Why.
        reason: String,
    },
    /// The VM has a place in a VPC, which its children could not have as well.
    #[error(
        "VM {0} has a NIC in a VPC and cannot be forked; take a snapshot of it and create VMs from \
         that, each with a NIC of its own or without one"
    )]
    ForkInVpc(VmId),
    /// A resize that names no size.
    #[error("give at least one of cpu, memory and storage")]
    ResizeEmpty,
    /// A disk only grows.
    #[error("the root filesystem has {current} MiB and cannot shrink to {requested}")]
    DiskShrink {
        /// MiB it has.
        current: u64,
        /// As requested, MiB.
        requested: u64,
    },
    /// A request that makes no sense, in the user's words.
    #[error("{0}")]
    BadRequest(String),
    /// Not a power of two.
    #[error("{got} vCPUs: the number must be a power of two")]
    VcpuNotPowerOfTwo {
        /// As requested.
        got: u32,
    },
    /// Out of bounds.
    #[error("{got} vCPUs: the number must be between 1 and {max}")]
    VcpuOutOfRange {
        /// As requested.
        got: u32,
        /// Upper bound.
        max: u32,
    },
    /// Not a power of two.
    #[error("{got} MiB of memory: the size must be a power of two")]
    MemoryNotPowerOfTwo {
        /// As requested, MiB.
        got: u64,
    },
    /// Out of bounds.
    #[error("{got} MiB of memory: the size must be between {min} and {max} MiB")]
    MemoryOutOfRange {
        /// As requested, MiB.
        got: u64,
        /// Lower bound, MiB.
        min: u64,
        /// Upper bound, MiB.
        max: u64,
    },
    /// Out of bounds.
    #[error("{got} MiB of root filesystem: the size must be between {min} and {max} MiB")]
    DiskOutOfRange {
        /// As requested, MiB.
        got: u64,
        /// Lower bound, MiB.
        min: u64,
        /// Upper bound, MiB.
        max: u64,
    },
    /// The guest did not answer in time.
    #[error("the guest did not answer within {} s", .after.as_secs())]
    StartTimeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// The VM's process ended while it was starting.
    #[error("the VM's process ended while it was starting: {reason}")]
    ExitDuringStart {
        /// The last lines of its log.
        reason: String,
    },
    /// What the request asked to set up in the guest failed; the VM was removed.
    #[error("setting up the VM failed: {reason}")]
    SetupFailed {
        /// What failed, with its output.
        reason: String,
        /// The services at that moment, if it was about services.
        diagnostics: Option<Box<Diagnostics>>,
    },
    /// What the spec of a snapshot asked to set up failed.
    #[error("building snapshot {id} failed: {reason}")]
    SnapshotSetupFailed {
        /// The snapshot that was to be built.
        id: SnapshotId,
        /// What failed, with its output.
        reason: String,
        /// The services at that moment, if it was about services.
        diagnostics: Option<Box<Diagnostics>>,
    },
    /// The host's disk is full or its VM slots are used up.
    #[error("this host has no room for another VM: {0}")]
    NoCapacity(String),
    /// The command ran over its time; its process group was killed.
    #[error("the command did not end within {} ms", .timeout.as_millis())]
    ExecTimedOut {
        /// The limit.
        timeout: Duration,
        /// What it had printed.
        stdout: Vec<u8>,
        /// What it had printed.
        stderr: Vec<u8>,
    },
    /// The command printed more than is kept; its process group was killed.
    #[error("the command printed more than {limit} bytes; send its output to a file")]
    OutputTooLarge {
        /// Bytes kept of each stream.
        limit: u64,
    },
    /// The guest has no such user.
    #[error("there is no Linux user {user:?} in this VM")]
    UnknownUser {
        /// As requested.
        user: String,
    },
    /// The guest has no such file.
    #[error("there is no file {path}")]
    FileNotFound {
        /// As requested.
        path: String,
    },
    /// A file operation the guest refused, with its reason.
    #[error("{0}")]
    File(String),
    /// A terminal session cannot be had.
    #[error(transparent)]
    Pty(#[from] PtyFailure),
    /// The guest's agent cannot be reached or broke the protocol.
    #[error("the guest does not answer: {0}")]
    GuestUnreachable(String),
    /// A TCP port of the guest takes no connections.
    #[error("port {port} of the VM takes no connections: {reason}")]
    PortClosed {
        /// The port.
        port: u16,
        /// The answer of the guest, or that there was none.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// Something on the host failed that is no fault of the caller.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for VmError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchVm(vm) => Self::NotFound(vm),
            StoreError::NoSuchSnapshot(snapshot) => Self::SnapshotDeleted(snapshot),
            error @ (StoreError::NoSuchVpc(_)
            | StoreError::AddressUnusable { .. }
            | StoreError::AddressTaken(_)
            | StoreError::NoFreeAddress { .. }) => Self::BadRequest(error.to_string()),
            StoreError::NoFreeSlot => Self::NoCapacity("all of its VM slots are used".to_owned()),
            other => Self::Store(other),
        }
    }
}
