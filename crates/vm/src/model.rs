//! What callers ask of the VM service and what it answers. Every value that was constructed is
//! valid: bounds are checked here, once.

use std::net::Ipv4Addr;
use std::time::Duration;

use freestyle_store::{AccountId, BuildId, InstanceId, SnapshotId, VmId, VpcId};
pub use freestyle_store::{DeleteEvent, Persistence, Sizing, SnapshotPersistence, SnapshotState};

use crate::error::VmError;
use crate::setup::Spec;

/// Largest number of virtual CPUs (protocol section 6.2).
pub const MAX_VCPUS: u32 = 32;
/// Smallest guest memory, in MiB: Debian boots and installs packages in it.
pub const MIN_MEMORY_MIB: u64 = 512;
/// Largest guest memory, in MiB.
pub const MAX_MEMORY_MIB: u64 = 64 * 1024;
/// Smallest root filesystem, in MiB: the base image's own size.
pub const MIN_DISK_MIB: u64 = 4 * 1024;
/// Largest root filesystem, in MiB. The file is sparse.
pub const MAX_DISK_MIB: u64 = 512 * 1024;
/// What a VM gets when the request names no size: 4 vCPU, 8 GB, 20 GB.
pub const DEFAULT_SIZING: Sizing = Sizing { vcpus: 4, memory_mib: 8 * 1024, disk_mib: 20 * 1024 };
/// Seconds without network traffic until a VM may be suspended, where the request names none.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// CPU, memory and disk as a user asks for them; what is absent is for the call to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// Guest memory in MiB.
    pub memory_mib: Option<u64>,
    /// Root filesystem in MiB.
    pub disk_mib: Option<u64>,
}

impl Sizes {
    /// Fills what is absent from `otherwise` and checks what comes out.
    pub fn or(self, otherwise: Sizing) -> Result<Sizing, VmError> {
        check(Sizing {
            vcpus: self.vcpus.unwrap_or(otherwise.vcpus),
            memory_mib: self.memory_mib.unwrap_or(otherwise.memory_mib),
            disk_mib: self.disk_mib.unwrap_or(otherwise.disk_mib),
        })
    }
}

fn check(sizing: Sizing) -> Result<Sizing, VmError> {
    if !(1..=MAX_VCPUS).contains(&sizing.vcpus) {
        return Err(VmError::VcpuOutOfRange { got: sizing.vcpus, max: MAX_VCPUS });
    }
    if !sizing.vcpus.is_power_of_two() {
        return Err(VmError::VcpuNotPowerOfTwo { got: sizing.vcpus });
    }
    if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&sizing.memory_mib) {
        return Err(VmError::MemoryOutOfRange {
            got: sizing.memory_mib,
            min: MIN_MEMORY_MIB,
            max: MAX_MEMORY_MIB,
        });
    }
    if !sizing.memory_mib.is_power_of_two() {
        return Err(VmError::MemoryNotPowerOfTwo { got: sizing.memory_mib });
    }
    if !(MIN_DISK_MIB..=MAX_DISK_MIB).contains(&sizing.disk_mib) {
        return Err(VmError::DiskOutOfRange {
            got: sizing.disk_mib,
            min: MIN_DISK_MIB,
            max: MAX_DISK_MIB,
        });
    }
    Ok(sizing)
}

/// A VM to create.
#[derive(Debug, Clone)]
pub struct CreateVm {
    /// A label for people; not unique.
    pub name: Option<String>,
    /// What it is made of.
    pub spec: Spec,
    /// What happens to the VM when it stops or space runs out.
    pub persistence: Persistence,
    /// Time without network traffic until the VM may be suspended; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Bytes per check interval below which traffic does not count as activity.
    pub activity_threshold_bytes: Option<u64>,
    /// Echoed to the client; see protocol section 6.2.
    pub recreate: bool,
    /// Its place in a VPC.
    pub nic: Option<CreateNic>,
}

/// A place in a VPC to take (protocol section 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNic {
    /// The VPC.
    pub vpc: VpcId,
    /// The address to have there; the lowest that is free where absent.
    pub address: Option<Ipv4Addr>,
    /// Whether the VM uses the address on its way to the internet as well.
    pub is_default: bool,
}

impl Default for CreateVm {
    fn default() -> Self {
        Self {
            name: None,
            spec: Spec::default(),
            persistence: Persistence::Persistent,
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            activity_threshold_bytes: None,
            recreate: false,
            nic: None,
        }
    }
}

/// The name of a Debian package, with an optional `=version`, `/suite` or `:arch`. Never an option
/// of apt and never shell syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptPackage(String);

impl AptPackage {
    /// Accepts what apt accepts as a package argument and nothing else.
    pub fn parse(text: &str) -> Result<Self, VmError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.:=/~_".contains(c);
        if starts_well && text.len() <= 200 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VmError::BadRequest(format!("{text:?} is not the name of a Debian package")))
        }
    }

    /// The package as apt takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The state shown to users, derived from what is running now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmState {
    /// Being created, its packages are being installed.
    Building,
    /// Being created or booting.
    Starting,
    /// The guest answered in this generation.
    Running,
    /// Its memory is being saved.
    Suspending,
    /// Memory and disk are saved, nothing runs.
    Suspended,
    /// Only the disk is kept.
    Stopped,
    /// Its files are missing or damaged.
    Lost,
}

/// A VM as its owner sees it.
#[derive(Debug, Clone)]
pub struct VmInfo {
    /// Identifier.
    pub id: VmId,
    /// A label for people.
    pub name: Option<String>,
    /// Derived state.
    pub state: VmState,
    /// The current run, if there is one.
    pub instance_id: Option<InstanceId>,
    /// CPU, memory and disk.
    pub sizing: Sizing,
    /// What happens when it stops.
    pub persistence: Persistence,
    /// As given at create.
    pub recreate: bool,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of its deletion; only listed when asked for.
    pub deleted_at: Option<i64>,
    /// CPU time the current process has used.
    pub cpu_time: Option<Duration>,
    /// Unix milliseconds when traffic of its network was last seen, in this server's life.
    pub last_network_activity: Option<i64>,
}

/// Which VMs to list.
#[derive(Debug, Clone, Default)]
pub struct ListVms {
    /// At most this many; the service's own limit where absent.
    pub limit: Option<u32>,
    /// Skip this many of the matching VMs.
    pub offset: u32,
    /// Only VMs in this state.
    pub state: Option<VmState>,
    /// Also VMs that were deleted.
    pub include_deleted: bool,
    /// Only VMs whose id or name contains this text, without regard to case.
    pub search: Option<String>,
}

/// One page of an account's VMs, newest first, and counts over all of its live VMs.
#[derive(Debug, Clone)]
pub struct VmList {
    /// The page.
    pub vms: Vec<VmInfo>,
    /// How many match the filter in all.
    pub total: usize,
    /// How many of the account's VMs are in each state, filter or not.
    pub by_state: Vec<(VmState, usize)>,
}

/// Changes that `start` may make on the way.
#[derive(Debug, Clone, Default)]
pub struct StartVm {
    /// `Some(None)` is never; `None` keeps the last value.
    pub idle_timeout: Option<Option<Duration>>,
    /// `None` keeps the last value.
    pub activity_threshold_bytes: Option<u64>,
    /// How long to wait for the guest; 120 s where absent.
    pub ready_timeout: Option<Duration>,
}

/// The name of a Linux user inside the guest. Whether it exists is for the guest to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxUser(String);

impl LinuxUser {
    /// Accepts names that `useradd` could have made.
    pub fn parse(text: &str) -> Result<Self, VmError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if starts_well && text.len() <= 32 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VmError::UnknownUser { user: text.chars().take(64).collect() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A command to run in a guest.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Given to `sh -c`.
    pub command: String,
    /// Runs as root where absent.
    pub user: Option<LinuxUser>,
    /// The whole process group is killed after this; no limit where absent.
    pub timeout: Option<Duration>,
}

/// A snapshot to take of a VM.
#[derive(Debug, Clone)]
pub struct TakeSnapshot {
    /// A label for people; not unique.
    pub name: Option<String>,
    /// What happens to it when space runs out.
    pub persistence: SnapshotPersistence,
}

/// A snapshot as its owner sees it.
#[derive(Debug, Clone)]
pub struct SnapshotInfo {
    /// Identifier.
    pub id: SnapshotId,
    /// A label for people.
    pub name: Option<String>,
    /// Where it is in its life.
    pub state: SnapshotState,
    /// Why it failed or is lost.
    pub failure: Option<String>,
    /// The VM it was taken of; it may be gone.
    pub source_vm: Option<VmId>,
    /// The run of that VM.
    pub source_instance: Option<InstanceId>,
    /// CPU, memory and disk of the VMs made from it.
    pub sizing: Sizing,
    /// What happens when space runs out.
    pub persistence: SnapshotPersistence,
    /// The build that made it, if one did.
    pub build: Option<BuildId>,
    /// Bytes its memory and its disk layer take, once it is ready. Shared layers below are not
    /// counted.
    pub bytes: Option<u64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of its deletion.
    pub deleted_at: Option<i64>,
}

/// What a suspended VM stands on.
#[derive(Debug, Clone)]
pub struct SuspendedVm {
    /// The VM.
    pub id: VmId,
    /// The run that was suspended.
    pub instance: Option<InstanceId>,
    /// Its saved memory.
    pub snapshot: Option<SnapshotId>,
}

/// What a piece of storage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKind {
    /// The disk of a VM, as far as only this VM has it.
    Vm,
    /// A snapshot that an account keeps.
    Snapshot,
    /// The memory of a suspended VM.
    SuspendedMemory,
    /// What is left of a snapshot that was deleted, or of a fork, because something stands on it.
    SharedLayer,
    /// A snapshot of the base image.
    BaseImage,
}

/// A piece of storage.
#[derive(Debug, Clone)]
pub struct StorageItem {
    /// What it is.
    pub kind: StorageKind,
    /// Identifier of the VM or snapshot.
    pub id: String,
    /// Whose it is; the host's own where absent.
    pub account: Option<AccountId>,
    /// Its label.
    pub name: Option<String>,
    /// Bytes of memory images.
    pub memory: u64,
    /// Bytes of disk layers.
    pub disk: u64,
    /// How many VMs and snapshots stand directly on it.
    pub users: usize,
}

/// What takes space on the host's disk.
#[derive(Debug, Clone)]
pub struct StorageReport {
    /// Bytes of the data directory; a file with several names counts once.
    pub total: u64,
    /// Bytes still free on its file system.
    pub free: u64,
    /// Bytes of the cache. What the data directory shares with it is counted in both.
    pub cache: u64,
    /// Every piece.
    pub items: Vec<StorageItem>,
}

/// Most children of one fork.
pub const MAX_FORKS: u32 = 128;

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Bytes of standard output.
    pub stdout: Vec<u8>,
    /// Bytes of standard error.
    pub stderr: Vec<u8>,
    /// Exit code, or 128 + the signal's number.
    pub status: i32,
}

/// A path in a guest, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOrDir {
    /// The content of a file.
    File(Vec<u8>),
    /// The entries of a directory, sorted by name.
    Dir(Vec<DirEntry>),
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Name without the directory.
    pub name: String,
    /// Whether it is, or links to, a directory.
    pub is_dir: bool,
}
