//! Whoever relies on a right is told when it may have ended.

use std::time::Duration;

use freestyle_store::{RepositoryLevel, Store};
use tokio::time::timeout;

use crate::TestStore;

#[tokio::test]
async fn everything_that_ends_a_right_tells() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (token, _) = scope.create_token(&identity).await.unwrap();
    let vm = test.running(&account).await.id;
    scope.grant_vm(&identity, &vm, None, &by.id).await.unwrap();
    for id in ["a", "b"] {
        scope.insert_repository(id, None, true, 10).await.unwrap().unwrap();
        assert!(test.store.system().finish_repository(id).await.unwrap());
        scope.grant_git(&identity, id, RepositoryLevel::Write, &by.id).await.unwrap();
    }

    let mut rights = test.store.clone().rights();
    let mut told = async |what: &str| {
        assert!(rights.has_changed().unwrap(), "{what}");
        rights.mark_unchanged();
    };
    scope.update_vm_grant(&identity, &vm, Some(&[])).await.unwrap();
    told("other users").await;
    scope.revoke_vm_grant(&identity, &vm).await.unwrap();
    told("a revoked VM").await;
    scope.update_git_grant(&identity, "a", RepositoryLevel::Read).await.unwrap();
    told("another level").await;
    scope.revoke_git_grant(&identity, "a").await.unwrap();
    told("a revoked repository").await;
    scope.set_repository_public("b", false).await.unwrap();
    told("a private repository").await;
    assert!(scope.begin_repository_delete("b").await.unwrap());
    told("a deleted repository").await;
    scope.revoke_token(&identity, &token.id).await.unwrap();
    told("a revoked token").await;
    scope.delete_identity(&identity).await.unwrap();
    told("a deleted identity").await;
    test.deleted(&vm).await;
    told("a deleted VM").await;
    assert!(scope.revoke_api_key(&by.id).await.unwrap());
    told("a revoked key").await;
}

#[tokio::test]
async fn what_ends_no_right_wakes_nobody() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let rights = test.store.rights();

    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    scope.create_token(&identity).await.unwrap();
    let vm = test.running(&account).await.id;
    scope.grant_vm(&identity, &vm, None, &by.id).await.unwrap();
    test.stopped(&vm, "shut down").await;

    assert!(!rights.has_changed().unwrap());
}

#[tokio::test]
async fn a_change_by_another_process_is_noticed() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (key, _) = test.store.account_scope(&account.id).create_api_key("ci").await.unwrap();
    let elsewhere = Store::open(&test.folder.path().join("store.db")).await.unwrap();
    let mut rights = test.store.rights();
    let noticed = async {
        // The first look cannot know what happened before.
        rights.changed().await.unwrap();
        assert!(elsewhere.account_scope(&account.id).revoke_api_key(&key.id).await.unwrap());
        rights.changed().await.unwrap();
    };
    tokio::select! {
        () = test.store.watch_other_processes() => panic!("it never ends"),
        noticed = timeout(Duration::from_secs(30), noticed) => noticed.unwrap(),
    }
    assert!(!test.store.system().is_api_key_valid(&key.id).await.unwrap());
}
