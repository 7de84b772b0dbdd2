//! Finding the files that nothing needs any more.
//!
//! What is needed is found anew every time, from the manifests: there is no count that a crash could
//! leave wrong. The roots are the snapshots that the store wants, the templates in use, and every VM.
//! From a root, a snapshot leads to its parent and to the layers of its disk; a VM to its layers and
//! to the snapshot whose memory its process maps.
//!
//! New files never fall into a sweep that is under way: it removes only what it listed first, and it
//! asks the store only then. A row is there before its files, and what a new snapshot or VM stands on
//! is reachable from what it is made from.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use freestyle_store::{InstanceId, SnapshotId, VmId};

use super::files::{Files, failed, occupied, remove_dir, remove_file};
use super::snapshots::{FrozenDisk, Snapshots};
use super::{Inner, blocking};
use crate::engine::{SnapshotSize, SnapshotUse, StorageUse};
use crate::error::VmError;

/// What was there when a sweep began.
struct Listing {
    snapshots: Vec<String>,
    layers: Vec<String>,
}

/// What must stay.
#[derive(Debug, Default)]
struct Needed {
    snapshots: HashSet<String>,
    /// File names.
    layers: HashSet<String>,
}

impl Inner {
    pub(super) async fn sweep(
        self: &Arc<Self>,
        live: impl Future<Output = Result<HashSet<SnapshotId>, VmError>> + Send,
    ) -> Result<(), VmError> {
        let files = self.files.clone();
        let listing = blocking(move || list(&files)).await?;
        let live = live.await?;
        let (files, snapshots) = (self.files.clone(), self.snapshots.clone());
        blocking(move || remove_unneeded(&files, &snapshots, listing, live)).await
    }
}

impl Inner {
    /// Measures everything.
    pub(super) async fn storage_use(self: &Arc<Self>) -> Result<StorageUse, VmError> {
        let (files, snapshots) = (self.files.clone(), self.snapshots.clone());
        blocking(move || measure(&files, &snapshots)).await
    }
}

fn measure(files: &Files, snapshots: &Snapshots) -> Result<StorageUse, VmError> {
    let mut seen = HashSet::new();
    let total = size_of(&files.data, &mut seen);
    let cache = size_of(&files.cache, &mut HashSet::new());
    let mut vms = Vec::new();
    // Identifier and how many stand on it.
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for name in names(&files.vms())? {
        let Ok(vm) = name.parse::<VmId>() else { continue };
        vms.push((vm.clone(), size_of(&files.vm(&vm), &mut HashSet::new())));
        for layer in files.read_manifest(&vm).map_or(Vec::new(), |manifest| manifest.layers) {
            *users.entry(layer.id).or_default() += 1;
        }
    }
    for id in names(&files.snapshots())? {
        users.entry(id.clone()).or_default();
        let Ok(manifest) = snapshots.read(&id) else { continue };
        let layers = manifest.disk.iter().flat_map(|disk| &disk.layers).map(|layer| &layer.id);
        let below: BTreeSet<&str> = layers.map(String::as_str).chain(manifest.parent()).collect();
        for id in below.into_iter().filter(|below| *below != id) {
            *users.entry(id.to_owned()).or_default() += 1;
        }
    }
    for run in names(&files.runs())? {
        let Ok(instance) = run.parse::<InstanceId>() else { continue };
        let base = fs::read_to_string(files.base(&instance)).unwrap_or_default();
        if !base.is_empty() {
            *users.entry(base).or_default() += 1;
        }
    }
    let size = |id: &str| {
        let layer = |extension| occupied(&files.layers().join(format!("{id}.{extension}")));
        SnapshotSize {
            memory: size_of(&snapshots.dir(id), &mut HashSet::new()),
            disk: ["qcow2", "raw", "vmlinuz", "initrd"].map(layer).iter().sum(),
        }
    };
    let snapshots =
        users.into_iter().map(|(id, users)| SnapshotUse { size: size(&id), id, users }).collect();
    Ok(StorageUse { total, free: files.free_space()?, cache, vms, snapshots })
}

/// Bytes of all files below a directory that are not in `seen`, by inode.
fn size_of(dir: &Path, seen: &mut HashSet<u64>) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut size = 0;
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            size += size_of(&entry.path(), seen);
        } else if seen.insert(found.ino()) {
            size += found.blocks() * 512;
        }
    }
    size
}

fn list(files: &Files) -> Result<Listing, VmError> {
    Ok(Listing { snapshots: names(&files.snapshots())?, layers: names(&files.layers())? })
}

fn remove_unneeded(
    files: &Files,
    snapshots: &Snapshots,
    listing: Listing,
    live: HashSet<SnapshotId>,
) -> Result<(), VmError> {
    // Until everything is removed, no template comes into use.
    let pinned = snapshots.pinned();
    let mut roots: Vec<String> = live.into_iter().map(String::from).collect();
    roots.extend(pinned.iter().cloned());
    let needed = needed(files, snapshots, roots)?;
    for id in listing.snapshots.iter().filter(|id| !needed.snapshots.contains(*id)) {
        tracing::debug!(snapshot = id, "removing the memory of a snapshot");
        // First what makes it a snapshot: the rest may take a while.
        remove_file(&snapshots.manifest_file(id))?;
        remove_dir(&snapshots.dir(id))?;
        snapshots.forget(id);
    }
    for file in listing.layers.iter().filter(|file| !needed.has_layer(file)) {
        tracing::debug!(file, "removing a layer");
        remove_file(&files.layers().join(file))?;
    }
    Ok(())
}

/// Everything that can be reached. Fails if it cannot be known, and then nothing is removed.
fn needed(files: &Files, snapshots: &Snapshots, roots: Vec<String>) -> Result<Needed, VmError> {
    let mut needed = Needed::default();
    for vm in names(&files.vms())? {
        let Ok(vm) = vm.parse::<VmId>() else { continue };
        if fs::exists(files.manifest(&vm)).is_ok_and(|exists| !exists) {
            // It is being made, from a snapshot that is a root, or being removed.
            continue;
        }
        let manifest = files.read_manifest(&vm)?;
        let (boot, mib, layers) = (manifest.boot, manifest.disk_mib, manifest.layers);
        needed.keep_disk(&FrozenDisk { boot, mib, layers });
    }
    let mut to_visit = roots;
    for run in names(&files.runs())? {
        let Ok(instance) = run.parse::<InstanceId>() else { continue };
        if let Ok(base) = fs::read_to_string(files.base(&instance)) {
            to_visit.push(base);
        }
    }
    while let Some(id) = to_visit.pop() {
        if !needed.snapshots.insert(id.clone()) {
            continue;
        }
        if fs::exists(snapshots.manifest_file(&id)).is_ok_and(|exists| !exists) {
            // Being made: of a VM, which keeps what it stands on.
            continue;
        }
        let manifest = snapshots.read(&id)?;
        to_visit.extend(manifest.parent().map(str::to_owned));
        if let Some(disk) = &manifest.disk {
            needed.keep_disk(disk);
        }
    }
    Ok(needed)
}

impl Needed {
    /// Whether a layer is needed, or is one of a snapshot that is needed: its files are made before
    /// it is complete.
    fn has_layer(&self, file: &str) -> bool {
        let id = file.split('.').next().unwrap_or_default();
        self.layers.contains(file) || self.snapshots.contains(id)
    }

    fn keep_disk(&mut self, disk: &FrozenDisk) {
        self.layers.extend(disk.layers.iter().map(super::files::LayerName::file));
        self.layers.extend(["vmlinuz", "initrd"].map(|name| format!("{}.{name}", disk.boot)));
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Result<Vec<String>, VmError> {
    let entries = fs::read_dir(dir).map_err(failed("listing", dir))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("listing", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
