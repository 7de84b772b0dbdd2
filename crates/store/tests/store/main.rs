//! The store against real database files. One subject per module.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod api_keys;
mod builds;
mod cancellation;
mod dns_records;
mod domains;
mod durability;
mod github;
mod identities;
mod instances;
mod model;
mod operations;
mod pool;
mod repositories;
mod rights;
mod snapshots;
mod suspend;
mod tenancy;
mod triggers;
mod vpcs;

use freestyle_store::{
    Account, NewSnapshot, NewVm, Persistence, Settled, Sizing, SnapshotId, SnapshotPersistence,
    SnapshotPurpose, SnapshotRecord, Store, VmId, VmRecord, VmSettings,
};
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
        scope.insert_vm(&new_vm(), &settings(), "create").await.unwrap().0
    }

    /// A VM of the account with nothing in progress.
    async fn running(&self, account: &Account) -> VmRecord {
        let scope = self.store.account_scope(&account.id);
        let (_, create) = scope.insert_vm(&new_vm(), &settings(), "create").await.unwrap();
        self.store.system().finish_operation(&create.id, Settled::Running).await.unwrap()
    }

    /// A VM that can be claimed.
    async fn ready(&self, vm: NewVm) -> VmRecord {
        let system = self.store.system();
        let (_, provision) = system.insert_pool_vm(&vm, "provision").await.unwrap();
        system.finish_operation(&provision.id, Settled::Ready).await.unwrap()
    }

    /// Has an operation done on a VM with nothing in progress.
    async fn done(&self, vm: &VmId, kind: &str, settled: Settled<'_>) -> VmRecord {
        let system = self.store.system();
        let (_, operation) = system.begin_operation(vm, kind).await.unwrap();
        system.finish_operation(&operation.id, settled).await.unwrap()
    }

    async fn stopped(&self, vm: &VmId, last_exit: &str) -> VmRecord {
        self.done(vm, "stop", Settled::Stopped { last_exit }).await
    }

    /// A VM of the account that stands on its memory, with nothing in progress.
    async fn suspended(&self, account: &Account) -> VmRecord {
        let vm = self.running(account).await;
        let scope = self.store.account_scope(&account.id);
        let snapshot = scope.insert_snapshot(&suspend_snapshot(&vm.id)).await.unwrap();
        self.done(&vm.id, "suspend", Settled::Suspended { snapshot: &snapshot.id }).await
    }

    async fn deleted(&self, vm: &VmId) -> VmRecord {
        self.done(vm, "delete", Settled::Deleted).await
    }

    /// A snapshot that was not deleted, whoever has it and whatever for.
    async fn live_snapshot(&self, id: &SnapshotId) -> Option<SnapshotRecord> {
        let live = self.store.system().live_snapshots().await.unwrap();
        live.into_iter().find(|live| live.id == *id)
    }

    /// A VM that was not deleted, whoever has it.
    async fn live(&self, vm: &VmId) -> Option<VmRecord> {
        let live = self.store.system().live_vms().await.unwrap();
        live.into_iter().find(|live| live.id == *vm)
    }
}

fn new_vm() -> NewVm {
    NewVm { id: VmId::random(), sizing: SIZING, image: IMAGE.to_owned(), origin: None }
}

/// One that its owner keeps, of no VM.
fn kept_snapshot() -> NewSnapshot {
    NewSnapshot {
        id: SnapshotId::random(),
        purpose: SnapshotPurpose::Kept,
        vm_id: None,
        instance_id: None,
        name: Some("web".to_owned()),
        persistence: SnapshotPersistence::Sticky { priority: 5 },
        sizing: SIZING,
        image: IMAGE.to_owned(),
        content: None,
        build_id: None,
    }
}

/// One for this VM to go on with.
fn suspend_snapshot(vm: &VmId) -> NewSnapshot {
    NewSnapshot {
        purpose: SnapshotPurpose::Suspend,
        vm_id: Some(vm.clone()),
        name: None,
        persistence: SnapshotPersistence::Persistent,
        ..kept_snapshot()
    }
}

fn settings() -> VmSettings {
    VmSettings {
        name: Some("web".to_owned()),
        persistence: Persistence::Sticky { priority: 5 },
        idle_timeout_seconds: Some(300),
        activity_threshold_bytes: None,
        recreate: false,
        nic: None,
    }
}
