//! Instances: which run of a VM is the current one, and which slot of the host it has.

use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::ids::{InstanceId, VmId};
use crate::vm_record::VmRecord;

/// How many instances a host can run at once. A slot is a number below this.
///
/// One less than `network` has slots: in its last one `vm` boots the base image to take the
/// snapshot that new VMs are restored from, and that must never wait for, or be, a user's VM.
pub const SLOTS: u16 = 1023;

/// Gives a VM that exists and has no instance a new one, in the lowest free slot. Answers the VM
/// as it then is.
pub(crate) async fn begin(
    database: &mut SqliteConnection,
    vm: &VmId,
) -> Result<VmRecord, StoreError> {
    let slot = free_slot(database).await?;
    let record = sqlx::query_as(
        "UPDATE vms SET instance_id = $2, slot = $3 WHERE id = $1 AND instance_id IS NULL
         RETURNING *",
    )
    .bind(vm.as_str())
    .bind(InstanceId::random().as_str())
    .bind(slot)
    .fetch_one(database)
    .await?;
    Ok(record)
}

/// The lowest slot that no instance has.
pub(crate) async fn free_slot(database: &mut SqliteConnection) -> Result<i64, StoreError> {
    // The lowest free one is 0 or follows a taken one.
    let lowest: Option<i64> = sqlx::query_scalar(
        "SELECT min(candidate) FROM (
             SELECT 0 AS candidate
             UNION ALL SELECT slot + 1 FROM vms WHERE slot IS NOT NULL
         ) AS candidates
         WHERE candidate < $1 AND candidate NOT IN (SELECT slot FROM vms WHERE slot IS NOT NULL)",
    )
    .bind(i64::from(SLOTS))
    .fetch_one(database)
    .await?;
    lowest.ok_or(StoreError::NoFreeSlot)
}
