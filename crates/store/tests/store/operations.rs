//! One unfinished operation per VM, which a restarted server finds.

use freestyle_store::{OperationId, Settled, StoreError, VmPhase};

use crate::TestStore;

#[tokio::test]
async fn an_operation_is_found_after_a_restart() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let (_, begun) = test.store.system().begin_operation(&vm.id, "stop").await.unwrap();
    assert_eq!((&begun.vm_id, begun.kind.as_str()), (&vm.id, "stop"));
    assert!(begun.started_at >= vm.created_at);

    let test = test.reopened().await;

    assert_eq!(test.store.system().unfinished_operations().await.unwrap(), [begun]);
}

#[tokio::test]
async fn an_operation_may_be_described_at_length() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let kind = format!(r#"{{"fork":"{}"}}"#, "é\\n".repeat(2048));
    test.store.system().begin_operation(&vm.id, &kind).await.unwrap();

    let test = test.reopened().await;

    let unfinished = test.store.system().unfinished_operations().await.unwrap();
    assert_eq!(unfinished[0].kind, kind);
}

#[tokio::test]
async fn a_second_operation_is_refused_with_the_name_of_the_first() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.stopped(&test.running(&account).await.id, "").await;
    let system = test.store.system();
    let (_, first) = system.begin_operation(&vm.id, "delete").await.unwrap();

    let second = system.begin_operation(&vm.id, "delete").await;
    assert!(matches!(second, Err(StoreError::OperationInProgress(id)) if id == first.id));
    let second = system.begin_operation_with_instance(&vm.id, "start").await;
    assert!(matches!(second, Err(StoreError::OperationInProgress(id)) if id == first.id));

    assert_eq!(test.live(&vm.id).await, Some(vm));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_operations_at_once_one_begins() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let mut begins = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (store, vm) = (test.store.clone(), vm.id.clone());
        begins.spawn(async move { store.system().begin_operation(&vm, "stop").await });
    }

    let (begun, refused): (Vec<_>, Vec<_>) =
        begins.join_all().await.into_iter().partition(Result::is_ok);

    assert_eq!(begun.len(), 1);
    let winner = &begun[0].as_ref().unwrap().1.id;
    assert!(refused.iter().all(
        |refused| matches!(refused, Err(StoreError::OperationInProgress(id)) if id == winner)
    ));
}

#[tokio::test]
async fn an_operation_begins_and_ends_together_with_its_changes_of_the_vm() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();

    let (stopping, stop) = system.begin_operation(&vm.id, "stop").await.unwrap();
    assert_eq!(stopping, vm);
    let stopped = Settled::Stopped { last_exit: "shut down" };
    let vm = system.finish_operation(&stop.id, stopped).await.unwrap();
    assert_eq!((vm.phase, &vm.instance), (VmPhase::Stopped, &None));
    assert_eq!(vm.last_exit.as_deref(), Some("shut down"));
    assert_eq!(system.unfinished_operations().await.unwrap(), []);

    let (starting, start) = system.begin_operation_with_instance(&vm.id, "start").await.unwrap();
    assert!(starting.instance.is_some());
    assert_eq!(test.live(&vm.id).await.as_ref(), Some(&starting));
    assert_eq!(system.unfinished_operations().await.unwrap(), std::slice::from_ref(&start));

    let vm = system.finish_operation(&start.id, Settled::Running).await.unwrap();
    assert_eq!((vm.phase, &vm.instance), (VmPhase::Running, &starting.instance));
    assert_eq!(test.live(&vm.id).await, Some(vm));
    assert_eq!(system.unfinished_operations().await.unwrap(), []);
}

/// That an operation does not begin is in `instances`: no slot is free.
#[tokio::test]
async fn an_operation_whose_change_is_impossible_does_not_end() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let owned = test.running(&account).await;
    let without_instance = test.stopped(&test.running(&account).await.id, "").await;

    let impossible = [(owned, Settled::Ready), (without_instance, Settled::Running)];
    let system = test.store.system();
    for (vm, settled) in impossible {
        let (_, operation) = system.begin_operation(&vm.id, "start").await.unwrap();

        let refused = system.finish_operation(&operation.id, settled).await;

        assert!(matches!(refused, Err(StoreError::Database(_))), "{vm:?} {settled:?}");
        assert_eq!(test.live(&vm.id).await, Some(vm));
        assert_eq!(system.unfinished_operations().await.unwrap(), std::slice::from_ref(&operation));
        system.finish_operation(&operation.id, Settled::Deleted).await.unwrap();
    }
    assert_eq!(system.live_vms().await.unwrap(), []);
}

#[tokio::test]
async fn a_finished_operation_cannot_be_finished_again() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let (_, start) = system.begin_operation(&vm.id, "start").await.unwrap();
    system.finish_operation(&start.id, Settled::Running).await.unwrap();

    for id in [start.id, OperationId::random()] {
        let refused = system.finish_operation(&id, Settled::Deleted).await;
        assert!(matches!(refused, Err(StoreError::NoSuchOperation(gone)) if gone == id));
    }
    assert_eq!(test.live(&vm.id).await, Some(vm));
}

#[tokio::test]
async fn a_deleted_vm_has_no_operation() {
    let test = TestStore::open().await;
    let account = test.account().await;
    test.creating(&account).await;
    let system = test.store.system();
    let create = system.unfinished_operations().await.unwrap().remove(0);

    let deleted = system.finish_operation(&create.id, Settled::Deleted).await.unwrap();

    assert_eq!((deleted.phase, &deleted.instance), (VmPhase::Deleted, &None));
    assert_eq!(system.unfinished_operations().await.unwrap(), []);
    let told = system.finish_operation(&create.id, Settled::Running).await;
    assert!(matches!(told, Err(StoreError::NoSuchOperation(_))));
}
