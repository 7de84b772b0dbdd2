//! What opens an account and what does not.

use crate::TestStore;

#[tokio::test]
async fn a_key_opens_its_account_until_it_is_revoked() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let (key, secret) = scope.create_api_key("ci").await.unwrap();
    let (other_key, other_secret) = scope.create_api_key("laptop").await.unwrap();

    let whose = system.authenticate_api_key(secret.expose()).await.unwrap();
    assert_eq!(whose.as_ref(), Some(&key));
    assert_eq!(key.account_id, account.id);
    assert!(system.is_api_key_valid(&key.id).await.unwrap());

    assert!(scope.revoke_api_key(&key.id).await.unwrap());
    assert!(!scope.revoke_api_key(&key.id).await.unwrap(), "it was revoked already");
    assert_eq!(system.authenticate_api_key(secret.expose()).await.unwrap(), None);
    assert!(!system.is_api_key_valid(&key.id).await.unwrap());
    let whose = system.authenticate_api_key(other_secret.expose()).await.unwrap();
    assert_eq!(whose.as_ref(), Some(&other_key));

    let listed = scope.list_api_keys().await.unwrap();
    let revoked = listed.iter().find(|listed| listed.id == key.id).unwrap();
    assert!(revoked.revoked_at.is_some());
    assert!(listed.contains(&other_key));
    assert_eq!(listed.len(), 2);
}

#[tokio::test]
async fn a_secret_needs_no_quoting_and_hides_from_logs() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);

    let (_, secret) = scope.create_api_key("ci").await.unwrap();

    let random = secret.expose().strip_prefix("fs_").unwrap();
    assert_eq!(random.len(), 43);
    assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert!(!format!("{secret:?}").contains(random));
}

#[tokio::test]
async fn the_secret_is_not_in_the_database() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (_, secret) = test.store.account_scope(&account.id).create_api_key("ci").await.unwrap();
    test.store.close().await;

    let mut key_was_stored = false;
    for file in std::fs::read_dir(test.folder.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        let contains = |text: &str| content.windows(text.len()).any(|at| at == text.as_bytes());
        key_was_stored |= contains(account.id.as_str());
        assert!(!contains(&secret.expose()[3..]));
    }
    assert!(key_was_stored, "the search would have found it");
}

#[tokio::test]
async fn what_is_not_exactly_a_key_opens_nothing() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (_, secret) = test.store.account_scope(&account.id).create_api_key("ci").await.unwrap();
    let secret = secret.expose();
    let random = &secret[3..];
    // The last of 43 characters carries only four bits: a decoder that ignores the others would
    // take several spellings for the same bytes.
    let last = random.as_bytes()[42] as char;
    let other_spelling = char::from(last as u8 + 1);

    let malformed = [
        String::new(),
        "fs_".to_owned(),
        random.to_owned(),
        format!(" {secret}"),
        format!("{secret}\n"),
        format!("{secret}="),
        format!("FS_{random}"),
        format!("fs_{}", &random[1..]),
        format!("fs_{}{other_spelling}", &random[..42]),
        format!("fs_{}", "é".repeat(22)),
        format!("fs_{}%", &random[..42]),
        "fs_".repeat(1_000_000),
        format!("fs_{}", "A".repeat(43)),
    ];
    for presented in malformed {
        let whose = test.store.system().authenticate_api_key(&presented).await.unwrap();
        assert_eq!(whose, None, "{presented:.60}");
    }
}
