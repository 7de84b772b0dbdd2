//! What the host answers to the lifecycle: steps, the state of processes, and calls of the guest.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use freestyle_guest_protocol::{AgentConnection, CallError, ExecEnd, ExecRequest, PtyOpen};
use freestyle_network::{GUEST_SUBNET, Ipv4Net};
use freestyle_qemu::Process;
use freestyle_store::{Instance, InstanceId, SnapshotId, VmId, VmRecord};

use super::files::{self, occupied, remove_dir};
use super::running::{Running, unreachable};
use super::{Host, blocking, network_error, qemu_error};
use crate::engine::{Engine, Exit, SnapshotSize, Step, StorageUse};
use crate::error::VmError;
use crate::model::{DirEntry, Exec, ExecOutput, FileOrDir, LinuxUser};
use crate::terminal::{OpenPty, PtySession, PtySize, SessionId, Terminal};

/// Bytes of each output stream of a command that are kept.
const MAX_OUTPUT: u64 = 16 << 20;
/// Largest file that is read through the API.
const MAX_FILE: u64 = 64 << 20;

impl Host {
    pub(super) fn running(&self, instance: &InstanceId) -> Option<Arc<Running>> {
        self.inner.running().get(instance).cloned()
    }

    fn process(&self, instance: &Instance) -> Result<Arc<Running>, VmError> {
        let ended = || VmError::GuestUnreachable("its process ended".to_owned());
        self.running(&instance.id).ok_or_else(ended)
    }

    async fn guest(&self, instance: &Instance) -> Result<AgentConnection, VmError> {
        self.process(instance)?.guest().await
    }
}

impl Engine for Host {
    fn image(&self) -> &str {
        &self.inner.image
    }

    fn excluded_addresses(&self) -> Vec<Ipv4Net> {
        let resolver = self.inner.network.resolver().map(Ipv4Net::from);
        resolver.into_iter().chain([GUEST_SUBNET]).collect()
    }

    async fn apply(&self, step: &Step, vm: &VmRecord) -> Result<(), VmError> {
        let lock = self.inner.step_lock(&vm.id).lock_owned().await;
        if matches!(step, Step::Warm | Step::Greet | Step::ShutDown | Step::Flatten) {
            // These only wait for the guest, or for QEMU. A caller that gives them up, to end the VM, must not
            // have to wait as well.
            return self.inner.apply(step, vm).await;
        }
        let (inner, vm, step) = (self.inner.clone(), vm.clone(), step.clone());
        // On a task of its own: a caller that stops waiting must not leave such a step half done,
        // and the lock keeps the next one from overtaking it.
        let step = async move {
            let done = inner.apply(&step, &vm).await;
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

    async fn snapshot_size(&self, snapshot: &SnapshotId) -> Option<SnapshotSize> {
        let (inner, id) = (self.inner.clone(), snapshot.as_str().to_owned());
        let size = move || {
            inner.snapshots.read(&id)?;
            let memory = occupied(&inner.snapshots.memory_file(&id))
                + occupied(&inner.snapshots.devices_file(&id));
            let disk = occupied(&inner.files.layers().join(format!("{id}.qcow2")));
            Ok(SnapshotSize { memory, disk })
        };
        blocking(size).await.ok()
    }

    async fn disk_layers(&self, vm: &VmId) -> usize {
        let (files, vm) = (self.inner.files.clone(), vm.clone());
        let layers = blocking(move || Ok(files.read_manifest(&vm)?.layers.len()));
        layers.await.unwrap_or(0)
    }

    async fn storage_use(&self) -> Result<StorageUse, VmError> {
        self.inner.storage_use().await
    }

    async fn traffic(&self, instance: &InstanceId) -> Option<u64> {
        let traffic = self.inner.network.traffic(instance.as_str()).await.ok()?;
        Some(traffic.from_guest + traffic.to_guest)
    }

    async fn sweep(
        &self,
        live: impl Future<Output = Result<HashSet<SnapshotId>, VmError>> + Send,
    ) -> Result<(), VmError> {
        self.inner.sweep(live).await
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

    async fn open_pty(&self, instance: &Instance, open: OpenPty) -> Result<Terminal, VmError> {
        let user = open.user.as_ref().map(LinuxUser::as_str);
        let request = PtyOpen {
            session: open.session,
            user: user.map(str::to_owned),
            command: open.command,
            size: open.size,
        };
        let running = self.process(instance)?;
        let evictions = running.evictions();
        let stream = running.guest().await?.pty_open(request).await;
        let stream = stream.map_err(|error| call_error(error, user, ""))?;
        Ok(Terminal::new(stream, evictions))
    }

    async fn attach_pty(
        &self,
        instance: &Instance,
        session: &SessionId,
        user: Option<&LinuxUser>,
        size: PtySize,
    ) -> Result<Terminal, VmError> {
        let user = user.map(LinuxUser::as_str);
        let running = self.process(instance)?;
        let evictions = running.evictions();
        let stream = running.guest().await?.pty_attach(session, user, size).await;
        let stream = stream.map_err(|error| call_error(error, user, ""))?;
        Ok(Terminal::new(stream, evictions))
    }

    async fn ptys(
        &self,
        instance: &Instance,
        user: Option<&LinuxUser>,
    ) -> Result<Vec<PtySession>, VmError> {
        let user = user.map(LinuxUser::as_str);
        let listed = self.guest(instance).await?.pty_list(user).await;
        listed.map_err(|error| call_error(error, user, ""))
    }

    async fn close_pty(
        &self,
        instance: &Instance,
        session: &SessionId,
        user: Option<&LinuxUser>,
    ) -> Result<i32, VmError> {
        let user = user.map(LinuxUser::as_str);
        let closed = self.guest(instance).await?.pty_close(session, user).await;
        closed.map_err(|error| call_error(error, user, ""))
    }

    async fn sleeping_ptys(&self, memory: &SnapshotId) -> Option<Vec<PtySession>> {
        let (snapshots, id) = (self.inner.snapshots.clone(), memory.as_str().to_owned());
        let read = blocking(move || snapshots.read_sessions(&id)).await;
        read.inspect_err(|error| tracing::warn!(%memory, %error, "sessions of a suspended VM")).ok()
    }
}

fn call_error(error: CallError, user: Option<&str>, path: &str) -> VmError {
    match error {
        CallError::UnknownUser => {
            VmError::UnknownUser { user: user.unwrap_or_default().to_owned() }
        }
        CallError::NotFound => VmError::FileNotFound { path: path.to_owned() },
        CallError::Link(link) => unreachable(link),
        CallError::Pty(failure) => VmError::Pty(failure),
        CallError::RequestTooLong => VmError::BadRequest(error.to_string()),
        CallError::TooLarge { .. } | CallError::Refused(_) => VmError::File(error.to_string()),
    }
}
