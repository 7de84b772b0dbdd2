//! DNS records: whose they are, and which can be beside each other.

use freestyle_store::{Account, DnsRecord, MAX_DNS_RECORDS_OF_NAME, StoreError};

use crate::TestStore;

fn record(name: &str, kind: &str, value: &str) -> DnsRecord {
    let (name, kind, value) = (name.to_owned(), kind.to_owned(), value.to_owned());
    DnsRecord { name, kind, value, priority: None, ttl: 300 }
}

impl TestStore {
    async fn proves(&self, account: &Account, domain: &str) {
        let scope = self.store.account_scope(&account.id);
        let begun = scope.begin_verification(domain).await.unwrap();
        assert!(scope.own_domain(&begun).await.unwrap());
    }

    async fn puts(&self, account: &Account, record: &DnsRecord) -> Result<(), StoreError> {
        self.store.account_scope(&account.id).put_dns_record(record).await
    }

    /// What is said of a name and those below it.
    async fn says(&self, domain: &str) -> Vec<String> {
        let zone = self.store.system().zone_of(domain).await.unwrap();
        let Some((_, account)) = zone else { return Vec::new() };
        let records = self.store.system().records_of_zone(domain, &account).await.unwrap();
        records.into_iter().map(|it| format!("{} {} {}", it.name, it.kind, it.value)).collect()
    }
}

#[tokio::test]
async fn a_record_is_made_changed_and_removed() {
    let test = TestStore::open().await;
    let account = test.account().await;
    test.proves(&account, "example.com").await;
    let scope = test.store.account_scope(&account.id);
    let mut mail = record("example.com", "MX", "mail.example.com");
    mail.priority = Some(10);
    test.puts(&account, &mail).await.unwrap();
    test.puts(&account, &record("app.example.com", "A", "192.0.2.1")).await.unwrap();
    assert_eq!(
        test.says("example.com").await,
        ["app.example.com A 192.0.2.1", "example.com MX mail.example.com"],
    );
    assert_eq!(test.says("app.example.com").await, ["app.example.com A 192.0.2.1"]);

    (mail.priority, mail.ttl) = (Some(20), 60);
    test.puts(&account, &mail).await.unwrap();
    assert!(scope.dns_records("example.com").await.unwrap().contains(&mail));

    assert!(scope.remove_dns_record("example.com", "MX", "mail.example.com").await.unwrap());
    assert!(!scope.remove_dns_record("example.com", "MX", "mail.example.com").await.unwrap());
    assert_eq!(test.says("example.com").await.len(), 1);
}

#[tokio::test]
async fn nobody_says_anything_of_what_is_not_theirs() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    test.proves(&account, "example.com").await;
    let theirs = record("app.example.com", "A", "192.0.2.1");
    test.puts(&account, &theirs).await.unwrap();

    for foreign in [&theirs, &record("example.com", "TXT", "x"), &record("com", "TXT", "x")] {
        let refused = test.puts(&other, foreign).await.unwrap_err();
        assert!(matches!(refused, StoreError::DomainNotOwned(_)), "{refused}");
    }
    let scope = test.store.account_scope(&other.id);
    assert!(scope.dns_records("example.com").await.unwrap().is_empty());
    assert!(!scope.remove_dns_record("app.example.com", "A", "192.0.2.1").await.unwrap());
    assert_eq!(test.says("example.com").await.len(), 1);
}

#[tokio::test]
async fn a_new_owner_finds_nothing_of_the_old_one() {
    let test = TestStore::open().await;
    let (old, new) = (test.account().await, test.account().await);
    test.proves(&old, "example.com").await;
    for name in ["example.com", "app.example.com", "x.app.example.com", "badapp.example.com"] {
        test.puts(&old, &record(name, "A", "192.0.2.1")).await.unwrap();
    }
    // Of a part of it.
    test.proves(&new, "app.example.com").await;
    assert_eq!(
        test.says("example.com").await,
        ["badapp.example.com A 192.0.2.1", "example.com A 192.0.2.1"],
    );
    assert!(test.says("app.example.com").await.is_empty());
    test.puts(&new, &record("app.example.com", "A", "192.0.2.2")).await.unwrap();
    // Of all of it, but for what somebody owns more exactly.
    let third = test.account().await;
    test.proves(&third, "example.com").await;
    assert!(test.says("example.com").await.is_empty());
    assert_eq!(test.says("app.example.com").await, ["app.example.com A 192.0.2.2"]);
}

#[tokio::test]
async fn records_that_contradict_each_other_are_refused() {
    let test = TestStore::open().await;
    let account = test.account().await;
    test.proves(&account, "example.com").await;
    let alias = record("www.example.com", "CNAME", "example.com");
    test.puts(&account, &alias).await.unwrap();
    // Once more is no contradiction.
    test.puts(&account, &alias).await.unwrap();
    test.puts(&account, &record("app.example.com", "A", "192.0.2.1")).await.unwrap();
    for refused in [
        record("www.example.com", "CNAME", "app.example.com"),
        record("www.example.com", "TXT", "x"),
        record("app.example.com", "CNAME", "example.com"),
        record("example.com", "CNAME", "example.org"),
        record("example.com", "NS", "ns.example.org"),
    ] {
        let error = test.puts(&account, &refused).await.unwrap_err();
        assert!(matches!(error, StoreError::DnsConflict { .. }), "{refused:?}: {error}");
    }
    for n in 0..MAX_DNS_RECORDS_OF_NAME {
        let text = record("example.com", "TXT", &n.to_string());
        test.puts(&account, &text).await.unwrap();
    }
    let error = test.puts(&account, &record("example.com", "TXT", "more")).await.unwrap_err();
    assert!(matches!(error, StoreError::LimitReached { .. }), "{error}");
}

#[tokio::test]
async fn whoever_answers_is_told_of_changes() {
    let test = TestStore::open().await;
    let account = test.account().await;
    test.proves(&account, "example.com").await;
    let mut changes = test.store.rights();
    test.puts(&account, &record("example.com", "TXT", "x")).await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let scope = test.store.account_scope(&account.id);
    scope.remove_dns_record("example.com", "TXT", "x").await.unwrap();
    assert!(changes.has_changed().unwrap());
}
