//! Identities: an account's end users. Each has tokens (`identity_tokens`) and may use what it was
//! granted (`vm_grants`, `git_grants`); all of that goes with it.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{AccountId, IdentityId};
use crate::rows::{Page, integer, number, parsed};
use crate::store::{AccountScope, now};

/// How many identities an account may have.
pub const MAX_IDENTITIES: u64 = 100_000;

/// An end user of an account, who can do nothing without a token and a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Identifier; not secret.
    pub id: IdentityId,
    /// Whose it is.
    pub account_id: AccountId,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for Identity {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// Makes an identity. [`StoreError::LimitReached`] if there are [`MAX_IDENTITIES`].
    pub async fn create_identity(&self) -> Result<Identity, StoreError> {
        let created: Option<Identity> = sqlx::query_as(
            "INSERT INTO identities (id, account_id, created_at) SELECT $1, $2, $3
             WHERE (SELECT count(*) FROM identities WHERE account_id = $2) < $4
             RETURNING *",
        )
        .bind(IdentityId::random().as_str())
        .bind(self.account.as_str())
        .bind(now())
        .bind(integer(MAX_IDENTITIES)?)
        .fetch_optional(self.store.writer())
        .await?;
        let created = created.ok_or(StoreError::LimitReached { limit: MAX_IDENTITIES })?;
        tracing::info!(account = %self.account, identity = %created.id, "created an identity");
        Ok(created)
    }

    /// An identity of this account; [`StoreError::NoSuchIdentity`] if it never existed, was deleted
    /// or is someone else's.
    pub async fn identity(&self, id: &IdentityId) -> Result<Identity, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        identity(&mut reader, self.account, id).await
    }

    /// The account's identities, oldest first.
    pub async fn identities(&self, limit: u64, offset: u64) -> Result<Page<Identity>, StoreError> {
        let items = sqlx::query_as(
            "SELECT * FROM identities WHERE account_id = $1
             ORDER BY created_at, id LIMIT $2 OFFSET $3",
        )
        .bind(self.account.as_str())
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        let counted = sqlx::query("SELECT count(*) AS total FROM identities WHERE account_id = $1")
            .bind(self.account.as_str())
            .fetch_one(self.store.readers())
            .await?;
        Ok(Page { items, total: number(&counted, "total")? })
    }

    /// Deletes an identity and ends, with it, its tokens and all that it was granted.
    pub async fn delete_identity(&self, id: &IdentityId) -> Result<(), StoreError> {
        let _ending = self.store.ending_rights();
        // The rest goes by ON DELETE CASCADE, in the same transaction.
        let deleted = sqlx::query("DELETE FROM identities WHERE id = $1 AND account_id = $2")
            .bind(id.as_str())
            .bind(self.account.as_str())
            .execute(self.store.writer())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NoSuchIdentity(id.clone()));
        }
        tracing::info!(account = %self.account, identity = %id, "deleted an identity");
        Ok(())
    }
}

/// An identity of the account.
pub(crate) async fn identity(
    database: &mut SqliteConnection,
    account: &AccountId,
    id: &IdentityId,
) -> Result<Identity, StoreError> {
    sqlx::query_as("SELECT * FROM identities WHERE id = $1 AND account_id = $2")
        .bind(id.as_str())
        .bind(account.as_str())
        .fetch_optional(database)
        .await?
        .ok_or_else(|| StoreError::NoSuchIdentity(id.clone()))
}
