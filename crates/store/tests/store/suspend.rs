//! A suspended VM and the memory it stands on change together.

use freestyle_store::{
    NewSnapshot, Settled, Sizing, SnapshotEnd, SnapshotId, SnapshotPurpose, SnapshotState,
    StoreError, VmPhase,
};

use crate::{SIZING, TestStore, kept_snapshot, new_vm, suspend_snapshot};

#[tokio::test]
async fn a_suspended_vm_stands_on_a_ready_snapshot_and_has_no_run() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let scope = test.store.account_scope(&account.id);
    let taken = scope.insert_snapshot(&suspend_snapshot(&vm.id)).await.unwrap();
    assert_eq!(taken.state, SnapshotState::Building);

    let settled = Settled::Suspended { snapshot: &taken.id };
    let vm = test.done(&vm.id, "suspend", settled).await;

    assert_eq!((vm.phase, &vm.instance), (VmPhase::Suspended, &None));
    assert_eq!(vm.suspended.as_ref(), Some(&taken.id));
    assert_eq!(vm.last_exit.as_deref(), Some("suspended"));
    assert_eq!(test.live_snapshot(&taken.id).await.unwrap().state, SnapshotState::Ready);
    let test = test.reopened().await;
    assert_eq!(test.live(&vm.id).await, Some(vm));
}

#[tokio::test]
async fn a_vm_that_is_being_woken_has_an_instance_and_still_stands_on_its_memory() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let suspended = test.suspended(&account).await;

    let system = test.store.system();
    let (waking, wake) = system.begin_operation_with_instance(&suspended.id, "wake").await.unwrap();

    assert!(waking.instance.is_some());
    assert_eq!((waking.phase, &waking.suspended), (VmPhase::Suspended, &suspended.suspended));
    let test = test.reopened().await;
    assert_eq!(test.live(&waking.id).await, Some(waking));
    assert_eq!(test.store.system().unfinished_operations().await.unwrap(), [wake]);
}

#[tokio::test]
async fn a_vm_that_goes_on_or_ends_gives_its_memory_up() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let outcomes = [
        (Settled::Running, VmPhase::Running),
        (Settled::Stopped { last_exit: "shut down" }, VmPhase::Stopped),
        (Settled::Deleted, VmPhase::Deleted),
    ];
    let system = test.store.system();
    for (settled, phase) in outcomes {
        let vm = test.suspended(&account).await;
        let memory = vm.suspended.unwrap();
        let (_, wake) = system.begin_operation_with_instance(&vm.id, "wake").await.unwrap();

        let vm = system.finish_operation(&wake.id, settled).await.unwrap();

        assert_eq!((vm.phase, vm.suspended), (phase, None));
        assert_eq!(test.live_snapshot(&memory).await, None);
    }
    assert_eq!(system.live_snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn a_vm_that_could_not_be_woken_stays_suspended() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let suspended = test.suspended(&account).await;
    let memory = suspended.suspended.as_ref().unwrap();
    let system = test.store.system();
    // Even where the memory turned out to be damaged: its owner has to be told, and to decide.
    let lost = SnapshotEnd::Lost { reason: "memory is missing" };
    let lost = system.finish_snapshot(memory, lost).await.unwrap();
    let (_, wake) = system.begin_operation_with_instance(&suspended.id, "wake").await.unwrap();

    let settled = Settled::Suspended { snapshot: memory };
    let vm = system.finish_operation(&wake.id, settled).await.unwrap();

    assert_eq!(vm, suspended);
    assert_eq!(lost.state, SnapshotState::Lost);
    assert_eq!(test.live_snapshot(memory).await, Some(lost));
}

#[tokio::test]
async fn a_vm_suspended_anew_gives_the_former_memory_up() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.suspended(&account).await;
    let former = vm.suspended.unwrap();
    let scope = test.store.account_scope(&account.id);
    let taken = scope.insert_snapshot(&suspend_snapshot(&vm.id)).await.unwrap();

    let settled = Settled::Suspended { snapshot: &taken.id };
    let vm = test.done(&vm.id, "suspend", settled).await;

    assert_eq!(vm.suspended, Some(taken.id));
    assert_eq!(test.live_snapshot(&former).await, None);
}

#[tokio::test]
async fn a_vm_cannot_stand_on_what_is_not_its_own_memory() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (vm, neighbour) = (test.running(&account).await, test.running(&account).await);
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let insert = async |new: NewSnapshot| scope.insert_snapshot(&new).await.unwrap().id;
    let ended = async |end| {
        let id = insert(suspend_snapshot(&vm.id)).await;
        system.finish_snapshot(&id, end).await.unwrap();
        id
    };
    let of_vm = |purpose| NewSnapshot { purpose, ..suspend_snapshot(&vm.id) };
    let wrong = [
        SnapshotId::random(),
        insert(kept_snapshot()).await,
        insert(of_vm(SnapshotPurpose::Kept)).await,
        insert(of_vm(SnapshotPurpose::Fork)).await,
        insert(suspend_snapshot(&neighbour.id)).await,
        ended(SnapshotEnd::Failed { reason: "no space" }).await,
        ended(SnapshotEnd::Cancelled).await,
        ended(SnapshotEnd::Lost { reason: "no file" }).await,
        ended(SnapshotEnd::Deleted).await,
    ];
    let (_, suspend) = system.begin_operation(&vm.id, "suspend").await.unwrap();
    let before = system.live_snapshots().await.unwrap();

    for snapshot in &wrong {
        let settled = Settled::Suspended { snapshot };
        let refused = system.finish_operation(&suspend.id, settled).await;
        assert!(matches!(refused, Err(StoreError::NoSuchSnapshot(id)) if id == *snapshot));
    }

    assert_eq!(test.live(&vm.id).await, Some(vm));
    assert_eq!(system.unfinished_operations().await.unwrap(), [suspend]);
    assert_eq!(system.live_snapshots().await.unwrap(), before);
}

#[tokio::test]
async fn the_memory_of_a_suspended_vm_is_not_deleted_under_it() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.suspended(&account).await;
    let memory = vm.suspended.as_ref().unwrap();

    let system = test.store.system();
    let snapshot = system.finish_snapshot(memory, SnapshotEnd::Deleted).await.unwrap();
    let scope = test.store.account_scope(&account.id);
    assert_eq!(scope.delete_snapshot(memory).await.unwrap(), None);

    assert_eq!((snapshot.state, snapshot.deleted_at), (SnapshotState::Ready, None));
    assert_eq!(test.live_snapshot(memory).await, Some(snapshot));
}

#[tokio::test]
async fn a_vm_keeps_its_new_size() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    let sizing = Sizing { vcpus: 3, memory_mib: 3072, disk_mib: 8192 };

    let resized = system.set_sizing(&vm.id, sizing).await.unwrap();

    assert_eq!(resized, freestyle_store::VmRecord { sizing, ..vm.clone() });
    assert_eq!(test.live(&vm.id).await, Some(resized));
    test.deleted(&vm.id).await;
    for id in [vm.id, new_vm().id] {
        let refused = system.set_sizing(&id, SIZING).await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(missing)) if missing == id));
    }
}
