//! The host: the [`Engine`] that runs VMs for real, with QEMU, network namespaces and files.

mod files;
mod running;
mod template;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_guest_protocol::{CallError, ExecEnd, ExecRequest, Identity, PowerOff};
use freestyle_image::{Image, KERNEL_CMDLINE};
use freestyle_network::{Network, NetworkConfig, NetworkError};
use freestyle_qemu::memory::SealedMemory;
use freestyle_qemu::{
    AcceleratorChoice, Begin, Launch, MachineShape, Process, Qemu, QemuError, disk, launch,
};
use freestyle_store::{Instance, InstanceId, Store, VmId, VmRecord};
use sha2::{Digest, Sha256};

use crate::engine::{Engine, Exit, Step};
use crate::error::VmError;
use crate::model::*;
use crate::pool;
use crate::service::Service;
use files::{Files, MANIFEST_VERSION, Manifest, read_json, remove_dir, sync_dir, write_json};
use running::{Running, unreachable};
use template::{Template, Templates};

/// Bytes of each output stream of a command that are kept.
const MAX_OUTPUT: u64 = 16 << 20;
/// Largest file that is read through the API.
const MAX_FILE: u64 = 64 << 20;
/// How long a guest may take to answer after a restore or a boot.
const ANSWER_LIMIT: Duration = Duration::from_secs(240);
/// How long a guest may take to shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// How often consoles are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// What the VM service needs to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that is kept of VMs. Belongs to this server alone.
    pub data_dir: PathBuf,
    /// Base images and their snapshots; may be shared and may be cleared while no server runs.
    pub cache_dir: PathBuf,
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// How guest code is executed.
    pub accelerator: AcceleratorChoice,
    /// VMs of the default size to keep ready.
    pub pool_size: usize,
    /// DNS servers for guests; empty takes the host's own.
    pub resolvers: Vec<IpAddr>,
    /// The base image of new VMs.
    pub image: Image,
}

/// The VM service on this host.
pub type VmService = Service<Host>;

impl VmService {
    /// Checks the host, takes over what an earlier server left running, and begins to fill the
    /// pool. Takes a second, or as long as a boot when the base image has no snapshot yet.
    pub async fn open(config: Config, store: Store) -> Result<Self, VmError> {
        let (pool_size, warm_up) = (config.pool_size, DEFAULT_SIZING);
        let host = blocking(move || Host::open(config)).await?;
        let service = Self::recover(host, store).await?;
        let shared = service.shared().clone();
        // Whatever keeps the host from running a guest at all should be said at the start.
        shared.engine.inner.templates.get(warm_up).await?;
        service.run_in_background(pool::keep_filled(shared.clone(), pool_size));
        let inner = shared.engine.inner.clone();
        service.run_in_background(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                let running: Vec<_> = inner.running().values().cloned().collect();
                let trim = move || running.iter().for_each(|running| running.trim_console());
                let _ = tokio::task::spawn_blocking(trim).await;
            }
        });
        Ok(service)
    }

    /// Ends the service in order. VMs that run go on and are taken over by the next
    /// [`VmService::open`]; if there are none, nothing of this server is left on the host.
    pub async fn shut_down(self) {
        let Some(host) = self.close().await else { return };
        let Some(inner) = Arc::into_inner(host.inner) else { return };
        drop(inner.templates);
        if let Err(error) = inner.network.close() {
            tracing::warn!(%error, "giving the network back");
        }
    }
}

/// A host with QEMU.
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    qemu: Qemu,
    files: Files,
    network: Network,
    templates: Templates,
    image: String,
    running: Mutex<HashMap<InstanceId, Arc<Running>>>,
    /// Held while a step of the VM is done.
    steps: Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Host {
    /// Blocks: it runs `qemu --version` and prepares the network.
    fn open(config: Config) -> Result<Self, VmError> {
        let qemu = Qemu::probe(&config.qemu, config.accelerator).map_err(qemu_error)?;
        let files = Files::open(config.data_dir, config.cache_dir)?;
        let mut network = NetworkConfig::new(files.data.join("network.json"));
        network.resolvers = config.resolvers;
        let network = Network::open(network).map_err(network_error)?;
        let image = config.image.hash.clone();
        let templates = Templates::new(qemu.clone(), files.clone(), network.clone(), config.image);
        Ok(Self {
            inner: Arc::new(Inner {
                qemu,
                files,
                network,
                templates,
                image,
                running: Mutex::default(),
                steps: Mutex::default(),
            }),
        })
    }

    fn running(&self, instance: &InstanceId) -> Option<Arc<Running>> {
        self.inner.running().get(instance).cloned()
    }

    async fn guest(
        &self,
        instance: &Instance,
    ) -> Result<freestyle_guest_protocol::AgentConnection, VmError> {
        let running = self.running(&instance.id);
        let ended = || VmError::GuestUnreachable("its process ended".to_owned());
        running.ok_or_else(ended)?.guest().await
    }
}

impl Engine for Host {
    fn image(&self) -> &str {
        &self.inner.image
    }

    async fn apply(&self, step: Step, vm: &VmRecord) -> Result<(), VmError> {
        let lock = self.inner.step_lock(&vm.id).lock_owned().await;
        let (inner, vm) = (self.inner.clone(), vm.clone());
        // On a task of its own: a caller that stops waiting must not leave a step half done, and
        // the lock keeps the next step from overtaking it.
        let step = async move {
            let done = inner.apply(step, &vm).await;
            drop(lock);
            if step == Step::RemoveDisk && done.is_ok() {
                inner.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm.id);
            }
            done
        };
        tokio::spawn(step).await.map_err(|error| VmError::Internal(error.to_string()))?
    }

    async fn take_over(&self, vms: &[VmRecord]) -> Result<(), VmError> {
        let known: HashSet<&InstanceId> =
            vms.iter().filter_map(|vm| vm.instance.as_ref()).map(|run| &run.id).collect();
        let inner = &self.inner;
        let ours = inner.own_uids()?;
        for (name, (process, uid)) in Process::scan().map_err(qemu_error)? {
            if !ours.contains(&uid) {
                continue;
            }
            match name.parse::<InstanceId>() {
                Ok(id) if known.contains(&id) => {
                    let running = Running::new(process, inner.files.run(&id));
                    inner.running().insert(id, Arc::new(running));
                }
                _ => {
                    tracing::warn!(name, "ending a QEMU that belongs to no VM");
                    process.kill().await.map_err(qemu_error)?;
                }
            }
        }
        for left in inner.network.list() {
            if !left.instance.parse().is_ok_and(|id: InstanceId| known.contains(&id)) {
                inner.network.remove(&left.instance).await.map_err(network_error)?;
            }
        }
        let known: HashSet<String> = known.into_iter().map(|id| id.to_string()).collect();
        let run = inner.files.data.join("run");
        blocking(move || {
            let entries = fs::read_dir(&run).map_err(files::failed("reading", &run))?;
            for entry in entries.flatten() {
                if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
                    remove_dir(&entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    fn is_alive(&self, instance: &InstanceId) -> bool {
        self.running(instance).is_some_and(|running| running.process.is_alive())
    }

    fn is_up(&self, instance: &InstanceId) -> bool {
        self.running(instance).is_some_and(|running| running.is_up())
    }

    async fn exited(&self, instance: &InstanceId) -> Exit {
        let Some(running) = self.running(instance) else {
            return Exit { how: "ended while the server was down".to_owned(), reboot: false };
        };
        let how = running.process.exited().await;
        let reboot = running.was_reset();
        if !reboot {
            let console = running.last_words().await;
            tracing::info!(%instance, how, console, "QEMU ended");
        }
        Exit { how, reboot }
    }

    fn cpu_time(&self, instance: &InstanceId) -> Option<Duration> {
        self.running(instance)?.process.cpu_time()
    }

    async fn has_disk(&self, vm: &VmId) -> bool {
        tokio::fs::try_exists(self.inner.files.manifest(vm)).await.unwrap_or(false)
    }

    async fn exec(&self, instance: &Instance, exec: Exec) -> Result<ExecOutput, VmError> {
        let user = exec.user.as_ref().map(LinuxUser::as_str);
        let request = ExecRequest {
            command: exec.command,
            user: user.map(str::to_owned),
            timeout: exec.timeout,
            max_output: MAX_OUTPUT,
        };
        let outcome = self.guest(instance).await?.exec(request).await;
        let outcome = outcome.map_err(|error| call_error(error, user, ""))?;
        let (stdout, stderr) = (outcome.stdout, outcome.stderr);
        match outcome.end {
            ExecEnd::Exited(status) => Ok(ExecOutput { stdout, stderr, status }),
            ExecEnd::OutputTooLarge => Err(VmError::OutputTooLarge { limit: MAX_OUTPUT }),
            ExecEnd::TimedOut => {
                let timeout = exec.timeout.unwrap_or_default();
                Err(VmError::ExecTimedOut { timeout, stdout, stderr })
            }
        }
    }

    async fn read_path(
        &self,
        instance: &Instance,
        user: Option<LinuxUser>,
        path: &str,
    ) -> Result<FileOrDir, VmError> {
        let user = user.as_ref().map(LinuxUser::as_str);
        let read = self.guest(instance).await?.read_path(user, path, MAX_FILE).await;
        match read.map_err(|error| call_error(error, user, path))? {
            freestyle_guest_protocol::FileOrDir::File(content) => Ok(FileOrDir::File(content)),
            freestyle_guest_protocol::FileOrDir::Dir(entries) => {
                let entry = |entry: freestyle_guest_protocol::DirEntry| DirEntry {
                    name: entry.name,
                    is_dir: entry.is_dir,
                };
                Ok(FileOrDir::Dir(entries.into_iter().map(entry).collect()))
            }
        }
    }

    async fn write_file(
        &self,
        instance: &Instance,
        user: Option<LinuxUser>,
        path: &str,
        content: Vec<u8>,
    ) -> Result<(), VmError> {
        let user = user.as_ref().map(LinuxUser::as_str);
        let guest = self.guest(instance).await?;
        let written = guest.write_file(user, path, &content).await;
        written.map_err(|error| call_error(error, user, path))
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Running>>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step_lock(&self, vm: &VmId) -> Arc<tokio::sync::Mutex<()>> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(vm.clone()).or_default().clone()
    }

    /// The users that processes of this server's VMs run as.
    fn own_uids(&self) -> Result<std::ops::RangeInclusive<u32>, VmError> {
        let uid = |slot| self.network.uid_for_slot(slot).map_err(network_error);
        Ok(uid(0)?..=uid(freestyle_network::SLOTS - 1)?)
    }

    async fn apply(self: &Arc<Self>, step: Step, vm: &VmRecord) -> Result<(), VmError> {
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
        let identity = identity(Some(&instance.id), vm.id.as_str(), self.must_grow(vm).await?);
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

    /// Whether the VM is to have a larger disk than the snapshot it began from.
    async fn must_grow(&self, vm: &VmRecord) -> Result<bool, VmError> {
        Ok(self.templates.get(vm.sizing).await?.disk_mib < vm.sizing.disk_mib)
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

/// Who the guest is in this instance. The generation follows from the instance, so that a server
/// that restarted greets a guest as the one it is; without an instance it is a new one every time.
fn identity(instance: Option<&InstanceId>, hostname: &str, grow_root: bool) -> Identity {
    let seed = instance.cloned().unwrap_or_else(InstanceId::random);
    let digest = Sha256::digest(seed.as_str());
    let mut generation = [0; 16];
    generation.copy_from_slice(&digest[..16]);
    Identity { generation, hostname: hostname.to_owned(), grow_root }
}

fn read_manifest(path: &std::path::Path) -> Result<Manifest, VmError> {
    let manifest: Manifest = read_json(path)?;
    if manifest.version == MANIFEST_VERSION {
        return Ok(manifest);
    }
    let version = manifest.version;
    Err(VmError::Internal(format!("{path:?} has format {version}; this build knows format 1")))
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmError> + Send + 'static,
) -> Result<T, VmError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| VmError::Internal(error.to_string()))?
}

fn qemu_error(error: QemuError) -> VmError {
    if error.is_no_space() {
        return VmError::NoCapacity(error.to_string());
    }
    VmError::Internal(error.to_string())
}

fn network_error(error: NetworkError) -> VmError {
    VmError::Internal(error.to_string())
}

fn call_error(error: CallError, user: Option<&str>, path: &str) -> VmError {
    match error {
        CallError::UnknownUser => {
            VmError::UnknownUser { user: user.unwrap_or_default().to_owned() }
        }
        CallError::NotFound => VmError::FileNotFound { path: path.to_owned() },
        CallError::Link(link) => unreachable(link),
        CallError::RequestTooLong => VmError::BadRequest(error.to_string()),
        CallError::TooLarge { .. } | CallError::Refused(_) => VmError::File(error.to_string()),
    }
}
