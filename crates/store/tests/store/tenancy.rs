//! An account sees and changes what is its own and nothing else.

use freestyle_store::{ApiKeyId, StoreError, VmId, VmPhase};

use crate::{TestStore, new_vm, settings};

#[tokio::test]
async fn a_vm_is_seen_as_it_was_inserted() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (new, scope) = (new_vm(), test.store.account_scope(&account.id));

    let (inserted, _) = scope.insert_vm(&new, &settings(), "create").await.unwrap();

    assert_eq!(scope.vm(&new.id).await.unwrap().as_ref(), Some(&inserted));
    assert_eq!((inserted.id, inserted.sizing, inserted.image), (new.id, new.sizing, new.image));
    assert_eq!(inserted.account_id, Some(account.id.clone()));
    assert_eq!(inserted.phase, VmPhase::Creating);
    assert_eq!((inserted.name.as_deref(), inserted.recreate), (Some("web"), false));
    assert_eq!(inserted.persistence, settings().persistence);
    assert_eq!(inserted.idle_timeout_seconds, Some(300));
    assert_eq!((inserted.deleted_at, inserted.last_exit), (None, None));
    assert_eq!((inserted.origin, inserted.suspended), (None, None));
    assert_eq!(inserted.instance.unwrap().slot, 0);
}

#[tokio::test]
async fn a_foreign_vm_is_no_vm() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let vm = test.running(&owner).await;
    let foreign = test.store.account_scope(&other.id);

    assert_eq!(foreign.vm(&vm.id).await.unwrap(), None);
    assert_eq!(foreign.vms(true).await.unwrap(), []);
    assert!(!foreign.set_idle_settings(&vm.id, None, None).await.unwrap());

    let unchanged = test.store.account_scope(&owner.id).vm(&vm.id).await.unwrap();
    assert_eq!(unchanged, Some(vm));
}

#[tokio::test]
async fn a_pool_vm_belongs_to_no_account() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let pooled = test.ready(new_vm()).await;

    let scope = test.store.account_scope(&account.id);
    assert_eq!(scope.vm(&pooled.id).await.unwrap(), None);
    assert_eq!(scope.vms(true).await.unwrap(), []);
    assert_eq!(test.store.system().live_vms().await.unwrap(), [pooled]);
}

#[tokio::test]
async fn a_foreign_api_key_can_be_neither_seen_nor_revoked() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let (key, secret) = test.store.account_scope(&owner.id).create_api_key("ci").await.unwrap();
    let foreign = test.store.account_scope(&other.id);

    assert_eq!(foreign.list_api_keys().await.unwrap(), []);
    assert!(!foreign.revoke_api_key(&key.id).await.unwrap());
    assert!(!foreign.revoke_api_key(&ApiKeyId::random()).await.unwrap());

    let whose = test.store.system().authenticate_api_key(secret.expose()).await.unwrap();
    assert_eq!(whose.unwrap().account_id, owner.id);
}

#[tokio::test]
async fn a_deleted_vm_is_only_listed_where_asked_for() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let kept = test.running(&account).await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());

    test.deleted(&vm.id).await;

    assert_eq!(scope.vm(&vm.id).await.unwrap(), None);
    assert_eq!(scope.vms(false).await.unwrap(), std::slice::from_ref(&kept));
    assert_eq!(system.live_vms().await.unwrap(), [kept]);
    let all = scope.vms(true).await.unwrap();
    let deleted = all.iter().find(|listed| listed.id == vm.id).unwrap();
    assert_eq!((deleted.phase, &deleted.instance), (VmPhase::Deleted, &None));
    assert!(deleted.deleted_at.unwrap() >= vm.created_at);
    assert!(!scope.set_idle_settings(&vm.id, None, None).await.unwrap());
}

#[tokio::test]
async fn nothing_brings_a_deleted_vm_back() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let system = test.store.system();
    test.deleted(&vm.id).await;

    for id in [&vm.id, &VmId::random()] {
        let refused = system.begin_operation(id, "stop").await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(missing)) if missing == *id));
        let refused = system.begin_operation_with_instance(id, "start").await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(missing)) if missing == *id));
    }
    assert_eq!(system.unfinished_operations().await.unwrap(), []);
    assert_eq!(system.live_vms().await.unwrap(), []);
}

#[tokio::test]
async fn idle_settings_are_replaced() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let scope = test.store.account_scope(&account.id);

    assert!(scope.set_idle_settings(&vm.id, None, Some(4096)).await.unwrap());

    let vm = scope.vm(&vm.id).await.unwrap().unwrap();
    assert_eq!((vm.idle_timeout_seconds, vm.activity_threshold_bytes), (None, Some(4096)));
    let too_large = scope.set_idle_settings(&vm.id, Some(u64::MAX), None).await;
    assert!(matches!(too_large, Err(StoreError::NumberTooLarge(u64::MAX))));
}

#[tokio::test]
async fn accounts_survive_a_restart() {
    let test = TestStore::open().await;
    let account = test.account().await;

    let test = test.reopened().await;

    assert_eq!(test.store.system().list_accounts().await.unwrap(), [account]);
}
