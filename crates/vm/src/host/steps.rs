//! The steps of a VM's operations, done for real.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freestyle_guest_protocol::{CallError, PowerOff};
use freestyle_image::KERNEL_CMDLINE;
use freestyle_qemu::memory::SealedMemory;
use freestyle_qemu::{Begin, Launch, MachineShape, disk, launch};
use freestyle_store::{Instance, InstanceId, VmRecord};

use super::files::{self, MANIFEST_VERSION, Manifest, read_json, remove_dir, sync_dir, write_json};
use super::running::{Running, unreachable};
use super::template::{self, Template};
use super::{Inner, blocking, identity, network_error, qemu_error};
use crate::engine::Step;
use crate::error::VmError;

/// How long a guest may take to answer after a restore or a boot.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);
/// How long a guest may take to shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn apply(self: &Arc<Self>, step: Step, vm: &VmRecord) -> Result<(), VmError> {
        match step {
            Step::MakeDisk => self.make_disk(vm).await,
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
        step: Step,
        vm: &VmRecord,
        instance: &Instance,
    ) -> Result<(), VmError> {
        match step {
            Step::MakeNetwork => {
                let made = self.network.create(instance.id.as_str(), instance.slot).await;
                made.map(drop).map_err(network_error)
            }
            Step::RemoveNetwork => {
                self.network.remove(instance.id.as_str()).await.map_err(network_error)
            }
            Step::Restore => {
                let template = self.template_of(vm).await?;
                self.start_process(vm, instance, Some(template)).await
            }
            Step::Boot => self.start_process(vm, instance, None).await,
            Step::Warm => self.warm(vm, instance).await,
            Step::Greet => self.greet(vm, instance).await,
            Step::ShutDown => self.shut_down(instance).await,
            Step::EndProcess => self.end_process(instance).await,
            Step::MakeDisk | Step::RemoveDisk => Ok(()),
        }
    }

    async fn make_disk(&self, vm: &VmRecord) -> Result<(), VmError> {
        let template = self.templates.get(vm.sizing).await?;
        let (files, id) = (self.files.clone(), vm.id.clone());
        blocking(move || {
            files.check_space()?;
            let dir = files.vm(&id);
            remove_dir(&dir)?;
            fs::create_dir(&dir).map_err(files::failed("making", &dir))?;
            // The restored guest finds the disk it knows; it grows when the guest is greeted.
            disk::create_overlay(&files.disk(&id), template.disk_mib).map_err(qemu_error)?;
            let manifest = Manifest {
                version: MANIFEST_VERSION,
                template: template.id.clone(),
                layers: template.layers.clone(),
            };
            write_json(&files.manifest(&id), &manifest)?;
            sync_dir(&files.data.join("vms"))
        })
        .await
    }

    /// The template whose disk the VM stands on.
    async fn template_of(&self, vm: &VmRecord) -> Result<Arc<Template>, VmError> {
        let template = self.templates.get(vm.sizing).await?;
        let path = self.files.manifest(&vm.id);
        let manifest = blocking(move || read_manifest(&path)).await?;
        if manifest.template == template.id {
            return Ok(template);
        }
        // Memory of one snapshot on the disk of another would be a corrupt machine.
        Err(VmError::Internal("the snapshot of the base image changed meanwhile".to_owned()))
    }

    async fn start_process(
        self: &Arc<Self>,
        vm: &VmRecord,
        instance: &Instance,
        template: Option<Arc<Template>>,
    ) -> Result<(), VmError> {
        if self.running().contains_key(&instance.id) {
            return Ok(());
        }
        let (inner, vm, id) = (self.clone(), vm.clone(), instance.id.clone());
        let running =
            blocking(move || inner.launch(&vm, &id, template.as_deref()).map(Arc::new)).await?;
        self.running().insert(instance.id.clone(), running.clone());
        running.qmp().await?.wait_for_incoming().await.map_err(qemu_error)
    }

    /// Starts a process that restores the template or, without one, boots from the VM's disk.
    fn launch(
        &self,
        vm: &VmRecord,
        instance: &InstanceId,
        template: Option<&Template>,
    ) -> Result<Running, VmError> {
        self.files.check_space()?;
        let dir = self.files.run(instance);
        remove_dir(&dir)?;
        fs::create_dir(&dir).map_err(files::failed("making", &dir))?;
        let manifest = read_manifest(&self.files.manifest(&vm.id))?;
        let network = self.network.get(instance.as_str()).map_err(network_error)?;
        let namespace = network.namespace().map_err(network_error)?;
        let kernel = self.files.layers().join(format!("{}.vmlinuz", manifest.template));
        let initrd = self.files.layers().join(format!("{}.initrd", manifest.template));
        let fresh;
        let (memory, begin) = match template {
            Some(template) => (&template.memory, Begin::Restore { devices: &template.devices }),
            None => {
                fresh = SealedMemory::zeroed(vm.sizing.memory_mib).map_err(qemu_error)?;
                let begin =
                    Begin::Boot { kernel: &kernel, initrd: &initrd, cmdline: KERNEL_CMDLINE };
                (&fresh, begin)
            }
        };
        let launched = launch(
            &self.qemu,
            Launch {
                name: instance.as_str(),
                shape: MachineShape { vcpus: vm.sizing.vcpus, memory_mib: vm.sizing.memory_mib },
                memory,
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
        let mut qmp = running.qmp().await?;
        qmp.resume().await.map_err(qemu_error)?;
        running.greet(identity(None, "freestyle", false), ANSWER_LIMIT).await?;
        template::warm_up(&running.guest().await?).await?;
        running.disconnect().await;
        qmp.pause().await.map_err(qemu_error)
    }

    async fn greet(&self, vm: &VmRecord, instance: &Instance) -> Result<(), VmError> {
        let running = self.process_of(vm, instance)?;
        if running.is_up() {
            return Ok(());
        }
        let grows = template::first_disk_mib(vm.sizing) < vm.sizing.disk_mib;
        let identity = identity(Some(&instance.id), vm.id.as_str(), grows);
        // Growing and resuming again, after a restart of the server, changes nothing.
        if !running.is_watched() {
            let mut qmp = running.qmp().await?;
            qmp.resume().await.map_err(qemu_error)?;
            // Only now is the disk QEMU's to change; the guest grows its file system when greeted.
            if identity.grow_root {
                qmp.resize_disk(vm.sizing.disk_mib).await.map_err(qemu_error)?;
            }
            running.watch(qmp);
        }
        running.greet(identity, ANSWER_LIMIT).await
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

    fn process_of(&self, vm: &VmRecord, instance: &Instance) -> Result<Arc<Running>, VmError> {
        let running = self.running().get(&instance.id).cloned();
        running.ok_or_else(|| VmError::NotRunning(vm.id.clone()))
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, VmError> {
    let manifest: Manifest = read_json(path)?;
    if manifest.version == MANIFEST_VERSION {
        return Ok(manifest);
    }
    let version = manifest.version;
    Err(VmError::Internal(format!("{path:?} has format {version}; this build knows format 1")))
}
