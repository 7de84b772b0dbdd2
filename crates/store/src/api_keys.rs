//! API keys: what a tenant's server side presents.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::StoreError;
use crate::ids::{AccountId, ApiKeyId};
use crate::rows::parsed;
use crate::secret::{Kind, Secret, same_hash};
use crate::store::{AccountScope, SystemScope, now};

/// An API key without its secret, which is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Identifier; not secret.
    pub id: ApiKeyId,
    /// Whose it is.
    pub account_id: AccountId,
    /// A label for people; not unique.
    pub name: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; such a key opens nothing any more.
    pub revoked_at: Option<i64>,
}

impl FromRow<'_, SqliteRow> for ApiKey {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// Makes a key. Its secret is in the answer and nowhere else.
    pub async fn create_api_key(&self, name: &str) -> Result<(ApiKey, Secret), StoreError> {
        let secret = Secret::random(Kind::ApiKey);
        let key = ApiKey {
            id: ApiKeyId::random(),
            account_id: self.account.clone(),
            name: name.to_owned(),
            created_at: now(),
            revoked_at: None,
        };
        sqlx::query(
            "INSERT INTO api_keys (id, account_id, name, secret_hash, created_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(key.id.as_str())
        .bind(self.account.as_str())
        .bind(name)
        .bind(secret.hash())
        .bind(key.created_at)
        .execute(self.store.writer())
        .await?;
        Ok((key, secret))
    }

    /// The account's keys, revoked ones too, oldest first.
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let keys = sqlx::query_as(
            "SELECT id, account_id, name, created_at, revoked_at FROM api_keys
             WHERE account_id = $1 ORDER BY created_at, id",
        )
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(keys)
    }

    /// Ends a key at once. False if the account has no such key or it was revoked before.
    pub async fn revoke_api_key(&self, key: &ApiKeyId) -> Result<bool, StoreError> {
        let _ending = self.store.ending_rights();
        let revoked = sqlx::query(
            "UPDATE api_keys SET revoked_at = $3
             WHERE id = $1 AND account_id = $2 AND revoked_at IS NULL",
        )
        .bind(key.as_str())
        .bind(self.account.as_str())
        .bind(now())
        .execute(self.store.writer())
        .await?;
        Ok(revoked.rows_affected() == 1)
    }
}

impl SystemScope<'_> {
    /// The key that this is; `None` for anything that is not a key in force. A key that was revoked
    /// takes the same path as one that never was.
    pub async fn authenticate_api_key(
        &self,
        presented: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let Some(secret) = Secret::parse(Kind::ApiKey, presented) else {
            return Ok(None);
        };
        let hash = secret.hash();
        let row =
            sqlx::query("SELECT * FROM api_keys WHERE secret_hash = $1 AND revoked_at IS NULL")
                .bind(&hash)
                .fetch_optional(self.store.readers())
                .await?;
        let Some(row) = row else { return Ok(None) };
        if !same_hash(row.try_get("secret_hash")?, &hash) {
            return Ok(None);
        }
        Ok(Some(ApiKey::from_row(&row)?))
    }

    /// Whether a key that was authenticated before is still in force.
    pub async fn is_api_key_valid(&self, key: &ApiKeyId) -> Result<bool, StoreError> {
        let valid = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM api_keys WHERE id = $1 AND revoked_at IS NULL)",
        )
        .bind(key.as_str())
        .fetch_one(self.store.readers())
        .await?;
        Ok(valid)
    }
}
