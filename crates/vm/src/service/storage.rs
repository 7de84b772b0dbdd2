//! Keeps storage small: removes files that nothing needs any more.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use freestyle_store::{SnapshotState, VmPhase};

use super::Shared;
use crate::engine::Engine;
use crate::error::VmError;

/// Several deletions in a row are one sweep.
const CALM: Duration = Duration::from_millis(200);

/// Sweeps whenever something was deleted, for as long as the server runs.
pub(crate) async fn keep_swept<E: Engine>(shared: Arc<Shared<E>>) {
    loop {
        shared.garbage.notified().await;
        tokio::time::sleep(CALM).await;
        if let Err(error) = shared.sweep().await {
            tracing::warn!(%error, "removing files that are not needed any more");
        }
    }
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
}
