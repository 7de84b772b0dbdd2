//! Random operations on the store against the same operations on a plain model.
//!
//! The model is the specification of who sees what, which slot is next, when a claim succeeds and
//! when an operation may begin. It knows nothing of SQL.

use std::collections::BTreeMap;

use freestyle_store::{
    Account, InstanceChange, InstanceId, OperationId, StoreError, VmChange, VmId, VmPhase,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::{IMAGE, SIZING, TestStore, new_vm, operation, settings};

const ACCOUNTS: usize = 2;

/// What the model does next. A VM is chosen among all there ever were.
#[derive(Debug, Clone)]
enum Action {
    Insert { account: usize },
    InsertPool,
    Claim { account: usize },
    BeginOperation { vm: Index, begin_instance: bool },
    FinishOperation { vm: Index, phase: VmPhase, end_instance: bool },
    BeginInstance { vm: Index },
    EndInstance { vm: Index, current: bool },
    Delete { vm: Index },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let vm = any::<Index>;
    let settled = prop::sample::select(vec![VmPhase::Running, VmPhase::Stopped, VmPhase::Deleted]);
    prop_oneof![
        2 => (0..ACCOUNTS).prop_map(|account| Action::Insert { account }),
        2 => Just(Action::InsertPool),
        2 => (0..ACCOUNTS).prop_map(|account| Action::Claim { account }),
        3 => (vm(), any::<bool>())
            .prop_map(|(vm, begin_instance)| Action::BeginOperation { vm, begin_instance }),
        5 => (vm(), settled, any::<bool>()).prop_map(|(vm, phase, end_instance)| {
            Action::FinishOperation { vm, phase, end_instance }
        }),
        2 => vm().prop_map(|vm| Action::BeginInstance { vm }),
        2 => (vm(), any::<bool>()).prop_map(|(vm, current)| Action::EndInstance { vm, current }),
        1 => vm().prop_map(|vm| Action::Delete { vm }),
        1 => Just(Action::Restart),
    ]
}

#[derive(Debug)]
struct ModelVm {
    owner: Option<usize>,
    phase: VmPhase,
    instance: Option<(InstanceId, u16)>,
    generation: i64,
    operation: Option<OperationId>,
}

impl ModelVm {
    fn is_live(&self) -> bool {
        self.phase != VmPhase::Deleted
    }

    fn is_claimable(&self) -> bool {
        self.phase == VmPhase::Ready && self.operation.is_none()
    }

    fn set_phase(&mut self, phase: VmPhase) {
        self.phase = phase;
        if phase == VmPhase::Deleted {
            self.instance = None;
            self.operation = None;
        }
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
            self.model.values().any(|vm| vm.instance.as_ref().is_some_and(|(_, s)| s == slot))
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
                scope.insert_vm(&new, &settings(), operation("create")).await
            }
            None => self.test.store.system().insert_pool_vm(&new, operation("create")).await,
        };
        let (vm, operation) = inserted.unwrap();
        let instance = vm.instance.unwrap();
        assert_eq!((instance.slot, instance.generation), (slot, 1));
        let vm = ModelVm {
            owner,
            phase: VmPhase::Creating,
            instance: Some((instance.id, slot)),
            generation: 1,
            operation: Some(operation.id),
        };
        self.model.insert(new.id, vm);
    }

    async fn claim(&mut self, account: usize) {
        let scope = self.test.store.account_scope(&self.accounts[account].id);
        let claimed =
            scope.claim_ready_vm(IMAGE, SIZING, &settings(), operation("hand_over")).await.unwrap();
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

    async fn begin_operation(&mut self, id: VmId, begin_instance: bool) {
        let slot = self.free_slot();
        let instance = if begin_instance { InstanceChange::Begin } else { InstanceChange::Keep };
        let change = VmChange { phase: None, instance };
        let system = self.test.store.system();
        let begun = system.begin_operation(&id, operation("work"), &change).await;

        let model = self.model.get_mut(&id).unwrap();
        if !model.is_live() {
            assert!(matches!(begun, Err(StoreError::NoSuchVm(_))));
        } else if let Some(current) = &model.operation {
            assert!(matches!(begun, Err(StoreError::OperationInProgress(id)) if id == *current));
        } else if begin_instance && model.instance.is_some() {
            assert!(matches!(begun, Err(StoreError::InstanceExists { .. })));
        } else {
            let (vm, operation) = begun.unwrap();
            model.operation = Some(operation.id);
            if begin_instance {
                model.instance = Some((vm.instance.unwrap().id, slot));
                model.generation += 1;
            }
        }
    }

    async fn finish_operation(&mut self, id: VmId, phase: VmPhase, end_instance: bool) {
        let model = self.model.get_mut(&id).unwrap();
        let Some(operation) = model.operation.take() else { return };
        // What is not owned goes to the pool.
        let phase = match model.owner {
            None if phase == VmPhase::Running => VmPhase::Ready,
            _ => phase,
        };
        let instance = match &model.instance {
            Some((instance, _)) if end_instance => {
                let change = InstanceChange::End {
                    instance: instance.clone(),
                    last_exit: "ended".to_owned(),
                };
                model.instance = None;
                change
            }
            _ => InstanceChange::Keep,
        };
        model.set_phase(phase);
        let change = VmChange { phase: Some(phase), instance };
        self.test.store.system().finish_operation(&operation, &change).await.unwrap();
    }

    async fn begin_instance(&mut self, id: VmId) {
        let slot = self.free_slot();
        let begun = self.test.store.system().begin_instance(&id).await;
        let model = self.model.get_mut(&id).unwrap();
        if !model.is_live() {
            assert!(matches!(begun, Err(StoreError::NoSuchVm(_))));
        } else if model.instance.is_some() {
            assert!(matches!(begun, Err(StoreError::InstanceExists { .. })));
        } else {
            model.generation += 1;
            model.instance = Some((begun.unwrap().id, slot));
        }
    }

    async fn end_instance(&mut self, id: VmId, current: bool) {
        let model = self.model.get_mut(&id).unwrap();
        let instance = match &model.instance {
            Some((instance, _)) if current => instance.clone(),
            _ => InstanceId::random(),
        };
        let expected = current && model.instance.is_some();
        if expected {
            model.instance = None;
            model.phase = VmPhase::Stopped;
        }
        let system = self.test.store.system();
        let ended = system.end_instance(&id, &instance, "ended", VmPhase::Stopped).await.unwrap();
        assert_eq!(ended, expected);
    }

    async fn delete(&mut self, id: VmId) {
        let deleted = self.test.store.system().set_phase(&id, VmPhase::Deleted).await;
        let model = self.model.get_mut(&id).unwrap();
        assert_eq!(deleted.is_ok(), model.is_live());
        model.set_phase(VmPhase::Deleted);
    }

    async fn step(mut self, action: Action) -> Self {
        match action {
            Action::Insert { account } => self.insert(Some(account)).await,
            Action::InsertPool => self.insert(None).await,
            Action::Claim { account } => self.claim(account).await,
            Action::Restart => self.test = self.test.reopened().await,
            Action::BeginOperation { vm, begin_instance } => {
                if let Some(vm) = self.choose(vm) {
                    self.begin_operation(vm, begin_instance).await;
                }
            }
            Action::FinishOperation { vm, phase, end_instance } => {
                if let Some(vm) = self.choose(vm) {
                    self.finish_operation(vm, phase, end_instance).await;
                }
            }
            Action::BeginInstance { vm } => {
                if let Some(vm) = self.choose(vm) {
                    self.begin_instance(vm).await;
                }
            }
            Action::EndInstance { vm, current } => {
                if let Some(vm) = self.choose(vm) {
                    self.end_instance(vm, current).await;
                }
            }
            Action::Delete { vm } => {
                if let Some(vm) = self.choose(vm) {
                    self.delete(vm).await;
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
            let instance = vm.instance.as_ref();
            let expected = model.instance.as_ref();
            assert_eq!(
                instance.map(|instance| (&instance.id, instance.slot, instance.generation)),
                expected.map(|(id, slot)| (id, *slot, model.generation)),
            );
        }
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
