//! Single stories of what goes wrong.

use std::time::Duration;

use freestyle_store::Store;
use tempfile::TempDir;

use super::host::SimulatedHost;
use super::{PATIENCE, Run, fast_dir};
use crate::error::VmError;
use crate::model::*;
use crate::operation::Operation;
use crate::pool;
use crate::service::{Patience, Service};

/// A server whose database goes with it.
async fn one_server() -> (TempDir, Store, Run, Service<SimulatedHost>) {
    let dir = fast_dir();
    let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
    let run = Run::new(7, &store).await;
    let service = run.start_server(store.clone()).await;
    (dir, store, run, service)
}

#[tokio::test]
async fn a_vm_whose_guest_never_answers_can_be_deleted_while_it_starts() {
    let (_dir, _, run, service) = one_server().await;
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap().id;
    service.stop(&run.account, &vm).await.unwrap();
    run.world.lock().unwrap().silent = true;

    let start = service.start(&run.account, &vm, StartVm::default());
    let delete = async {
        run.greeting.notified().await;
        service.delete(&run.account, &vm).await
    };
    let (started, deleted) = tokio::join!(start, delete);

    assert!(matches!(started, Err(VmError::Interrupted(_))), "{started:?}");
    deleted.unwrap();
    assert!(matches!(service.get(&run.account, &vm).await, Err(VmError::NotFound(_))));
    assert!(run.world.lock().unwrap().disks.is_empty());
}

#[tokio::test]
async fn a_delete_overtakes_requests_that_wait() {
    let (_dir, store, run, service) = one_server().await;
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap().id;
    service.stop(&run.account, &vm).await.unwrap();
    run.world.lock().unwrap().silent = true;
    let record = store.system().live_vms().await.unwrap().remove(0);
    let machine = service.shared().machine(&record).unwrap();

    let delete = async {
        run.greeting.notified().await;
        machine.run(Operation::Delete).await
    };
    let (first, second, deleted) =
        tokio::join!(machine.run(Operation::Start), machine.run(Operation::Start), delete);

    assert!(matches!(first, Err(VmError::Interrupted(_))), "{first:?}");
    assert!(matches!(second, Err(VmError::NotFound(_))), "{second:?}");
    deleted.unwrap();
    assert!(run.world.lock().unwrap().disks.is_empty());
}

#[tokio::test]
async fn a_guest_that_never_answers_again_keeps_no_server_from_starting_and_can_be_deleted() {
    let (_dir, store, run, service) = one_server().await;
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap().id;
    service.close().await.unwrap();
    run.world.lock().unwrap().silent = true;

    let patience = Patience { adoption: Duration::from_millis(20), ..PATIENCE };
    let service = Service::recover(run.host(), store, patience).await.unwrap();

    let info = service.get(&run.account, &vm).await.unwrap();
    assert_eq!(info.state, VmState::Starting);
    service.delete(&run.account, &vm).await.unwrap();
    let world = run.world.lock().unwrap();
    assert!(world.processes.is_empty() && world.disks.is_empty());
}

#[tokio::test]
async fn what_the_host_refused_to_clean_up_is_tried_again() {
    let (_dir, store, run, service) = one_server().await;
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap().id;
    let record = store.system().live_vms().await.unwrap().remove(0);
    let machine = service.shared().machine(&record).unwrap();
    run.world.lock().unwrap().failures = 1;
    service.delete(&run.account, &vm).await.unwrap_err();
    run.world.lock().unwrap().failures = 0;

    loop {
        let changed = run.changed.notified();
        if run.world.lock().unwrap().disks.is_empty() {
            break;
        }
        changed.await;
    }

    let gone = machine.run(Operation::Kill).await;
    assert!(matches!(gone, Err(VmError::NotFound(_))), "{gone:?}");
    assert_eq!(store.system().live_vms().await.unwrap(), []);
    assert_eq!(store.system().unfinished_operations().await.unwrap(), []);
}

#[tokio::test]
async fn a_vm_of_the_pool_is_not_discarded_once_an_account_has_it() {
    let (_dir, store, run, service) = one_server().await;
    pool::provision(service.shared()).await.unwrap();
    let record = store.system().live_vms().await.unwrap().remove(0);
    let machine = service.shared().machine(&record).unwrap();
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap().id;
    assert_eq!(vm, record.id);
    pool::provision(service.shared()).await.unwrap();

    machine.run(Operation::Discard).await.unwrap();
    assert_eq!(service.get(&run.account, &vm).await.unwrap().state, VmState::Running);
    drop(machine);
    service.close().await.unwrap();

    let left = store.system().live_vms().await.unwrap();
    assert_eq!(left.iter().map(|vm| &vm.id).collect::<Vec<_>>(), [&vm]);
    assert!(run.world.lock().unwrap().disks.iter().eq([&vm]));
}

#[tokio::test]
async fn an_operation_of_another_version_keeps_the_server_from_starting_and_destroys_nothing() {
    let (_dir, store, run, service) = one_server().await;
    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap();
    service.create(&run.account, CreateVm::default(), None).await.unwrap();
    service.close().await.unwrap();
    store.system().begin_operation(&vm.id, "migrate").await.unwrap();
    let before = store.system().live_vms().await.unwrap();

    let refused = Service::recover(run.host(), store.clone(), PATIENCE).await.err().unwrap();

    let refused = refused.to_string();
    assert!(refused.contains("migrate") && refused.contains(vm.id.as_str()), "{refused}");
    assert_eq!(store.system().live_vms().await.unwrap(), before);
    let world = run.world.lock().unwrap();
    assert_eq!((world.disks.len(), world.processes.len()), (2, 2));
}

#[tokio::test]
async fn an_ephemeral_vm_survives_its_own_reboot_and_not_its_end() {
    let (_dir, _store, run, service) = one_server().await;
    let persistence = Persistence::Ephemeral { delete_event: DeleteEvent::OnStop };
    let request = CreateVm { persistence, ..CreateVm::default() };
    let vm = service.create(&run.account, request, None).await.unwrap();
    let first = vm.instance_id.unwrap();

    run.world.lock().unwrap().reboots.insert(first.clone());
    run.end(&first);
    let second = loop {
        let now = service.get(&run.account, &vm.id).await.unwrap();
        match now.instance_id {
            Some(second) if second != first && now.state == VmState::Running => break second,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };

    run.end(&second);
    while !run.world.lock().unwrap().disks.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_vm_that_died_in_the_pool_is_replaced_by_another() {
    let (_dir, store, run, service) = one_server().await;
    pool::provision(service.shared()).await.unwrap();
    let ready = store.system().live_vms().await.unwrap().remove(0);
    // Its task has not noticed yet.
    run.world.lock().unwrap().processes.clear();

    let vm = service.create(&run.account, CreateVm::default(), None).await.unwrap();

    assert_ne!(vm.id, ready.id);
    assert_eq!(vm.state, VmState::Running);
}
