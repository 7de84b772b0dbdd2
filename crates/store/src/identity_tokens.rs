//! Tokens: what an identity presents.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::StoreError;
use crate::identities;
use crate::ids::{AccountId, IdentityId, TokenId};
use crate::rows::{integer, parsed};
use crate::secret::{Kind, Secret, same_hash};
use crate::store::{AccountScope, SystemScope, now};

/// How many tokens an identity may have.
pub const MAX_TOKENS: u64 = 1000;

/// A token without its secret, which is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityToken {
    /// Identifier; not secret.
    pub id: TokenId,
    /// Whose it is.
    pub identity_id: IdentityId,
    /// Whose that identity is.
    pub account_id: AccountId,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for IdentityToken {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            identity_id: parsed(row, "identity_id")?,
            account_id: parsed(row, "account_id")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// Makes a token. Its secret is in the answer and nowhere else. [`StoreError::LimitReached`] if
    /// the identity has [`MAX_TOKENS`].
    pub async fn create_token(
        &self,
        identity: &IdentityId,
    ) -> Result<(IdentityToken, Secret), StoreError> {
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let secret = Secret::random(Kind::IdentityToken);
        let token = IdentityToken {
            id: TokenId::random(),
            identity_id: identity.clone(),
            account_id: self.account.clone(),
            created_at: now(),
        };
        let inserted = sqlx::query(
            "INSERT INTO identity_tokens (id, identity_id, secret_hash, created_at)
             SELECT $1, $2, $3, $4
             WHERE (SELECT count(*) FROM identity_tokens WHERE identity_id = $2) < $5",
        )
        .bind(token.id.as_str())
        .bind(identity.as_str())
        .bind(secret.hash())
        .bind(token.created_at)
        .bind(integer(MAX_TOKENS)?)
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::LimitReached { limit: MAX_TOKENS });
        }
        tx.commit().await?;
        tracing::info!(account = %self.account, %identity, token = %token.id, "created a token");
        Ok((token, secret))
    }

    /// An identity's tokens, oldest first.
    pub async fn tokens(&self, identity: &IdentityId) -> Result<Vec<IdentityToken>, StoreError> {
        self.identity(identity).await?;
        let tokens = sqlx::query_as(
            "SELECT token.*, identity.account_id FROM identity_tokens AS token
             JOIN identities AS identity ON identity.id = token.identity_id
             WHERE identity.id = $1 AND identity.account_id = $2
             ORDER BY token.created_at, token.id",
        )
        .bind(identity.as_str())
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(tokens)
    }

    /// Ends a token at once.
    pub async fn revoke_token(
        &self,
        identity: &IdentityId,
        token: &TokenId,
    ) -> Result<(), StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let revoked = sqlx::query("DELETE FROM identity_tokens WHERE id = $1 AND identity_id = $2")
            .bind(token.as_str())
            .bind(identity.as_str())
            .execute(&mut *tx)
            .await?;
        if revoked.rows_affected() == 0 {
            return Err(StoreError::NoSuchToken(token.clone()));
        }
        tx.commit().await?;
        tracing::info!(account = %self.account, %identity, %token, "revoked a token");
        Ok(())
    }
}

impl SystemScope<'_> {
    /// The token that this is; `None` for anything that is not a token in force.
    pub async fn authenticate_token(
        &self,
        presented: &str,
    ) -> Result<Option<IdentityToken>, StoreError> {
        let Some(secret) = Secret::parse(Kind::IdentityToken, presented) else {
            return Ok(None);
        };
        let hash = secret.hash();
        let row = sqlx::query(
            "SELECT token.*, identity.account_id FROM identity_tokens AS token
             JOIN identities AS identity ON identity.id = token.identity_id
             WHERE token.secret_hash = $1",
        )
        .bind(&hash)
        .fetch_optional(self.store.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        if !same_hash(row.try_get("secret_hash")?, &hash) {
            return Ok(None);
        }
        Ok(Some(IdentityToken::from_row(&row)?))
    }

    /// Whether a token that was authenticated before is still in force.
    pub async fn is_token_valid(&self, token: &TokenId) -> Result<bool, StoreError> {
        let valid =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM identity_tokens WHERE id = $1)")
                .bind(token.as_str())
                .fetch_one(self.store.readers())
                .await?;
        Ok(valid)
    }
}
