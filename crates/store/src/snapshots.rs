//! Snapshots: who sees them, how they come to be, and how they end.
//!
//! An account sees those it keeps. Those that a suspended VM or a fork stands on are the server's
//! own: to an account's queries they do not exist.

use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::ids::{AccountId, BuildId, InstanceId, SnapshotId, VmId};
use crate::rows::{integer, json};
use crate::snapshot_record::{NewSnapshot, SnapshotPurpose, SnapshotRecord, SnapshotState};
use crate::store::{AccountScope, SystemScope, now};

/// How the making of a snapshot ended, or the snapshot itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotEnd<'a> {
    /// All of it is on disk.
    Ready {
        /// Bytes that its memory takes.
        memory_bytes: u64,
        /// Bytes that its own disk layer takes.
        disk_bytes: u64,
    },
    /// It could not be taken or built.
    Failed {
        /// Why, in words.
        reason: &'a str,
    },
    /// Its making was given up.
    Cancelled,
    /// Its files are missing or damaged.
    Lost {
        /// What is wrong with them, in words.
        reason: &'a str,
    },
    /// No VM is made from it any more.
    Deleted,
}

impl AccountScope<'_> {
    /// A snapshot this account keeps or kept: a deleted one is answered too, so that a caller can
    /// tell its owner what became of it. `None` if it never existed, is someone else's or the
    /// server's own.
    pub async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotRecord>, StoreError> {
        let snapshot = sqlx::query_as(
            "SELECT * FROM snapshots WHERE id = $1 AND account_id = $2 AND purpose = 'kept'",
        )
        .bind(id.as_str())
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(snapshot)
    }

    /// The snapshots this account keeps, newest first. The deleted ones are all that ever were.
    pub async fn snapshots(
        &self,
        include_deleted: bool,
    ) -> Result<Vec<SnapshotRecord>, StoreError> {
        let snapshots = sqlx::query_as(
            "SELECT * FROM snapshots
             WHERE account_id = $1 AND purpose = 'kept' AND (deleted_at IS NULL OR $2)
             ORDER BY created_at DESC, id DESC",
        )
        .bind(self.account.as_str())
        .bind(include_deleted)
        .fetch_all(self.store.readers())
        .await?;
        Ok(snapshots)
    }

    /// The newest snapshot this account keeps that was built from a spec of this hash and is
    /// ready or will be.
    pub async fn snapshot_by_content(
        &self,
        content: &str,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let snapshot = sqlx::query_as(
            "SELECT * FROM snapshots
             WHERE account_id = $1 AND content = $2 AND purpose = 'kept'
                 AND state IN ('building', 'ready') AND deleted_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT 1",
        )
        .bind(self.account.as_str())
        .bind(content)
        .fetch_optional(self.store.readers())
        .await?;
        Ok(snapshot)
    }

    /// Records a snapshot that is about to be made for this account, in state Building.
    /// [`StoreError::NoSuchVm`] if its VM is not one of this account or was deleted.
    pub async fn insert_snapshot(&self, new: &NewSnapshot) -> Result<SnapshotRecord, StoreError> {
        let vm = new.vm_id.as_ref();
        let inserted: Option<SnapshotRecord> = sqlx::query_as(
            "INSERT INTO snapshots (id, account_id, purpose, vm_id, instance_id, name, state,
                 persistence, vcpus, memory_mib, disk_mib, image, content, build_id, created_at,
                 last_used_at)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15
             WHERE $4 IS NULL OR $4 IN (
                 SELECT id FROM vms WHERE id = $4 AND account_id = $2 AND deleted_at IS NULL)
             RETURNING *",
        )
        .bind(new.id.as_str())
        .bind(self.account.as_str())
        .bind(new.purpose.as_str())
        .bind(vm.map(VmId::as_str))
        .bind(new.instance_id.as_ref().map(InstanceId::as_str))
        .bind(&new.name)
        .bind(SnapshotState::Building.as_str())
        .bind(json(&new.persistence)?)
        .bind(i64::from(new.sizing.vcpus))
        .bind(integer(new.sizing.memory_mib)?)
        .bind(integer(new.sizing.disk_mib)?)
        .bind(&new.image)
        .bind(&new.content)
        .bind(new.build_id.as_ref().map(BuildId::as_str))
        .bind(now())
        .fetch_optional(self.store.writer())
        .await?;
        match (inserted, vm) {
            (Some(inserted), _) => Ok(inserted),
            (None, Some(vm)) => Err(StoreError::NoSuchVm(vm.clone())),
            (None, None) => Err(StoreError::Database("nothing was inserted".to_owned())),
        }
    }

    /// Replaces the label of a snapshot that this account keeps. `None` if there is no such one
    /// that was not deleted.
    pub async fn rename_snapshot(
        &self,
        id: &SnapshotId,
        name: Option<&str>,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let renamed = sqlx::query_as(
            "UPDATE snapshots SET name = $3
             WHERE id = $1 AND account_id = $2 AND purpose = 'kept' AND deleted_at IS NULL
             RETURNING *",
        )
        .bind(id.as_str())
        .bind(self.account.as_str())
        .bind(name)
        .fetch_optional(self.store.writer())
        .await?;
        Ok(renamed)
    }

    /// Records that this account gave up a snapshot it kept, in whatever state; one that is being
    /// made is thereby cancelled. The row remains. `None` if there is no such one that was not
    /// deleted.
    pub async fn delete_snapshot(
        &self,
        id: &SnapshotId,
    ) -> Result<Option<SnapshotRecord>, StoreError> {
        let mut tx = self.store.begin().await?;
        let kept: Option<SnapshotRecord> = sqlx::query_as(
            "SELECT * FROM snapshots
             WHERE id = $1 AND account_id = $2 AND purpose = 'kept' AND deleted_at IS NULL",
        )
        .bind(id.as_str())
        .bind(self.account.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if kept.is_none() {
            return Ok(None);
        }
        mark_deleted(&mut tx, id).await?;
        let deleted = snapshot(&mut tx, id).await?;
        tx.commit().await?;
        Ok(Some(deleted))
    }

    /// Records that a snapshot of this account is in use now; of one that was deleted, nothing.
    pub async fn touch_snapshot(&self, id: &SnapshotId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE snapshots SET last_used_at = $3
             WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL",
        )
        .bind(id.as_str())
        .bind(self.account.as_str())
        .bind(now())
        .execute(self.store.writer())
        .await?;
        Ok(())
    }
}

impl SystemScope<'_> {
    /// Every snapshot that was not deleted, of all accounts and for all purposes, oldest first.
    pub async fn live_snapshots(&self) -> Result<Vec<SnapshotRecord>, StoreError> {
        let snapshots = sqlx::query_as(
            "SELECT * FROM snapshots WHERE deleted_at IS NULL ORDER BY created_at, id",
        )
        .fetch_all(self.store.readers())
        .await?;
        Ok(snapshots)
    }

    /// Records how a snapshot, or its making, ended, and answers the snapshot as it then is. What
    /// no longer applies changes nothing: one that was deleted stays as it is, only one in state
    /// Building fails or is cancelled, and only one in state Building or Ready becomes ready (with
    /// these sizes) or lost. What a suspended VM stands on goes with that VM's phase
    /// ([`crate::Settled`]) and is not deleted here.
    pub async fn finish_snapshot(
        &self,
        id: &SnapshotId,
        end: SnapshotEnd<'_>,
    ) -> Result<SnapshotRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        match end {
            SnapshotEnd::Ready { memory_bytes, disk_bytes } => {
                set_ready(&mut tx, id, memory_bytes, disk_bytes).await?;
            }
            SnapshotEnd::Failed { reason } => {
                set_ended(&mut tx, id, SnapshotState::Failed, Some(reason)).await?;
            }
            SnapshotEnd::Cancelled => {
                set_ended(&mut tx, id, SnapshotState::Cancelled, None).await?;
            }
            SnapshotEnd::Lost { reason } => {
                set_ended(&mut tx, id, SnapshotState::Lost, Some(reason)).await?;
            }
            SnapshotEnd::Deleted => delete_unless_stood_on(&mut tx, id).await?,
        }
        let snapshot = snapshot(&mut tx, id).await?;
        tx.commit().await?;
        Ok(snapshot)
    }
}

/// Records that a VM is being made from a snapshot, which must be one of its account that is ready
/// or will be, so that none is made from a snapshot that was deleted meanwhile.
pub(crate) async fn begin_use(
    database: &mut SqliteConnection,
    id: &SnapshotId,
    account: Option<&AccountId>,
) -> Result<(), StoreError> {
    let used = sqlx::query(
        "UPDATE snapshots SET last_used_at = $3
         WHERE id = $1 AND account_id = $2 AND state IN ('building', 'ready')
             AND deleted_at IS NULL",
    )
    .bind(id.as_str())
    .bind(account.map(AccountId::as_str))
    .bind(now())
    .execute(database)
    .await?;
    exactly_one(used.rows_affected(), id)
}

/// Records that a VM now stands on a snapshot that was taken to suspend it: the snapshot is ready.
pub(crate) async fn stand_on(
    database: &mut SqliteConnection,
    id: &SnapshotId,
    vm: &VmId,
) -> Result<(), StoreError> {
    let stood_on = sqlx::query(
        "UPDATE snapshots SET state = $3
         WHERE id = $1 AND vm_id = $2 AND purpose = $4 AND state IN ('building', 'ready')
             AND deleted_at IS NULL",
    )
    .bind(id.as_str())
    .bind(vm.as_str())
    .bind(SnapshotState::Ready.as_str())
    .bind(SnapshotPurpose::Suspend.as_str())
    .execute(database)
    .await?;
    exactly_one(stood_on.rows_affected(), id)
}

/// A snapshot that was not deleted is now; its making, if it was not over, was given up.
pub(crate) async fn mark_deleted(
    database: &mut SqliteConnection,
    id: &SnapshotId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE snapshots SET deleted_at = $2,
             state = CASE state WHEN 'building' THEN 'cancelled' ELSE state END
         WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id.as_str())
    .bind(now())
    .execute(database)
    .await?;
    Ok(())
}

async fn delete_unless_stood_on(
    database: &mut SqliteConnection,
    id: &SnapshotId,
) -> Result<(), StoreError> {
    let stood_on: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM vms WHERE suspended = $1)")
            .bind(id.as_str())
            .fetch_one(&mut *database)
            .await?;
    if stood_on {
        return Ok(());
    }
    mark_deleted(database, id).await
}

async fn set_ready(
    database: &mut SqliteConnection,
    id: &SnapshotId,
    memory_bytes: u64,
    disk_bytes: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE snapshots SET state = $2, memory_bytes = $3, disk_bytes = $4
         WHERE id = $1 AND state IN ('building', 'ready') AND deleted_at IS NULL",
    )
    .bind(id.as_str())
    .bind(SnapshotState::Ready.as_str())
    .bind(integer(memory_bytes)?)
    .bind(integer(disk_bytes)?)
    .execute(database)
    .await?;
    Ok(())
}

/// To a state that is no use to anyone. Only being lost can befall a snapshot that was ready.
async fn set_ended(
    database: &mut SqliteConnection,
    id: &SnapshotId,
    state: SnapshotState,
    failure: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE snapshots SET state = $2, failure = $3
         WHERE id = $1 AND deleted_at IS NULL
             AND (state = 'building' OR (state = 'ready' AND $2 = 'lost'))",
    )
    .bind(id.as_str())
    .bind(state.as_str())
    .bind(failure)
    .execute(database)
    .await?;
    Ok(())
}

/// Of any account and purpose, deleted or not.
async fn snapshot(
    database: &mut SqliteConnection,
    id: &SnapshotId,
) -> Result<SnapshotRecord, StoreError> {
    sqlx::query_as("SELECT * FROM snapshots WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(database)
        .await?
        .ok_or_else(|| StoreError::NoSuchSnapshot(id.clone()))
}

fn exactly_one(rows: u64, id: &SnapshotId) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::NoSuchSnapshot(id.clone())) }
}
