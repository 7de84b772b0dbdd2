//! DNS records, and the zones that they make.

use freestyle_domains::{Authority, Config, DomainError, WrittenRecord};
use freestyle_store::AccountId;

use crate::{World, name};

async fn world() -> World {
    let authority = Authority {
        name_servers: vec![freestyle_dns::RecordName::parse("ns1.example.net").unwrap()],
        addresses: vec!["198.51.100.1".parse().unwrap()],
    };
    World::with(Config { dns: Some(authority), ..Config::default() }).await
}

fn written(name: &str, kind: &str, value: &str) -> WrittenRecord {
    let (name, kind, value) = (name.to_owned(), kind.to_owned(), value.to_owned());
    WrittenRecord { kind, name, value, priority: None, ttl: None }
}

impl World {
    /// As if it had been proven.
    async fn own(&self, account: &AccountId, domain: &str) {
        let scope = self.store.account_scope(account);
        let begun = scope.begin_verification(domain).await.unwrap();
        assert!(scope.own_domain(&begun).await.unwrap());
    }

    async fn put(
        &self,
        account: &AccountId,
        domain: &str,
        record: WrittenRecord,
    ) -> Result<(), DomainError> {
        self.domains.put_record(account, &name(domain), record).await.map(drop)
    }

    async fn listed(&self, account: &AccountId, domain: &str) -> Vec<String> {
        let records = self.domains.records(account, &name(domain)).await.unwrap();
        let line = |it: &freestyle_domains::DomainDnsRecord| {
            let (record, managed) = (&it.record, if it.managed { " (managed)" } else { "" });
            format!("{} {} {}{managed}", record.name, record.data.kind(), record.data.value())
        };
        records.iter().map(line).collect()
    }

    async fn apex(&self, host: &str) -> Option<String> {
        let zone = self.domains.zone(host).await.unwrap();
        zone.map(|zone| zone.apex().to_owned())
    }
}

#[tokio::test]
async fn records_are_made_listed_and_removed_in_ones_own_domains() {
    let world = world().await;
    let (account, other) = (world.account().await, world.account().await);
    world.own(&account, "example.com").await;
    world.put(&account, "example.com", written("@", "TXT", "hello")).await.unwrap();
    world.put(&account, "Example.com", written("App", "A", "192.0.2.1")).await.unwrap();
    // In a part of it just as well.
    world.put(&account, "app.example.com", written("x", "A", "192.0.2.2")).await.unwrap();
    assert_eq!(
        world.listed(&account, "example.com").await,
        [
            "example.com NS ns1.example.net (managed)",
            "app.example.com A 192.0.2.1",
            "example.com TXT hello",
            "x.app.example.com A 192.0.2.2",
        ],
    );
    assert_eq!(
        world.listed(&account, "app.example.com").await,
        ["app.example.com A 192.0.2.1", "x.app.example.com A 192.0.2.2"],
    );

    let domain = name("example.com");
    let records = world.domains.records(&other, &domain).await;
    assert!(matches!(records, Err(DomainError::NotVerified(_))), "{records:?}");
    let gone = written("app", "A", "192.0.2.1");
    let removed = world.domains.remove_record(&other, &domain, gone.clone()).await;
    assert!(matches!(removed, Err(DomainError::NotVerified(_))), "{removed:?}");
    let refused = world.put(&other, "example.com", written("@", "A", "192.0.2.9")).await;
    assert!(matches!(refused, Err(DomainError::NotVerified(_))), "{refused:?}");

    world.domains.remove_record(&account, &domain, gone.clone()).await.unwrap();
    let again = world.domains.remove_record(&account, &domain, gone).await;
    assert!(matches!(again, Err(DomainError::NoSuchRecord { .. })), "{again:?}");
    // What the server says itself nobody takes away.
    let own = written("@", "NS", "ns1.example.net");
    let refused = world.domains.remove_record(&account, &domain, own).await;
    assert!(matches!(refused, Err(DomainError::NoSuchRecord { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_record_is_said() {
    let world = world().await;
    let account = world.account().await;
    world.own(&account, "example.com").await;
    let long = WrittenRecord { ttl: Some(604_801), ..written("@", "A", "192.0.2.1") };
    for record in [
        written("a b", "A", "192.0.2.1"),
        written("example.org.", "A", "192.0.2.1"),
        written("@", "A", "here"),
        written("@", "MX", "mail.example.com"),
        written("*", "NS", "ns.example.org"),
        long,
    ] {
        let refused = world.put(&account, "example.com", record.clone()).await;
        assert!(matches!(refused, Err(DomainError::InvalidRecord(_))), "{record:?}: {refused:?}");
    }
    let refused = world.put(&account, "example.com", written("@", "CNAME", "example.org")).await;
    assert!(matches!(refused, Err(DomainError::RecordConflict { .. })), "{refused:?}");
    for preview in ["style.localhost", "x.style.localhost"] {
        let refused = world.put(&account, preview, written("@", "A", "192.0.2.1")).await;
        assert!(matches!(refused, Err(DomainError::NotVerified(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn zones_are_what_is_proven_and_what_is_the_operators() {
    let world = world().await;
    let account = world.account().await;
    assert_eq!(world.apex("app.example.com").await, None);
    world.own(&account, "example.com").await;
    assert_eq!(world.apex("app.example.com").await.as_deref(), Some("example.com"));
    assert_eq!(world.apex("com").await, None);
    world.own(&account, "app.example.com").await;
    assert_eq!(world.apex("x.app.example.com").await.as_deref(), Some("app.example.com"));
    assert_eq!(world.apex("x.y.style.localhost").await.as_deref(), Some("style.localhost"));
    assert_eq!(world.apex("localhost").await, None);

    let vm = world.vm(&account).await;
    assert!(!world.domains.is_site("www.example.com").await.unwrap());
    world.map(&account, "www.example.com", &vm).await.unwrap();
    assert!(world.domains.is_site("www.example.com").await.unwrap());
}

#[tokio::test]
async fn nothing_is_said_where_nobody_would_hear_it() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    world.own(&account, "example.com").await;
    let refused = world.put(&account, "example.com", written("@", "A", "192.0.2.1")).await;
    assert!(matches!(refused, Err(DomainError::NoDns)), "{refused:?}");
    assert_eq!(world.apex("example.com").await, None);
    let refused = world.domains.check_answered_here(&name("example.com")).await;
    assert!(matches!(refused, Err(DomainError::NoDns)), "{refused:?}");
}
