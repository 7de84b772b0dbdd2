//! Random operations on the store against the same operations on a plain model.
//!
//! The model is the specification of who sees what, which slot is next, when a claim succeeds, when
//! an operation may begin and which memory a suspended VM stands on. It knows nothing of SQL.

use std::collections::BTreeMap;

use freestyle_store::{
    Account, Instance, InstanceId, OperationId, Settled, SnapshotId, SnapshotState, StoreError,
    VmId, VmPhase,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::{IMAGE, SIZING, TestStore, new_vm, settings, suspend_snapshot};

const ACCOUNTS: usize = 2;

/// What the model does next. A VM is chosen among all there ever were.
#[derive(Debug, Clone)]
enum Action {
    Insert { account: usize },
    InsertPool,
    Claim { account: usize },
    BeginOperation { vm: Index, with_instance: bool },
    FinishOperation { vm: Index, outcome: Outcome },
    Restart,
}

/// How an operation leaves its VM.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Running,
    Ready,
    Stopped,
    /// On a snapshot that was just taken.
    Suspended,
    /// On the last one that was taken: it stands on that already, or that was given up.
    SuspendedAgain,
    Deleted,
}

fn action() -> impl Strategy<Value = Action> {
    let vm = any::<Index>;
    let outcome = prop_oneof![
        3 => Just(Outcome::Running),
        3 => Just(Outcome::Ready),
        3 => Just(Outcome::Stopped),
        4 => Just(Outcome::Suspended),
        2 => Just(Outcome::SuspendedAgain),
        1 => Just(Outcome::Deleted),
    ];
    prop_oneof![
        2 => (0..ACCOUNTS).prop_map(|account| Action::Insert { account }),
        2 => Just(Action::InsertPool),
        2 => (0..ACCOUNTS).prop_map(|account| Action::Claim { account }),
        5 => (vm(), any::<bool>())
            .prop_map(|(vm, with_instance)| Action::BeginOperation { vm, with_instance }),
        7 => (vm(), outcome).prop_map(|(vm, outcome)| Action::FinishOperation { vm, outcome }),
        1 => Just(Action::Restart),
    ]
}

#[derive(Debug)]
struct ModelVm {
    owner: Option<usize>,
    phase: VmPhase,
    instance: Option<Instance>,
    /// Every instance it ever had.
    runs: Vec<InstanceId>,
    /// The last snapshot that was taken to suspend it.
    memory: Option<SnapshotId>,
    /// The one it stands on.
    suspended: Option<SnapshotId>,
    last_exit: Option<String>,
    operation: Option<OperationId>,
}

impl ModelVm {
    fn is_live(&self) -> bool {
        self.phase != VmPhase::Deleted
    }

    fn is_claimable(&self) -> bool {
        self.phase == VmPhase::Ready && self.operation.is_none()
    }

    /// Whether an operation may leave the VM like this.
    fn may_settle(&self, settled: Settled<'_>) -> bool {
        match settled {
            Settled::Running => self.instance.is_some(),
            Settled::Ready => self.instance.is_some() && self.owner.is_none(),
            Settled::Suspended { snapshot } => Some(snapshot) == self.suspended.as_ref(),
            Settled::Stopped { .. } | Settled::Deleted => true,
        }
    }

    fn end_instance(&mut self, last_exit: &str) {
        if self.instance.take().is_some() {
            self.last_exit = Some(last_exit.to_owned());
        }
    }

    fn settle(&mut self, settled: Settled<'_>) {
        self.operation = None;
        self.suspended = None;
        self.phase = match settled {
            Settled::Running => VmPhase::Running,
            Settled::Ready => VmPhase::Ready,
            Settled::Stopped { last_exit } => {
                self.end_instance(last_exit);
                VmPhase::Stopped
            }
            Settled::Suspended { snapshot } => {
                self.end_instance("suspended");
                self.suspended = Some(snapshot.clone());
                VmPhase::Suspended
            }
            Settled::Deleted => {
                self.instance = None;
                VmPhase::Deleted
            }
        };
    }

    /// The store gave it an instance that was never there before, in this slot.
    fn begin_instance(&mut self, given: &Instance, slot: u16) {
        assert_eq!(given.slot, slot);
        assert!(!self.runs.contains(&given.id));
        self.runs.push(given.id.clone());
        self.instance = Some(given.clone());
    }
}

struct Run {
    test: TestStore,
    accounts: Vec<Account>,
    model: BTreeMap<VmId, ModelVm>,
}

impl Run {
    async fn new() -> Self {
        let test = TestStore::open().await;
        let mut accounts = vec![];
        for _ in 0..ACCOUNTS {
            accounts.push(test.account().await);
        }
        Self { test, accounts, model: BTreeMap::new() }
    }

    fn free_slot(&self) -> u16 {
        let taken = |slot: &u16| {
            self.model.values().any(|vm| vm.instance.as_ref().is_some_and(|run| run.slot == *slot))
        };
        (0..).find(|slot| !taken(slot)).unwrap()
    }

    fn choose(&self, index: Index) -> Option<VmId> {
        let ids: Vec<&VmId> = self.model.keys().collect();
        if ids.is_empty() { None } else { Some((*index.get(&ids)).clone()) }
    }

    async fn insert(&mut self, owner: Option<usize>) {
        let (new, slot) = (new_vm(), self.free_slot());
        let inserted = match owner {
            Some(owner) => {
                let scope = self.test.store.account_scope(&self.accounts[owner].id);
                scope.insert_vm(&new, &settings(), "create").await
            }
            None => self.test.store.system().insert_pool_vm(&new, "provision").await,
        };
        let (vm, operation) = inserted.unwrap();
        let mut model = ModelVm {
            owner,
            phase: VmPhase::Creating,
            instance: None,
            runs: Vec::new(),
            memory: None,
            suspended: None,
            last_exit: None,
            operation: Some(operation.id),
        };
        model.begin_instance(&vm.instance.unwrap(), slot);
        self.model.insert(new.id, model);
    }

    async fn claim(&mut self, account: usize) {
        let scope = self.test.store.account_scope(&self.accounts[account].id);
        let claimed = scope.claim_ready_vm(IMAGE, SIZING, &settings(), "claim").await.unwrap();
        let Some((vm, operation)) = claimed else {
            assert!(!self.model.values().any(ModelVm::is_claimable));
            return;
        };
        let model = self.model.get_mut(&vm.id).unwrap();
        assert!(model.is_claimable());
        model.owner = Some(account);
        model.phase = VmPhase::Creating;
        model.operation = Some(operation.id);
    }

    async fn begin_operation(&mut self, id: VmId, with_instance: bool) {
        let slot = self.free_slot();
        let system = self.test.store.system();
        let begun = if with_instance {
            system.begin_operation_with_instance(&id, "work").await
        } else {
            system.begin_operation(&id, "work").await
        };

        let model = self.model.get_mut(&id).unwrap();
        if !model.is_live() {
            assert!(matches!(begun, Err(StoreError::NoSuchVm(_))));
        } else if let Some(current) = &model.operation {
            assert!(matches!(begun, Err(StoreError::OperationInProgress(id)) if id == *current));
        } else {
            let (vm, operation) = begun.unwrap();
            model.operation = Some(operation.id);
            if with_instance && model.instance.is_none() {
                model.begin_instance(vm.instance.as_ref().unwrap(), slot);
            }
            assert_eq!(vm.instance, model.instance);
        }
    }

    async fn finish_operation(&mut self, id: VmId, outcome: Outcome) {
        let model = self.model.get_mut(&id).unwrap();
        let Some(operation) = model.operation.clone() else { return };
        let mut is_fresh = false;
        if let (Outcome::Suspended, Some(owner)) = (outcome, model.owner) {
            let scope = self.test.store.account_scope(&self.accounts[owner].id);
            let snapshot = scope.insert_snapshot(&suspend_snapshot(&id)).await.unwrap();
            model.memory = Some(snapshot.id);
            is_fresh = true;
        }
        // A VM of which none was ever taken names one that does not exist.
        let snapshot = &model.memory.clone().unwrap_or_else(SnapshotId::random);
        let settled = match outcome {
            Outcome::Running => Settled::Running,
            Outcome::Ready => Settled::Ready,
            Outcome::Stopped => Settled::Stopped { last_exit: "ended" },
            Outcome::Suspended | Outcome::SuspendedAgain => Settled::Suspended { snapshot },
            Outcome::Deleted => Settled::Deleted,
        };

        let finished = self.test.store.system().finish_operation(&operation, settled).await;

        if is_fresh || model.may_settle(settled) {
            model.settle(settled);
            let vm = finished.unwrap();
            assert_eq!((vm.phase, vm.instance), (model.phase, model.instance.clone()));
        } else if matches!(settled, Settled::Suspended { .. }) {
            assert!(matches!(finished, Err(StoreError::NoSuchSnapshot(id)) if id == *snapshot));
        } else {
            assert!(matches!(finished, Err(StoreError::Database(_))));
        }
    }

    async fn step(mut self, action: Action) -> Self {
        match action {
            Action::Insert { account } => self.insert(Some(account)).await,
            Action::InsertPool => self.insert(None).await,
            Action::Claim { account } => self.claim(account).await,
            Action::Restart => self.test = self.test.reopened().await,
            Action::BeginOperation { vm, with_instance } => {
                if let Some(vm) = self.choose(vm) {
                    self.begin_operation(vm, with_instance).await;
                }
            }
            Action::FinishOperation { vm, outcome } => {
                if let Some(vm) = self.choose(vm) {
                    self.finish_operation(vm, outcome).await;
                }
            }
        }
        self
    }

    /// The store shows exactly what the model holds, to the system and to each account.
    async fn check(&self) {
        let system = self.test.store.system();
        let live = system.live_vms().await.unwrap();
        assert_eq!(live.len(), self.model.values().filter(|vm| vm.is_live()).count());
        for vm in &live {
            let model = &self.model[&vm.id];
            assert_eq!(vm.phase, model.phase);
            let owner = model.owner.map(|owner| &self.accounts[owner].id);
            assert_eq!(vm.account_id.as_ref(), owner);
            assert_eq!(vm.instance, model.instance);
            assert_eq!(vm.last_exit, model.last_exit);
            assert_eq!(vm.suspended, model.suspended);
        }
        let mut memories: Vec<SnapshotId> = vec![];
        for snapshot in system.live_snapshots().await.unwrap() {
            assert_eq!(snapshot.state, SnapshotState::Ready);
            memories.push(snapshot.id);
        }
        memories.sort();
        let mut stood_on: Vec<SnapshotId> =
            self.model.values().filter_map(|vm| vm.suspended.clone()).collect();
        stood_on.sort();
        assert_eq!(memories, stood_on);
        for (at, account) in self.accounts.iter().enumerate() {
            let scope = self.test.store.account_scope(&account.id);
            let mut listed: Vec<VmId> =
                scope.vms(true).await.unwrap().into_iter().map(|vm| vm.id).collect();
            listed.sort();
            let owned = self.model.iter().filter(|(_, vm)| vm.owner == Some(at));
            assert!(listed.iter().eq(owned.clone().map(|(id, _)| id)));
            let mut listed: Vec<VmId> =
                scope.vms(false).await.unwrap().into_iter().map(|vm| vm.id).collect();
            listed.sort();
            assert!(listed.iter().eq(owned.filter(|(_, vm)| vm.is_live()).map(|(id, _)| id)));
        }
        let mut unfinished: Vec<(VmId, OperationId)> = system
            .unfinished_operations()
            .await
            .unwrap()
            .into_iter()
            .map(|operation| (operation.vm_id, operation.id))
            .collect();
        unfinished.sort();
        let expected: Vec<(VmId, OperationId)> = self
            .model
            .iter()
            .filter_map(|(id, vm)| Some((id.clone(), vm.operation.clone()?)))
            .collect();
        assert_eq!(unfinished, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_like_the_model(actions in prop::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new().await;
            for action in actions {
                run = run.step(action).await;
                run.check().await;
            }
        });
    }
}
