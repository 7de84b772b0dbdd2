//! Snapshots on disk, and the memory that is loaded from them.
//!
//! A snapshot's memory is either whole, as a template's, or only the pages that differ from the
//! memory its VM began with: its parent. There are two ways to give it to a process. *Pouring*
//! copies those pages into the process, which maps the parent's memory; it costs each process its
//! own copy. *Composing* makes parent and pages into one image that all processes share; it costs
//! one copy of everything. Which is cheaper depends on how many VMs will be made from a snapshot,
//! and nobody knows that beforehand. So the first ones are poured until composing would have cost
//! no more: never more than twice the best.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use freestyle_qemu::memory::{Delta, SealedMemory};
use freestyle_qemu::{Accelerator, Qemu};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::files::{
    Files, LayerName, Manifest, failed, read_json, read_json_up_to, sync_dir, write_json_loosely,
};
use super::{blocking, qemu_error};
use crate::error::VmError;
use crate::terminal::PtySession;

/// Raise this when the command line of QEMU changes in a way that device state does not survive, or
/// when a template is prepared in another way.
pub(crate) const MACHINE_FORMAT: u32 = 2;
/// The version of manifests that this build writes.
const VERSION: u32 = 1;
/// Memory images that are held ready. Another is loaded from its files when it is needed.
const MAX_LOADED: usize = 6;
/// Images that may stand on each other. A deeper chain is shortened when its next image is written.
pub(crate) const MAX_DEPTH: usize = 4;
/// Holds the terminal sessions of a suspended VM.
const SESSIONS: &str = "sessions.json";
/// Largest such file that is read: commands in it may be escaped.
const MAX_SESSIONS_FILE: u64 = 32 << 20;
/// Largest device state that is read.
const MAX_DEVICES: u64 = 64 << 20;

/// The machine that a snapshot was taken on. It can be restored on an equal one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) format: u32,
    pub(crate) qemu: String,
    pub(crate) accelerator: String,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
}

impl Machine {
    /// The machines that this QEMU makes.
    pub(crate) fn of(qemu: &Qemu, vcpus: u32, memory_mib: u64) -> Self {
        let accelerator = match qemu.accelerator {
            Accelerator::Tcg => "software emulation".to_owned(),
            // The guest has seen this very processor.
            Accelerator::Kvm => format!("KVM on {}", processor()),
        };
        let (format, qemu) = (MACHINE_FORMAT, qemu.version.clone());
        Self { format, qemu, accelerator, vcpus, memory_mib }
    }

    /// Why a snapshot of `self` cannot be restored on `host`.
    fn differs_from(&self, host: &Self) -> Option<String> {
        if self == host {
            return None;
        }
        let show = |machine: &Self| {
            let Self { format, qemu, accelerator, vcpus, memory_mib } = machine;
            format!(
                "QEMU {qemu} with {accelerator}, {vcpus} vCPUs, {memory_mib} MiB, format {format}"
            )
        };
        Some(format!("it was saved on {}, and this is {}", show(self), show(host)))
    }
}

/// How the memory of a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", tag = "kind")]
pub(crate) enum Memory {
    /// Every page that is not zero, in a sparse file.
    Whole,
    /// The pages that differ from the parent's, or from zero.
    Delta {
        parent: Option<String>,
        /// Size of the file.
        bytes: u64,
        /// As the file itself has it: another file with the right size is not this memory.
        checksum: u64,
    },
}

/// What a snapshot is. Written last: a snapshot without one is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotManifest {
    pub(crate) version: u32,
    pub(crate) machine: Machine,
    pub(crate) memory: Memory,
    /// XXH3 of the device state.
    pub(crate) devices_checksum: u64,
    /// The disk; absent where it is that of the VM which was suspended.
    pub(crate) disk: Option<FrozenDisk>,
}

/// The disk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrozenDisk {
    /// The template whose kernel boots it.
    pub(crate) boot: String,
    /// Size that the guest has seen, in MiB.
    pub(crate) mib: u64,
    /// From the top to the base.
    pub(crate) layers: Vec<LayerName>,
}

impl From<Manifest> for FrozenDisk {
    /// The disk of a VM as it is, without what its own file holds.
    fn from(vm: Manifest) -> Self {
        Self { boot: vm.boot, mib: vm.disk_mib, layers: vm.layers }
    }
}

impl SnapshotManifest {
    pub(crate) fn new(machine: Machine, memory: Memory, devices: &[u8]) -> Self {
        let devices_checksum = xxh3_64(devices);
        Self { version: VERSION, machine, memory, devices_checksum, disk: None }
    }

    /// The snapshot below this one.
    pub(crate) fn parent(&self) -> Option<&str> {
        match &self.memory {
            Memory::Delta { parent, .. } => parent.as_deref(),
            Memory::Whole => None,
        }
    }
}

/// Terminal sessions of a VM that is suspended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSessions {
    version: u32,
    sessions: Vec<PtySession>,
}

/// What a process needs to go on from a snapshot.
#[derive(Debug)]
pub(crate) struct Source {
    /// The snapshot whose memory is mapped; `None` for zeros.
    pub(crate) base: Option<String>,
    pub(crate) memory: Arc<SealedMemory>,
    /// What is poured over it.
    pub(crate) delta: Option<Delta>,
    pub(crate) devices: Vec<u8>,
}

/// The snapshots of one server.
#[derive(Debug)]
pub(crate) struct Snapshots {
    files: Files,
    loaded: Mutex<Loaded>,
    /// Templates, which are needed as long as the server runs. Held while a sweep decides and deletes.
    pinned: Mutex<HashSet<String>>,
}

type Cell = Arc<OnceCell<Arc<SealedMemory>>>;

#[derive(Debug, Default)]
struct Loaded {
    cells: HashMap<String, (Cell, u64)>,
    uses: u64,
    /// How often each delta was poured.
    poured: HashMap<String, u64>,
    /// Deltas whose content was compared with its checksum.
    verified: HashSet<String>,
}

impl Loaded {
    /// The place of an image; the one that was not used for longest makes room.
    fn cell(&mut self, id: &str) -> Cell {
        self.uses += 1;
        let uses = self.uses;
        if !self.cells.contains_key(id) && self.cells.len() >= MAX_LOADED {
            let oldest = self.cells.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.cells.remove(&oldest);
            }
        }
        let (cell, used) = self.cells.entry(id.to_owned()).or_default();
        *used = uses;
        cell.clone()
    }
}

impl Snapshots {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, loaded: Mutex::default(), pinned: Mutex::default() }
    }

    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.files.snapshots().join(id)
    }

    pub(crate) fn memory_file(&self, id: &str) -> PathBuf {
        self.dir(id).join("memory")
    }

    pub(crate) fn devices_file(&self, id: &str) -> PathBuf {
        self.dir(id).join("devices")
    }

    /// What the guest of a VM that sleeps here said of its terminal sessions.
    pub(crate) fn write_sessions(
        &self,
        id: &str,
        sessions: Vec<PtySession>,
    ) -> Result<(), VmError> {
        let saved = SavedSessions { version: VERSION, sessions };
        write_json_loosely(&self.dir(id).join(SESSIONS), &saved)
    }

    pub(crate) fn read_sessions(&self, id: &str) -> Result<Vec<PtySession>, VmError> {
        let saved: SavedSessions =
            read_json_up_to(&self.dir(id).join(SESSIONS), MAX_SESSIONS_FILE)?;
        if saved.version != VERSION {
            let version = saved.version;
            return Err(VmError::Internal(format!(
                "their format is {version}; this build knows {VERSION}"
            )));
        }
        Ok(saved.sessions)
    }

    pub(crate) fn manifest_file(&self, id: &str) -> PathBuf {
        self.dir(id).join("manifest.json")
    }

    /// From now on what exists of this snapshot stays. Look whether it does exist only afterwards.
    /// Blocks while a sweep deletes.
    pub(crate) fn pin(&self, id: &str) {
        self.pinned().insert(id.to_owned());
    }

    pub(super) fn pinned(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set is changed in one step.
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        // A cache: whatever a panic left of it will do.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at hand of a snapshot; an error if it is not there or not complete. Blocks.
    pub(crate) fn read(&self, id: &str) -> Result<SnapshotManifest, VmError> {
        let manifest: SnapshotManifest =
            read_json(&self.manifest_file(id)).map_err(|error| lost(id, &error.to_string()))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(lost(id, &format!("its format is {version}; this build knows {VERSION}")));
        }
        let path = self.memory_file(id);
        let size = fs::metadata(&path).map_err(failed("reading", &path));
        let size = size.map_err(|error| lost(id, &error.to_string()))?.len();
        match manifest.memory {
            Memory::Delta { bytes, .. } if bytes != size => {
                Err(lost(id, "its memory was cut short"))
            }
            _ => Ok(manifest),
        }
    }

    /// How many images the memory of this one stands on, with itself. Blocks.
    pub(crate) fn depth(&self, id: &str) -> Result<usize, VmError> {
        let mut depth = 1;
        let mut at = self.read(id)?;
        while let Some(parent) = at.parent() {
            depth += 1;
            at = self.read(parent)?;
        }
        Ok(depth)
    }

    /// What a process on `host` needs to go on from this snapshot.
    pub(crate) async fn source(
        self: &Arc<Self>,
        id: &str,
        what: &str,
        host: Machine,
    ) -> Result<Source, VmError> {
        let (this, id, what) = (self.clone(), id.to_owned(), what.to_owned());
        let (manifest, devices, delta) = {
            let id = id.clone();
            blocking(move || {
                let manifest = this.read(&id)?;
                if let Some(reason) = manifest.machine.differs_from(&host) {
                    return Err(VmError::MemoryIncompatible { what, reason });
                }
                let devices = this.read_devices(&id, manifest.devices_checksum)?;
                let delta = match manifest.memory {
                    Memory::Whole => None,
                    Memory::Delta { checksum, .. } => Some(this.open_delta(&id, checksum)?),
                };
                Ok((manifest, devices, delta))
            })
            .await?
        };
        let Some(delta) = delta.filter(|_| !self.is_loaded(&id)) else {
            let memory = self.memory(&id).await?;
            return Ok(Source { base: Some(id), memory, delta: None, devices });
        };
        let parent = match manifest.parent() {
            Some(parent) => self.memory(parent).await?,
            None => zeroed(manifest.machine.memory_mib)?,
        };
        if self.shall_compose(&id, delta.bytes(), parent.content()) {
            let memory = self.memory(&id).await?;
            return Ok(Source { base: Some(id), memory, delta: None, devices });
        }
        let base = manifest.parent().map(str::to_owned);
        Ok(Source { base, memory: parent, delta: Some(delta), devices })
    }

    /// Counts one more use of a delta, and answers whether an image of its own is cheaper by now.
    fn shall_compose(&self, id: &str, delta: u64, parent: u64) -> bool {
        let mut loaded = self.loaded();
        let poured = loaded.poured.entry(id.to_owned()).or_default();
        *poured += 1;
        *poured * delta > parent + delta
    }

    fn is_loaded(&self, id: &str) -> bool {
        self.loaded().cells.get(id).is_some_and(|(cell, _)| cell.initialized())
    }

    /// The whole memory of a snapshot, ready to be mapped: at once if it is loaded.
    pub(crate) async fn memory(self: &Arc<Self>, id: &str) -> Result<Arc<SealedMemory>, VmError> {
        let cell = self.loaded().cell(id);
        cell.get_or_try_init(|| self.load(id)).await.cloned()
    }

    async fn load(self: &Arc<Self>, id: &str) -> Result<Arc<SealedMemory>, VmError> {
        let (this, key) = (self.clone(), id.to_owned());
        let manifest = blocking(move || this.read(&key)).await?;
        let parent = match &manifest.memory {
            Memory::Whole => None,
            Memory::Delta { parent: None, .. } => Some(zeroed(manifest.machine.memory_mib)?),
            Memory::Delta { parent: Some(parent), .. } => {
                Some(Box::pin(self.memory(parent)).await?)
            }
        };
        let (this, key) = (self.clone(), id.to_owned());
        blocking(move || {
            let loaded = match (&manifest.memory, parent) {
                (Memory::Delta { checksum, .. }, Some(parent)) => {
                    SealedMemory::compose(&parent, &this.open_delta(&key, *checksum)?)
                }
                _ => SealedMemory::load(&this.memory_file(&key)),
            };
            loaded.map(Arc::new).map_err(qemu_error)
        })
        .await
    }

    fn read_devices(&self, id: &str, checksum: u64) -> Result<Vec<u8>, VmError> {
        let path = self.devices_file(id);
        let read = || {
            if fs::metadata(&path)?.len() > MAX_DEVICES {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            fs::read(&path)
        };
        let devices = read().map_err(failed("reading", &path));
        let devices = devices.map_err(|error| lost(id, &error.to_string()))?;
        if xxh3_64(&devices) != checksum {
            return Err(lost(id, "the saved state of its devices is damaged"));
        }
        Ok(devices)
    }

    /// Opens a delta, and reads all of it the first time. Blocks.
    fn open_delta(&self, id: &str, checksum: u64) -> Result<Delta, VmError> {
        let damaged = |error: freestyle_qemu::QemuError| lost(id, &error.to_string());
        let delta = Delta::open(&self.memory_file(id)).map_err(damaged)?;
        if delta.checksum() != checksum {
            return Err(lost(id, "its memory is not the one that was saved"));
        }
        if !self.loaded().verified.contains(id) {
            delta.verify().map_err(damaged)?;
            self.loaded().verified.insert(id.to_owned());
        }
        Ok(delta)
    }

    /// Makes what a durable snapshot stands on durable too. Blocks.
    pub(crate) fn sync_chain(&self, id: &str) -> Result<(), VmError> {
        let mut at = Some(id.to_owned());
        while let Some(id) = at {
            let manifest = self.read(&id)?;
            for path in [self.memory_file(&id), self.devices_file(&id), self.manifest_file(&id)] {
                sync_file(&path)?;
            }
            sync_dir(&self.dir(&id))?;
            at = manifest.parent().map(str::to_owned);
        }
        sync_dir(&self.files.snapshots())
    }

    /// Forgets what is loaded of a snapshot whose files are gone.
    pub(super) fn forget(&self, id: &str) {
        let mut loaded = self.loaded();
        loaded.cells.remove(id);
        loaded.poured.remove(id);
        loaded.verified.remove(id);
    }
}

/// The model of the host's processor.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "an unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

fn zeroed(memory_mib: u64) -> Result<Arc<SealedMemory>, VmError> {
    SealedMemory::zeroed(memory_mib).map(Arc::new).map_err(qemu_error)
}

pub(crate) fn sync_file(path: &Path) -> Result<(), VmError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(failed("syncing", path))
}

/// What is wrong with the files of a snapshot, as its owner is told.
fn lost(id: &str, reason: &str) -> VmError {
    match id.parse() {
        Ok(id) => VmError::SnapshotLost { id, reason: reason.to_owned() },
        Err(_) => VmError::Internal(format!("the snapshot of the base image: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::PtySize;

    #[test]
    fn the_sessions_of_a_sleeping_vm_are_read_back_in_their_format_only() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().join("data"), dir.path().join("cache")).unwrap();
        let snapshots = Snapshots::new(files);
        fs::create_dir_all(snapshots.dir("asleep")).unwrap();
        assert!(snapshots.read_sessions("asleep").is_err());

        let sessions = vec![PtySession {
            id: "work".parse().unwrap(),
            user: Some("alice".to_owned()),
            command: Some("\0\u{7f}\n\"".to_owned()),
            size: PtySize::new(80, 24).unwrap(),
            created_at: 1,
            viewers: 0,
            exit: None,
        }];
        snapshots.write_sessions("asleep", sessions.clone()).unwrap();
        assert_eq!(snapshots.read_sessions("asleep").unwrap(), sessions);

        let file = snapshots.dir("asleep").join(SESSIONS);
        fs::write(&file, r#"{"version":2,"sessions":[]}"#).unwrap();
        assert!(snapshots.read_sessions("asleep").is_err());
        fs::write(&file, r#"{"version":1,"sessions":[{"id":"../x"}]}"#).unwrap();
        assert!(snapshots.read_sessions("asleep").is_err());
    }
}
