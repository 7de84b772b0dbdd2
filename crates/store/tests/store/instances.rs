//! Which run of a VM is current, and which slot it has.

use std::collections::HashSet;

use freestyle_store::{SLOTS, Settled, StoreError, VmPhase};

use crate::{TestStore, new_vm, settings};

#[tokio::test]
async fn a_new_run_has_a_new_instance() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let first = vm.instance.unwrap();

    let stopped = test.stopped(&vm.id, "shut down").await;
    assert_eq!((stopped.phase, &stopped.instance), (VmPhase::Stopped, &None));
    assert_eq!(stopped.last_exit.as_deref(), Some("shut down"));
    assert_eq!(test.live(&vm.id).await, Some(stopped));

    let system = test.store.system();
    let (started, _) = system.begin_operation_with_instance(&vm.id, "start").await.unwrap();
    assert_ne!(started.instance.as_ref().unwrap().id, first.id);
    assert_eq!(test.live(&vm.id).await, Some(started));
}

#[tokio::test]
async fn a_late_end_of_an_earlier_run_changes_nothing() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let (_, kill) = system.begin_operation(&vm.id, "kill").await.unwrap();
    let killed = Settled::Stopped { last_exit: "killed" };
    system.finish_operation(&kill.id, killed).await.unwrap();
    let (_, start) = system.begin_operation_with_instance(&vm.id, "start").await.unwrap();
    let running = system.finish_operation(&start.id, Settled::Running).await.unwrap();

    let late = system.finish_operation(&kill.id, Settled::Stopped { last_exit: "late" }).await;

    assert!(matches!(late, Err(StoreError::NoSuchOperation(id)) if id == kill.id));
    assert_eq!(test.live(&vm.id).await, Some(running));
}

#[tokio::test]
async fn a_vm_has_one_instance_at_a_time() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;

    let system = test.store.system();
    let (again, _) = system.begin_operation_with_instance(&vm.id, "start").await.unwrap();

    assert_eq!(again, vm);
}

#[tokio::test]
async fn how_a_run_ended_is_kept_until_another_ends() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    test.stopped(&vm.id, "shut down").await;

    let stopped = test.stopped(&vm.id, "there was nothing to stop").await;

    assert_eq!(stopped.last_exit.as_deref(), Some("shut down"));
}

#[tokio::test]
async fn the_lowest_free_slot_is_used_again() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let mut vms = vec![];
    for slot in 0..4 {
        let vm = test.running(&account).await;
        assert_eq!(vm.instance.as_ref().unwrap().slot, slot);
        vms.push(vm);
    }

    test.deleted(&vms[2].id).await;
    test.stopped(&vms[0].id, "").await;

    for slot in [0, 2, 4] {
        assert_eq!(test.running(&account).await.instance.unwrap().slot, slot);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_slot_is_given_once_and_then_none() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let stopped = test.stopped(&vm.id, "").await;
    let mut inserts = tokio::task::JoinSet::new();
    for _ in 0..SLOTS {
        let (store, account) = (test.store.clone(), account.id.clone());
        inserts.spawn(async move {
            let scope = store.account_scope(&account);
            let (vm, _) = scope.insert_vm(&new_vm(), &settings(), "create").await.unwrap();
            vm.instance.unwrap().slot
        });
    }
    let slots: HashSet<u16> = inserts.join_all().await.into_iter().collect();
    assert_eq!(slots, (0..SLOTS).collect());

    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let refused = scope.insert_vm(&new_vm(), &settings(), "create").await;
    assert!(matches!(refused, Err(StoreError::NoFreeSlot)));
    let refused = system.begin_operation_with_instance(&stopped.id, "start").await;
    assert!(matches!(refused, Err(StoreError::NoFreeSlot)));

    assert_eq!(test.live(&stopped.id).await, Some(stopped), "nothing remains of it");
    assert_eq!(system.live_vms().await.unwrap().len(), usize::from(SLOTS) + 1);
    assert_eq!(system.unfinished_operations().await.unwrap().len(), usize::from(SLOTS));
}
