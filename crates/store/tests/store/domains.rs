//! Domains: proofs, owners, and what leads where.

use freestyle_store::{Account, DomainMapping, MAX_DOMAINS, MappedName, Route, StoreError, VmId};

use crate::TestStore;

impl TestStore {
    /// Proves that a domain is an account's.
    async fn owns(&self, account: &Account, domain: &str) {
        let scope = self.store.account_scope(&account.id);
        let begun = scope.begin_verification(domain).await.unwrap();
        assert!(scope.own_domain(&begun).await.unwrap());
    }

    async fn map(
        &self,
        account: &Account,
        name: MappedName<'_>,
        vm: &VmId,
    ) -> Result<DomainMapping, StoreError> {
        self.store.account_scope(&account.id).map_domain(name, vm, 3000).await
    }

    async fn leads_to(&self, host: &str) -> Option<VmId> {
        self.store.system().route(host).await.unwrap().map(|route| route.vm_id)
    }

    async fn mapped(&self, account: &Account) -> Vec<String> {
        let scope = self.store.account_scope(&account.id);
        let mappings = scope.mappings(None, None, 100, 0).await.unwrap();
        let mut domains: Vec<_> = mappings.into_iter().map(|mapping| mapping.domain).collect();
        domains.sort();
        domains
    }
}

use MappedName::{Host, HostsBelow, Preview};

#[tokio::test]
async fn what_is_to_be_proven_stays_the_same_until_it_was_or_is_cancelled() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);

    let begun = scope.begin_verification("example.com").await.unwrap();
    assert_eq!(begun.code.len(), 40);
    assert_eq!(scope.begin_verification("example.com").await.unwrap(), begun);
    let other = scope.begin_verification("example.org").await.unwrap();
    assert_ne!(other.code, begun.code);
    let all = scope.verifications().await.unwrap();
    assert!(all.len() == 2 && all.contains(&begun) && all.contains(&other), "{all:?}");
    assert_eq!(scope.verification("example.com").await.unwrap().as_ref(), Some(&begun));
    assert_eq!(scope.verification_by_id(&other.id).await.unwrap().as_ref(), Some(&other));

    assert!(!scope.cancel_verification("example.com", &other.code).await.unwrap());
    assert!(scope.cancel_verification("example.com", &begun.code).await.unwrap());
    assert!(!scope.own_domain(&begun).await.unwrap(), "it was cancelled");
    assert!(!scope.owns("example.com").await.unwrap());
    assert_ne!(scope.begin_verification("example.com").await.unwrap().code, begun.code);

    assert!(scope.own_domain(&other).await.unwrap());
    assert_eq!(scope.verification("example.org").await.unwrap(), None);
    assert!(!scope.own_domain(&other).await.unwrap(), "once is enough");
}

#[tokio::test]
async fn proofs_are_of_one_account_and_limited_in_number() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let (scope, foreign) =
        (test.store.account_scope(&account.id), test.store.account_scope(&other.id));
    let begun = scope.begin_verification("example.com").await.unwrap();
    assert_ne!(foreign.begin_verification("example.com").await.unwrap().code, begun.code);
    assert_eq!(foreign.verification_by_id(&begun.id).await.unwrap(), None);
    assert!(!foreign.cancel_verification("example.com", &begun.code).await.unwrap());
    assert!(!foreign.own_domain(&begun).await.unwrap());

    assert!(scope.own_domain(&begun).await.unwrap());
    for n in 1..MAX_DOMAINS {
        scope.begin_verification(&format!("{n}.example")).await.unwrap();
    }
    let refused = scope.begin_verification("more.example").await.unwrap_err();
    assert!(matches!(refused, StoreError::LimitReached { limit: MAX_DOMAINS }));
}

#[tokio::test]
async fn whoever_owns_a_domain_owns_what_is_below_it() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    test.owns(&account, "example.com").await;
    let scope = test.store.account_scope(&account.id);
    for (name, owned) in [
        ("example.com", true),
        ("a.b.example.com", true),
        ("com", false),
        ("badexample.com", false),
        ("example.com.org", false),
    ] {
        assert_eq!(scope.owns(name).await.unwrap(), owned, "{name}");
        assert_eq!(test.store.system().is_owned(name).await.unwrap(), owned, "{name}");
        assert!(!test.store.account_scope(&other.id).owns(name).await.unwrap(), "{name}");
    }
    let domains = scope.domains(false, 10, 0).await.unwrap();
    assert_eq!((domains.len(), domains[0].domain.as_str()), (1, "example.com"));
    assert!(!domains[0].preview);
}

#[tokio::test]
async fn a_mapping_leads_from_a_host_to_a_port_and_can_be_replaced() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (first, second) = (test.running(&account).await.id, test.running(&account).await.id);
    test.owns(&account, "example.com").await;
    let scope = test.store.account_scope(&account.id);

    let mapped = scope.map_domain(Host("app.example.com"), &first, 3000).await.unwrap();
    assert_eq!(
        (mapped.domain.as_str(), &mapped.vm_id, mapped.port),
        ("app.example.com", &first, 3000)
    );
    let route = Route { account_id: account.id.clone(), vm_id: first.clone(), port: 3000 };
    assert_eq!(test.store.system().route("app.example.com").await.unwrap(), Some(route));
    assert_eq!(scope.domains_of_vm(&first).await.unwrap(), ["app.example.com"]);
    assert_eq!(test.leads_to("example.com").await, None);
    assert_eq!(test.leads_to("a.app.example.com").await, None);

    scope.map_domain(Host("app.example.com"), &second, 80).await.unwrap();
    assert_eq!(test.leads_to("app.example.com").await, Some(second.clone()));
    assert_eq!(scope.domains_of_vm(&first).await.unwrap(), [""; 0]);
    assert_eq!(test.mapped(&account).await, ["app.example.com"]);

    let by_ownership = scope.mappings(None, Some(&mapped.domain_id), 10, 0).await.unwrap();
    assert_eq!(by_ownership.len(), 1);
    assert_eq!(scope.mappings(Some("example.com"), None, 10, 0).await.unwrap(), []);
    assert_eq!(scope.mappings(None, None, 10, 1).await.unwrap(), []);

    assert!(scope.unmap_domain("app.example.com").await.unwrap());
    assert!(!scope.unmap_domain("app.example.com").await.unwrap());
    assert_eq!(test.leads_to("app.example.com").await, None);
    assert!(scope.owns("app.example.com").await.unwrap());
}

#[tokio::test]
async fn the_most_exact_mapping_wins() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (all, one) = (test.running(&account).await.id, test.running(&account).await.id);
    test.owns(&account, "example.com").await;
    let mapped = test.map(&account, HostsBelow("example.com"), &all).await.unwrap();
    assert_eq!(mapped.domain, "*.example.com");
    test.map(&account, Host("one.example.com"), &one).await.unwrap();
    for (host, vm) in [
        ("one.example.com", Some(&one)),
        ("two.example.com", Some(&all)),
        ("example.com", None),
        ("a.two.example.com", None),
    ] {
        assert_eq!(test.leads_to(host).await.as_ref(), vm, "{host}");
    }
}

#[tokio::test]
async fn nobody_maps_what_is_not_theirs() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let (vm, foreign_vm) = (test.running(&account).await.id, test.running(&other).await.id);
    test.owns(&account, "example.com").await;
    for name in [Host("app.example.com"), HostsBelow("example.com"), Host("example.org")] {
        let refused = test.map(&other, name, &foreign_vm).await.unwrap_err();
        assert!(matches!(refused, StoreError::DomainNotOwned(_)), "{refused}");
    }
    let refused = test.map(&account, Host("app.example.com"), &foreign_vm).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoSuchVm(_)), "{refused}");
    test.map(&account, Host("app.example.com"), &vm).await.unwrap();
    let foreign = test.store.account_scope(&other.id);
    assert!(!foreign.unmap_domain("app.example.com").await.unwrap());
    assert_eq!(foreign.mappings(None, None, 10, 0).await.unwrap(), []);
    assert_eq!(foreign.domains_of_vm(&vm).await.unwrap(), [""; 0]);
    assert_eq!(test.leads_to("app.example.com").await, Some(vm));
}

#[tokio::test]
async fn a_preview_is_of_whoever_maps_it_first_until_it_is_unmapped() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let (vm, foreign_vm) = (test.running(&account).await.id, test.running(&other).await.id);
    let preview = Preview("x.style.localhost");
    test.map(&account, preview, &vm).await.unwrap();
    test.map(&account, preview, &vm).await.unwrap();
    let refused = test.map(&other, preview, &foreign_vm).await.unwrap_err();
    assert!(matches!(refused, StoreError::DomainTaken(_)), "{refused}");
    let scope = test.store.account_scope(&account.id);
    assert_eq!(scope.domains(false, 10, 0).await.unwrap(), []);
    assert!(scope.domains(true, 10, 0).await.unwrap()[0].preview);

    assert!(scope.unmap_domain("x.style.localhost").await.unwrap());
    assert_eq!(scope.domains(true, 10, 0).await.unwrap(), []);
    test.map(&other, preview, &foreign_vm).await.unwrap();
    assert_eq!(test.leads_to("x.style.localhost").await, Some(foreign_vm));
}

#[tokio::test]
async fn a_new_proof_takes_a_domain_over_with_what_is_below_it() {
    let test = TestStore::open().await;
    let (first, second) = (test.account().await, test.account().await);
    let (vm, new_vm) = (test.running(&first).await.id, test.running(&second).await.id);
    test.owns(&first, "example.com").await;
    for name in [
        Host("example.com"),
        Host("app.example.com"),
        HostsBelow("app.example.com"),
        Host("webapp.example.com"),
        HostsBelow("example.com"),
    ] {
        test.map(&first, name, &vm).await.unwrap();
    }

    // A part of it was given away: a wildcard above does not lead there any more either.
    test.owns(&second, "app.example.com").await;
    let kept = ["*.example.com", "example.com", "webapp.example.com"];
    assert_eq!(test.mapped(&first).await, kept);
    assert_eq!(test.leads_to("app.example.com").await, None);
    assert_eq!(test.leads_to("other.example.com").await, Some(vm.clone()));
    let refused = test.map(&first, Host("a.app.example.com"), &vm).await.unwrap_err();
    assert!(matches!(refused, StoreError::DomainNotOwned(_)), "{refused}");
    test.map(&second, Host("app.example.com"), &new_vm).await.unwrap();

    // All of it.
    test.owns(&second, "example.com").await;
    assert_eq!(test.mapped(&first).await, [""; 0]);
    assert_eq!(test.store.account_scope(&first.id).domains(true, 10, 0).await.unwrap(), []);
    assert_eq!(test.mapped(&second).await, ["app.example.com"]);
}

#[tokio::test]
async fn proving_again_what_one_owns_changes_nothing() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await.id;
    test.owns(&account, "example.com").await;
    test.map(&account, Host("app.example.com"), &vm).await.unwrap();
    let scope = test.store.account_scope(&account.id);
    let before = scope.domains(true, 10, 0).await.unwrap();
    test.owns(&account, "example.com").await;
    test.owns(&account, "app.example.com").await;
    let after = scope.domains(true, 10, 0).await.unwrap();
    assert!(after.len() == 2 && after.contains(&before[0]), "{after:?}");
    assert_eq!(test.leads_to("app.example.com").await, Some(vm));
}

#[tokio::test]
async fn what_leads_to_a_vm_goes_with_it() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (vm, other) = (test.running(&account).await.id, test.running(&account).await.id);
    test.owns(&account, "example.com").await;
    test.map(&account, Host("app.example.com"), &vm).await.unwrap();
    test.map(&account, Preview("x.style.localhost"), &vm).await.unwrap();
    test.map(&account, Preview("y.style.localhost"), &other).await.unwrap();
    test.deleted(&vm).await;
    assert_eq!(test.mapped(&account).await, ["y.style.localhost"]);
    let domains = test.store.account_scope(&account.id).domains(true, 10, 0).await.unwrap();
    let mut domains: Vec<_> = domains.iter().map(|domain| domain.domain.as_str()).collect();
    domains.sort_unstable();
    assert_eq!(domains, ["example.com", "y.style.localhost"]);
    let refused = test.map(&account, Host("app.example.com"), &vm).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoSuchVm(_)), "{refused}");
}

#[tokio::test]
async fn whatever_changes_a_way_is_told() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await.id;
    let scope = test.store.account_scope(&account.id);
    let begun = scope.begin_verification("example.com").await.unwrap();
    let mut rights = test.store.rights();
    let mut told = |what: &str| {
        assert!(rights.has_changed().unwrap(), "{what}");
        rights.mark_unchanged();
    };
    scope.own_domain(&begun).await.unwrap();
    told("a domain changed hands");
    test.map(&account, Host("example.com"), &vm).await.unwrap();
    told("a host was mapped");
    scope.unmap_domain("example.com").await.unwrap();
    told("a host was unmapped");
}
