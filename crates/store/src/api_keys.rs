//! API keys: what a tenant's server side presents.
//!
//! A key is 256 random bits. Only its SHA-256 is stored: that many random bits cannot be searched,
//! so the slow and salted hashes that protect passwords would only slow every request down.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};
use subtle::{Choice, ConstantTimeEq};

use crate::error::StoreError;
use crate::ids::{AccountId, ApiKeyId};
use crate::rows::parsed;
use crate::store::{AccountScope, SystemScope, now};

/// Lets people and secret scanners recognise a key.
const PREFIX: &str = "fs_";
const SECRET_BYTES: usize = 32;
/// Length of the prefix and of `SECRET_BYTES` in base64.
const SECRET_CHARS: usize = PREFIX.len() + 43;

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

/// The secret of an API key: `fs_` and 43 characters of `[A-Za-z0-9_-]`, which need no quoting in
/// a shell, a URL or a header. Shown once, when the key is made.
#[derive(Clone)]
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    fn random() -> Self {
        let mut bytes = [0u8; SECRET_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Accepts exactly what [`Self::random`] can make, so that nothing else is hashed or looked up.
    fn parse(text: &str) -> Option<Self> {
        if text.len() != SECRET_CHARS {
            return None;
        }
        let mut bytes = [0u8; SECRET_BYTES];
        let encoded = text.strip_prefix(PREFIX)?;
        URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
        Some(Self(text.to_owned()))
    }

    /// The secret itself. Hand it to its owner; never log or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it: SHA-256 in hex.
    fn hash(&self) -> String {
        Sha256::digest(&self.0).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeySecret(..)")
    }
}

impl AccountScope<'_> {
    /// Makes a key. Its secret is in the answer and nowhere else.
    pub async fn create_api_key(&self, name: &str) -> Result<(ApiKey, ApiKeySecret), StoreError> {
        let secret = ApiKeySecret::random();
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
    /// Whose key this is; `None` for anything that is not a key in force. A key that was revoked
    /// takes the same path as one that never was.
    pub async fn authenticate_api_key(
        &self,
        presented: &str,
    ) -> Result<Option<AccountId>, StoreError> {
        let Some(secret) = ApiKeySecret::parse(presented) else {
            return Ok(None);
        };
        let hash = secret.hash();
        let row = sqlx::query(
            "SELECT account_id, secret_hash FROM api_keys
             WHERE secret_hash = $1 AND revoked_at IS NULL",
        )
        .bind(&hash)
        .fetch_optional(self.store.readers())
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        // The index has compared hashes already, and not in constant time; an attacker cannot
        // choose hashes, so it tells nothing. This comparison does not depend on that argument.
        let stored: &str = row.try_get("secret_hash")?;
        let same: Choice = stored.as_bytes().ct_eq(hash.as_bytes());
        if !bool::from(same) {
            return Ok(None);
        }
        Ok(Some(parsed(&row, "account_id")?))
    }
}
