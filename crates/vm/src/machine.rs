//! The one task that owns a VM.
//!
//! ```text
//!   create ─► Creating ─────────► Running ◄──────────┐
//!   pool ───► Creating ─► Ready ─────▲                │ start, or the guest rebooted
//!                 │         │ claim  │                │
//!                 │         └────────┘   stop, kill,  │
//!                 │                      guest ended  │
//!                 │            Running ─────────► Stopped
//!                 ▼               │ delete             │ delete
//!              Deleted ◄──────────┴────────────────────┘
//!         (a failed create; an ephemeral VM that stopped)
//! ```
//!
//! All changes of a VM's recorded state happen here, one operation at a time. Others send requests
//! and read the status; nobody else mutates. A request to kill or delete overtakes the others and
//! makes the task give up what it is doing, so both work at any moment.

use std::sync::Arc;

use freestyle_store::{OperationId, StoreError, VmId, VmPhase, VmRecord};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{Engine, Exit, Step};
use crate::error::VmError;
use crate::model::{AptPackage, Exec};
use crate::operation::{Begun, Operation, Outcome, install_command, installed};
use crate::service::Shared;

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
    /// Whether it installs packages.
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
    /// To carry out an operation that the caller has begun in the store; `vm` is as it then was.
    CarryOut { vm: Box<VmRecord>, begun: Begun, packages: Vec<AptPackage> },
}

impl Work {
    fn operation(&self) -> Operation {
        match self {
            Self::Begin(operation) => *operation,
            Self::CarryOut { begun, .. } => begun.operation,
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

    /// As [`Handle::run`], for an operation that is in the store already. Once the guest answers,
    /// the packages are installed.
    pub(crate) async fn run_begun(
        &self,
        vm: VmRecord,
        begun: Begun,
        packages: Vec<AptPackage>,
    ) -> Result<VmRecord, VmError> {
        self.request(Work::CarryOut { vm: Box::new(vm), begun, packages }).await
    }

    async fn request(&self, work: Work) -> Result<VmRecord, VmError> {
        let (reply, answer) = oneshot::channel();
        let queue = if work.operation().is_urgent() { &self.urgent } else { &self.requests };
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

    /// Does what was asked. In software emulation a kernel panics in about one boot of thirty, always
    /// elsewhere: a boot that died is tried once more.
    async fn serve(&mut self, work: Work) -> Result<VmRecord, VmError> {
        let boots = matches!(work, Work::Begin(Operation::Start));
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
        self.finish_unfinished().await?;
        if self.is_over() {
            return Err(VmError::NotFound(self.record.id.clone()));
        }
        let (begun, packages) = match work {
            Work::CarryOut { vm, begun, packages } => {
                self.record = *vm;
                (begun, packages)
            }
            Work::Begin(operation) => {
                if let Some(answer) = self.nothing_to_do(operation).await {
                    return answer;
                }
                if operation == Operation::Start && self.record.instance.is_some() {
                    // Its process ended and that was not noticed yet. A run is not begun twice.
                    self.end_run(Outcome::without_process(&self.record), "ended").await?;
                    if self.is_over() {
                        return Err(VmError::NotFound(self.record.id.clone()));
                    }
                }
                (self.begin(operation).await?, Vec::new())
            }
        };
        self.status.send_replace(Status {
            busy: Some(Busy {
                id: begun.id.clone(),
                operation: begun.operation,
                builds: !packages.is_empty(),
            }),
        });
        let result = self.carry_out(begun, &packages).await;
        self.status.send_replace(Status::default());
        result.map(|()| self.record.clone())
    }

    /// The answer to an operation that finds the VM where it would take it.
    async fn nothing_to_do(&mut self, operation: Operation) -> Option<Result<VmRecord, VmError>> {
        let engine = &self.shared.engine;
        let done = match (operation, &self.record.instance) {
            (Operation::Stop | Operation::Kill, None) => Ok(()),
            (Operation::Discard, _) if self.record.account_id.is_some() => Ok(()),
            (Operation::Start, Some(instance)) if engine.is_up(&instance.id) => Ok(()),
            (Operation::Start, Some(instance)) if engine.is_alive(&instance.id) => {
                // It has not answered this server yet.
                self.build_or_yield(operation, &[Step::Greet], &[]).await
            }
            _ => return None,
        };
        Some(done.map(|()| self.record.clone()))
    }

    async fn begin(&mut self, operation: Operation) -> Result<Begun, VmError> {
        let (system, id) = (self.shared.store.system(), &self.record.id);
        let begun = match operation {
            Operation::Start => system.begin_operation_with_instance(id, operation.as_str()).await,
            _ => system.begin_operation(id, operation.as_str()).await,
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

    async fn carry_out(&mut self, begun: Begun, packages: &[AptPackage]) -> Result<(), VmError> {
        let operation = begun.operation;
        let done = self.build_or_yield(operation, operation.steps(), packages).await;
        let outcome = match &done {
            Ok(()) => operation.success(&self.record),
            Err(error) => {
                tracing::warn!(vm = %self.record.id, ?operation, %error, "undoing");
                operation.failure(&self.record)
            }
        };
        let how = match operation {
            Operation::Stop => "stopped",
            Operation::Kill => "killed",
            _ => "ended",
        };
        self.settle(begun, outcome, how).await?;
        done
    }

    /// Does the steps, or gives up when a request comes that ends the VM.
    async fn build_or_yield(
        &mut self,
        operation: Operation,
        steps: &[Step],
        packages: &[AptPackage],
    ) -> Result<(), VmError> {
        let Self { shared, record, urgent, next, .. } = self;
        let build = build(&shared.engine, record, steps, packages);
        tokio::pin!(build);
        loop {
            tokio::select! {
                built = &mut build => return built,
                Some(request) = urgent.recv(), if next.is_none() => {
                    let gives_up = operation.yields_to(request.work.operation());
                    *next = Some(request);
                    if gives_up {
                        return Err(VmError::Interrupted(record.id.clone()));
                    }
                }
            }
        }
    }

    /// Takes the VM to `outcome` and records it together with the operation's end.
    async fn settle(&mut self, begun: Begun, outcome: Outcome, how: &str) -> Result<(), VmError> {
        for step in outcome.steps() {
            if self.record.instance.is_none() && *step != Step::RemoveDisk {
                continue;
            }
            if let Err(error) = self.shared.engine.apply(*step, &self.record).await {
                self.unfinished = Some(begun);
                return Err(error);
            }
        }
        let system = self.shared.store.system();
        match system.finish_operation(&begun.id, outcome.settled(how)).await {
            Ok(record) => {
                self.record = record;
                Ok(())
            }
            Err(error) => {
                self.unfinished = Some(begun);
                Err(self.store_error(error))
            }
        }
    }

    async fn finish_unfinished(&mut self) -> Result<(), VmError> {
        let Some(begun) = self.unfinished.take() else { return Ok(()) };
        let (operation, outcome) = (begun.operation, begun.operation.failure(&self.record));
        tracing::info!(vm = %self.record.id, ?operation, ?outcome, "finishing an operation");
        self.settle(begun, outcome, "ended").await
    }

    fn store_error(&self, error: StoreError) -> VmError {
        match error {
            StoreError::OperationInProgress(operation) => {
                VmError::Busy { vm: self.record.id.clone(), operation }
            }
            StoreError::NoSuchVm(vm) => VmError::NotFound(vm),
            StoreError::NoFreeSlot => {
                VmError::NoCapacity("all of its VM slots are used".to_owned())
            }
            other => VmError::Store(other),
        }
    }
}

/// Does the steps one after the other, then installs the packages.
async fn build<E: Engine>(
    engine: &E,
    record: &VmRecord,
    steps: &[Step],
    packages: &[AptPackage],
) -> Result<(), VmError> {
    for step in steps {
        engine.apply(*step, record).await?;
    }
    if packages.is_empty() {
        return Ok(());
    }
    let instance = record.instance.as_ref().ok_or(VmError::NotRunning(record.id.clone()))?;
    let exec = Exec {
        command: install_command(packages),
        user: None,
        timeout: Some(crate::service::INSTALL_TIMEOUT),
    };
    installed(engine.exec(instance, exec).await)
}
