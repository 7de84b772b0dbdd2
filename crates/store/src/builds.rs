//! Builds: how far the making of a snapshot or VM from a spec has come, for its owner to watch.
//!
//! What a phase does is not known here. What a build makes has its own row, whose state decides;
//! a build only tells the story.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{AccountId, BuildId, BuildPhaseId, SnapshotId, VmId};
use crate::rows::{decoded, json, parsed, parsed_optional, word};
use crate::store::{AccountScope, SystemScope, now};

/// Where a build is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuildState {
    /// At work.
    Running,
    /// Every phase was done.
    Succeeded,
    /// Given up.
    Failed,
}

impl BuildState {
    const ALL: [Self; 3] = [Self::Running, Self::Succeeded, Self::Failed];

    /// As stored.
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A phase of a build that was begun. It ends when the next one begins or the build is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPhase {
    /// Identifier.
    pub id: BuildPhaseId,
    /// One of [`BuildRecord::planned_phases`].
    pub name: String,
    /// What can be started to look into the state after this phase.
    pub snapshot_id: Option<SnapshotId>,
    /// Unix milliseconds.
    pub started_at: i64,
}

/// What is remembered about a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Identifier.
    pub id: BuildId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The snapshot it makes, if it makes one.
    pub snapshot_id: Option<SnapshotId>,
    /// The VM it makes, if it makes one.
    pub vm_id: Option<VmId>,
    /// Hash of the spec.
    pub content: Option<String>,
    /// Names of all its phases, in order.
    pub planned_phases: Vec<String>,
    /// Those it has begun, in order.
    pub phases: Vec<BuildPhase>,
    /// Where it is in its life.
    pub state: BuildState,
    /// Why it failed, in words; set exactly in that state.
    pub error: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
    /// Unix milliseconds; set exactly when it is no longer running.
    pub finished_at: Option<i64>,
}

impl FromRow<'_, SqliteRow> for BuildRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let planned: &str = row.try_get("planned_phases")?;
        let phases: &str = row.try_get("phases")?;
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            snapshot_id: parsed_optional(row, "snapshot_id")?,
            vm_id: parsed_optional(row, "vm_id")?,
            content: row.try_get("content")?,
            planned_phases: decoded("planned_phases", serde_json::from_str(planned))?,
            phases: decoded("phases", serde_json::from_str(phases))?,
            state: word(row, "state", &BuildState::ALL, BuildState::as_str)?,
            error: row.try_get("error")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            finished_at: row.try_get("finished_at")?,
        })
    }
}

/// A build that is about to begin. See [`BuildRecord`] for the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    /// Never used before.
    pub id: BuildId,
    /// The snapshot it makes, if it makes one; it need not be recorded yet.
    pub snapshot_id: Option<SnapshotId>,
    /// The VM it makes, if it makes one; it need not be recorded yet.
    pub vm_id: Option<VmId>,
    /// Hash of the spec.
    pub content: Option<String>,
    /// Names of all its phases, in order.
    pub planned_phases: Vec<String>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildEnd<'a> {
    /// Every phase was done.
    Succeeded,
    /// Given up.
    Failed {
        /// Why, in words.
        error: &'a str,
    },
}

impl AccountScope<'_> {
    /// Records a build that is about to begin for this account.
    pub async fn insert_build(&self, new: &NewBuild) -> Result<BuildRecord, StoreError> {
        let inserted = sqlx::query_as(
            "INSERT INTO builds (id, account_id, snapshot_id, vm_id, content, planned_phases,
                 phases, state, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
             RETURNING *",
        )
        .bind(new.id.as_str())
        .bind(self.account.as_str())
        .bind(new.snapshot_id.as_ref().map(SnapshotId::as_str))
        .bind(new.vm_id.as_ref().map(VmId::as_str))
        .bind(&new.content)
        .bind(json(&new.planned_phases)?)
        .bind("[]")
        .bind(BuildState::Running.as_str())
        .bind(now())
        .fetch_one(self.store.writer())
        .await?;
        Ok(inserted)
    }

    /// A build of this account; `None` if it never was or is someone else's.
    pub async fn build(&self, id: &BuildId) -> Result<Option<BuildRecord>, StoreError> {
        let build = sqlx::query_as("SELECT * FROM builds WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(self.account.as_str())
            .fetch_optional(self.store.readers())
            .await?;
        Ok(build)
    }

    /// The newest build of this account that made this VM.
    pub async fn build_of_vm(&self, vm: &VmId) -> Result<Option<BuildRecord>, StoreError> {
        let build = sqlx::query_as(
            "SELECT * FROM builds WHERE vm_id = $1 AND account_id = $2
             ORDER BY created_at DESC, id DESC LIMIT 1",
        )
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(build)
    }
}

impl SystemScope<'_> {
    /// Replaces the phases that a build has begun. One that is finished stays as it is. Answers the
    /// build as it then is.
    pub async fn update_build(
        &self,
        id: &BuildId,
        phases: &[BuildPhase],
    ) -> Result<BuildRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        sqlx::query(
            "UPDATE builds SET phases = $2, updated_at = $3 WHERE id = $1 AND state = 'running'",
        )
        .bind(id.as_str())
        .bind(json(&phases)?)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        let build = build(&mut tx, id).await?;
        tx.commit().await?;
        Ok(build)
    }

    /// Records how a build ended. One that is finished stays as it is. Answers the build as it then
    /// is.
    pub async fn finish_build(
        &self,
        id: &BuildId,
        end: BuildEnd<'_>,
    ) -> Result<BuildRecord, StoreError> {
        let (state, error) = match end {
            BuildEnd::Succeeded => (BuildState::Succeeded, None),
            BuildEnd::Failed { error } => (BuildState::Failed, Some(error)),
        };
        let mut tx = self.store.begin().await?;
        sqlx::query(
            "UPDATE builds SET state = $2, error = $3, updated_at = $4, finished_at = $4
             WHERE id = $1 AND state = 'running'",
        )
        .bind(id.as_str())
        .bind(state.as_str())
        .bind(error)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        let build = build(&mut tx, id).await?;
        tx.commit().await?;
        Ok(build)
    }

    /// The builds of all accounts that have not ended, oldest first.
    pub async fn unfinished_builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        let builds =
            sqlx::query_as("SELECT * FROM builds WHERE state = 'running' ORDER BY created_at, id")
                .fetch_all(self.store.readers())
                .await?;
        Ok(builds)
    }

    /// For the start of a server: no build outlives the one that ran it. Answers how many there
    /// were.
    pub async fn fail_unfinished_builds(&self, error: &str) -> Result<u64, StoreError> {
        let failed = sqlx::query(
            "UPDATE builds SET state = 'failed', error = $1, updated_at = $2, finished_at = $2
             WHERE state = 'running'",
        )
        .bind(error)
        .bind(now())
        .execute(self.store.writer())
        .await?;
        Ok(failed.rows_affected())
    }
}

/// Of any account.
async fn build(database: &mut SqliteConnection, id: &BuildId) -> Result<BuildRecord, StoreError> {
    sqlx::query_as("SELECT * FROM builds WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(database)
        .await?
        .ok_or_else(|| StoreError::NoSuchBuild(id.clone()))
}
