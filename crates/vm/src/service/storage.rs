//! Keeps storage small: removes files that nothing needs any more, shortens long chains of layers,
//! and evicts what may be evicted when the budget is exceeded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use freestyle_store::{
    AccountId, Persistence, SnapshotEnd, SnapshotId, SnapshotPersistence, SnapshotPurpose,
    SnapshotState, VmId, VmPhase, VmRecord,
};

use super::{Service, Shared};
use crate::engine::{Engine, SnapshotUse};
use crate::error::VmError;
use crate::model::{StorageItem, StorageKind, StorageReport};
use crate::operation::Operation;

/// Several deletions in a row are one sweep.
const CALM: Duration = Duration::from_millis(200);

/// Layers that a disk may stand on before they are copied into it.
const MAX_LAYERS: usize = 10;
/// How often it is looked whether the budget is kept when nothing was deleted.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps storage small for as long as the server runs. `budget` is what sticky VMs and snapshots
/// may make the data directory grow to, in bytes.
pub(crate) async fn keep_small<E: Engine>(shared: Arc<Shared<E>>, budget: Option<u64>) {
    loop {
        let _ = tokio::time::timeout(LOOK, shared.garbage.notified()).await;
        tokio::time::sleep(CALM).await;
        let tidied = async {
            shared.sweep().await?;
            if let Some(budget) = budget {
                shared.evict(budget).await?;
            }
            shared.flatten().await
        };
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "keeping the data directory small");
        }
    }
}

/// Something that may be evicted.
enum Sticky {
    Vm(Box<VmRecord>),
    Snapshot(SnapshotId),
}

impl<E: Engine> Shared<E> {
    /// Removes the files that no VM and no snapshot needs.
    pub(crate) async fn sweep(&self) -> Result<(), VmError> {
        let live = async {
            let system = self.store.system();
            let snapshots = system.live_snapshots().await?.into_iter();
            let never_made = [SnapshotState::Failed, SnapshotState::Cancelled];
            let snapshots = snapshots.filter(|snapshot| !never_made.contains(&snapshot.state));
            // One that was deleted while VMs are being made from it goes when they are there.
            let vms = system.live_vms().await?;
            let creating = vms.into_iter().filter(|vm| vm.phase == VmPhase::Creating);
            let snapshots = snapshots.map(|snapshot| snapshot.id);
            Ok(snapshots.chain(creating.filter_map(|vm| vm.origin)).collect::<HashSet<_>>())
        };
        self.engine.sweep(live).await
    }

    /// Deletes sticky VMs that do not run and sticky snapshots until the budget is kept: the lowest
    /// priority first, of equal ones the one that was not used for longest.
    async fn evict(self: &Arc<Self>, budget: u64) -> Result<(), VmError> {
        let mut total = self.engine.storage_use().await?.total;
        if total <= budget {
            return Ok(());
        }
        let system = self.store.system();
        let mut sticky: Vec<(u8, i64, Sticky)> = Vec::new();
        for vm in system.live_vms().await? {
            let rests = matches!(vm.phase, VmPhase::Stopped | VmPhase::Suspended);
            if let (Persistence::Sticky { priority }, true) = (vm.persistence, rests) {
                sticky.push((priority, vm.created_at, Sticky::Vm(Box::new(vm))));
            }
        }
        for snapshot in system.live_snapshots().await? {
            let rests =
                snapshot.purpose == SnapshotPurpose::Kept && snapshot.state == SnapshotState::Ready;
            if let (SnapshotPersistence::Sticky { priority }, true) = (snapshot.persistence, rests)
            {
                sticky.push((priority, snapshot.last_used_at, Sticky::Snapshot(snapshot.id)));
            }
        }
        sticky.sort_by_key(|(priority, used, _)| (*priority, *used));
        for (priority, _, what) in sticky {
            if total <= budget {
                break;
            }
            match what {
                Sticky::Vm(vm) => {
                    tracing::warn!(vm = %vm.id, priority, total, budget, "evicting a sticky VM");
                    self.machine(&vm)?.run(Operation::Delete).await?;
                }
                Sticky::Snapshot(id) => {
                    tracing::warn!(snapshot = %id, priority, total, budget, "evicting a sticky snapshot");
                    system.finish_snapshot(&id, SnapshotEnd::Deleted).await?;
                }
            }
            self.sweep().await?;
            total = self.engine.storage_use().await?.total;
        }
        if total > budget {
            tracing::warn!(
                total,
                budget,
                "over the disk budget, and nothing sticky is left to evict"
            );
        }
        Ok(())
    }

    /// Shortens the chains that have become long.
    async fn flatten(self: &Arc<Self>) -> Result<(), VmError> {
        for vm in self.store.system().live_vms().await? {
            if vm.phase == VmPhase::Running && self.engine.disk_layers(&vm.id).await > MAX_LAYERS {
                tracing::info!(vm = %vm.id, "copying the layers of a disk into it");
                match self.machine(&vm)?.run(Operation::Flatten).await {
                    // Whatever was asked of it is more urgent.
                    Ok(_) | Err(VmError::Interrupted(_)) => {}
                    Err(error) => tracing::warn!(vm = %vm.id, %error, "shortening a disk's chain"),
                }
            }
        }
        Ok(())
    }
}

impl<E: Engine> Service<E> {
    /// Shortens the chain of layers below the VM's disk. Answers what came of it, in words.
    pub async fn optimize(&self, account: &AccountId, vm: &VmId) -> Result<String, VmError> {
        let record = self.record(account, vm).await?;
        if record.phase != VmPhase::Running {
            return Ok("the VM does not run; its disk is optimized while it does".to_owned());
        }
        let before = self.shared.engine.disk_layers(vm).await;
        self.shared.machine(&record)?.run(Operation::Flatten).await?;
        let after = self.shared.engine.disk_layers(vm).await;
        self.shared.garbage.notify_one();
        Ok(format!("the disk stands on {after} layers; it stood on {before}"))
    }

    /// What takes space on the host's disk, and whose it is. For the operator.
    pub async fn storage(&self) -> Result<StorageReport, VmError> {
        let used = self.shared.engine.storage_use().await?;
        let system = self.shared.store.system();
        let vms = system.live_vms().await?;
        let snapshots = system.live_snapshots().await?;
        let mut items = Vec::new();
        for (id, bytes) in used.vms {
            let row = vms.iter().find(|vm| vm.id == id);
            items.push(StorageItem {
                kind: StorageKind::Vm,
                account: row.and_then(|vm| vm.account_id.clone()),
                name: row.and_then(|vm| vm.name.clone()),
                id: id.into(),
                memory: 0,
                disk: bytes,
                users: 0,
            });
        }
        for SnapshotUse { id, size, users } in used.snapshots {
            let row = snapshots.iter().find(|snapshot| snapshot.id.as_str() == id);
            let kind = match row.map(|snapshot| snapshot.purpose) {
                Some(SnapshotPurpose::Kept) => StorageKind::Snapshot,
                Some(SnapshotPurpose::Suspend) => StorageKind::SuspendedMemory,
                Some(SnapshotPurpose::Fork) => StorageKind::SharedLayer,
                None if id.parse::<SnapshotId>().is_ok() => StorageKind::SharedLayer,
                None => StorageKind::BaseImage,
            };
            items.push(StorageItem {
                kind,
                account: row.map(|snapshot| snapshot.account_id.clone()),
                name: row.and_then(|snapshot| snapshot.name.clone()),
                id,
                memory: size.memory,
                disk: size.disk,
                users,
            });
        }
        let (total, free, cache) = (used.total, used.free, used.cache);
        Ok(StorageReport { total, free, cache, items })
    }
}
