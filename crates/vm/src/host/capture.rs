//! Taking snapshots: what is done before, in and after the moment in which the guest stands still.
//!
//! Before: a new disk layer is made and handed to QEMU, and the VM's manifest already says that it is
//! the top. As it is empty, that is the same disk; so a crash at any moment finds a manifest that
//! tells the truth, and nothing must be synced while the guest waits. The file that will take the
//! memory is made, with room for what the guest has written so far.
//!
//! In the pause: the disk is switched to the new layer, devices and written pages are copied.
//!
//! After: checksums, syncing, and last the snapshot's manifest, without which it does not exist.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freestyle_guest_protocol::ExecRequest;
use freestyle_qemu::disk;
use freestyle_qemu::memory::{Capture, Copied, Delta, Summary, merge};
use freestyle_qemu::{Qmp, RunState};
use freestyle_store::{Instance, SnapshotId, VmRecord};

use super::files::{
    LayerName, Manifest, failed, keep, remove_dir, remove_file, sync_dir, write_json,
    write_json_loosely,
};
use super::snapshots::{FrozenDisk, MAX_DEPTH, Memory, SnapshotManifest, sync_file};
use super::{Inner, blocking, qemu_error};
use crate::error::VmError;

/// How long whoever looks at a terminal may take to leave a guest that is to be suspended.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// How often the guest is asked whether they have.
const LEAVE_POLL: Duration = Duration::from_millis(20);
/// How long a guest may take to write what it has in memory to its disk.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Why the guest is paused, and so whether it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    RunOn,
    StayPaused,
}

impl Inner {
    /// Takes a snapshot of a VM that runs on, or that is suspended and stays so.
    pub(super) async fn snapshot(
        self: &Arc<Self>,
        vm: &VmRecord,
        id: &SnapshotId,
        durable: bool,
    ) -> Result<(), VmError> {
        self.memory_snapshots_work().await?;
        if let Some(memory) = vm.suspended.clone() {
            let (inner, vm, id) = (self.clone(), vm.clone(), id.clone());
            return blocking(move || inner.snapshot_suspended(&vm, memory.as_str(), &id)).await;
        }
        let instance = vm.instance.as_ref().ok_or_else(|| VmError::NotRunning(vm.id.clone()))?;
        let running = self.process_of(vm, instance)?;
        let qmp = running.monitor().await?;
        // What an earlier attempt left would be in the way.
        self.abandon(vm, id).await?;

        let disk = {
            let (inner, vm, id) = (self.clone(), vm.clone(), id.clone());
            blocking(move || inner.prepare_disk(&vm, &id)).await?
        };
        let node = disk.manifest.disk.clone();
        qmp.add_overlay(&node, disk.top).await.map_err(qemu_error)?;
        self.write_manifest(vm, disk.manifest.clone()).await?;
        let switch = Switch { from: disk.previous.disk.clone(), to: node };
        let machine_state = self.save_machine(vm, instance, id, Some(switch), After::RunOn).await?;
        // The frozen layer is everybody's from now on.
        qmp.release_files().await.map_err(qemu_error)?;

        let frozen = FrozenDisk::from(disk.manifest);
        let (inner, vm, id) = (self.clone(), vm.clone(), id.clone());
        blocking(move || {
            // Its other name, as a layer, remains.
            remove_file(&inner.files.disk(&vm.id, &disk.previous))?;
            inner.complete(&vm, &id, machine_state, Some(frozen), durable)
        })
        .await
    }

    /// Saves memory and devices of a VM and leaves it paused.
    pub(super) async fn suspend(
        self: &Arc<Self>,
        vm: &VmRecord,
        instance: &Instance,
        id: &SnapshotId,
    ) -> Result<(), VmError> {
        self.memory_snapshots_work().await?;
        let dir = self.snapshots.dir(id.as_str());
        blocking(move || make_dir(&dir)).await?;
        self.evict_viewers(vm, instance, id).await?;
        self.sync_guest(vm, instance).await;
        let state = self.save_machine(vm, instance, id, None, After::StayPaused).await?;
        let (inner, vm, id) = (self.clone(), vm.clone(), id.clone());
        blocking(move || inner.complete(&vm, &id, state, None, true)).await
    }

    /// Has everybody who looks at a terminal leave, so that nothing is typed into a guest that stands
    /// still, and notes which sessions there are. A guest that does not answer is suspended all the
    /// same.
    async fn evict_viewers(
        &self,
        vm: &VmRecord,
        instance: &Instance,
        id: &SnapshotId,
    ) -> Result<(), VmError> {
        let running = self.process_of(vm, instance)?;
        running.evict_viewers();
        let mut known = None;
        let leave = async {
            let guest = running.guest().await?;
            loop {
                let listed = guest.pty_list(None).await;
                let listed =
                    listed.map_err(|error| VmError::GuestUnreachable(error.to_string()))?;
                // Whoever leaves is gone once all that they typed has arrived.
                let are_gone = listed.iter().all(|session| session.viewers == 0);
                known = Some(listed);
                if are_gone {
                    return Ok::<_, VmError>(());
                }
                tokio::time::sleep(LEAVE_POLL).await;
            }
        };
        match tokio::time::timeout(LEAVE_LIMIT, leave).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(vm = %vm.id, %error, "listing the sessions of a guest");
            }
            Err(_) => tracing::debug!(vm = %vm.id, "viewers take too long to leave"),
        }
        let Some(sessions) = known else { return Ok(()) };
        let (snapshots, id) = (self.snapshots.clone(), id.as_str().to_owned());
        blocking(move || snapshots.write_sessions(&id, sessions)).await
    }

    /// Has the guest write what it has in memory to its disk, so that little is lost should its memory
    /// never be restored. A guest that does not answer is suspended all the same.
    async fn sync_guest(&self, vm: &VmRecord, instance: &Instance) {
        let sync = async {
            let guest = self.process_of(vm, instance)?.guest().await?;
            let request = ExecRequest {
                command: "sync".to_owned(),
                user: None,
                timeout: Some(SYNC_LIMIT),
                max_output: 1 << 10,
            };
            let done = guest.exec(request).await;
            done.map_err(|error| VmError::GuestUnreachable(error.to_string()))
        };
        match tokio::time::timeout(SYNC_LIMIT, sync).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(vm = %vm.id, %error, "syncing a guest"),
            Err(_) => tracing::debug!(vm = %vm.id, "syncing a guest takes too long"),
        }
    }

    /// Removes what is there of a snapshot that was not finished, and lets the guest go on.
    pub(super) async fn abandon(
        self: &Arc<Self>,
        vm: &VmRecord,
        id: &SnapshotId,
    ) -> Result<(), VmError> {
        let dir = self.snapshots.dir(id.as_str());
        blocking(move || remove_dir(&dir)).await?;
        let running = vm.instance.as_ref().and_then(|run| self.running().get(&run.id).cloned());
        let Some(running) = running.filter(|running| running.process.is_alive()) else {
            // Whether the disk was switched or not, the manifest fits.
            return Ok(());
        };
        let qmp = running.monitor().await?;
        self.revert_disk(vm, id, &qmp).await?;
        if qmp.run_state().await.map_err(qemu_error)? == RunState::Paused {
            qmp.resume().await.map_err(qemu_error)?;
        }
        // A server that crashed may not have come to this.
        qmp.release_files().await.map_err(qemu_error)
    }

    /// If QEMU was not switched to the layer that the manifest calls the top, takes that back.
    async fn revert_disk(&self, vm: &VmRecord, id: &SnapshotId, qmp: &Qmp) -> Result<(), VmError> {
        let manifest = self.files.read_manifest(&vm.id)?;
        let top = qmp.top_node().await.map_err(qemu_error)?;
        if manifest.disk == top {
            return Ok(());
        }
        let mut layers = manifest.layers.clone();
        let frozen = layers.remove(0);
        let before =
            Manifest { disk: top, layers, disk_mib: vm.sizing.disk_mib, ..manifest.clone() };
        self.write_manifest(vm, before).await?;
        if let Err(error) = qmp.remove_overlay(&manifest.disk).await {
            tracing::debug!(vm = %vm.id, snapshot = %id, %error, "QEMU does not know the layer");
        }
        remove_file(&self.files.disk(&vm.id, &manifest))?;
        remove_file(&self.files.layers().join(frozen.file()))
    }

    async fn write_manifest(&self, vm: &VmRecord, manifest: Manifest) -> Result<(), VmError> {
        let path = self.files.manifest(&vm.id);
        blocking(move || write_json(&path, &manifest)).await
    }

    /// Makes the files for the switch of the disk. Blocks.
    fn prepare_disk(&self, vm: &VmRecord, id: &SnapshotId) -> Result<NewLayer, VmError> {
        self.files.check_space()?;
        make_dir(&self.snapshots.dir(id.as_str()))?;
        let previous = self.files.read_manifest(&vm.id)?;
        let frozen = LayerName { id: id.as_str().to_owned(), qcow2: true };
        let mut layers = vec![frozen.clone()];
        layers.extend(previous.layers.iter().cloned());
        let disk = format!("disk-{id}");
        let manifest = Manifest { disk, disk_mib: vm.sizing.disk_mib, layers, ..previous.clone() };
        let path = self.files.disk(&vm.id, &manifest);
        remove_file(&path)?;
        disk::create_overlay(&path, vm.sizing.disk_mib).map_err(qemu_error)?;
        let old = self.files.disk(&vm.id, &previous);
        keep(&old, &self.files.layers().join(frozen.file()))?;
        // What the guest has written is on its way to the disk before it must wait for the rest.
        sync_file(&old)?;
        let top = File::options().read(true).write(true).open(&path);
        let top = top.map_err(failed("opening", &path))?;
        Ok(NewLayer { previous, manifest, top })
    }

    /// The pause: everything in it is ready before, so that the guest misses milliseconds.
    async fn save_machine(
        self: &Arc<Self>,
        vm: &VmRecord,
        instance: &Instance,
        id: &SnapshotId,
        switch: Option<Switch>,
        after: After,
    ) -> Result<MachineState, VmError> {
        let running = self.process_of(vm, instance)?;
        let qmp = running.monitor().await?;
        let (pid, memory_mib) = (running.process.pid(), vm.sizing.memory_mib);
        let path = self.snapshots.memory_file(id.as_str());
        let prepared =
            blocking(move || Capture::prepare(pid, memory_mib, &path).map_err(qemu_error));
        let prepared = prepared.await?;
        let devices = self.snapshots.devices_file(id.as_str());
        // QEMU takes a descriptor only for what it was opened for.
        let file = File::options().write(true).create_new(true).open(&devices);
        let devices = file.map_err(failed("creating", &devices))?;

        let begun = Instant::now();
        qmp.pause().await.map_err(qemu_error)?;
        let copied = copy_paused(&qmp, switch, &devices, prepared).await;
        if after == After::RunOn || copied.is_err() {
            qmp.resume().await.map_err(qemu_error)?;
        }
        let paused = begun.elapsed();
        let copied = copied?;
        let paused_us = paused.as_micros();
        tracing::info!(vm = %vm.id, snapshot = %id, paused_us, "saved a machine");
        let durable = after == After::StayPaused;
        let memory = blocking(move || copied.finish(durable).map_err(qemu_error)).await?;
        Ok(MachineState { base: self.files.read_base(&instance.id)?, memory })
    }

    /// Shortens the chain, syncs and writes the manifest. Blocks.
    fn complete(
        &self,
        vm: &VmRecord,
        id: &SnapshotId,
        state: MachineState,
        disk: Option<FrozenDisk>,
        durable: bool,
    ) -> Result<(), VmError> {
        let id = id.as_str();
        let mut parent = state.base;
        let mut saved = state.memory;
        while let Some(below) = &parent
            && self.snapshots.depth(below)? >= MAX_DEPTH
        {
            let below_that = self.snapshots.read(below)?.parent().map(str::to_owned);
            saved = self.merge_into(id, below)?;
            parent = below_that;
        }
        let path = self.snapshots.devices_file(id);
        let devices = fs::read(&path).map_err(failed("reading", &path))?;
        let machine = self.machine(vm);
        let memory = Memory::Delta { parent, bytes: saved.bytes, checksum: saved.checksum };
        let mut manifest = SnapshotManifest::new(machine, memory, &devices);
        manifest.disk = disk;
        write_json_loosely(&self.snapshots.manifest_file(id), &manifest)?;
        if durable { self.snapshots.sync_chain(id) } else { Ok(()) }
    }

    /// Makes the memory of `id` one that stands on what `below` stands on.
    fn merge_into(&self, id: &str, below: &str) -> Result<Summary, VmError> {
        let path = self.snapshots.memory_file(id);
        let merged = path.with_extension("merged");
        let lower = Delta::open(&self.snapshots.memory_file(below)).map_err(qemu_error)?;
        let upper = Delta::open(&path).map_err(qemu_error)?;
        let summary = merge(&lower, &upper, &merged).map_err(qemu_error)?;
        fs::rename(&merged, &path).map_err(failed("renaming to", &path))?;
        Ok(summary)
    }

    /// A suspended VM stands still already: its memory is shared, its disk gets a new layer. Blocks.
    fn snapshot_suspended(
        &self,
        vm: &VmRecord,
        memory: &str,
        id: &SnapshotId,
    ) -> Result<(), VmError> {
        let mut manifest = self.snapshots.read(memory)?;
        let disk = self.prepare_disk(vm, id)?;
        let to = id.as_str();
        keep(&self.snapshots.memory_file(memory), &self.snapshots.memory_file(to))?;
        keep(&self.snapshots.devices_file(memory), &self.snapshots.devices_file(to))?;
        write_json(&self.files.manifest(&vm.id), &disk.manifest)?;
        remove_file(&self.files.disk(&vm.id, &disk.previous))?;
        manifest.disk = Some(FrozenDisk::from(disk.manifest));
        write_json(&self.snapshots.manifest_file(to), &manifest)?;
        sync_dir(&self.files.snapshots())
    }
}

/// A new top layer, not yet in use.
struct NewLayer {
    previous: Manifest,
    manifest: Manifest,
    top: File,
}

/// From which node to which the disk is switched.
struct Switch {
    from: String,
    to: String,
}

/// What was copied of a machine.
struct MachineState {
    base: Option<String>,
    memory: Summary,
}

async fn copy_paused(
    qmp: &Qmp,
    switch: Option<Switch>,
    devices: &File,
    prepared: Capture,
) -> Result<Copied, VmError> {
    if let Some(Switch { from, to }) = switch {
        qmp.switch_disk(&from, &to).await.map_err(qemu_error)?;
    }
    qmp.save_devices(devices.as_fd()).await.map_err(qemu_error)?;
    blocking(move || prepared.copy().map_err(qemu_error)).await
}

fn make_dir(dir: &Path) -> Result<(), VmError> {
    remove_dir(dir)?;
    fs::create_dir(dir).map_err(failed("making", dir))
}
