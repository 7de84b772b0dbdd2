//! The steps of a VM's operations, done for real.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use freestyle_guest_protocol::{CallError, PowerOff};
use freestyle_network::{NetworkError, Nic, Vpc, VpcRange};
use freestyle_qemu::memory::SealedMemory;
use freestyle_qemu::{Begin, Launch, MachineShape, disk, launch};
use freestyle_store::{Instance, InstanceId, VmRecord};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::files::{self, MANIFEST_VERSION, Manifest, remove_dir, sync_dir, write_json};
use super::running::{Running, unreachable};
use super::snapshots::{Machine, Source};
use super::template;
use super::{Inner, blocking, cmdline, identity, network_error, nobody, qemu_error};
use crate::engine::Step;
use crate::error::VmError;

/// How long a guest may take to answer after a restore or a boot.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);
/// How long QEMU may take to read the state of the devices, a few hundred kilobytes.
const DEVICES_LIMIT: Duration = Duration::from_secs(60);
/// How long a guest may take to shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn apply(self: &Arc<Self>, step: &Step, vm: &VmRecord) -> Result<(), VmError> {
        match step {
            Step::MakeDisk => self.make_disk(vm).await,
            Step::Snapshot { id, durable } => self.snapshot(vm, id, *durable).await,
            Step::Abandon { id } => self.abandon(vm, id).await,
            Step::RemoveDisk => {
                let dir = self.files.vm(&vm.id);
                blocking(move || remove_dir(&dir)).await
            }
            _ => {
                let instance = vm.instance.as_ref();
                let instance = instance.ok_or_else(|| VmError::NotRunning(vm.id.clone()))?;
                self.apply_to(step, vm, instance).await
            }
        }
    }

    async fn apply_to(
        self: &Arc<Self>,
        step: &Step,
        vm: &VmRecord,
        instance: &Instance,
    ) -> Result<(), VmError> {
        match step {
            Step::MakeNetwork => {
                let nic = vm.nic.as_ref().map(network_nic).transpose()?;
                let made = self.network.create(instance.id.as_str(), instance.slot, nic).await;
                made.map(drop).map_err(network_error)
            }
            Step::RemoveNetwork => {
                self.network.remove(instance.id.as_str()).await.map_err(network_error)
            }
            Step::Restore => self.restore(vm, instance).await,
            Step::Boot => self.start_process(vm, instance, None).await,
            Step::Warm => self.warm(vm, instance).await,
            Step::Greet => self.greet(vm, instance).await,
            Step::Suspend { id } => self.suspend(vm, instance, id).await,
            Step::Flatten => self.flatten(vm, instance).await,
            Step::StopFlattening => self.stop_flattening(vm, instance).await,
            Step::ShutDown => self.shut_down(instance).await,
            Step::EndProcess => self.end_process(instance).await,
            Step::MakeDisk | Step::RemoveDisk | Step::Snapshot { .. } | Step::Abandon { .. } => {
                Ok(())
            }
        }
    }

    /// The snapshot that a VM which was never stopped began with.
    async fn origin(&self, vm: &VmRecord) -> Result<String, VmError> {
        match &vm.origin {
            Some(origin) => Ok(origin.as_str().to_owned()),
            None => Ok(self.templates.get(vm.sizing).await?.id.clone()),
        }
    }

    async fn make_disk(self: &Arc<Self>, vm: &VmRecord) -> Result<(), VmError> {
        let origin = self.origin(vm).await?;
        let (inner, id) = (self.clone(), vm.id.clone());
        blocking(move || {
            let files = &inner.files;
            files.check_space()?;
            let dir = files.vm(&id);
            remove_dir(&dir)?;
            fs::create_dir(&dir).map_err(files::failed("making", &dir))?;
            let no_disk = || VmError::Internal(format!("snapshot {origin} has no disk"));
            let disk = inner.snapshots.read(&origin)?.disk.ok_or_else(no_disk)?;
            let manifest = Manifest {
                version: MANIFEST_VERSION,
                boot: disk.boot,
                disk: "disk".to_owned(),
                // The restored guest finds the disk it knows; it grows when the guest is greeted.
                disk_mib: disk.mib,
                layers: disk.layers,
            };
            disk::create_overlay(&files.disk(&id, &manifest), disk.mib).map_err(qemu_error)?;
            write_json(&files.manifest(&id), &manifest)?;
            sync_dir(&files.vms())
        })
        .await
    }

    /// Goes on where the VM was suspended, or where the snapshot was taken that it is made from.
    async fn restore(self: &Arc<Self>, vm: &VmRecord, instance: &Instance) -> Result<(), VmError> {
        let (id, what) = match &vm.suspended {
            Some(memory) => (memory.as_str().to_owned(), format!("VM {}", vm.id)),
            None => {
                let origin = self.origin(vm).await?;
                (origin.clone(), format!("snapshot {origin}"))
            }
        };
        let source = self.snapshots.source(&id, &what, self.machine(vm)).await?;
        self.start_process(vm, instance, Some(source)).await
    }

    /// The machine that this VM has on this host.
    pub(super) fn machine(&self, vm: &VmRecord) -> Machine {
        Machine::of(&self.qemu, vm.sizing.vcpus, vm.sizing.memory_mib)
    }

    async fn start_process(
        self: &Arc<Self>,
        vm: &VmRecord,
        instance: &Instance,
        source: Option<Source>,
    ) -> Result<(), VmError> {
        if self.running().contains_key(&instance.id) {
            return Ok(());
        }
        let pipe = || pipe::pipe().map_err(|error| VmError::Internal(format!("a pipe: {error}")));
        let (devices, begin) = match &source {
            None => (None, Start::Boot),
            Some(source) => {
                let (sender, receiver) = pipe()?;
                let receiver = receiver.into_blocking_fd();
                let devices = receiver.map_err(|error| VmError::Internal(error.to_string()))?;
                let (memory, base) = (source.memory.clone(), source.base.clone());
                (Some(sender), Start::Restore { memory, base, devices })
            }
        };
        let (inner, vm_record, id) = (self.clone(), vm.clone(), instance.id.clone());
        let running = blocking(move || inner.launch(&vm_record, &id, begin).map(Arc::new)).await?;
        self.running().insert(instance.id.clone(), running.clone());
        let qmp = running.monitor().await?;
        if let (Some(source), Some(mut sender)) = (source, devices) {
            let (pid, memory_mib) = (running.process.pid(), vm.sizing.memory_mib);
            if let Some(delta) = source.delta {
                // Its devices look into the memory as soon as they are read.
                blocking(move || delta.pour(pid, memory_mib).map_err(qemu_error)).await?;
            }
            let send = tokio::time::timeout(DEVICES_LIMIT, sender.write_all(&source.devices));
            let sent = send.await.map_err(|_| VmError::StartTimeout { after: DEVICES_LIMIT })?;
            sent.map_err(|error| VmError::ExitDuringStart { reason: error.to_string() })?;
        }
        qmp.wait_for_incoming().await.map_err(qemu_error)
    }

    /// Starts a process that goes on from a snapshot or boots from the VM's disk. Blocks.
    fn launch(
        &self,
        vm: &VmRecord,
        instance: &InstanceId,
        start: Start,
    ) -> Result<Running, VmError> {
        self.files.check_space()?;
        let dir = self.files.run(instance);
        remove_dir(&dir)?;
        fs::create_dir(&dir).map_err(files::failed("making", &dir))?;
        let manifest = self.files.read_manifest(&vm.id)?;
        let network = self.network.get(instance.as_str()).map_err(network_error)?;
        let namespace = network.namespace().map_err(network_error)?;
        let kernel = self.files.layers().join(format!("{}.vmlinuz", manifest.boot));
        let initrd = self.files.layers().join(format!("{}.initrd", manifest.boot));
        let cmdline = cmdline(&self.qemu);
        let (memory, base, begin) = match start {
            Start::Restore { memory, base, devices } => {
                (memory, base.unwrap_or_default(), Begin::Restore { devices })
            }
            Start::Boot => {
                let memory = SealedMemory::zeroed(vm.sizing.memory_mib).map_err(qemu_error)?;
                let begin = Begin::Boot { kernel: &kernel, initrd: &initrd, cmdline: &cmdline };
                (Arc::new(memory), String::new(), begin)
            }
        };
        let path = self.files.base(instance);
        fs::write(&path, base).map_err(files::failed("writing", &path))?;
        let launched = launch(
            &self.qemu,
            Launch {
                name: instance.as_str(),
                shape: MachineShape { vcpus: vm.sizing.vcpus, memory_mib: vm.sizing.memory_mib },
                memory: &memory,
                disk: self.files.open_disk(&vm.id, &manifest)?,
                tap: network.open_tap().map_err(network_error)?,
                begin,
                uid: network.uid(),
                namespace: namespace.as_fd(),
                dir: &dir,
            },
        );
        Ok(Running::new(launched.map_err(qemu_error)?, dir))
    }

    async fn warm(&self, vm: &VmRecord, instance: &Instance) -> Result<(), VmError> {
        let running = self.process_of(vm, instance)?;
        let qmp = running.monitor().await?;
        qmp.resume().await.map_err(qemu_error)?;
        running.greet(nobody(false), ANSWER_LIMIT).await?;
        template::warm_up(&running.guest().await?).await?;
        running.disconnect().await;
        qmp.pause().await.map_err(qemu_error)
    }

    async fn greet(&self, vm: &VmRecord, instance: &Instance) -> Result<(), VmError> {
        let running = self.process_of(vm, instance)?;
        if running.is_up() {
            return Ok(());
        }
        let mut manifest = self.files.read_manifest(&vm.id)?;
        let grows = manifest.disk_mib < vm.sizing.disk_mib;
        let qmp = running.monitor().await?;
        // Growing and resuming again, after a restart of the server, changes nothing.
        qmp.resume().await.map_err(qemu_error)?;
        // Only now is the disk QEMU's to change; the guest grows its file system when greeted.
        if grows {
            let size = vm.sizing.disk_mib;
            qmp.resize_disk(&manifest.disk, size).await.map_err(qemu_error)?;
        }
        let login_key = self.login_secret.key(&instance.id);
        let identity =
            identity(&instance.id, vm.id.as_str(), grows, Some(&login_key), vm.nic.as_ref());
        running.greet(identity, ANSWER_LIMIT).await?;
        if grows {
            manifest.disk_mib = vm.sizing.disk_mib;
            let path = self.files.manifest(&vm.id);
            blocking(move || write_json(&path, &manifest)).await?;
        }
        Ok(())
    }

    async fn shut_down(&self, instance: &Instance) -> Result<(), VmError> {
        let Some(running) = self.running().get(&instance.id).cloned() else { return Ok(()) };
        let asked = async {
            running.guest().await?.shutdown(PowerOff).await.map_err(|error| match error {
                CallError::Link(link) => unreachable(link),
                other => VmError::GuestUnreachable(other.to_string()),
            })?;
            running.process.exited().await;
            Ok::<_, VmError>(())
        };
        match tokio::time::timeout(SHUTDOWN_LIMIT, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(instance = %instance.id, %error, "shutting down"),
            Err(_) => {
                tracing::warn!(instance = %instance.id, "the guest did not shut down in time")
            }
        }
        Ok(())
    }

    async fn end_process(&self, instance: &Instance) -> Result<(), VmError> {
        let running = self.running().get(&instance.id).cloned();
        if let Some(running) = running {
            running.process.kill().await.map_err(qemu_error)?;
            self.running().remove(&instance.id);
        }
        let dir = self.files.run(&instance.id);
        blocking(move || remove_dir(&dir)).await
    }

    pub(super) fn process_of(
        &self,
        vm: &VmRecord,
        instance: &Instance,
    ) -> Result<Arc<Running>, VmError> {
        let running = self.running().get(&instance.id).cloned();
        running.ok_or_else(|| VmError::NotRunning(vm.id.clone()))
    }
}

/// The place in a VPC, as the network makes it.
fn network_nic(nic: &freestyle_store::Nic) -> Result<Nic, VmError> {
    let range = VpcRange::try_from(nic.address.trunc()).map_err(NetworkError::from);
    let vpc = range.and_then(|range| Vpc::new(nic.vpc.as_str(), range));
    vpc.and_then(|vpc| Nic::new(vpc, nic.address.addr())).map_err(network_error)
}

/// How a process begins.
enum Start {
    Boot,
    Restore { memory: Arc<SealedMemory>, base: Option<String>, devices: OwnedFd },
}
