//! The queue of what is to be sent to webhooks, and the log of what was.
//!
//! The deliveries of a trigger are made in order: the first pending one is its *head*, and nothing
//! overtakes it until it is delivered or given up.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::ids::{AccountId, DeliveryId, TriggerId};
use crate::rows::{integer, json, optional_json, parsed, parsed_optional, word};
use crate::store::{AccountScope, Store, SystemScope, now};

/// Deliveries of one trigger that may wait. What comes on top is given up at once, and stays in the
/// log.
const MAX_PENDING: i64 = 1000;

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is to be made, now or later.
    Pending,
    /// The endpoint has accepted it.
    Delivered,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    const ALL: &[Self] = &[Self::Pending, Self::Delivered, Self::Dead];

    /// As in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, in Unix milliseconds.
    pub at: i64,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it does not count as delivered.
    pub error: Option<String>,
}

/// One message to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Identifier.
    pub id: DeliveryId,
    /// Whom it is for.
    pub trigger_id: TriggerId,
    /// The branch that moved, without `refs/heads/`.
    pub branch: String,
    /// The commit it was at; none: it is new.
    pub old_tip: Option<String>,
    /// The commit it went to.
    pub new_tip: String,
    /// The delivery that this one repeats.
    pub redelivery_of: Option<DeliveryId>,
    /// How far it is.
    pub state: DeliveryState,
    /// What came of it so far.
    pub attempts: Vec<Attempt>,
    /// Why it was given up.
    pub failure: Option<String>,
    /// When it is tried next, in Unix milliseconds.
    pub next_attempt_at: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub finished_at: Option<i64>,
}

impl FromRow<'_, SqliteRow> for DeliveryRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let attempts: Option<Vec<Attempt>> = optional_json(row, "attempts")?;
        Ok(Self {
            id: parsed(row, "id")?,
            trigger_id: parsed(row, "trigger_id")?,
            branch: row.try_get("branch")?,
            old_tip: row.try_get("old_tip")?,
            new_tip: row.try_get("new_tip")?,
            redelivery_of: parsed_optional(row, "redelivery_of")?,
            state: word(row, "state", DeliveryState::ALL, DeliveryState::as_str)?,
            attempts: attempts.unwrap_or_default(),
            failure: row.try_get("failure")?,
            next_attempt_at: row.try_get("next_attempt_at")?,
            created_at: row.try_get("created_at")?,
            finished_at: row.try_get("finished_at")?,
        })
    }
}

/// A delivery whose time has come, with what is needed to make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// The delivery.
    pub delivery: DeliveryRecord,
    /// Whose repository it is about.
    pub account_id: AccountId,
    /// The repository.
    pub repository_id: String,
    /// The URL to send it to.
    pub endpoint: String,
    /// Patterns of files; if none of them changed, it is not made.
    pub globs: Option<Vec<String>>,
}

impl FromRow<'_, SqliteRow> for DueDelivery {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            delivery: DeliveryRecord::from_row(row)?,
            account_id: parsed(row, "account_id")?,
            repository_id: row.try_get("repository_id")?,
            endpoint: row.try_get("endpoint")?,
            globs: optional_json(row, "globs")?,
        })
    }
}

/// What is to be delivered now, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDeliveries {
    /// Heads whose time has come; those that wait longest come first.
    pub heads: Vec<DueDelivery>,
    /// When the next head is due that is not due yet, in Unix milliseconds.
    pub next_at: Option<i64>,
}

/// How a delivery goes on after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The endpoint has accepted it.
    Delivered,
    /// It is tried again at this time, in Unix milliseconds.
    Retry(i64),
    /// It is given up, for this reason.
    Dead(String),
}

impl AccountScope<'_> {
    /// The log of a trigger of this account, newest first: at most `limit`, after `offset`.
    pub async fn deliveries(
        &self,
        repository: &str,
        trigger: &TriggerId,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.trigger(repository, trigger).await?;
        let deliveries = sqlx::query_as(
            "SELECT * FROM deliveries WHERE trigger_id = $1
             ORDER BY position DESC LIMIT $2 OFFSET $3",
        )
        .bind(trigger.as_str())
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        Ok(deliveries)
    }

    /// Has a delivery of this account made once more, after all that are waiting.
    pub async fn redeliver(
        &self,
        repository: &str,
        trigger: &TriggerId,
        delivery: &DeliveryId,
    ) -> Result<DeliveryRecord, StoreError> {
        self.trigger(repository, trigger).await?;
        let mut tx = self.store.begin().await?;
        let repeated: Option<DeliveryRecord> =
            sqlx::query_as("SELECT * FROM deliveries WHERE id = $1 AND trigger_id = $2")
                .bind(delivery.as_str())
                .bind(trigger.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let repeated = repeated.ok_or_else(|| StoreError::NoSuchDelivery(delivery.clone()))?;
        let new = NewDelivery {
            trigger,
            branch: &repeated.branch,
            old_tip: repeated.old_tip.as_deref(),
            new_tip: &repeated.new_tip,
            redelivery_of: Some(delivery),
        };
        let inserted = insert(&mut tx, new).await?;
        tx.commit().await?;
        self.store.queue_has_grown();
        inserted.ok_or_else(|| StoreError::NoSuchTrigger(trigger.clone()))
    }
}

/// Deliveries that are heads: the first that is pending of each trigger.
macro_rules! heads {
    () => {
        "(SELECT trigger_id, min(position) AS position FROM deliveries
              WHERE state = 'pending' GROUP BY trigger_id) AS heads
          JOIN deliveries ON deliveries.trigger_id = heads.trigger_id
              AND deliveries.position = heads.position"
    };
}

impl SystemScope<'_> {
    /// What of the queue is due: at most `limit`, and of one account at most `per_account`.
    pub async fn due_deliveries(
        &self,
        per_account: u64,
        limit: u64,
    ) -> Result<DueDeliveries, StoreError> {
        // Read once: what becomes due between two looks at the clock would be in neither answer.
        let at = now();
        let due = sqlx::query_as(concat!(
            "SELECT * FROM (
                 SELECT deliveries.*, repository_id, account_id, endpoint, globs, row_number() OVER (
                     PARTITION BY account_id ORDER BY next_attempt_at, deliveries.id) AS turn
                 FROM ",
            heads!(),
            " JOIN triggers ON triggers.id = deliveries.trigger_id
                 JOIN repositories ON repositories.id = repository_id
                 WHERE next_attempt_at <= $1 AND repositories.state = 'ready'
             ) AS due
             WHERE turn <= $2 ORDER BY next_attempt_at, id LIMIT $3"
        ))
        .bind(at)
        .bind(integer(per_account)?)
        .bind(integer(limit)?)
        .fetch_all(self.store.readers())
        .await?;
        let next_at = sqlx::query_scalar(concat!(
            "SELECT min(next_attempt_at) FROM ",
            heads!(),
            " WHERE next_attempt_at > $1"
        ))
        .bind(at)
        .fetch_one(self.store.readers())
        .await?;
        Ok(DueDeliveries { heads: due, next_at })
    }

    /// Records what came of an attempt. A delivery that is gone or finished stays so.
    pub async fn record_attempt(
        &self,
        delivery: &DeliveryRecord,
        attempt: Attempt,
        outcome: &DeliveryOutcome,
    ) -> Result<(), StoreError> {
        let mut attempts = delivery.attempts.clone();
        attempts.push(attempt);
        let (state, failure, next) = match outcome {
            DeliveryOutcome::Delivered => (DeliveryState::Delivered, None, None),
            DeliveryOutcome::Retry(at) => (DeliveryState::Pending, None, Some(*at)),
            DeliveryOutcome::Dead(reason) => (DeliveryState::Dead, Some(reason), None),
        };
        sqlx::query(
            "UPDATE deliveries SET state = $2, attempts = $3, failure = $4, next_attempt_at = $5,
                 finished_at = $6
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(delivery.id.as_str())
        .bind(state.as_str())
        .bind(json(&attempts)?)
        .bind(failure)
        .bind(next)
        .bind((state != DeliveryState::Pending).then(now))
        .execute(self.store.writer())
        .await?;
        Ok(())
    }

    /// Forgets a delivery that turned out not to be wanted.
    pub async fn forget_delivery(&self, id: &DeliveryId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM deliveries WHERE id = $1")
            .bind(id.as_str())
            .execute(self.store.writer())
            .await?;
        Ok(())
    }

    /// Shortens the log: forgets what was finished before a time, in Unix milliseconds, and of each
    /// trigger all but its newest `most`. What is pending stays.
    pub async fn prune_deliveries(&self, before: i64, most: u64) -> Result<u64, StoreError> {
        let pruned = sqlx::query(
            "DELETE FROM deliveries WHERE id IN (
                 SELECT id FROM (
                     SELECT id, finished_at, row_number() OVER (
                         PARTITION BY trigger_id ORDER BY position DESC) AS age
                     FROM deliveries WHERE finished_at IS NOT NULL
                 ) AS finished
                 WHERE finished_at < $1 OR age > $2)",
        )
        .bind(before)
        .bind(integer(most)?)
        .execute(self.store.writer())
        .await?;
        Ok(pruned.rows_affected())
    }
}

impl Store {
    /// Sees a change after every delivery that was added.
    pub fn queue(&self) -> watch::Receiver<()> {
        self.queue.subscribe()
    }

    pub(crate) fn queue_has_grown(&self) {
        self.queue.send_replace(());
    }
}

/// What is to be delivered.
pub(crate) struct NewDelivery<'a> {
    pub(crate) trigger: &'a TriggerId,
    pub(crate) branch: &'a str,
    pub(crate) old_tip: Option<&'a str>,
    pub(crate) new_tip: &'a str,
    pub(crate) redelivery_of: Option<&'a DeliveryId>,
}

/// Puts a delivery at the end of its trigger's queue; `None` if there is no such trigger.
pub(crate) async fn insert(
    database: &mut SqliteConnection,
    new: NewDelivery<'_>,
) -> Result<Option<DeliveryRecord>, StoreError> {
    let pending: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM deliveries WHERE trigger_id = $1 AND state = 'pending'",
    )
    .bind(new.trigger.as_str())
    .fetch_one(&mut *database)
    .await?;
    let now = now();
    let (state, failure) = match pending < MAX_PENDING {
        true => (DeliveryState::Pending, None),
        false => (DeliveryState::Dead, Some(format!("{MAX_PENDING} deliveries were waiting"))),
    };
    let is_pending = state == DeliveryState::Pending;
    let inserted = sqlx::query_as(
        "INSERT INTO deliveries (id, trigger_id, position, branch, old_tip, new_tip,
             redelivery_of, state, attempts, failure, next_attempt_at, created_at, finished_at)
         SELECT $1, $2, coalesce((SELECT max(position) FROM deliveries WHERE trigger_id = $2), 0) + 1,
             $3, $4, $5, $6, $7, '[]', $8, $9, $10, $11
         WHERE EXISTS (SELECT 1 FROM triggers WHERE id = $2)
         RETURNING *",
    )
    .bind(DeliveryId::random().as_str())
    .bind(new.trigger.as_str())
    .bind(new.branch)
    .bind(new.old_tip)
    .bind(new.new_tip)
    .bind(new.redelivery_of.map(DeliveryId::as_str))
    .bind(state.as_str())
    .bind(failure)
    .bind(is_pending.then_some(now))
    .bind(now)
    .bind((!is_pending).then_some(now))
    .fetch_optional(database)
    .await?;
    Ok(inserted)
}
