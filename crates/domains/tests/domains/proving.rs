//! A domain is whose DNS says so.

use std::net::SocketAddr;

use freestyle_domains::{DomainError, TXT_LABEL, Which};

use crate::knot::Knot;
use crate::{World, name};

#[tokio::test]
async fn a_domain_is_proven_by_its_txt_record() {
    let mut knot = Knot::start("").await;
    let world = World::new(vec![knot.address]).await;
    let account = world.account().await;
    let domain = name("example.com");
    let which = Which::Domain(domain.clone());
    let begun = world.domains.begin(&account, &domain).await.unwrap();
    let record = |value: &str| format!("{TXT_LABEL} TXT {value}\n");

    let refused = world.domains.complete(&account, &which).await.unwrap_err();
    assert!(matches!(refused, DomainError::NotProven { .. }), "{refused}");
    assert!(refused.to_string().contains("no such TXT record"), "{refused}");

    knot.replace(&record("\"something else\"")).await;
    let refused = world.domains.complete(&account, &which).await.unwrap_err().to_string();
    assert!(refused.contains("something else"), "{refused}");
    assert!(refused.contains("_freestyle_custom_hostname.example.com"), "{refused}");

    // A mistake is corrected; nobody waits for it to be forgotten, although it lives for an hour.
    let (half, rest) = begun.code.split_at(20);
    let both = record("\"something else\"") + &record(&format!("\"{half}\" \"{rest}\""));
    knot.replace(&both).await;
    assert_eq!(world.domains.complete(&account, &which).await.unwrap(), "example.com");
    assert!(world.domains.has_proven(&account, &name("a.b.example.com")).await.unwrap());

    // It may be asked for again, by its name; what is done has no id any more.
    assert_eq!(world.domains.complete(&account, &which).await.unwrap(), "example.com");
    let refused = world.domains.complete(&account, &Which::Id(begun.id.into())).await.unwrap_err();
    assert!(matches!(refused, DomainError::NoSuchVerification(_)), "{refused}");
}

#[tokio::test]
async fn a_proof_of_another_account_or_domain_is_none() {
    let mut knot = Knot::start("").await;
    let world = World::new(vec![knot.address]).await;
    let (account, other) = (world.account().await, world.account().await);
    let domain = name("app.example.com");
    let begun = world.domains.begin(&account, &domain).await.unwrap();
    world.domains.begin(&other, &domain).await.unwrap();
    let which = Which::Domain(domain);

    let elsewhere = format!("{TXT_LABEL} TXT {0}\napp TXT {0}\n*.app TXT {0}\n", begun.code);
    knot.replace(&elsewhere.replace("*.app TXT", "x.app TXT")).await;
    let refused = world.domains.complete(&account, &which).await.unwrap_err();
    assert!(matches!(refused, DomainError::NotProven { .. }), "{refused}");

    // By way of another name is fine: whoever points there says so.
    let record = format!("{TXT_LABEL}.app CNAME proof\nproof TXT {}\n", begun.code);
    knot.replace(&record).await;
    let refused = world.domains.complete(&other, &which).await.unwrap_err();
    assert!(matches!(refused, DomainError::NotProven { .. }), "{refused}");
    let by_id = Which::Id(begun.id.into());
    let refused = world.domains.complete(&other, &by_id).await.unwrap_err();
    assert!(matches!(refused, DomainError::NoSuchVerification(_)), "{refused}");
    assert_eq!(world.domains.complete(&account, &by_id).await.unwrap(), "app.example.com");
    assert!(!world.domains.has_proven(&account, &name("example.com")).await.unwrap());
}

#[tokio::test]
async fn dns_that_cannot_be_asked_proves_nothing_and_is_said() {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let world = World::new(vec![nobody]).await;
    let account = world.account().await;
    let domain = name("example.com");
    world.domains.begin(&account, &domain).await.unwrap();
    let refused = world.domains.complete(&account, &Which::Domain(domain)).await.unwrap_err();
    assert!(matches!(refused, DomainError::LookupFailed { .. }), "{refused}");

    // A server that does not answer for the zone refuses.
    let knot = Knot::start("").await;
    let world = World::new(vec![knot.address]).await;
    let account = world.account().await;
    let domain = name("example.org");
    world.domains.begin(&account, &domain).await.unwrap();
    let refused = world.domains.complete(&account, &Which::Domain(domain)).await.unwrap_err();
    assert!(matches!(refused, DomainError::LookupFailed { .. }), "{refused}");
}

#[tokio::test]
async fn what_was_cancelled_or_never_begun_is_not_there() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let domain = name("example.com");
    let unknown = |error| matches!(error, DomainError::NoSuchVerification(_));
    for which in [
        Which::Domain(domain.clone()),
        Which::Id("dv-abcdefghij0123456789".into()),
        Which::Id("no id".into()),
    ] {
        assert!(unknown(world.domains.complete(&account, &which).await.unwrap_err()));
    }
    let begun = world.domains.begin(&account, &domain).await.unwrap();
    assert!(unknown(world.domains.cancel(&account, &domain, "guessed").await.unwrap_err()));
    world.domains.cancel(&account, &domain, &begun.code).await.unwrap();
    assert_eq!(world.domains.verifications(&account).await.unwrap(), []);
}

#[tokio::test]
async fn previews_are_not_to_be_proven() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    for domain in ["style.localhost", "x.style.localhost", "a.b.apps.example.net"] {
        let refused = world.domains.begin(&account, &name(domain)).await.unwrap_err();
        assert!(matches!(refused, DomainError::Invalid { .. }), "{refused}");
    }
    world.domains.begin(&account, &name("example.net")).await.unwrap();
}
