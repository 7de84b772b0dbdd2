//! Suspends VMs whose network is quiet.
//!
//! Only bytes that cross a VM's network device count, as documented: commands and terminals do not
//! keep a VM awake. A VM is looked at every tenth of its timeout, at least every second and at most
//! every half minute; that is the interval to which the activity threshold applies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freestyle_store::{InstanceId, VmPhase, VmRecord};
use tokio::time::Instant;

use super::{Shared, unix_millis};
use crate::engine::Engine;
use crate::error::VmError;

/// How often it is looked which VMs are due.
const TICK: Duration = Duration::from_secs(1);

/// What is known of the network of one instance.
struct Watched {
    bytes: u64,
    active_at: Instant,
    due: Instant,
}

/// Suspends idle VMs for as long as the server runs.
pub(crate) async fn suspend_idle<E: Engine>(shared: Arc<Shared<E>>) {
    let mut watched = HashMap::new();
    loop {
        tokio::time::sleep(TICK).await;
        if let Err(error) = look(&shared, &mut watched).await {
            tracing::warn!(%error, "looking for idle VMs");
        }
    }
}

async fn look<E: Engine>(
    shared: &Arc<Shared<E>>,
    watched: &mut HashMap<InstanceId, Watched>,
) -> Result<(), VmError> {
    let vms = shared.store.system().live_vms().await?;
    let running = vms.into_iter().filter(|vm| vm.phase == VmPhase::Running);
    let running: HashMap<InstanceId, VmRecord> = running
        .filter_map(|vm| vm.instance.as_ref().map(|run| run.id.clone()).map(|id| (id, vm)))
        .collect();
    watched.retain(|instance, _| running.contains_key(instance));
    shared.activity().retain(|instance, _| running.contains_key(instance));
    for (instance, vm) in running {
        let now = Instant::now();
        if watched.get(&instance).is_some_and(|seen| seen.due > now) {
            continue;
        }
        let Some(bytes) = shared.engine.traffic(&instance).await else { continue };
        let timeout = vm.idle_timeout_seconds.map(Duration::from_secs);
        let interval = timeout.unwrap_or(Duration::MAX) / 10;
        let due = now + interval.clamp(TICK, Duration::from_secs(30));
        let seen = watched.entry(instance.clone());
        let seen = seen.or_insert(Watched { bytes: 0, active_at: now, due });
        seen.due = due;
        let moved = bytes.saturating_sub(seen.bytes);
        seen.bytes = bytes;
        // Something else is being done with the VM: it is in use.
        let is_busy = shared.machine(&vm)?.status().busy.is_some();
        if moved > vm.activity_threshold_bytes.unwrap_or(0) || is_busy {
            seen.active_at = now;
            shared.activity().insert(instance, unix_millis());
            continue;
        }
        if timeout.is_some_and(|timeout| now - seen.active_at >= timeout) {
            seen.active_at = now;
            tracing::info!(vm = %vm.id, "suspending a VM whose network is quiet");
            let shared = shared.clone();
            // Others are due meanwhile.
            tokio::spawn(async move {
                let id = vm.id.clone();
                if let Err(error) = shared.suspend(vm).await {
                    tracing::warn!(vm = %id, %error, "suspending an idle VM");
                }
            });
        }
    }
    Ok(())
}
