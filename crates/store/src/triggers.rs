//! Triggers of repositories, and the branches that are watched for them.
//!
//! What moves a branch does so on disk, and what follows from it is recorded here afterwards. So that
//! nothing is missing when the server is killed between the two, the store keeps where each branch
//! was when it last recorded something: whatever is elsewhere on disk has moved since.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::deliveries::{self, NewDelivery};
use crate::error::StoreError;
use crate::ids::TriggerId;
use crate::repositories::RepositoryRecord;
use crate::rows::{json, optional_json, parsed};
use crate::store::{AccountScope, SystemScope, now};

/// Triggers that one repository may have.
pub const MAX_TRIGGERS: u64 = 50;

/// Whom to tell when a branch has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerRecord {
    /// Identifier.
    pub id: TriggerId,
    /// The repository that it watches.
    pub repository_id: String,
    /// Patterns of branches; none: every branch.
    pub branches: Option<Vec<String>>,
    /// Patterns of changed files; none: whatever changed.
    pub globs: Option<Vec<String>>,
    /// The URL that is told.
    pub endpoint: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for TriggerRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            repository_id: row.try_get("repository_id")?,
            branches: optional_json(row, "branches")?,
            globs: optional_json(row, "globs")?,
            endpoint: row.try_get("endpoint")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A trigger to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewTrigger<'a> {
    /// See [`TriggerRecord::branches`].
    pub branches: Option<&'a [String]>,
    /// See [`TriggerRecord::globs`].
    pub globs: Option<&'a [String]>,
    /// See [`TriggerRecord::endpoint`].
    pub endpoint: &'a str,
}

/// A branch that has moved, and the triggers that are to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchMove {
    /// Without `refs/heads/`.
    pub branch: String,
    /// Where it was; none: it is new.
    pub old: Option<String>,
    /// Where it is; none: it was deleted.
    pub new: Option<String>,
    /// Triggers of its repository. One that is gone meanwhile is passed over.
    pub triggers: Vec<TriggerId>,
}

impl AccountScope<'_> {
    /// Makes a trigger. `branches` are those of the repository as they are now, which count as
    /// recorded if it has no trigger yet.
    pub async fn insert_trigger(
        &self,
        repository: &str,
        new: NewTrigger<'_>,
        branches: &BTreeMap<String, String>,
    ) -> Result<TriggerRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        self.require_repository(&mut tx, repository).await?;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM triggers WHERE repository_id = $1")
                .bind(repository)
                .fetch_one(&mut *tx)
                .await?;
        if count >= MAX_TRIGGERS.cast_signed() {
            return Err(StoreError::LimitReached { limit: MAX_TRIGGERS });
        }
        if count == 0 {
            for (name, tip) in branches {
                set_recorded(&mut tx, repository, name, Some(tip)).await?;
            }
        }
        let trigger = sqlx::query_as(
            "INSERT INTO triggers (id, repository_id, branches, globs, endpoint, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
        )
        .bind(TriggerId::random().as_str())
        .bind(repository)
        .bind(new.branches.map(|list| json(&list)).transpose()?)
        .bind(new.globs.map(|list| json(&list)).transpose()?)
        .bind(new.endpoint)
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(trigger)
    }

    /// The triggers of a repository of this account, oldest first.
    pub async fn triggers(&self, repository: &str) -> Result<Vec<TriggerRecord>, StoreError> {
        let triggers = sqlx::query_as(
            "SELECT triggers.* FROM triggers JOIN repositories ON repositories.id = repository_id
             WHERE repository_id = $1 AND account_id = $2 AND state = 'ready'
             ORDER BY triggers.created_at, triggers.id",
        )
        .bind(repository)
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(triggers)
    }

    /// One trigger of a repository of this account.
    pub async fn trigger(
        &self,
        repository: &str,
        id: &TriggerId,
    ) -> Result<TriggerRecord, StoreError> {
        let triggers = self.triggers(repository).await?;
        let found = triggers.into_iter().find(|trigger| trigger.id == *id);
        found.ok_or_else(|| StoreError::NoSuchTrigger(id.clone()))
    }

    /// Deletes a trigger and forgets its deliveries, also those that were not made yet.
    pub async fn delete_trigger(&self, repository: &str, id: &TriggerId) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        self.require_repository(&mut tx, repository).await?;
        let deleted = sqlx::query("DELETE FROM triggers WHERE id = $1 AND repository_id = $2")
            .bind(id.as_str())
            .bind(repository)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NoSuchTrigger(id.clone()));
        }
        // Nobody watches it any more.
        sqlx::query(
            "DELETE FROM recorded_branches WHERE repository_id = $1
                 AND NOT EXISTS (SELECT 1 FROM triggers WHERE repository_id = $1)",
        )
        .bind(repository)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn require_repository(
        &self,
        database: &mut SqliteConnection,
        id: &str,
    ) -> Result<(), StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM repositories WHERE id = $1 AND account_id = $2 AND state = 'ready'",
        )
        .bind(id)
        .bind(self.account.as_str())
        .fetch_optional(database)
        .await?;
        found.map(drop).ok_or_else(|| StoreError::NoSuchRepository(id.to_owned()))
    }
}

impl SystemScope<'_> {
    /// The triggers of a repository, whosesoever it is.
    pub async fn triggers_of(&self, repository: &str) -> Result<Vec<TriggerRecord>, StoreError> {
        let triggers = sqlx::query_as(
            "SELECT * FROM triggers WHERE repository_id = $1 ORDER BY created_at, id",
        )
        .bind(repository)
        .fetch_all(self.store.readers())
        .await?;
        Ok(triggers)
    }

    /// The repositories that have triggers.
    pub async fn watched_repositories(&self) -> Result<Vec<RepositoryRecord>, StoreError> {
        let repositories = sqlx::query_as(
            "SELECT * FROM repositories
             WHERE state = 'ready' AND id IN (SELECT repository_id FROM triggers)
             ORDER BY created_at, id",
        )
        .fetch_all(self.store.readers())
        .await?;
        Ok(repositories)
    }

    /// Where the branches of a repository with triggers were when something was last recorded.
    pub async fn recorded_branches(
        &self,
        repository: &str,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT name, tip FROM recorded_branches WHERE repository_id = $1")
                .bind(repository)
                .fetch_all(self.store.readers())
                .await?;
        Ok(rows.into_iter().collect())
    }

    /// Records moves of branches together with the deliveries that follow from them, and answers
    /// those moves that were not recorded because their branch was recorded elsewhere than where
    /// they begin: another move comes before. With `in_any_order` there are none.
    pub async fn record_branch_moves(
        &self,
        repository: &str,
        moves: Vec<BranchMove>,
        in_any_order: bool,
    ) -> Result<Vec<BranchMove>, StoreError> {
        let mut tx = self.store.begin().await?;
        let mut left = Vec::new();
        for moved in moves {
            let recorded: Option<String> = sqlx::query_scalar(
                "SELECT tip FROM recorded_branches WHERE repository_id = $1 AND name = $2",
            )
            .bind(repository)
            .bind(&moved.branch)
            .fetch_optional(&mut *tx)
            .await?;
            if recorded != moved.old && !in_any_order {
                left.push(moved);
                continue;
            }
            set_recorded(&mut tx, repository, &moved.branch, moved.new.as_deref()).await?;
            // A branch that is gone is nowhere: there is nothing to be told.
            let Some(new_tip) = &moved.new else { continue };
            for trigger in &moved.triggers {
                let (branch, old_tip) = (moved.branch.as_str(), moved.old.as_deref());
                let new = NewDelivery { trigger, branch, old_tip, new_tip, redelivery_of: None };
                deliveries::insert(&mut tx, new).await?;
            }
        }
        tx.commit().await?;
        self.store.queue_has_grown();
        Ok(left)
    }
}

async fn set_recorded(
    database: &mut SqliteConnection,
    repository: &str,
    branch: &str,
    tip: Option<&str>,
) -> Result<(), StoreError> {
    match tip {
        Some(tip) => {
            sqlx::query(
                "INSERT INTO recorded_branches (repository_id, name, tip) VALUES ($1, $2, $3)
             ON CONFLICT (repository_id, name) DO UPDATE SET tip = excluded.tip",
            )
            .bind(repository)
            .bind(branch)
            .bind(tip)
            .execute(database)
            .await?
        }
        None => {
            sqlx::query("DELETE FROM recorded_branches WHERE repository_id = $1 AND name = $2")
                .bind(repository)
                .bind(branch)
                .execute(database)
                .await?
        }
    };
    Ok(())
}
