//! Where hosts lead.

use freestyle_domains::DomainError;

use crate::{World, name, pattern};

#[tokio::test]
async fn a_preview_leads_to_its_vm_until_it_is_unmapped() {
    let world = World::new(Vec::new()).await;
    let (account, other) = (world.account().await, world.account().await);
    let (vm, foreign) = (world.vm(&account).await, world.vm(&other).await);
    assert_eq!(world.leads_to("x.style.localhost").await, None);
    world.map(&account, "X.style.localhost", &vm).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.leads_to("x.style.localhost").await, Some(vm.clone()));
    }
    let refused = world.map(&other, "x.style.localhost", &foreign).await.unwrap_err();
    assert!(matches!(refused, DomainError::Taken(_)), "{refused}");
    let refused = world.domains.may_map(&other, &pattern("x.style.localhost")).await.unwrap_err();
    assert!(matches!(refused, DomainError::Taken(_)), "{refused}");
    let refused = world.domains.unmap(&other, &pattern("x.style.localhost")).await.unwrap_err();
    assert!(matches!(refused, DomainError::NoSuchMapping(_)), "{refused}");

    world.domains.unmap(&account, &pattern("x.style.localhost")).await.unwrap();
    assert_eq!(world.leads_to("x.style.localhost").await, None);
    world.map(&other, "x.style.localhost", &foreign).await.unwrap();
    assert_eq!(world.leads_to("x.style.localhost").await, Some(foreign.clone()));
    world.delete(&foreign).await;
    assert_eq!(world.leads_to("x.style.localhost").await, None);
}

#[tokio::test]
async fn a_preview_is_a_single_name_right_below_its_suffix() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    for domain in
        ["style.localhost", "a.b.style.localhost", "*.style.localhost", "*.a.style.localhost"]
    {
        let refused = world.map(&account, domain, &vm).await.unwrap_err();
        assert!(matches!(refused, DomainError::Invalid { .. }), "{domain}: {refused}");
    }
    for domain in ["localhost.com", "xstyle.localhost", "example.net", "a.example.net"] {
        let refused = world.map(&account, domain, &vm).await.unwrap_err();
        assert!(matches!(refused, DomainError::NotVerified(_)), "{domain}: {refused}");
    }
    world.map(&account, "x.apps.example.net", &vm).await.unwrap();
}

#[tokio::test]
async fn nobody_gets_the_place_of_the_server_itself() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    let scope = world.store.account_scope(&account);
    let begun = scope.begin_verification("example.com").await.unwrap();
    assert!(scope.own_domain(&begun).await.unwrap());
    for domain in ["API.style.localhost", "git.example.com"] {
        let refused = world.map(&account, domain, &vm).await.unwrap_err();
        assert!(matches!(refused, DomainError::Invalid { .. }), "{domain}: {refused}");
    }
    let refused = world.domains.begin(&account, &name("git.example.com")).await.unwrap_err();
    assert!(matches!(refused, DomainError::Invalid { .. }), "{refused}");
}

#[tokio::test]
async fn only_what_is_or_could_be_somebodys_is_known() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let scope = world.store.account_scope(&account);
    let begun = scope.begin_verification("example.com").await.unwrap();
    assert!(!world.domains.is_known("app.example.com").await.unwrap());
    assert!(scope.own_domain(&begun).await.unwrap());
    for (host, known) in [
        ("app.example.com", true),
        ("example.com", true),
        ("any.style.localhost", true),
        ("a.b.style.localhost", false),
        ("style.localhost", false),
        ("example.org", false),
        ("localhost", false),
        ("", false),
    ] {
        assert_eq!(world.domains.is_known(host).await.unwrap(), known, "{host}");
    }
}

#[tokio::test]
async fn a_way_that_changes_is_not_remembered_as_it_was() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let (first, second) = (world.vm(&account).await, world.vm(&account).await);
    for _ in 0..20 {
        for vm in [&first, &second] {
            world.map(&account, "x.style.localhost", vm).await.unwrap();
            assert_eq!(world.leads_to("x.style.localhost").await.as_ref(), Some(vm));
        }
    }
}
