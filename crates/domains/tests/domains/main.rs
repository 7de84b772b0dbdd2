//! Domains with a real store and a real DNS server, `knotd`.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod knot;
mod mapping;
mod of_vms;
mod proving;
mod records;

use std::net::SocketAddr;

use freestyle_domains::{Config, DomainError, DomainName, Domains, Pattern};
use freestyle_store::{AccountId, NewVm, Persistence, Settled, Sizing, Store, VmId, VmSettings};
use tempfile::TempDir;

/// A domain service on a store of its own.
struct World {
    domains: Domains,
    store: Store,
    _folder: TempDir,
}

impl World {
    async fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self::with(Config { resolvers, ..Config::default() }).await
    }

    /// As configured, with previews and reserved hosts.
    async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let preview_suffixes = vec![name("style.localhost"), name("apps.example.net")];
        let domains = Domains::new(
            store.clone(),
            Config {
                preview_suffixes,
                reserved: vec![name("api.style.localhost"), name("git.example.com")],
                ..config
            },
        );
        Self { domains, store, _folder: folder }
    }

    async fn account(&self) -> AccountId {
        self.store.system().create_account("test").await.unwrap().id
    }

    async fn vm(&self, account: &AccountId) -> VmId {
        let vm = NewVm {
            id: VmId::random(),
            sizing: Sizing { vcpus: 1, memory_mib: 512, disk_mib: 4096 },
            image: "image".to_owned(),
            origin: None,
        };
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
            nic: None,
        };
        let scope = self.store.account_scope(account);
        let (vm, create) = scope.insert_vm(&vm, &settings, "create").await.unwrap();
        let stopped = Settled::Stopped { last_exit: "shut down" };
        self.store.system().finish_operation(&create.id, stopped).await.unwrap();
        vm.id
    }

    async fn delete(&self, vm: &VmId) {
        let (_, delete) = self.store.system().begin_operation(vm, "delete").await.unwrap();
        self.store.system().finish_operation(&delete.id, Settled::Deleted).await.unwrap();
    }

    async fn leads_to(&self, host: &str) -> Option<VmId> {
        self.domains.route(host).await.unwrap().map(|route| route.vm_id.clone())
    }

    async fn map(&self, account: &AccountId, domain: &str, vm: &VmId) -> Result<(), DomainError> {
        self.domains.map(account, &pattern(domain), vm, 3000).await.map(drop)
    }
}

fn name(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}
