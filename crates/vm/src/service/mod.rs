//! The calls of the VM service: each is scoped to an account, finds the VM's task and asks it, or
//! talks to the guest.

mod builds;
mod connect;
mod create;
mod idle;
mod pty;
mod snapshots;
mod storage;

pub(crate) use self::builds::BuildLog;
pub use self::builds::Observer;
pub use self::connect::GuestConnection;
pub(crate) use self::idle::suspend_idle;
pub(crate) use self::storage::keep_small;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freestyle_store::{AccountId, InstanceId, Store, VmId, VmPhase, VmRecord};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::error::VmError;
use crate::machine::{self, Busy, Handle};
use crate::model::*;
use crate::operation::{Begun, Operation, Outcome};

/// How long the service waits where waiting is a matter of taste.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For guests that ran before the server was started. Those that are well answer in tens of
    /// milliseconds, in software emulation on a busy host in seconds.
    pub(crate) adoption: Duration,
    /// Before what could not be cleaned up is tried again, unless a request comes first.
    pub(crate) retry: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { adoption: Duration::from_secs(10), retry: Duration::from_secs(10) }
    }
}

/// How long a process may take to end after its guest stopped answering.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How often and for how long `close` looks whether everything has ended.
const CLOSE_TURNS: u32 = 500;
const CLOSE_TURN: Duration = Duration::from_millis(10);
/// Most VMs in one page of a list.
const MAX_PAGE: u32 = 1000;

/// By account and content.
type BuildLocks = HashMap<(AccountId, String), Arc<tokio::sync::Mutex<()>>>;

/// What the service and the tasks of its VMs share.
pub(crate) struct Shared<E: Engine> {
    pub(crate) engine: E,
    pub(crate) store: Store,
    pub(crate) patience: Patience,
    /// The tasks of the VMs; `None` once the service has been closed.
    machines: Mutex<Option<HashMap<VmId, Handle>>>,
    /// Told whenever a VM leaves the pool.
    pub(crate) pool_changed: Notify,
    /// Told whenever files may have become unneeded.
    garbage: Notify,
    /// When the network of an instance last showed traffic, in Unix milliseconds.
    activity: Mutex<HashMap<InstanceId, i64>>,
    /// Held while a snapshot of this content is built for this account.
    builds: Mutex<BuildLocks>,
    /// Tasks that end with the service.
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl<E: Engine> Shared<E> {
    fn activity(&self) -> MutexGuard<'_, HashMap<InstanceId, i64>> {
        // Never left half-changed either.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> MutexGuard<'_, Option<HashMap<VmId, Handle>>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by a VM's task when the VM is gone.
    pub(crate) fn forget(&self, vm: &VmId) {
        if let Some(machines) = &mut *self.machines() {
            machines.remove(vm);
        }
    }

    /// The task that owns this VM; started if there is none yet.
    pub(crate) fn machine(self: &Arc<Self>, record: &VmRecord) -> Result<Handle, VmError> {
        self.machine_with(record, None)
    }

    /// As [`Shared::machine`], for a VM whose last operation may be unfinished.
    fn machine_with(
        self: &Arc<Self>,
        record: &VmRecord,
        unfinished: Option<Begun>,
    ) -> Result<Handle, VmError> {
        // Held meanwhile: a task that ends at once must not be forgotten before it is known.
        let mut machines = self.machines();
        let closed = || VmError::Internal("the server is shutting down".to_owned());
        let machines = machines.as_mut().ok_or_else(closed)?;
        let spawn = || machine::spawn(self.clone(), record.clone(), unfinished);
        Ok(machines.entry(record.id.clone()).or_insert_with(spawn).clone())
    }
}

/// The VM service on some host. Cheap to clone; all clones are one service.
pub struct Service<E: Engine> {
    shared: Arc<Shared<E>>,
}

impl<E: Engine> Clone for Service<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<E: Engine> Service<E> {
    /// Takes over what an earlier server left: VMs that run are adopted, operations it did not
    /// finish are brought to their end, everything else on the host is removed.
    pub(crate) async fn recover(
        engine: E,
        store: Store,
        patience: Patience,
    ) -> Result<Self, VmError> {
        let records = store.system().live_vms().await?;
        let mut unfinished = HashMap::new();
        for row in store.system().unfinished_operations().await? {
            unfinished.insert(row.vm_id.clone(), Begun::read(&row)?);
        }
        engine.take_over(&records).await?;
        let shared = Arc::new(Shared {
            engine,
            store,
            patience,
            machines: Mutex::new(Some(HashMap::new())),
            pool_changed: Notify::new(),
            garbage: Notify::new(),
            activity: Mutex::default(),
            builds: Mutex::default(),
            background: Mutex::default(),
        });
        let service = Self { shared };

        let mut settling = Vec::new();
        for record in records {
            let begun = unfinished.remove(&record.id);
            if record.instance.is_none() && begun.is_none() {
                continue;
            }
            let handle = service.shared.machine_with(&record, begun)?;
            settling.push(async move {
                let adopted = async {
                    match record.phase {
                        // The pool is made anew: its VMs belong to nobody and may be of an older
                        // image.
                        VmPhase::Ready => handle.run(Operation::Discard).await,
                        _ => handle.adopt().await,
                    }
                };
                // A guest may be of ill will and never answer; its VM goes on trying without us.
                match tokio::time::timeout(patience.adoption, adopted).await {
                    // Its unfinished operation was to remove it, and that is done.
                    Ok(Ok(_) | Err(VmError::NotFound(_))) => {}
                    Ok(Err(error)) => {
                        tracing::error!(vm = %record.id, %error, "taking over a VM");
                    }
                    Err(_) => tracing::warn!(vm = %record.id, "the guest does not answer"),
                }
            });
        }
        join_all(settling).await;
        service.recover_builds().await?;
        service.recover_snapshots().await?;
        Ok(service)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<E>> {
        &self.shared
    }

    /// Runs a task until the service is closed.
    pub(crate) fn run_in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task);
        self.shared.background.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
    }

    /// Ends the service in order: nothing new is begun, the pool is emptied, VMs that run go on
    /// without it. Answers the host, unless something still uses the service after a moment.
    pub(crate) async fn close(self) -> Option<E> {
        let background = std::mem::take(
            &mut *self.shared.background.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for task in background {
            task.abort();
            // What it holds is let go of before that.
            let _ = task.await;
        }
        let vms = self.shared.store.system().live_vms().await.unwrap_or_default();
        for vm in vms.into_iter().filter(|vm| vm.account_id.is_none()) {
            // Another clone of the service has been closed already.
            let Ok(machine) = self.shared.machine(&vm) else { break };
            if let Err(error) = machine.run(Operation::Discard).await {
                tracing::warn!(vm = %vm.id, %error, "removing a VM of the pool");
            }
        }
        // A task ends when nobody can reach it any more, and another is not started.
        *self.shared.machines() = None;
        let mut shared = self.shared;
        for _ in 0..CLOSE_TURNS {
            match Arc::try_unwrap(shared) {
                Ok(shared) => return Some(shared.engine),
                Err(used) => shared = used,
            }
            tokio::time::sleep(CLOSE_TURN).await;
        }
        None
    }

    /// The account's VMs.
    pub async fn list(&self, account: &AccountId, filter: ListVms) -> Result<VmList, VmError> {
        let scope = self.shared.store.account_scope(account);
        let records = scope.vms(filter.include_deleted).await?;
        let infos = join_all(records.into_iter().map(|record| self.info(record))).await;

        let mut by_state: Vec<(VmState, usize)> = Vec::new();
        for info in infos.iter().filter(|info| info.deleted_at.is_none()) {
            match by_state.iter_mut().find(|(state, _)| *state == info.state) {
                Some((_, count)) => *count += 1,
                None => by_state.push((info.state, 1)),
            }
        }
        let search = filter.search.map(|text| text.to_lowercase());
        let matches = |info: &VmInfo| {
            let name = info.name.as_deref().unwrap_or_default().to_lowercase();
            filter.state.is_none_or(|state| state == info.state)
                && search
                    .as_ref()
                    .is_none_or(|text| name.contains(text) || info.id.as_str().contains(text))
        };
        let matching: Vec<VmInfo> = infos.into_iter().filter(matches).collect();
        let total = matching.len();
        let limit = filter.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE) as usize;
        let vms = matching.into_iter().skip(filter.offset as usize).take(limit).collect();
        Ok(VmList { vms, total, by_state })
    }

    /// One VM.
    pub async fn get(&self, account: &AccountId, vm: &VmId) -> Result<VmInfo, VmError> {
        let record = self.record(account, vm).await?;
        Ok(self.info(record).await)
    }

    /// Boots a stopped VM and restores a suspended one; a running one only takes the new settings.
    pub async fn start(
        &self,
        account: &AccountId,
        vm: &VmId,
        request: StartVm,
    ) -> Result<VmInfo, VmError> {
        let record = self.record(account, vm).await?;
        if request.idle_timeout.is_some() || request.activity_threshold_bytes.is_some() {
            let idle = match request.idle_timeout {
                Some(timeout) => timeout.map(|timeout| timeout.as_secs()),
                None => record.idle_timeout_seconds,
            };
            let threshold = request.activity_threshold_bytes.or(record.activity_threshold_bytes);
            self.shared.store.account_scope(account).set_idle_settings(vm, idle, threshold).await?;
        }
        let start = self.start_if_needed(record);
        let record = match request.ready_timeout {
            Some(after) => tokio::time::timeout(after, start)
                .await
                .map_err(|_| VmError::StartTimeout { after })??,
            None => start.await?,
        };
        Ok(self.info(record).await)
    }

    /// Shuts the guest down and keeps its disk; a suspended VM gives up its memory. Answers the run
    /// that ended.
    pub async fn stop(
        &self,
        account: &AccountId,
        vm: &VmId,
    ) -> Result<Option<InstanceId>, VmError> {
        let record = self.record(account, vm).await?;
        self.shared.machine(&record)?.run(Operation::Stop).await?;
        Ok(record.instance.map(|instance| instance.id))
    }

    /// Ends the process at once and keeps the disk as it is.
    pub async fn kill(&self, account: &AccountId, vm: &VmId) -> Result<(), VmError> {
        let record = self.record(account, vm).await?;
        self.shared.machine(&record)?.run(Operation::Kill).await.map(drop)
    }

    /// Removes the VM from whatever state it is in. Answers it as it was.
    pub async fn delete(&self, account: &AccountId, vm: &VmId) -> Result<VmInfo, VmError> {
        let record = self.record(account, vm).await?;
        let info = self.info(record.clone()).await;
        self.shared.machine(&record)?.run(Operation::Delete).await?;
        self.shared.garbage.notify_one();
        Ok(info)
    }

    /// Gives the VM other sizes. One that runs or is suspended is shut down and booted again.
    pub async fn resize(
        &self,
        account: &AccountId,
        vm: &VmId,
        sizes: Sizes,
    ) -> Result<VmInfo, VmError> {
        let record = self.record(account, vm).await?;
        if sizes == Sizes::default() {
            return Err(VmError::ResizeEmpty);
        }
        let current = record.sizing;
        if let Some(requested) = sizes.disk_mib.filter(|disk| *disk < current.disk_mib) {
            return Err(VmError::DiskShrink { current: current.disk_mib, requested });
        }
        let to = sizes.or(current)?;
        // What a suspended guest has not written to its disk yet must not be lost.
        let record = match record.phase {
            VmPhase::Suspended => self.start_if_needed(record).await?,
            _ => record,
        };
        let machine = self.shared.machine(&record)?;
        let was_running = record.instance.is_some();
        let mut record = machine.run(Operation::Resize(to)).await?;
        if was_running {
            record = machine.run(Operation::Start).await?;
        }
        Ok(self.info(record).await)
    }

    /// Waits until the VM's process has ended; answers how, in words.
    pub async fn wait_for_exit(&self, account: &AccountId, vm: &VmId) -> Result<String, VmError> {
        let record = self.record(account, vm).await?;
        match record.instance {
            Some(instance) => Ok(self.shared.engine.exited(&instance.id).await.how),
            None => Ok(record.last_exit.unwrap_or_else(|| "never ran".to_owned())),
        }
    }

    /// Runs a command. Starts the VM if it is stopped.
    pub async fn exec(
        &self,
        account: &AccountId,
        vm: &VmId,
        exec: Exec,
    ) -> Result<ExecOutput, VmError> {
        let record = self.running(account, vm).await?;
        let done = self.shared.engine.exec(instance(&record)?, exec).await;
        self.explain(&record, done).await
    }

    /// Reads a file or directory. Starts the VM if it is stopped.
    pub async fn read_path(
        &self,
        account: &AccountId,
        vm: &VmId,
        user: Option<LinuxUser>,
        path: &str,
    ) -> Result<FileOrDir, VmError> {
        let record = self.running(account, vm).await?;
        let read = self.shared.engine.read_path(instance(&record)?, user, path).await;
        self.explain(&record, read).await
    }

    /// Writes a file and makes missing parent directories. Starts the VM if it is stopped.
    pub async fn write_file(
        &self,
        account: &AccountId,
        vm: &VmId,
        user: Option<LinuxUser>,
        path: &str,
        content: Vec<u8>,
    ) -> Result<(), VmError> {
        let record = self.running(account, vm).await?;
        let written = self.shared.engine.write_file(instance(&record)?, user, path, content).await;
        self.explain(&record, written).await
    }

    /// A guest that does not answer may have been deleted or killed meanwhile: then that is why.
    async fn explain<T>(
        &self,
        record: &VmRecord,
        result: Result<T, VmError>,
    ) -> Result<T, VmError> {
        let (Err(VmError::GuestUnreachable(_)), Some(account)) = (&result, &record.account_id)
        else {
            return result;
        };
        let Some(instance) = &record.instance else { return result };
        // The connection breaks a moment before the process has ended.
        let ended = self.shared.engine.exited(&instance.id);
        if tokio::time::timeout(LAST_BREATH, ended).await.is_err() {
            return result;
        }
        // Whoever ended it is done with that first.
        let machine = self.shared.machine(&self.record(account, &record.id).await?)?;
        let now = machine.adopt().await?;
        if now.instance == record.instance {
            return result;
        }
        Err(VmError::NotRunning(now.id))
    }

    async fn record(&self, account: &AccountId, vm: &VmId) -> Result<VmRecord, VmError> {
        let record = self.shared.store.account_scope(account).vm(vm).await?;
        record.ok_or_else(|| VmError::NotFound(vm.clone()))
    }

    /// The VM, with a guest that has answered.
    async fn running(&self, account: &AccountId, vm: &VmId) -> Result<VmRecord, VmError> {
        let record = self.record(account, vm).await?;
        self.start_if_needed(record).await
    }

    async fn start_if_needed(&self, record: VmRecord) -> Result<VmRecord, VmError> {
        let up = |instance: &InstanceId| self.shared.engine.is_up(instance);
        if record.phase == VmPhase::Running
            && record.instance.as_ref().is_some_and(|instance| up(&instance.id))
        {
            return Ok(record);
        }
        if !self.shared.engine.has_disk(&record.id).await {
            return Err(VmError::Lost(record.id));
        }
        self.shared.machine(&record)?.run(Operation::Start).await
    }

    /// Derives what users are shown from what is there.
    async fn info(&self, record: VmRecord) -> VmInfo {
        let machine = self.shared.machines().as_ref().and_then(|all| all.get(&record.id).cloned());
        let busy = machine.and_then(|machine| machine.status().busy);
        let engine = &self.shared.engine;
        let instance = record.instance.as_ref().map(|instance| &instance.id);
        let state = match (busy, instance) {
            (Some(busy), _) if busy.builds => VmState::Building,
            (Some(Busy { operation: Operation::Suspend(_), .. }), _) => VmState::Suspending,
            (Some(busy), Some(_)) if busy.operation.leaves_running() => VmState::Running,
            (Some(busy), Some(_)) if busy.operation.success(&record) == Outcome::Running => {
                VmState::Starting
            }
            (_, Some(instance)) if engine.is_up(instance) => VmState::Running,
            (_, Some(instance)) if engine.is_alive(instance) => VmState::Starting,
            _ if record.deleted_at.is_none() && !engine.has_disk(&record.id).await => VmState::Lost,
            _ => match &record.suspended {
                Some(memory) if engine.snapshot_size(memory).await.is_none() => VmState::Lost,
                Some(_) => VmState::Suspended,
                None => VmState::Stopped,
            },
        };
        let cpu_time = instance.and_then(|instance| engine.cpu_time(instance));
        let last_network_activity =
            instance.and_then(|instance| self.shared.activity().get(instance).copied());
        VmInfo {
            state,
            cpu_time,
            last_network_activity,
            instance_id: instance.cloned(),
            id: record.id,
            name: record.name,
            sizing: record.sizing,
            persistence: record.persistence,
            recreate: record.recreate,
            created_at: record.created_at,
            deleted_at: record.deleted_at,
        }
    }
}

fn instance(record: &VmRecord) -> Result<&freestyle_store::Instance, VmError> {
    record.instance.as_ref().ok_or_else(|| VmError::NotRunning(record.id.clone()))
}

/// Now.
fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}
