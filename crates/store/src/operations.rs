//! Long operations on VMs: what is in progress.
//!
//! What an operation does is `vm`'s matter. Here is only the record from which a restarted server
//! knows that one was begun and not finished. A finished operation is removed, so that one row per
//! VM means one at a time.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{OperationId, VmId};
use crate::instances;
use crate::rows::parsed;
use crate::store::{SystemScope, now};
use crate::vm_record::VmRecord;
use crate::vms::{self, Settled};

/// An operation that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Identifier.
    pub id: OperationId,
    /// Its VM, which has no other.
    pub vm_id: VmId,
    /// Which operation, in the words of whoever began it.
    pub kind: String,
    /// Unix milliseconds.
    pub started_at: i64,
}

impl FromRow<'_, SqliteRow> for Operation {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            vm_id: parsed(row, "vm_id")?,
            kind: row.try_get("kind")?,
            started_at: row.try_get("started_at")?,
        })
    }
}

impl SystemScope<'_> {
    /// Begins an operation on a VM that has none. [`StoreError::OperationInProgress`] names the one
    /// that is in the way. Answers the VM as it is now.
    pub async fn begin_operation(
        &self,
        vm: &VmId,
        kind: &str,
    ) -> Result<(VmRecord, Operation), StoreError> {
        let mut tx = self.store.begin().await?;
        let record = vms::live_vm(&mut tx, vm).await?;
        let operation = begin(&mut tx, vm, kind).await?;
        tx.commit().await?;
        Ok((record, operation))
    }

    /// Like [`SystemScope::begin_operation`], for an operation that needs an instance: a VM that
    /// has none gets a new one in the same transaction.
    pub async fn begin_operation_with_instance(
        &self,
        vm: &VmId,
        kind: &str,
    ) -> Result<(VmRecord, Operation), StoreError> {
        let mut tx = self.store.begin().await?;
        let record = vms::live_vm(&mut tx, vm).await?;
        let operation = begin(&mut tx, vm, kind).await?;
        let record = match record.instance {
            Some(_) => record,
            None => instances::begin(&mut tx, vm).await?,
        };
        tx.commit().await?;
        Ok((record, operation))
    }

    /// Ends an operation and records, in the same transaction, how it leaves its VM. Answers the VM
    /// as it then is.
    pub async fn finish_operation(
        &self,
        id: &OperationId,
        settled: Settled<'_>,
    ) -> Result<VmRecord, StoreError> {
        let _ending = (settled == Settled::Deleted).then(|| self.store.ending_rights());
        let mut tx = self.store.begin().await?;
        let finished: Option<Operation> =
            sqlx::query_as("DELETE FROM operations WHERE id = $1 RETURNING *")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let finished = finished.ok_or_else(|| StoreError::NoSuchOperation(id.clone()))?;
        let record = vms::settle(&mut tx, &finished.vm_id, settled).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// What a server before this one began and did not finish, oldest first.
    pub async fn unfinished_operations(&self) -> Result<Vec<Operation>, StoreError> {
        let operations = sqlx::query_as("SELECT * FROM operations ORDER BY started_at, id")
            .fetch_all(self.store.readers())
            .await?;
        Ok(operations)
    }
}

/// The VM must exist.
pub(crate) async fn begin(
    database: &mut SqliteConnection,
    vm: &VmId,
    kind: &str,
) -> Result<Operation, StoreError> {
    let begun: Option<Operation> = sqlx::query_as(
        "INSERT INTO operations (id, vm_id, kind, started_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (vm_id) DO NOTHING
         RETURNING *",
    )
    .bind(OperationId::random().as_str())
    .bind(vm.as_str())
    .bind(kind)
    .bind(now())
    .fetch_optional(&mut *database)
    .await?;
    if let Some(begun) = begun {
        return Ok(begun);
    }
    let current: Operation = sqlx::query_as("SELECT * FROM operations WHERE vm_id = $1")
        .bind(vm.as_str())
        .fetch_one(database)
        .await?;
    Err(StoreError::OperationInProgress(current.id))
}
