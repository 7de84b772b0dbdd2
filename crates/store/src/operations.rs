//! Long operations on VMs: what is in progress, and how far it has come.
//!
//! An operation is a list of steps that can be repeated and undone; `vm` knows them. Here is only
//! the record from which a restarted server goes on: which operation, in which direction, and the
//! next step. A finished operation is removed, so that one row per VM means one at a time.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{OperationId, VmId};
use crate::rows::{decoded, json, number, parsed, word};
use crate::store::{SystemScope, now};
use crate::vm_record::VmRecord;
use crate::vms::{self, VmChange};

/// Which way an operation goes through its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Doing them.
    Forward,
    /// Undoing those that were done.
    Undo,
}

impl Direction {
    const ALL: [Self; 2] = [Self::Forward, Self::Undo];

    /// As stored.
    fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Undo => "undo",
        }
    }
}

/// An operation that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewOperation<'a> {
    /// Which list of steps.
    pub kind: &'a str,
    /// What the steps need to know and cannot derive.
    pub params: &'a serde_json::Value,
}

/// An operation that is not finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Identifier.
    pub id: OperationId,
    /// Its VM, which has no other.
    pub vm_id: VmId,
    /// Which list of steps.
    pub kind: String,
    /// Which way it goes.
    pub direction: Direction,
    /// The step to do, or to undo, next. It may have been carried out before a crash.
    pub next_step: u32,
    /// As given at its beginning.
    pub params: serde_json::Value,
    /// Unix milliseconds.
    pub started_at: i64,
}

impl FromRow<'_, SqliteRow> for Operation {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let params: &str = row.try_get("params")?;
        Ok(Self {
            id: parsed(row, "id")?,
            vm_id: parsed(row, "vm_id")?,
            kind: row.try_get("kind")?,
            direction: word(row, "direction", &Direction::ALL, Direction::as_str)?,
            next_step: number(row, "next_step")?,
            params: decoded("params", serde_json::from_str(params))?,
            started_at: row.try_get("started_at")?,
        })
    }
}

impl SystemScope<'_> {
    /// Begins an operation on a VM that has none, and changes the VM in the same transaction.
    /// [`StoreError::OperationInProgress`] names the one that is in the way.
    pub async fn begin_operation(
        &self,
        vm: &VmId,
        operation: NewOperation<'_>,
        change: &VmChange,
    ) -> Result<(VmRecord, Operation), StoreError> {
        let mut tx = self.store.begin().await?;
        vms::live_vm(&mut tx, vm).await?;
        let operation = begin(&mut tx, vm, operation).await?;
        let record = vms::change(&mut tx, vm, change).await?;
        tx.commit().await?;
        Ok((record, operation))
    }

    /// Records how far an operation has come: everything before `next_step` need not be looked at
    /// again.
    pub async fn advance_operation(
        &self,
        id: &OperationId,
        direction: Direction,
        next_step: u32,
    ) -> Result<(), StoreError> {
        let advanced =
            sqlx::query("UPDATE operations SET direction = $2, next_step = $3 WHERE id = $1")
                .bind(id.as_str())
                .bind(direction.as_str())
                .bind(i64::from(next_step))
                .execute(self.store.writer())
                .await?;
        if advanced.rows_affected() == 0 {
            return Err(StoreError::NoSuchOperation(id.clone()));
        }
        Ok(())
    }

    /// Ends an operation, whichever way it went, and changes its VM in the same transaction.
    /// Answers the VM as it then is.
    pub async fn finish_operation(
        &self,
        id: &OperationId,
        change: &VmChange,
    ) -> Result<VmRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        let finished: Option<Operation> =
            sqlx::query_as("DELETE FROM operations WHERE id = $1 RETURNING *")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let finished = finished.ok_or_else(|| StoreError::NoSuchOperation(id.clone()))?;
        let record = vms::change(&mut tx, &finished.vm_id, change).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// What a server that starts has to go on with or undo, oldest first.
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
    operation: NewOperation<'_>,
) -> Result<Operation, StoreError> {
    let begun: Option<Operation> = sqlx::query_as(
        "INSERT INTO operations (id, vm_id, kind, direction, next_step, params, started_at)
         VALUES ($1, $2, $3, $4, 0, $5, $6)
         ON CONFLICT (vm_id) DO NOTHING
         RETURNING *",
    )
    .bind(OperationId::random().as_str())
    .bind(vm.as_str())
    .bind(operation.kind)
    .bind(Direction::Forward.as_str())
    .bind(json(operation.params)?)
    .bind(now())
    .fetch_optional(&mut *database)
    .await?;
    if let Some(begun) = begun {
        return Ok(begun);
    }
    let current: String = sqlx::query_scalar("SELECT id FROM operations WHERE vm_id = $1")
        .bind(vm.as_str())
        .fetch_one(database)
        .await?;
    let current = current.parse().map_err(|error: crate::ParseIdError| {
        StoreError::Database(format!("operation {current:?}: {error}"))
    })?;
    Err(StoreError::OperationInProgress(current))
}

/// Drops the operation of a VM that is gone.
pub(crate) async fn remove_of_vm(
    database: &mut SqliteConnection,
    vm: &VmId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM operations WHERE vm_id = $1")
        .bind(vm.as_str())
        .execute(database)
        .await?;
    Ok(())
}
