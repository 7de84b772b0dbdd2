//! Instances: which run of a VM is the current one, and which slot of the host it has.

use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::ids::{InstanceId, VmId};
use crate::store::SystemScope;
use crate::vm_record::{Instance, VmPhase};
use crate::vms::{live_vm, set_phase};

/// How many instances a node can run at once. A slot is a number below this.
pub const SLOTS: u16 = 1024;

impl SystemScope<'_> {
    /// Gives a VM that has no instance a new one: the lowest free slot and the next generation.
    pub async fn begin_instance(&self, vm: &VmId) -> Result<Instance, StoreError> {
        let mut tx = self.store.begin().await?;
        let instance = begin(&mut tx, vm).await?;
        tx.commit().await?;
        Ok(instance)
    }

    /// Records that a run ended, and the phase that follows from it. False, and nothing changed,
    /// if the VM's current instance is not (or no longer) this one.
    pub async fn end_instance(
        &self,
        vm: &VmId,
        instance: &InstanceId,
        last_exit: &str,
        phase: VmPhase,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        if !end(&mut tx, vm, instance, last_exit).await? {
            return Ok(false);
        }
        set_phase(&mut tx, vm, phase).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// The lowest slot that no live instance of the node has.
pub(crate) async fn free_slot(
    database: &mut SqliteConnection,
    node: &str,
) -> Result<i64, StoreError> {
    // The lowest free one is 0 or follows a taken one.
    let lowest: Option<i64> = sqlx::query_scalar(
        "SELECT min(candidate) FROM (
             SELECT 0 AS candidate
             UNION ALL SELECT slot + 1 FROM vms WHERE node = $1 AND slot IS NOT NULL
         ) AS candidates
         WHERE candidate < $2 AND candidate NOT IN (
             SELECT slot FROM vms WHERE node = $1 AND slot IS NOT NULL)",
    )
    .bind(node)
    .bind(i64::from(SLOTS))
    .fetch_one(database)
    .await?;
    lowest.ok_or(StoreError::NoFreeSlot)
}

pub(crate) async fn begin(
    database: &mut SqliteConnection,
    vm: &VmId,
) -> Result<Instance, StoreError> {
    let record = live_vm(database, vm).await?;
    if let Some(current) = record.instance {
        return Err(StoreError::InstanceExists { vm: vm.clone(), instance: current.id });
    }
    let slot = free_slot(database, &record.node).await?;
    let id = InstanceId::random();
    let generation = sqlx::query_scalar(
        "UPDATE vms SET instance_id = $2, slot = $3, generation = generation + 1
         WHERE id = $1 AND instance_id IS NULL
         RETURNING generation",
    )
    .bind(vm.as_str())
    .bind(id.as_str())
    .bind(slot)
    .fetch_one(database)
    .await?;
    let slot = u16::try_from(slot).map_err(|_| StoreError::NoFreeSlot)?;
    Ok(Instance { id, slot, generation })
}

/// False if the VM's current instance is another or none.
pub(crate) async fn end(
    database: &mut SqliteConnection,
    vm: &VmId,
    instance: &InstanceId,
    last_exit: &str,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(
        "UPDATE vms SET instance_id = NULL, slot = NULL, last_exit = $3
         WHERE id = $1 AND instance_id = $2",
    )
    .bind(vm.as_str())
    .bind(instance.as_str())
    .bind(last_exit)
    .execute(database)
    .await?;
    Ok(ended.rows_affected() == 1)
}
