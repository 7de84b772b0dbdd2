//! What a VM's lifecycle needs of the host it runs on.
//!
//! The lifecycle (`operation`, `machine`, `service`) is written against this trait, so that a test
//! can drive it through thousands of failures and crashes without a hypervisor. The real
//! implementation is [`Host`](crate::host::Host).

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use freestyle_network::Ipv4Net;
use freestyle_store::{Instance, InstanceId, SnapshotId, VmId, VmRecord};

use crate::error::VmError;
use crate::model::{Exec, ExecOutput, FileOrDir, LinuxUser};
use crate::terminal::{OpenPty, PtySession, PtySize, SessionId, Terminal};

/// One thing to do on the host for a VM. Every step can be repeated, and each is undone by the step
/// that removes what it made, from whatever state it left behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// The VM's own writable layer on those of the snapshot it is made from.
    MakeDisk,
    /// The instance's network namespace, devices and rules, and its place in a VPC. A network without
    /// that place gets it, also under a running VM.
    MakeNetwork,
    /// A paused process that goes on where the snapshot was taken: the VM's own if it is suspended,
    /// else the one it is made from.
    Restore,
    /// A paused process that boots from the VM's disk.
    Boot,
    /// Lets a restored guest run until its first command is fast, then pauses it again.
    Warm,
    /// Lets the guest run, tells it who it is and waits for its answer.
    Greet,
    /// Saves memory, devices and disk as a snapshot; the VM runs, or stays suspended, as before.
    Snapshot {
        /// Its identifier.
        id: SnapshotId,
        /// Whether it must survive a crash of the host.
        durable: bool,
    },
    /// Saves memory and devices so that the VM can go on later; the guest stays paused.
    Suspend {
        /// The identifier of what is saved.
        id: SnapshotId,
    },
    /// Removes what `Snapshot` or `Suspend` left half done, and lets a guest that they paused run.
    Abandon {
        /// The identifier given to them.
        id: SnapshotId,
    },
    /// Copies what the layers between the VM's disk and the base image hold into the disk, while the
    /// guest runs. Takes long; may be given up at any moment.
    Flatten,
    /// Ends a `Flatten` that was given up.
    StopFlattening,
    /// Asks the guest to power off and waits for a bounded time. Never fails.
    ShutDown,
    /// Ends the process, if there is one, and waits until it is gone.
    EndProcess,
    /// Removes what `MakeNetwork` made.
    RemoveNetwork,
    /// Removes everything that is kept of the VM.
    RemoveDisk,
}

/// What a finished snapshot takes on the host's disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotSize {
    /// The pages that its memory does not share with the snapshot below, and the devices.
    pub memory: u64,
    /// The layer of the disk that was frozen for it.
    pub disk: u64,
}

/// What the files of a server take on its disk.
#[derive(Debug, Clone, Default)]
pub struct StorageUse {
    /// Bytes of everything in the data directory; each file once, however many names it has.
    pub total: u64,
    /// Bytes free to use on its file system.
    pub free: u64,
    /// Bytes of the cache, of which the data directory shares some.
    pub cache: u64,
    /// Bytes of each VM's own disk.
    pub vms: Vec<(VmId, u64)>,
    /// Snapshots and layers by identifier.
    pub snapshots: Vec<SnapshotUse>,
}

/// What is kept under the identifier of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotUse {
    /// As in the store; templates of the base image have others.
    pub id: String,
    /// What it takes.
    pub size: SnapshotSize,
    /// VMs and snapshots that stand directly on its disk or memory.
    pub users: usize,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// In words, for the record and for `await`.
    pub how: String,
    /// The guest asked for a reboot, not for its end.
    pub reboot: bool,
}

/// A host that can run VMs.
pub trait Engine: Send + Sync + 'static {
    /// Content hash of the base image that new VMs get.
    fn image(&self) -> &str;

    /// Addresses that no VM can have in any VPC.
    fn excluded_addresses(&self) -> Vec<Ipv4Net>;

    /// Does one step. The record's instance is set for every step but `MakeDisk` and `RemoveDisk`.
    ///
    /// Steps of one VM exclude each other even if a caller stops waiting for one: the next waits
    /// until it is over.
    fn apply(&self, step: &Step, vm: &VmRecord)
    -> impl Future<Output = Result<(), VmError>> + Send;

    /// Takes over what runs for `vms` and removes everything else that an earlier server of this
    /// data directory left on the host. Called once, before anything else.
    fn take_over(&self, vms: &[VmRecord]) -> impl Future<Output = Result<(), VmError>> + Send;

    /// Whether the instance has a process.
    fn is_alive(&self, instance: &InstanceId) -> bool;

    /// Whether the guest has answered in this instance.
    fn is_up(&self, instance: &InstanceId) -> bool;

    /// Waits until the instance has no process. Returns at once if it never had one.
    fn exited(&self, instance: &InstanceId) -> impl Future<Output = Exit> + Send;

    /// CPU time the instance's process has used.
    fn cpu_time(&self, instance: &InstanceId) -> Option<Duration>;

    /// Whether the VM's files are there.
    fn has_disk(&self, vm: &VmId) -> impl Future<Output = bool> + Send;

    /// The size of a snapshot that is complete; `None` if it is not there or half done.
    fn snapshot_size(
        &self,
        snapshot: &SnapshotId,
    ) -> impl Future<Output = Option<SnapshotSize>> + Send;

    /// How many layers the VM's disk stands on, its base image's among them; 0 if it has none.
    fn disk_layers(&self, vm: &VmId) -> impl Future<Output = usize> + Send;

    /// What every file takes and who needs it.
    fn storage_use(&self) -> impl Future<Output = Result<StorageUse, VmError>> + Send;

    /// Bytes that have crossed the instance's network device in either direction; `None` if it has
    /// none.
    fn traffic(&self, instance: &InstanceId) -> impl Future<Output = Option<u64>> + Send;

    /// Removes every file that nothing needs any more. `live` is asked after the files were listed
    /// and answers the snapshots that are wanted; what they and the VMs stand on is kept as well.
    fn sweep(
        &self,
        live: impl Future<Output = Result<HashSet<SnapshotId>, VmError>> + Send,
    ) -> impl Future<Output = Result<(), VmError>> + Send;

    /// Runs a command in the guest.
    fn exec(
        &self,
        instance: &Instance,
        exec: Exec,
    ) -> impl Future<Output = Result<ExecOutput, VmError>> + Send;

    /// Reads a file or directory of the guest.
    fn read_path(
        &self,
        instance: &Instance,
        user: Option<LinuxUser>,
        path: &str,
    ) -> impl Future<Output = Result<FileOrDir, VmError>> + Send;

    /// Writes a file of the guest.
    fn write_file(
        &self,
        instance: &Instance,
        user: Option<LinuxUser>,
        path: &str,
        content: Vec<u8>,
    ) -> impl Future<Output = Result<(), VmError>> + Send;

    /// Starts a terminal session in the guest.
    fn open_pty(
        &self,
        instance: &Instance,
        open: OpenPty,
    ) -> impl Future<Output = Result<Terminal, VmError>> + Send;

    /// Looks on at a terminal session of `user`, or of anyone.
    fn attach_pty(
        &self,
        instance: &Instance,
        session: &SessionId,
        user: Option<&LinuxUser>,
        size: PtySize,
    ) -> impl Future<Output = Result<Terminal, VmError>> + Send;

    /// The terminal sessions of `user`, or all, oldest first.
    fn ptys(
        &self,
        instance: &Instance,
        user: Option<&LinuxUser>,
    ) -> impl Future<Output = Result<Vec<PtySession>, VmError>> + Send;

    /// Kills a terminal session's program and forgets the session; answers how the program ended.
    fn close_pty(
        &self,
        instance: &Instance,
        session: &SessionId,
        user: Option<&LinuxUser>,
    ) -> impl Future<Output = Result<i32, VmError>> + Send;

    /// The terminal sessions that the guest had when this memory was saved; `None` if it did not say.
    fn sleeping_ptys(
        &self,
        memory: &SnapshotId,
    ) -> impl Future<Output = Option<Vec<PtySession>>> + Send;
}
