//! The store against real database files. One subject per module.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod api_keys;
mod cancellation;
mod durability;
mod instances;
mod model;
mod operations;
mod pool;
mod tenancy;

use freestyle_store::{
    Account, NewOperation, NewVm, Persistence, Sizing, Store, VmChange, VmId, VmPhase, VmRecord,
    VmSettings,
};
use serde_json::Value;
use tempfile::TempDir;

const SIZING: Sizing = Sizing { vcpus: 2, memory_mib: 1024, disk_mib: 4096 };
const IMAGE: &str = "image-a";

/// A store in a folder of its own, which goes with it.
struct TestStore {
    store: Store,
    folder: TempDir,
}

impl TestStore {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        Self { store, folder }
    }

    /// As after a restart of the server.
    async fn reopened(self) -> Self {
        self.store.close().await;
        let store = Store::open(&self.folder.path().join("store.db")).await.unwrap();
        Self { store, folder: self.folder }
    }

    async fn account(&self) -> Account {
        self.store.system().create_account("someone").await.unwrap()
    }

    /// A VM of the account that is being created.
    async fn creating(&self, account: &Account) -> VmRecord {
        let scope = self.store.account_scope(&account.id);
        scope.insert_vm(&new_vm(), &settings(), operation("create")).await.unwrap().0
    }

    /// A VM of the account with nothing in progress.
    async fn running(&self, account: &Account) -> VmRecord {
        let scope = self.store.account_scope(&account.id);
        let (_, create) =
            scope.insert_vm(&new_vm(), &settings(), operation("create")).await.unwrap();
        let done = VmChange::phase(VmPhase::Running);
        self.store.system().finish_operation(&create.id, &done).await.unwrap()
    }

    /// A VM that can be claimed.
    async fn ready(&self, vm: NewVm) -> VmRecord {
        let system = self.store.system();
        let (_, create) = system.insert_pool_vm(&vm, operation("create")).await.unwrap();
        let done = VmChange::phase(VmPhase::Ready);
        system.finish_operation(&create.id, &done).await.unwrap()
    }
}

fn new_vm() -> NewVm {
    NewVm { id: VmId::random(), sizing: SIZING, image: IMAGE.to_owned() }
}

fn settings() -> VmSettings {
    VmSettings {
        name: Some("web".to_owned()),
        persistence: Persistence::Sticky { priority: 5 },
        idle_timeout_seconds: Some(300),
        activity_threshold_bytes: None,
        recreate: false,
    }
}

fn operation(kind: &str) -> NewOperation<'_> {
    NewOperation { kind, params: &Value::Null }
}
