//! One unfinished operation per VM, which a restarted server finds where it was.

use freestyle_store::{
    Direction, InstanceChange, NewOperation, OperationId, StoreError, VmChange, VmPhase,
};
use serde_json::json;

use crate::{TestStore, operation};

#[tokio::test]
async fn an_operation_is_found_where_it_was_after_a_restart() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let params = json!({"reason": "asked", "snapshot": null});
    let stop = NewOperation { kind: "stop", params: &params };
    let (_, begun) =
        test.store.system().begin_operation(&vm.id, stop, &VmChange::default()).await.unwrap();
    assert_eq!((begun.direction, begun.next_step), (Direction::Forward, 0));
    test.store.system().advance_operation(&begun.id, Direction::Undo, 3).await.unwrap();

    let test = test.reopened().await;

    let unfinished = test.store.system().unfinished_operations().await.unwrap();
    let expected = freestyle_store::Operation { direction: Direction::Undo, next_step: 3, ..begun };
    assert_eq!(unfinished, [expected]);
    assert_eq!((unfinished[0].kind.as_str(), &unfinished[0].params), ("stop", &params));
}

#[tokio::test]
async fn a_second_operation_is_refused_with_the_name_of_the_first() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.creating(&account).await;
    let system = test.store.system();
    let create = system.unfinished_operations().await.unwrap().remove(0);

    let change = VmChange::phase(VmPhase::Deleting);
    let refused = system.begin_operation(&vm.id, operation("delete"), &change).await;

    assert!(matches!(refused, Err(StoreError::OperationInProgress(id)) if id == create.id));
    let unchanged = system.vm(&vm.id).await.unwrap().unwrap();
    assert_eq!(unchanged.phase, VmPhase::Creating);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_operations_at_once_one_begins() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let mut begins = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (store, vm) = (test.store.clone(), vm.id.clone());
        begins.spawn(async move {
            store.system().begin_operation(&vm, operation("stop"), &VmChange::default()).await
        });
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

    let stopping = VmChange::default();
    let (_, stop) = system.begin_operation(&vm.id, operation("stop"), &stopping).await.unwrap();
    let instance = vm.instance.unwrap().id;
    let stopped = VmChange {
        phase: Some(VmPhase::Stopped),
        instance: InstanceChange::End { instance, last_exit: "shut down".to_owned() },
    };
    let vm = system.finish_operation(&stop.id, &stopped).await.unwrap();
    assert_eq!((vm.phase, &vm.instance), (VmPhase::Stopped, &None));
    assert_eq!(system.unfinished_operations().await.unwrap(), []);

    let starting = VmChange { phase: None, instance: InstanceChange::Begin };
    let (vm, start) = system.begin_operation(&vm.id, operation("start"), &starting).await.unwrap();
    assert_eq!(vm.instance.as_ref().unwrap().generation, 2);
    assert_eq!(system.vm(&vm.id).await.unwrap(), Some(vm.clone()));

    let running = VmChange::phase(VmPhase::Running);
    let vm = system.finish_operation(&start.id, &running).await.unwrap();
    assert_eq!(vm.phase, VmPhase::Running);
}

#[tokio::test]
async fn an_operation_whose_change_is_impossible_does_not_begin_or_end() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let second_instance = VmChange { phase: None, instance: InstanceChange::Begin };

    let refused = system.begin_operation(&vm.id, operation("start"), &second_instance).await;
    assert!(matches!(refused, Err(StoreError::InstanceExists { .. })));
    assert_eq!(system.unfinished_operations().await.unwrap(), []);

    let (_, stop) =
        system.begin_operation(&vm.id, operation("stop"), &VmChange::default()).await.unwrap();
    let refused = system.finish_operation(&stop.id, &second_instance).await;
    assert!(matches!(refused, Err(StoreError::InstanceExists { .. })));
    assert_eq!(system.unfinished_operations().await.unwrap(), [stop]);
}

#[tokio::test]
async fn a_finished_operation_can_be_neither_advanced_nor_finished() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let (_, stop) =
        system.begin_operation(&vm.id, operation("stop"), &VmChange::default()).await.unwrap();
    system.finish_operation(&stop.id, &VmChange::default()).await.unwrap();

    for id in [stop.id, OperationId::random()] {
        let refused = system.advance_operation(&id, Direction::Forward, 1).await;
        assert!(matches!(refused, Err(StoreError::NoSuchOperation(gone)) if gone == id));
        let refused = system.finish_operation(&id, &VmChange::phase(VmPhase::Lost)).await;
        assert!(matches!(refused, Err(StoreError::NoSuchOperation(gone)) if gone == id));
    }
    assert_eq!(system.vm(&vm.id).await.unwrap().unwrap().phase, VmPhase::Running);
}

#[tokio::test]
async fn a_deleted_vm_has_no_operation() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.creating(&account).await;
    let system = test.store.system();
    let create = system.unfinished_operations().await.unwrap().remove(0);

    system.set_phase(&vm.id, VmPhase::Deleted).await.unwrap();

    assert_eq!(system.unfinished_operations().await.unwrap(), []);
    let told = system.advance_operation(&create.id, Direction::Forward, 1).await;
    assert!(matches!(told, Err(StoreError::NoSuchOperation(_))));
}
