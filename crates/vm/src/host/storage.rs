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
        if let Ok(Some(base)) = files.read_base(&instance) {
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
        needed.keep_disk(&files.read_manifest(&vm)?.into());
    }
    let mut to_visit = roots;
    for run in names(&files.runs())? {
        let Ok(instance) = run.parse::<InstanceId>() else { continue };
        // One that is not there yet is that of a VM being made, whose snapshot is a root.
        to_visit.extend(files.read_base(&instance).ok().flatten());
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freestyle_store::{InstanceId, VmId};
    use proptest::prelude::*;
    use proptest::sample::Index;
    use tempfile::TempDir;

    use super::*;
    use crate::host::files::{LayerName, MANIFEST_VERSION, Manifest, write_json};
    use crate::host::snapshots::{Machine, Memory, SnapshotManifest};

    /// What users and crashes do, as far as files are concerned.
    #[derive(Debug, Clone)]
    enum Action {
        /// A VM of the template, or of a live snapshot; it maps the snapshot's memory or what that
        /// stands on.
        Create {
            from: Option<Index>,
            composed: bool,
        },
        /// Of a VM; a fork's is deleted at once. A crash may leave it without its manifest.
        Capture {
            vm: Index,
            wanted: bool,
            crash: bool,
        },
        DeleteVm(Index),
        /// The VM's process ends.
        Stop(Index),
        DeleteSnapshot(Index),
        /// The VM's disk takes in the layers between it and the base image.
        Flatten(Index),
        Sweep,
    }

    fn action() -> impl Strategy<Value = Action> {
        let index = any::<Index>;
        prop_oneof![
            3 => (proptest::option::of(index()), any::<bool>())
                .prop_map(|(from, composed)| Action::Create { from, composed }),
            4 => (index(), any::<bool>(), proptest::bool::weighted(0.2))
                .prop_map(|(vm, wanted, crash)| Action::Capture { vm, wanted, crash }),
            2 => index().prop_map(Action::DeleteVm),
            1 => index().prop_map(Action::Stop),
            2 => index().prop_map(Action::DeleteSnapshot),
            1 => index().prop_map(Action::Flatten),
            2 => Just(Action::Sweep),
        ]
    }

    /// A VM or snapshot as it must be after a sweep, kept apart from the manifests.
    #[derive(Debug, Clone)]
    struct Thing {
        /// Layers, from the top to the base.
        layers: Vec<String>,
        /// Snapshots that its memory stands on, with itself.
        memory: Vec<String>,
    }

    struct Store {
        _dir: TempDir,
        files: Files,
        snapshots: Snapshots,
        vms: BTreeMap<VmId, (Thing, Option<InstanceId>)>,
        kept: BTreeMap<SnapshotId, Thing>,
    }

    const TEMPLATE: &str = "template";

    impl Store {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().to_owned();
            let files = Files::open(path.join("data"), path.join("cache")).unwrap();
            let snapshots = Snapshots::new(files.clone());
            for extension in ["qcow2", "raw", "vmlinuz", "initrd"] {
                fs::write(files.layers().join(format!("{TEMPLATE}.{extension}")), "x").unwrap();
            }
            let store =
                Self { _dir: dir, files, snapshots, vms: BTreeMap::new(), kept: BTreeMap::new() };
            store.write_snapshot(TEMPLATE, None, &base());
            store.snapshots.pin(TEMPLATE);
            store
        }

        fn write_snapshot(&self, id: &str, parent: Option<String>, layers: &[String]) {
            fs::create_dir_all(self.snapshots.dir(id)).unwrap();
            fs::write(self.snapshots.memory_file(id), "x").unwrap();
            let (format, vcpus, memory_mib) = (0, 1, 1);
            let (qemu, accelerator) = (String::new(), String::new());
            let machine = Machine { format, qemu, accelerator, vcpus, memory_mib };
            let memory = match id {
                TEMPLATE => Memory::Whole,
                _ => Memory::Delta { parent, bytes: 1, checksum: 0 },
            };
            let mut manifest = SnapshotManifest::new(machine, memory, b"");
            let layers = layers.iter().map(|id| layer(id)).collect();
            manifest.disk = Some(FrozenDisk { boot: TEMPLATE.to_owned(), mib: 1, layers });
            write_json(&self.snapshots.manifest_file(id), &manifest).unwrap();
        }

        fn write_vm(&self, vm: &VmId, layers: &[String]) {
            fs::create_dir_all(self.files.vm(vm)).unwrap();
            let manifest = Manifest {
                version: MANIFEST_VERSION,
                boot: TEMPLATE.to_owned(),
                disk: "disk".to_owned(),
                disk_mib: 1,
                layers: layers.iter().map(|id| layer(id)).collect(),
            };
            write_json(&self.files.manifest(vm), &manifest).unwrap();
        }

        fn vm(&self, index: Index) -> Option<VmId> {
            (!self.vms.is_empty())
                .then(|| index.get(&self.vms.keys().collect::<Vec<_>>()).to_string())
                .map(|id| id.parse().unwrap())
        }

        fn snapshot(&self, index: Index) -> Option<SnapshotId> {
            let known: Vec<_> = self.kept.keys().cloned().collect();
            (!known.is_empty()).then(|| index.get(&known).clone())
        }

        fn act(&mut self, action: Action) {
            match action {
                Action::Create { from, composed } => self.create(from, composed),
                Action::Capture { vm, wanted, crash } => self.capture(vm, wanted, crash),
                Action::DeleteVm(index) => {
                    let Some(vm) = self.vm(index) else { return };
                    let (_, run) = self.vms.remove(&vm).unwrap();
                    run.iter().for_each(|run| fs::remove_dir_all(self.files.run(run)).unwrap());
                    fs::remove_dir_all(self.files.vm(&vm)).unwrap();
                }
                Action::Stop(index) => {
                    let Some(vm) = self.vm(index) else { return };
                    let (thing, run) = self.vms.get_mut(&vm).unwrap();
                    thing.memory.clear();
                    let run = run.take();
                    run.iter().for_each(|run| fs::remove_dir_all(self.files.run(run)).unwrap());
                }
                Action::DeleteSnapshot(index) => {
                    let Some(id) = self.snapshot(index) else { return };
                    self.kept.remove(&id);
                }
                Action::Flatten(index) => {
                    let Some(vm) = self.vm(index) else { return };
                    self.vms.get_mut(&vm).unwrap().0.layers = base();
                    self.write_vm(&vm, &base());
                }
                Action::Sweep => self.sweep(),
            }
        }

        fn create(&mut self, from: Option<Index>, composed: bool) {
            let from = from.and_then(|index| self.snapshot(index));
            let (layers, memory) = match &from {
                None => (base(), vec![TEMPLATE.to_owned()]),
                Some(id) => {
                    let Thing { layers, memory } = self.kept[id].clone();
                    let above = usize::from(!composed).min(memory.len());
                    (layers, memory[above..].to_vec())
                }
            };
            let (vm, run) = (VmId::random(), InstanceId::random());
            self.write_vm(&vm, &layers);
            fs::create_dir_all(self.files.run(&run)).unwrap();
            let mapped = memory.first().cloned().unwrap_or_default();
            fs::write(self.files.base(&run), mapped).unwrap();
            self.vms.insert(vm, (Thing { layers, memory }, Some(run)));
        }

        fn capture(&mut self, vm: Index, wanted: bool, crash: bool) {
            let Some(vm) = self.vm(vm) else { return };
            let (thing, run) = &self.vms[&vm];
            if run.is_none() {
                return;
            }
            let id = SnapshotId::random();
            let mut layers = vec![id.to_string()];
            layers.extend(thing.layers.iter().cloned());
            let mut memory = vec![id.to_string()];
            memory.extend(thing.memory.iter().cloned());
            let parent = thing.memory.first().cloned();
            fs::write(self.files.layers().join(format!("{id}.qcow2")), "x").unwrap();
            self.write_vm(&vm, &layers);
            self.vms.get_mut(&vm).unwrap().0.layers = layers.clone();
            if crash {
                // The layer stays in the VM's chain; of the snapshot there is half.
                fs::create_dir_all(self.snapshots.dir(id.as_str())).unwrap();
                return;
            }
            self.write_snapshot(id.as_str(), parent, &layers);
            if wanted {
                self.kept.insert(id, Thing { layers, memory });
            }
        }

        fn sweep(&self) {
            let listing = list(&self.files).unwrap();
            let live = self.kept.keys().cloned().collect();
            remove_unneeded(&self.files, &self.snapshots, listing, live).unwrap();
        }

        /// Everything that is needed is there and nothing else.
        fn check(&self) {
            let vms = self.vms.values().map(|(thing, _)| thing);
            let things: Vec<_> = vms.chain(self.kept.values()).collect();
            let layers = things.iter().flat_map(|thing| thing.layers.clone()).chain(base());
            // The memory of a snapshot that is there has its own disk.
            let memory: BTreeSet<String> = things
                .iter()
                .flat_map(|thing| thing.memory.clone())
                .chain([TEMPLATE.to_owned()])
                .collect();
            let found: BTreeSet<String> =
                names(&self.files.snapshots()).unwrap().into_iter().collect();
            assert_eq!(found, memory);
            for id in layers {
                let path = self.files.layers().join(layer(&id).file());
                assert!(path.exists(), "layer {id} is needed and gone");
            }
            let mut needed: BTreeSet<String> =
                things.iter().flat_map(|thing| thing.layers.clone()).chain(base()).collect();
            for id in &memory {
                let manifest = self.snapshots.read(id).unwrap();
                let disk = manifest.disk.unwrap();
                needed.extend(disk.layers.into_iter().map(|layer| layer.id));
            }
            let kept: BTreeSet<String> = names(&self.files.layers())
                .unwrap()
                .into_iter()
                .map(|name| name.split('.').next().unwrap().to_owned())
                .collect();
            let needed: BTreeSet<String> =
                needed.into_iter().map(|id| id.replace("-raw", "")).collect();
            assert_eq!(kept, needed);
        }
    }

    fn base() -> Vec<String> {
        vec![TEMPLATE.to_owned(), format!("{TEMPLATE}-raw")]
    }

    fn layer(id: &str) -> LayerName {
        match id.strip_suffix("-raw") {
            Some(id) => LayerName { id: id.to_owned(), qcow2: false },
            None => LayerName { id: id.to_owned(), qcow2: true },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_sweep_keeps_what_can_be_reached_and_nothing_else(
            actions in proptest::collection::vec(action(), 1..40)
        ) {
            let mut store = Store::new();
            for action in actions {
                store.act(action);
            }
            store.sweep();
            store.check();
        }
    }
}
