//! Hosts that VMs have by themselves.

use freestyle_domains::{Config, DomainError};
use freestyle_store::VmId;

use crate::{World, name, pattern};

async fn world() -> World {
    World::with(Config { vm_domain: Some(name("vm.example.com")), ..Config::default() }).await
}

#[tokio::test]
async fn every_vm_is_reached_by_its_id_until_it_is_deleted() {
    let world = world().await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    let host = format!("{vm}.vm.example.com");
    assert_eq!(world.domains.own_host(&vm).as_deref(), Some(host.as_str()));
    assert_eq!(world.domains.of_vm(&account, &vm).await.unwrap(), [host.as_str()]);
    let route = world.domains.route(&host).await.unwrap().unwrap();
    assert_eq!((&route.account_id, &route.vm_id, route.port), (&account, &vm, 3000));
    assert!(world.domains.is_known(&host).await.unwrap());

    world.delete(&vm).await;
    assert_eq!(world.leads_to(&host).await, None);
    for nobody in
        [host, format!("{}.vm.example.com", VmId::random()), "x.vm.example.com".to_owned()]
    {
        assert_eq!(world.leads_to(&nobody).await, None);
        assert!(!world.domains.is_known(&nobody).await.unwrap(), "{nobody}");
    }
}

#[tokio::test]
async fn only_the_id_right_below_the_domain_is_a_host() {
    let world = world().await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    assert_eq!(world.leads_to(&format!("x.{vm}.vm.example.com")).await, None);
    assert_eq!(world.leads_to(&format!("{vm}.example.com")).await, None);
    assert_eq!(world.leads_to(&format!("{vm}vm.example.com")).await, None);
}

#[tokio::test]
async fn nobody_has_anything_else_there() {
    let world = world().await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    // Whoever owns what is above it, by a proof of before.
    let scope = world.store.account_scope(&account);
    let begun = scope.begin_verification("example.com").await.unwrap();
    assert!(scope.own_domain(&begun).await.unwrap());
    let own = format!("{vm}.vm.example.com");
    for domain in ["vm.example.com", "x.vm.example.com", "*.vm.example.com", &own] {
        let refused = world.map(&account, domain, &vm).await;
        assert!(matches!(refused, Err(DomainError::Invalid { .. })), "{domain}: {refused:?}");
        let refused = world.domains.may_map(&account, &pattern(domain)).await;
        assert!(matches!(refused, Err(DomainError::Invalid { .. })), "{domain}: {refused:?}");
    }
    assert!(world.domains.begin(&account, &name("x.vm.example.com")).await.is_err());
    world.map(&account, "*.example.com", &vm).await.unwrap();
    assert_eq!(world.leads_to("vm.example.com").await, Some(vm), "it is no VM's host");
}

#[tokio::test]
async fn without_a_domain_for_vms_none_has_a_host() {
    let world = World::new(Vec::new()).await;
    let account = world.account().await;
    let vm = world.vm(&account).await;
    assert_eq!(world.domains.own_host(&vm), None);
    assert!(world.domains.of_vm(&account, &vm).await.unwrap().is_empty());
}
