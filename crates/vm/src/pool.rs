//! VMs kept ready, so that a create need not wait for a process to start.
//!
//! The pool holds restored, warmed and paused VMs of the default size that belong to nobody. A
//! paused one uses no CPU and as much memory as an idle VM. The pool is bounded by its size and is
//! filled one VM at a time, a moment after the last create, so that filling it does not compete
//! with the VM that was just handed over.

use std::sync::Arc;
use std::time::Duration;

use freestyle_store::{NewVm, VmId, VmPhase};

use crate::engine::Engine;
use crate::error::VmError;
use crate::model::DEFAULT_SIZING;
use crate::operation::{Begun, Operation};
use crate::service::Shared;

/// How eagerly the pool is filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long creates must have been quiet before the pool is filled.
    pub(crate) quiet: Duration,
    /// Pause after a failure, so that a host that cannot make VMs is not kept busy trying.
    pub(crate) retry: Duration,
}

const PACE: Pace = Pace { quiet: Duration::from_millis(400), retry: Duration::from_secs(10) };

/// Keeps `size` VMs ready, for as long as the server runs.
pub(crate) async fn keep_filled<E: Engine>(shared: Arc<Shared<E>>, size: usize) {
    keep_filled_at(PACE, shared, size).await;
}

/// As [`keep_filled`], at another pace.
pub(crate) async fn keep_filled_at<E: Engine>(pace: Pace, shared: Arc<Shared<E>>, size: usize) {
    loop {
        match fill(pace, &shared, size).await {
            Ok(()) => shared.pool_changed.notified().await,
            Err(error) => {
                tracing::warn!(%error, "filling the pool of ready VMs");
                tokio::time::sleep(pace.retry).await;
            }
        }
    }
}

async fn fill<E: Engine>(pace: Pace, shared: &Arc<Shared<E>>, size: usize) -> Result<(), VmError> {
    loop {
        // Every claim starts the quiet time anew.
        while tokio::time::timeout(pace.quiet, shared.pool_changed.notified()).await.is_ok() {}
        let vms = shared.store.system().live_vms().await?;
        let ready = vms.iter().filter(|vm| vm.phase == VmPhase::Ready).count();
        if ready >= size {
            return Ok(());
        }
        provision(shared).await?;
    }
}

/// Adds one VM to the pool.
pub(crate) async fn provision<E: Engine>(shared: &Arc<Shared<E>>) -> Result<(), VmError> {
    let operation = Operation::Provision;
    let vm = NewVm {
        id: VmId::random(),
        sizing: DEFAULT_SIZING,
        image: shared.engine.image().to_owned(),
        origin: None,
    };
    let (record, row) = shared.store.system().insert_pool_vm(&vm, &operation.to_string()).await?;
    let begun = Begun { id: row.id, operation };
    shared.machine(&record)?.run_begun(record, begun, None).await.map(drop)
}
