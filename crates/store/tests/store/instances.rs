//! Which run of a VM is current, and which slot it has.

use std::collections::HashSet;

use freestyle_store::{InstanceId, SLOTS, StoreError, VmPhase};

use crate::{TestStore, new_vm, operation, settings};

#[tokio::test]
async fn a_new_run_has_a_new_instance_and_the_next_generation() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let first = vm.instance.unwrap();

    assert!(system.end_instance(&vm.id, &first.id, "shut down", VmPhase::Stopped).await.unwrap());
    let stopped = system.vm(&vm.id).await.unwrap().unwrap();
    assert_eq!((stopped.phase, stopped.instance), (VmPhase::Stopped, None));
    assert_eq!(stopped.last_exit.as_deref(), Some("shut down"));

    let second = system.begin_instance(&vm.id).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!(system.vm(&vm.id).await.unwrap().unwrap().instance, Some(second));
}

#[tokio::test]
async fn a_late_end_of_an_earlier_instance_changes_nothing() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let first = vm.instance.unwrap();
    system.end_instance(&vm.id, &first.id, "killed", VmPhase::Stopped).await.unwrap();
    system.begin_instance(&vm.id).await.unwrap();
    system.set_phase(&vm.id, VmPhase::Running).await.unwrap();
    let before = system.vm(&vm.id).await.unwrap();

    for late in [&first.id, &InstanceId::random()] {
        let ended = system.end_instance(&vm.id, late, "late", VmPhase::Stopped).await.unwrap();
        assert!(!ended);
    }

    assert_eq!(system.vm(&vm.id).await.unwrap(), before);
}

#[tokio::test]
async fn a_vm_has_one_instance_at_a_time() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;

    let second = test.store.system().begin_instance(&vm.id).await;

    let current = vm.instance.unwrap().id;
    assert!(
        matches!(second, Err(StoreError::InstanceExists { instance, .. }) if instance == current)
    );
}

#[tokio::test]
async fn the_lowest_free_slot_is_used_again() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let system = test.store.system();
    let mut vms = vec![];
    for slot in 0..4 {
        let vm = test.running(&account).await;
        assert_eq!(vm.instance.as_ref().unwrap().slot, slot);
        vms.push(vm);
    }

    system.set_phase(&vms[2].id, VmPhase::Deleted).await.unwrap();
    let first = vms[0].instance.as_ref().unwrap();
    system.end_instance(&vms[0].id, &first.id, "", VmPhase::Stopped).await.unwrap();

    for slot in [0, 2, 4] {
        assert_eq!(test.running(&account).await.instance.unwrap().slot, slot);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_slot_is_given_once_and_then_none() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let mut inserts = tokio::task::JoinSet::new();
    for _ in 0..SLOTS {
        let (store, account) = (test.store.clone(), account.id.clone());
        inserts.spawn(async move {
            let scope = store.account_scope(&account);
            let (vm, _) =
                scope.insert_vm(&new_vm(), &settings(), operation("create")).await.unwrap();
            vm.instance.unwrap().slot
        });
    }
    let slots: HashSet<u16> = inserts.join_all().await.into_iter().collect();
    assert_eq!(slots, (0..SLOTS).collect());

    let scope = test.store.account_scope(&account.id);
    let refused = scope.insert_vm(&new_vm(), &settings(), operation("create")).await;

    assert!(matches!(refused, Err(StoreError::NoFreeSlot)));
    let system = test.store.system();
    assert_eq!(system.live_vms().await.unwrap().len(), usize::from(SLOTS), "nothing remains of it");
    assert_eq!(system.unfinished_operations().await.unwrap().len(), usize::from(SLOTS));
}
