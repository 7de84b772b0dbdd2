//! Identities, their tokens, and what they were granted.

use freestyle_store::{IdentityId, RepositoryLevel, Store, StoreError, TokenId, VmId};

use crate::TestStore;

const REPOSITORY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

async fn repository(store: &Store, account: &freestyle_store::Account, id: &str) {
    let scope = store.account_scope(&account.id);
    scope.insert_repository(id, Some("site"), false, 10).await.unwrap().unwrap();
    assert!(store.system().finish_repository(id).await.unwrap());
}

fn is_no_identity<T>(answer: Result<T, StoreError>, identity: &IdentityId) -> bool {
    matches!(answer, Err(StoreError::NoSuchIdentity(missing)) if missing == *identity)
}

fn users(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn identities_are_listed_page_by_page_in_the_order_of_their_making() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let scope = test.store.account_scope(&account.id);
    test.store.account_scope(&other.id).create_identity().await.unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(scope.create_identity().await.unwrap());
    }
    made.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));

    let all = scope.identities(10, 0).await.unwrap();
    assert_eq!((&all.items, all.total), (&made, 5));
    let page = scope.identities(2, 3).await.unwrap();
    assert_eq!((&page.items[..], page.total), (&made[3..], 5));
    let beyond = scope.identities(2, 5).await.unwrap();
    assert_eq!((beyond.items.len(), beyond.total), (0, 5));
    assert!(scope.identities(u64::MAX, 0).await.is_err());
}

#[tokio::test]
async fn a_token_is_its_identitys_until_it_is_revoked() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let identity = scope.create_identity().await.unwrap().id;
    let (token, secret) = scope.create_token(&identity).await.unwrap();
    let (second, _) = scope.create_token(&identity).await.unwrap();

    let whose = system.authenticate_token(secret.expose()).await.unwrap();
    assert_eq!(whose.as_ref(), Some(&token));
    assert_eq!((&token.identity_id, &token.account_id), (&identity, &account.id));
    assert!(system.is_token_valid(&token.id).await.unwrap());
    let mut listed = scope.tokens(&identity).await.unwrap();
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    let mut made = vec![token.clone(), second.clone()];
    made.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed, made);

    scope.revoke_token(&identity, &token.id).await.unwrap();

    assert_eq!(system.authenticate_token(secret.expose()).await.unwrap(), None);
    assert!(!system.is_token_valid(&token.id).await.unwrap());
    assert_eq!(scope.tokens(&identity).await.unwrap(), [second]);
    let again = scope.revoke_token(&identity, &token.id).await;
    assert!(matches!(again, Err(StoreError::NoSuchToken(missing)) if missing == token.id));
}

#[tokio::test]
async fn a_tokens_secret_is_shell_and_url_safe_and_is_stored_nowhere() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let identity = scope.create_identity().await.unwrap().id;
    let (token, secret) = scope.create_token(&identity).await.unwrap();
    let random = secret.expose().strip_prefix("fsi_").unwrap().to_owned();
    assert_eq!(random.len(), 43);
    assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert!(!format!("{secret:?}{token:?}").contains(&random));
    test.store.close().await;

    let mut token_was_stored = false;
    for file in std::fs::read_dir(test.folder.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        let contains = |text: &str| content.windows(text.len()).any(|at| at == text.as_bytes());
        token_was_stored |= contains(token.id.as_str());
        assert!(!contains(&random));
    }
    assert!(token_was_stored, "the search would have found it");
}

#[tokio::test]
async fn what_is_not_exactly_a_token_is_nobodys() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let identity = scope.create_identity().await.unwrap().id;
    let (_, secret) = scope.create_token(&identity).await.unwrap();
    let (_, key) = scope.create_api_key("test").await.unwrap();
    let random = &secret.expose()[4..];

    let malformed = [
        String::new(),
        "fsi_".to_owned(),
        random.to_owned(),
        key.expose().to_owned(),
        format!("fs_{random}"),
        format!("fsi_fsi_{random}"),
        format!(" fsi_{random}"),
        format!("fsi_{random}\n"),
        format!("fsi_{random}="),
        format!("FSI_{random}"),
        format!("fsi_{}", &random[1..]),
        format!("fsi_{}", "é".repeat(22)),
        format!("fsi_{}", "A".repeat(43)),
        "fsi_".repeat(1_000_000),
    ];
    for presented in malformed {
        let whose = test.store.system().authenticate_token(&presented).await.unwrap();
        assert_eq!(whose, None, "{presented:.60}");
    }
    let as_key = test.store.system().authenticate_api_key(secret.expose()).await.unwrap();
    assert_eq!(as_key, None);
}

#[tokio::test]
async fn a_grant_of_a_vm_is_as_it_was_given_changed_and_taken_back() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (vm, second) = (test.running(&account).await.id, test.running(&account).await.id);
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap(), None);

    let granted = scope.grant_vm(&identity, &vm, None, &by.id).await.unwrap();
    assert_eq!((&granted.identity_id, &granted.vm_id), (&identity, &vm));
    assert_eq!((&granted.allowed_users, &granted.granted_by), (&None, &by.id));
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap().as_ref(), Some(&granted));

    let alice = users(&["alice"]);
    let again = scope.grant_vm(&identity, &vm, Some(&alice), &by.id).await;
    assert!(matches!(again, Err(StoreError::GrantExists)));
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap().as_ref(), Some(&granted));

    let limited = scope.update_vm_grant(&identity, &vm, Some(&alice)).await.unwrap();
    assert_eq!(limited.allowed_users, Some(alice));
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap().as_ref(), Some(&limited));

    let other = scope.grant_vm(&identity, &second, None, &by.id).await.unwrap();
    let page = scope.vm_grants(&identity, 10, 0).await.unwrap();
    assert_eq!(page.total, 2);
    assert!(page.items.contains(&limited) && page.items.contains(&other));
    assert_eq!(scope.vm_grants(&identity, 1, 1).await.unwrap().items.len(), 1);

    scope.revoke_vm_grant(&identity, &vm).await.unwrap();
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap(), None);
    assert_eq!(scope.vm_grants(&identity, 10, 0).await.unwrap().items, [other]);
    let missing = scope.revoke_vm_grant(&identity, &vm).await;
    assert!(matches!(missing, Err(StoreError::NoSuchGrant)));
    let missing = scope.update_vm_grant(&identity, &vm, None).await;
    assert!(matches!(missing, Err(StoreError::NoSuchGrant)));
}

#[tokio::test]
async fn a_grant_of_a_repository_is_as_it_was_given_changed_and_taken_back() {
    use RepositoryLevel::{Read, Write};
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    repository(&test.store, &account, REPOSITORY).await;

    let granted = scope.grant_git(&identity, REPOSITORY, Read, &by.id).await.unwrap();
    assert_eq!((granted.level, &granted.granted_by), (Read, &by.id));
    let again = scope.grant_git(&identity, REPOSITORY, Write, &by.id).await;
    assert!(matches!(again, Err(StoreError::GrantExists)));
    let changed = scope.update_git_grant(&identity, REPOSITORY, Write).await.unwrap();
    assert_eq!(changed.level, Write);
    let found = scope.git_grant(&identity, REPOSITORY).await.unwrap();
    assert_eq!(found.as_ref(), Some(&changed));
    let listed = scope.git_grants(&identity, 10, 0).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|(it, level)| (it.id.as_str(), *level)).collect();
    assert_eq!(listed, [(REPOSITORY, Write)]);

    scope.revoke_git_grant(&identity, REPOSITORY).await.unwrap();
    assert_eq!(scope.git_grant(&identity, REPOSITORY).await.unwrap(), None);
    let missing = scope.revoke_git_grant(&identity, REPOSITORY).await;
    assert!(matches!(missing, Err(StoreError::NoSuchGrant)));
    let missing = scope.update_git_grant(&identity, REPOSITORY, Read).await;
    assert!(matches!(missing, Err(StoreError::NoSuchGrant)));
}

#[tokio::test]
async fn nothing_foreign_deleted_or_never_made_can_be_granted() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (foreign, deleted) = (test.running(&other).await.id, test.running(&account).await.id);
    let pooled = test.ready(crate::new_vm()).await.id;
    test.deleted(&deleted).await;
    repository(&test.store, &other, REPOSITORY).await;
    scope.insert_repository("unfinished", None, false, 10).await.unwrap().unwrap();

    for vm in [foreign, deleted, pooled, VmId::random()] {
        let refused = scope.grant_vm(&identity, &vm, None, &by.id).await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(missing)) if missing == vm));
    }
    for repository in [REPOSITORY, "unfinished", ""] {
        let refused = scope.grant_git(&identity, repository, RepositoryLevel::Read, &by.id).await;
        assert!(
            matches!(refused, Err(StoreError::NoSuchRepository(missing)) if missing == repository)
        );
    }
    assert_eq!(scope.vm_grants(&identity, 10, 0).await.unwrap().total, 0);
    assert_eq!(scope.git_grants(&identity, 10, 0).await.unwrap(), []);
}

#[tokio::test]
async fn another_accounts_identity_is_none() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let scope = test.store.account_scope(&owner.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (token, secret) = scope.create_token(&identity).await.unwrap();
    let vm = test.running(&owner).await.id;
    let granted = scope.grant_vm(&identity, &vm, None, &by.id).await.unwrap();
    repository(&test.store, &owner, REPOSITORY).await;
    scope.grant_git(&identity, REPOSITORY, RepositoryLevel::Read, &by.id).await.unwrap();

    let foreign = test.store.account_scope(&other.id);
    let (their_key, _) = foreign.create_api_key("ci").await.unwrap();
    let their_vm = test.running(&other).await.id;
    let level = RepositoryLevel::Write;
    assert_eq!(foreign.identities(10, 0).await.unwrap().total, 0);
    assert!(is_no_identity(foreign.identity(&identity).await, &identity));
    assert!(is_no_identity(foreign.create_token(&identity).await, &identity));
    assert!(is_no_identity(foreign.tokens(&identity).await, &identity));
    assert!(is_no_identity(foreign.revoke_token(&identity, &token.id).await, &identity));
    assert!(is_no_identity(
        foreign.grant_vm(&identity, &their_vm, None, &their_key.id).await,
        &identity
    ));
    assert!(is_no_identity(foreign.update_vm_grant(&identity, &vm, None).await, &identity));
    assert!(is_no_identity(foreign.vm_grants(&identity, 10, 0).await, &identity));
    assert!(is_no_identity(foreign.revoke_vm_grant(&identity, &vm).await, &identity));
    assert!(is_no_identity(
        foreign.grant_git(&identity, REPOSITORY, level, &their_key.id).await,
        &identity
    ));
    assert!(is_no_identity(
        foreign.update_git_grant(&identity, REPOSITORY, level).await,
        &identity
    ));
    assert!(is_no_identity(foreign.git_grants(&identity, 10, 0).await, &identity));
    assert!(is_no_identity(foreign.revoke_git_grant(&identity, REPOSITORY).await, &identity));
    assert!(is_no_identity(foreign.delete_identity(&identity).await, &identity));
    assert_eq!(foreign.vm_grant(&identity, &vm).await.unwrap(), None);
    assert_eq!(foreign.git_grant(&identity, REPOSITORY).await.unwrap(), None);

    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap(), Some(granted));
    let read = scope.git_grant(&identity, REPOSITORY).await.unwrap().unwrap();
    assert_eq!(read.level, RepositoryLevel::Read);
    assert!(test.store.system().authenticate_token(secret.expose()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_token_is_revoked_through_its_own_identity_only() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (one, other) =
        (scope.create_identity().await.unwrap().id, scope.create_identity().await.unwrap().id);
    let (token, _) = scope.create_token(&one).await.unwrap();
    for missing in [&token.id, &TokenId::random()] {
        let refused = scope.revoke_token(&other, missing).await;
        assert!(matches!(refused, Err(StoreError::NoSuchToken(it)) if it == *missing));
    }
    assert!(test.store.system().is_token_valid(&token.id).await.unwrap());
}

#[tokio::test]
async fn with_an_identity_go_its_tokens_and_grants() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (token, secret) = scope.create_token(&identity).await.unwrap();
    let vm = test.running(&account).await.id;
    scope.grant_vm(&identity, &vm, None, &by.id).await.unwrap();
    repository(&test.store, &account, REPOSITORY).await;
    scope.grant_git(&identity, REPOSITORY, RepositoryLevel::Write, &by.id).await.unwrap();

    scope.delete_identity(&identity).await.unwrap();

    let test = test.reopened().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    assert!(is_no_identity(scope.identity(&identity).await, &identity));
    assert!(is_no_identity(scope.delete_identity(&identity).await, &identity));
    assert_eq!(system.authenticate_token(secret.expose()).await.unwrap(), None);
    assert!(!system.is_token_valid(&token.id).await.unwrap());
    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap(), None);
    assert_eq!(scope.git_grant(&identity, REPOSITORY).await.unwrap(), None);
}

#[tokio::test]
async fn with_a_vm_or_a_repository_go_its_grants() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let (by, _) = scope.create_api_key("ci").await.unwrap();
    let identity = scope.create_identity().await.unwrap().id;
    let (vm, kept) = (test.running(&account).await.id, test.running(&account).await.id);
    let level = RepositoryLevel::Write;
    for vm in [&vm, &kept] {
        scope.grant_vm(&identity, vm, None, &by.id).await.unwrap();
    }
    for id in [REPOSITORY, "kept"] {
        repository(&test.store, &account, id).await;
        scope.grant_git(&identity, id, level, &by.id).await.unwrap();
    }

    test.deleted(&vm).await;
    assert!(scope.begin_repository_delete(REPOSITORY).await.unwrap());

    assert_eq!(scope.vm_grant(&identity, &vm).await.unwrap(), None);
    let left = scope.vm_grants(&identity, 10, 0).await.unwrap();
    assert_eq!((left.items[0].vm_id.clone(), left.total), (kept, 1));
    assert_eq!(scope.git_grant(&identity, REPOSITORY).await.unwrap(), None);
    let left = scope.git_grants(&identity, 10, 0).await.unwrap();
    assert_eq!((left[0].0.id.as_str(), left.len()), ("kept", 1));
    // One of the same name is another.
    test.store.system().remove_repository(REPOSITORY).await.unwrap();
    repository(&test.store, &account, REPOSITORY).await;
    assert_eq!(scope.git_grant(&identity, REPOSITORY).await.unwrap(), None);
}

#[tokio::test]
async fn an_identity_has_a_thousand_tokens_and_no_more() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let identity = scope.create_identity().await.unwrap().id;
    let other = scope.create_identity().await.unwrap().id;
    for _ in 0..freestyle_store::MAX_TOKENS {
        scope.create_token(&identity).await.unwrap();
    }
    let refused = scope.create_token(&identity).await;
    assert!(matches!(refused, Err(StoreError::LimitReached { limit: 1000 })));
    scope.create_token(&other).await.unwrap();
    let first = scope.tokens(&identity).await.unwrap().remove(0);
    scope.revoke_token(&identity, &first.id).await.unwrap();
    scope.create_token(&identity).await.unwrap();
}
