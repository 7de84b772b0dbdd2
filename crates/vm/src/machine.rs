//! The one task that owns a VM.
//!
//! ```text
//!   create ─► Creating ─────────► Running ◄──────────┬──────────────┐
//!   pool ───► Creating ─► Ready ─────▲ ▲              │ start,       │ start
//!                 │         │ claim  │ └ snapshot,    │ or the guest │
//!                 │         └────────┘   fork         │ rebooted     │
//!                 │                                   │              │
//!                 │     stop, kill,  Running ────► Stopped           │
//!                 │     guest ended     │             ▲ stop, kill   │
//!                 │                     │ suspend     │              │
//!                 │                     └───────► Suspended ─────────┘
//!                 ▼                                   │ delete, from every state
//!              Deleted ◄──────────────────────────────┘
//!         (a failed create; an ephemeral VM that stopped)
//! ```
//!
//! All changes of a VM's recorded state happen here, one operation at a time. Others send requests
//! and read the status; nobody else mutates. A request to kill or delete overtakes the others and
//! makes the task give up what it is doing, so both work at any moment.

use std::sync::Arc;
use std::time::Duration;

use freestyle_store::{
    Instance, NewSnapshot, OperationId, SnapshotEnd, SnapshotId, SnapshotPersistence,
    SnapshotPurpose, StoreError, VmId, VmPhase, VmRecord,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{Engine, Exit, Step};
use crate::error::VmError;
use crate::model::{Exec, ExecOutput};
use crate::operation::{Begun, Operation, Outcome};
use crate::service::{BuildLog, Shared};
use crate::setup::{self, Setup, SetupError};

/// Requests of each urgency that may wait for one VM. More are refused as busy.
const QUEUE: usize = 64;

/// What the task is doing, for those who only look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// The operation in progress.
    pub(crate) busy: Option<Busy>,
}

/// An operation in progress.
#[derive(Debug, Clone)]
pub(crate) struct Busy {
    /// As stored.
    pub(crate) id: OperationId,
    /// Which one.
    pub(crate) operation: Operation,
    /// Whether it sets the guest up.
    pub(crate) builds: bool,
}

struct Request {
    work: Work,
    reply: oneshot::Sender<Result<VmRecord, VmError>>,
}

/// What is asked of the task.
enum Work {
    /// To begin an operation and carry it out.
    Begin(Operation),
    /// To finish what an earlier server left, and to greet the guest if there is one.
    Adopt,
    /// To carry out an operation that the caller has begun in the store; `vm` is as it then was.
    CarryOut { vm: Box<VmRecord>, begun: Begun, plan: Option<Box<Plan>> },
}

impl Work {
    fn operation(&self) -> Option<&Operation> {
        match self {
            Self::Begin(operation) => Some(operation),
            Self::CarryOut { begun, .. } => Some(&begun.operation),
            Self::Adopt => None,
        }
    }
}

/// How others reach the task.
#[derive(Clone)]
pub(crate) struct Handle {
    vm: VmId,
    requests: mpsc::Sender<Request>,
    urgent: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
}

impl Handle {
    /// Has the operation done and answers the VM as it then is.
    pub(crate) async fn run(&self, operation: Operation) -> Result<VmRecord, VmError> {
        self.request(Work::Begin(operation)).await
    }

    /// Takes the VM over from an earlier server and answers it as it then is.
    pub(crate) async fn adopt(&self) -> Result<VmRecord, VmError> {
        self.request(Work::Adopt).await
    }

    /// As [`Handle::run`], for an operation that is in the store already. Once the guest answers,
    /// the plan is carried out.
    pub(crate) async fn run_begun(
        &self,
        vm: VmRecord,
        begun: Begun,
        plan: Option<Plan>,
    ) -> Result<VmRecord, VmError> {
        self.request(Work::CarryOut { vm: Box::new(vm), begun, plan: plan.map(Box::new) }).await
    }

    async fn request(&self, work: Work) -> Result<VmRecord, VmError> {
        let (reply, answer) = oneshot::channel();
        let is_urgent = work.operation().is_some_and(Operation::is_urgent);
        let queue = if is_urgent { &self.urgent } else { &self.requests };
        match queue.try_send(Request { work, reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(VmError::NotFound(self.vm.clone()));
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                let busy = self.status.borrow().busy.as_ref().map(|busy| busy.id.clone());
                let operation = busy.unwrap_or_else(OperationId::random);
                return Err(VmError::Busy { vm: self.vm.clone(), operation });
            }
        }
        // The task ends without an answer only when the VM is gone.
        answer.await.unwrap_or_else(|_| Err(VmError::NotFound(self.vm.clone())))
    }

    /// What the task is doing now.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

/// Starts the task that owns `record`. `unfinished` is an operation that a server before this one
/// did not finish.
pub(crate) fn spawn<E: Engine>(
    shared: Arc<Shared<E>>,
    record: VmRecord,
    unfinished: Option<Begun>,
) -> Handle {
    let (requests, request_receiver) = mpsc::channel(QUEUE);
    let (urgent, urgent_receiver) = mpsc::channel(QUEUE);
    let (status_sender, status) = watch::channel(Status::default());
    let handle = Handle { vm: record.id.clone(), requests, urgent, status };
    let machine = Machine {
        shared,
        record,
        requests: request_receiver,
        urgent: urgent_receiver,
        next: None,
        status: status_sender,
        unfinished,
        in_trouble: false,
    };
    tokio::spawn(machine.own());
    handle
}

struct Machine<E: Engine> {
    shared: Arc<Shared<E>>,
    record: VmRecord,
    requests: mpsc::Receiver<Request>,
    /// Those that may make the task give up what it is doing.
    urgent: mpsc::Receiver<Request>,
    /// An urgent request that came during an operation.
    next: Option<Request>,
    status: watch::Sender<Status>,
    /// An operation whose end could not be reached: by a crash, or because the host refused.
    unfinished: Option<Begun>,
    /// The process ended and that could not be recorded. Noticed anew once this is false.
    in_trouble: bool,
}

/// What woke the task.
enum Event {
    Request(Request),
    Exited(Exit),
    /// It is time to try again what could not be cleaned up.
    Retry,
    /// Nobody can send a request any more.
    Closed,
}

impl<E: Engine> Machine<E> {
    async fn own(mut self) {
        while !self.is_over() {
            let mut answer = None;
            match self.next_event().await {
                Event::Request(Request { work, reply }) => {
                    answer = Some((reply, self.serve(work).await));
                }
                Event::Exited(exit) => self.notice_exit(exit).await,
                Event::Retry => self.retry().await,
                Event::Closed => return,
            }
            // The map must forget a deleted VM before its caller hears of it.
            if self.is_over() {
                self.shared.forget(&self.record.id);
            }
            if let Some((reply, result)) = answer {
                let _ = reply.send(result);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.record.phase == VmPhase::Deleted
    }

    async fn next_event(&mut self) -> Event {
        if let Some(request) = self.next.take() {
            return Event::Request(request);
        }
        let to_retry = self.in_trouble || self.unfinished.is_some();
        // Only a VM that has settled has a process to watch: one that is being made gets its own
        // with the request that is on its way.
        let settled = matches!(self.record.phase, VmPhase::Running | VmPhase::Ready);
        let watched = self.record.instance.as_ref().filter(|_| settled && !to_retry);
        let exited = async {
            match watched {
                Some(instance) => self.shared.engine.exited(&instance.id).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(request) = self.urgent.recv() => Event::Request(request),
            exit = exited => Event::Exited(exit),
            request = self.requests.recv() => request.map_or(Event::Closed, Event::Request),
            () = tokio::time::sleep(self.shared.patience.retry), if to_retry => Event::Retry,
        }
    }

    /// The process ended without being asked to.
    async fn notice_exit(&mut self, exit: Exit) {
        tracing::info!(vm = %self.record.id, how = exit.how, reboot = exit.reboot, "a VM ended");
        // A reboot is no stop: an ephemeral VM stays.
        let outcome = match &self.record.account_id {
            Some(_) if exit.reboot => Outcome::Stopped,
            _ => Outcome::without_process(&self.record),
        };
        if let Err(error) = self.end_run(outcome, &exit.how).await {
            tracing::error!(vm = %self.record.id, %error, "cleaning up after a VM that ended");
            self.in_trouble = true;
            return;
        }
        if !exit.reboot || self.is_over() {
            return;
        }
        if let Err(error) = self.serve(Work::Begin(Operation::Start)).await {
            tracing::warn!(vm = %self.record.id, %error, "a guest's reboot failed");
        }
    }

    /// Cleans up after a run whose process is gone.
    async fn end_run(&mut self, outcome: Outcome, how: &str) -> Result<(), VmError> {
        let begun = self.begin(Operation::Kill).await?;
        self.settle(begun, outcome, how).await
    }

    async fn retry(&mut self) {
        self.in_trouble = false;
        if let Err(error) = self.finish_unfinished().await {
            tracing::error!(vm = %self.record.id, %error, "cleaning up again");
        }
    }

    /// Does what was asked. A boot that died is tried once more: QEMU before 8.1 may keep emulating
    /// code that another CPU of the guest has patched since, and then a kernel panics.
    async fn serve(&mut self, work: Work) -> Result<VmRecord, VmError> {
        let boots =
            matches!(work, Work::Begin(Operation::Start)) && self.record.phase == VmPhase::Stopped;
        match self.serve_once(work).await {
            Err(VmError::ExitDuringStart { reason }) if boots && !self.is_over() => {
                tracing::warn!(vm = %self.record.id, reason, "a boot died; trying once more");
                self.serve_once(Work::Begin(Operation::Start)).await
            }
            result => result,
        }
    }

    async fn serve_once(&mut self, work: Work) -> Result<VmRecord, VmError> {
        self.in_trouble = false;
        let resized = matches!(&self.unfinished, Some(begun) if matches!(begun.operation, Operation::Resize(_)));
        self.finish_unfinished().await?;
        if self.is_over() {
            return Err(VmError::NotFound(self.record.id.clone()));
        }
        let (begun, plan) = match work {
            // It ran before the resize that was cut off.
            Work::Adopt if resized => (self.begin(Operation::Start).await?, None),
            Work::Adopt => return self.adopt().await,
            Work::CarryOut { vm, begun, plan } => {
                self.record = *vm;
                (begun, plan)
            }
            Work::Begin(operation) => {
                if let Some(answer) = self.nothing_to_do(&operation).await {
                    return answer;
                }
                if operation == Operation::Start && self.record.instance.is_some() {
                    // Its process ended and that was not noticed yet. A run is not begun twice.
                    self.end_run(Outcome::without_process(&self.record), "ended").await?;
                    if self.is_over() {
                        return Err(VmError::NotFound(self.record.id.clone()));
                    }
                }
                (self.begin(operation).await?, None)
            }
        };
        self.status.send_replace(Status {
            busy: Some(Busy {
                id: begun.id.clone(),
                operation: begun.operation.clone(),
                builds: plan.is_some(),
            }),
        });
        let result = self.carry_out(begun, plan.as_deref()).await;
        self.status.send_replace(Status::default());
        result.map(|()| self.record.clone())
    }

    /// Finds out what has become of a VM while the server was down.
    async fn adopt(&mut self) -> Result<VmRecord, VmError> {
        let Some(instance) = self.record.instance.clone() else { return Ok(self.record.clone()) };
        if !self.shared.engine.is_alive(&instance.id) {
            self.end_run(Outcome::without_process(&self.record), "ended with its host").await?;
            return Ok(self.record.clone());
        }
        self.build_or_yield(&Operation::Start, &[Step::Greet], None).await?;
        Ok(self.record.clone())
    }

    /// The answer to an operation that finds the VM where it would take it, or where it cannot.
    async fn nothing_to_do(&mut self, operation: &Operation) -> Option<Result<VmRecord, VmError>> {
        let engine = &self.shared.engine;
        let instance = self.record.instance.as_ref().map(|instance| &instance.id);
        let is_alive = instance.is_some_and(|instance| engine.is_alive(instance));
        let is_suspended = self.record.phase == VmPhase::Suspended;
        let done = match operation {
            Operation::Stop | Operation::Kill if instance.is_none() && !is_suspended => Ok(()),
            Operation::Discard if self.record.account_id.is_some() => Ok(()),
            Operation::Suspend(_) if is_suspended => Ok(()),
            Operation::Flatten if !is_alive => Ok(()),
            Operation::Snapshot(_) | Operation::Fork(_) | Operation::Suspend(_)
                if !is_alive && !is_suspended =>
            {
                Err(VmError::NotRunning(self.record.id.clone()))
            }
            Operation::Start if instance.is_some_and(|instance| engine.is_up(instance)) => Ok(()),
            // It has not answered this server yet.
            Operation::Start if is_alive => {
                self.build_or_yield(operation, &[Step::Greet], None).await
            }
            _ => return None,
        };
        Some(done.map(|()| self.record.clone()))
    }

    async fn begin(&mut self, operation: Operation) -> Result<Begun, VmError> {
        let (system, id) = (self.shared.store.system(), &self.record.id);
        let kind = operation.to_string();
        if let (Operation::Suspend(snapshot), Some(account)) = (&operation, &self.record.account_id)
        {
            let new = snapshot_of(&self.record, snapshot.clone(), SnapshotPurpose::Suspend);
            self.shared.store.account_scope(account).insert_snapshot(&new).await?;
        }
        let begun = if operation.needs_instance() {
            system.begin_operation_with_instance(id, &kind).await
        } else {
            system.begin_operation(id, &kind).await
        };
        let (record, row) = begun.map_err(|error| {
            if matches!(error, StoreError::NoSuchVm(_)) {
                // It was deleted before this task was started, by one that knew it longer.
                self.record.phase = VmPhase::Deleted;
            }
            self.store_error(error)
        })?;
        self.record = record;
        Ok(Begun { id: row.id, operation })
    }

    async fn carry_out(&mut self, begun: Begun, plan: Option<&Plan>) -> Result<(), VmError> {
        let operation = begun.operation.clone();
        let done = self.build_or_yield(&operation, &operation.steps(&self.record), plan).await;
        let Err(error) = done else {
            if let Operation::Resize(to) = &operation {
                let resized = self.shared.store.system().set_sizing(&self.record.id, *to).await;
                if let Err(error) = resized {
                    self.unfinished = Some(begun);
                    return Err(self.store_error(error));
                }
            }
            if let Operation::Suspend(id) = &operation
                && let Some(size) = self.shared.engine.snapshot_size(id).await
            {
                let end = SnapshotEnd::Ready { memory_bytes: size.memory, disk_bytes: size.disk };
                // How large it is may stay unknown.
                let _ = self.shared.store.system().finish_snapshot(id, end).await;
            }
            let outcome = operation.success(&self.record);
            return self.settle(begun, outcome, operation.ending()).await;
        };
        if !operation.is_background() {
            tracing::warn!(vm = %self.record.id, %operation, %error, "undoing");
        }
        self.undo(begun).await?;
        Err(error)
    }

    /// Does the steps, or gives up when a request comes that ends the VM.
    async fn build_or_yield(
        &mut self,
        operation: &Operation,
        steps: &[Step],
        plan: Option<&Plan>,
    ) -> Result<(), VmError> {
        let Self { shared, record, requests, urgent, next, .. } = self;
        let build = build(&shared.engine, record, steps, plan);
        tokio::pin!(build);
        loop {
            tokio::select! {
                built = &mut build => return built,
                Some(request) = urgent.recv(), if next.is_none() => {
                    let next_operation = request.work.operation();
                    let gives_up = next_operation.is_some_and(|next| operation.yields_to(next));
                    *next = Some(request);
                    if gives_up {
                        return Err(VmError::Interrupted(record.id.clone()));
                    }
                }
                Some(request) = requests.recv(), if operation.is_background() && next.is_none() => {
                    *next = Some(request);
                    return Err(VmError::Interrupted(record.id.clone()));
                }
            }
        }
    }

    /// Takes an operation that failed, or that an earlier server did not finish, to its end.
    async fn undo(&mut self, begun: Begun) -> Result<(), VmError> {
        let engine = &self.shared.engine;
        let instance = self.record.instance.as_ref().map(|instance| &instance.id);
        let is_alive = instance.is_some_and(|instance| engine.is_alive(instance));
        let is_saved = match &begun.operation {
            Operation::Suspend(id) => engine.snapshot_size(id).await.is_some(),
            _ => false,
        };
        let outcome = begun.operation.failure(&self.record, is_alive, is_saved);
        let is_complete = matches!(
            (&begun.operation, &outcome),
            (Operation::Suspend(id), Outcome::Suspended(saved)) if id == saved
        );
        if !is_complete
            && let Some(step) = begun.operation.undo()
            && let Err(error) = self.undo_step(&begun.operation, &step).await
        {
            self.unfinished = Some(begun);
            return Err(error);
        }
        self.settle(begun, outcome, "ended").await
    }

    async fn undo_step(&self, operation: &Operation, step: &Step) -> Result<(), VmError> {
        self.shared.engine.apply(step, &self.record).await?;
        if let Operation::Suspend(id) = operation {
            self.shared.store.system().finish_snapshot(id, SnapshotEnd::Deleted).await?;
        }
        Ok(())
    }

    /// Takes the VM to `outcome` and records it together with the operation's end.
    async fn settle(&mut self, begun: Begun, outcome: Outcome, how: &str) -> Result<(), VmError> {
        match self.settle_steps(&begun, &outcome, how).await {
            Ok(record) => {
                self.record = record;
                Ok(())
            }
            Err(error) => {
                self.unfinished = Some(begun);
                Err(error)
            }
        }
    }

    async fn settle_steps(
        &self,
        begun: &Begun,
        outcome: &Outcome,
        how: &str,
    ) -> Result<VmRecord, VmError> {
        for step in outcome.steps() {
            if self.record.instance.is_some() || *step == Step::RemoveDisk {
                self.shared.engine.apply(step, &self.record).await?;
            }
        }
        let system = self.shared.store.system();
        let finished = system.finish_operation(&begun.id, outcome.settled(how)).await;
        finished.map_err(|error| self.store_error(error))
    }

    async fn finish_unfinished(&mut self) -> Result<(), VmError> {
        let Some(begun) = self.unfinished.take() else { return Ok(()) };
        tracing::info!(vm = %self.record.id, operation = %begun.operation, "finishing");
        self.undo(begun).await
    }

    fn store_error(&self, error: StoreError) -> VmError {
        match error {
            StoreError::OperationInProgress(operation) => {
                VmError::Busy { vm: self.record.id.clone(), operation }
            }
            other => other.into(),
        }
    }
}

/// The row of a snapshot that is about to be taken of this VM.
pub(crate) fn snapshot_of(vm: &VmRecord, id: SnapshotId, purpose: SnapshotPurpose) -> NewSnapshot {
    NewSnapshot {
        id,
        purpose,
        vm_id: Some(vm.id.clone()),
        instance_id: vm.instance.as_ref().map(|instance| instance.id.clone()),
        name: None,
        persistence: SnapshotPersistence::Persistent,
        sizing: vm.sizing,
        image: vm.image.clone(),
        content: None,
        build_id: None,
    }
}

/// What is to be set up in a guest that was just made, and who is told how far it is.
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) log: BuildLog,
}

/// Does the steps one after the other, then carries out the plan.
async fn build<E: Engine>(
    engine: &E,
    record: &VmRecord,
    steps: &[Step],
    plan: Option<&Plan>,
) -> Result<(), VmError> {
    for step in steps {
        engine.apply(step, record).await?;
    }
    let Some(Plan { setup, log }) = plan else { return Ok(()) };
    let instance = record.instance.as_ref().ok_or(VmError::NotRunning(record.id.clone()))?;
    let guest = EngineGuest { engine, instance };
    setup::apply(&guest, setup, log).await.map_err(|error| match error {
        SetupError::Guest(error) => error,
        SetupError::Failed { phase, reason, diagnostics } => VmError::SetupFailed {
            reason: format!("{}: {reason}", phase.as_str()),
            diagnostics: diagnostics.map(Box::new),
        },
    })
}

/// The guest of one instance.
struct EngineGuest<'a, E> {
    engine: &'a E,
    instance: &'a Instance,
}

impl<E: Engine> setup::Guest for EngineGuest<'_, E> {
    async fn exec(&self, command: String, timeout: Duration) -> Result<ExecOutput, VmError> {
        let exec = Exec { command, user: None, timeout: Some(timeout) };
        self.engine.exec(self.instance, exec).await
    }

    async fn write_file(&self, path: &str, content: Vec<u8>) -> Result<(), VmError> {
        self.engine.write_file(self.instance, None, path, content).await
    }
}
