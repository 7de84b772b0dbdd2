//! Claiming a VM that is held ready.

use std::collections::HashSet;

use freestyle_store::{Sizing, VmPhase};

use crate::{IMAGE, SIZING, TestStore, new_vm, settings};

#[tokio::test]
async fn a_claimed_vm_is_the_accounts_and_is_being_created() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let pooled = test.ready(new_vm()).await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());

    let claimed = scope.claim_ready_vm(IMAGE, SIZING, &settings(), "claim").await.unwrap();

    let (vm, operation) = claimed.unwrap();
    assert_eq!((&vm.id, &vm.instance), (&pooled.id, &pooled.instance));
    assert_eq!(vm.account_id, Some(account.id.clone()));
    assert_eq!(vm.phase, VmPhase::Creating);
    assert_eq!(vm.name, settings().name);
    assert_eq!(vm.persistence, settings().persistence);
    assert!(vm.created_at >= pooled.created_at);
    assert_eq!(scope.vm(&vm.id).await.unwrap(), Some(vm.clone()));
    assert_eq!((&operation.vm_id, operation.kind.as_str()), (&vm.id, "claim"));
    assert_eq!(system.unfinished_operations().await.unwrap(), [operation]);
}

#[tokio::test]
async fn only_a_ready_vm_of_that_image_and_size_is_claimed() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    // Owned by someone already, not ready yet, and ready but being deleted.
    test.running(&account).await;
    test.store.system().insert_pool_vm(&new_vm(), "provision").await.unwrap();
    let leaving = test.ready(new_vm()).await;
    let system = test.store.system();
    system.begin_operation(&leaving.id, "delete").await.unwrap();
    let larger = Sizing { memory_mib: 2048, ..SIZING };

    let mut wanted = vec![];
    for (image, sizing) in [("image-b", SIZING), (IMAGE, larger), (IMAGE, SIZING)] {
        let claimed = scope.claim_ready_vm(image, sizing, &settings(), "claim").await.unwrap();
        assert!(claimed.is_none(), "{image} {sizing:?}");
        let vm = freestyle_store::NewVm { image: image.to_owned(), sizing, ..new_vm() };
        wanted.push(test.ready(vm).await);
    }
    for vm in wanted {
        let claimed =
            scope.claim_ready_vm(&vm.image, vm.sizing, &settings(), "claim").await.unwrap();
        assert_eq!(claimed.unwrap().0.id, vm.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_claims_never_get_the_same_vm() {
    const POOL: usize = 20;
    const CLAIMS: usize = 60;
    let test = TestStore::open().await;
    let mut pool = HashSet::new();
    for _ in 0..POOL {
        pool.insert(test.ready(new_vm()).await.id);
    }
    // A second server process on the same file would do what a second store does.
    let second = freestyle_store::Store::open(&test.folder.path().join("store.db")).await.unwrap();

    let account = test.account().await;
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..CLAIMS {
        let store = if n % 2 == 0 { test.store.clone() } else { second.clone() };
        let account = account.id.clone();
        claims.spawn(async move {
            let scope = store.account_scope(&account);
            scope.claim_ready_vm(IMAGE, SIZING, &settings(), "claim").await.unwrap()
        });
    }
    let claimed: Vec<_> =
        claims.join_all().await.into_iter().flatten().map(|(vm, _)| vm.id).collect();

    assert_eq!(claimed.len(), POOL);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), pool);
}
