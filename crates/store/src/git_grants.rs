//! Grants of repositories: which identity may read or write which repository. A grant on a
//! repository that was deleted is none.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::identities;
use crate::ids::{ApiKeyId, IdentityId};
use crate::repositories::RepositoryRecord;
use crate::rows::{integer, parsed, word};
use crate::store::{AccountScope, now};

/// How many repositories an identity may be granted.
pub const MAX_GIT_GRANTS: u64 = 10_000;

/// What may be done with a repository; the greater includes the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryLevel {
    /// Clone, fetch and look.
    Read,
    /// Also push and commit.
    Write,
}

impl RepositoryLevel {
    const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// As stored.
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// An identity's right to use a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitGrant {
    /// Who may use it.
    pub identity_id: IdentityId,
    /// What it may use.
    pub repository_id: String,
    /// What it may do.
    pub level: RepositoryLevel,
    /// Unix milliseconds.
    pub granted_at: i64,
    /// The API key that was used.
    pub granted_by: ApiKeyId,
}

impl FromRow<'_, SqliteRow> for GitGrant {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            identity_id: parsed(row, "identity_id")?,
            repository_id: row.try_get("repository_id")?,
            level: word(row, "level", &RepositoryLevel::ALL, RepositoryLevel::as_str)?,
            granted_at: row.try_get("granted_at")?,
            granted_by: parsed(row, "granted_by")?,
        })
    }
}

impl AccountScope<'_> {
    /// Lets an identity use a repository; both are the account's. Of what it was granted before,
    /// which must be less than [`MAX_GIT_GRANTS`], nothing changes: [`StoreError::GrantExists`].
    pub async fn grant_git(
        &self,
        identity: &IdentityId,
        repository: &str,
        level: RepositoryLevel,
        by: &ApiKeyId,
    ) -> Result<GitGrant, StoreError> {
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let exists: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT 1 FROM repositories WHERE id = $1 AND account_id = $2 AND state = 'ready')",
        )
        .bind(repository)
        .bind(self.account.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if !exists {
            return Err(StoreError::NoSuchRepository(repository.to_owned()));
        }
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM git_grants WHERE identity_id = $1")
                .bind(identity.as_str())
                .fetch_one(&mut *tx)
                .await?;
        if count >= integer(MAX_GIT_GRANTS)? {
            return Err(StoreError::LimitReached { limit: MAX_GIT_GRANTS });
        }
        let granted: Option<GitGrant> = sqlx::query_as(
            "INSERT INTO git_grants (identity_id, repository_id, level, granted_at, granted_by)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (identity_id, repository_id) DO NOTHING
             RETURNING *",
        )
        .bind(identity.as_str())
        .bind(repository)
        .bind(level.as_str())
        .bind(now())
        .bind(by.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let granted = granted.ok_or(StoreError::GrantExists)?;
        tx.commit().await?;
        let level = level.as_str();
        tracing::info!(account = %self.account, %identity, repository, level, "granted a repository");
        Ok(granted)
    }

    /// Replaces what an identity may do with a repository.
    pub async fn update_git_grant(
        &self,
        identity: &IdentityId,
        repository: &str,
        level: RepositoryLevel,
    ) -> Result<GitGrant, StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let updated: Option<GitGrant> = sqlx::query_as(
            "UPDATE git_grants SET level = $3 WHERE identity_id = $1 AND repository_id = $2
             RETURNING *",
        )
        .bind(identity.as_str())
        .bind(repository)
        .bind(level.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let updated = updated.ok_or(StoreError::NoSuchGrant)?;
        tx.commit().await?;
        let level = level.as_str();
        tracing::info!(
            account = %self.account, %identity, repository, level, "changed the grant of a repository",
        );
        Ok(updated)
    }

    /// What lets an identity of this account use a repository; `None` if nothing does.
    pub async fn git_grant(
        &self,
        identity: &IdentityId,
        repository: &str,
    ) -> Result<Option<GitGrant>, StoreError> {
        let granted = sqlx::query_as(
            "SELECT git_grants.* FROM git_grants
             JOIN identities ON identities.id = git_grants.identity_id
             JOIN repositories ON repositories.id = git_grants.repository_id
             WHERE git_grants.identity_id = $1 AND git_grants.repository_id = $2
                 AND identities.account_id = $3 AND repositories.account_id = $3
                 AND repositories.state = 'ready'",
        )
        .bind(identity.as_str())
        .bind(repository)
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(granted)
    }

    /// The repositories that an identity may use and what it may do with each, in the order in which
    /// they were granted.
    pub async fn git_grants(
        &self,
        identity: &IdentityId,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<(RepositoryRecord, RepositoryLevel)>, StoreError> {
        self.identity(identity).await?;
        let rows: Vec<SqliteRow> = sqlx::query(
            "SELECT repositories.*, git_grants.level FROM git_grants
             JOIN repositories ON repositories.id = git_grants.repository_id
             WHERE git_grants.identity_id = $1 AND repositories.account_id = $2
                 AND repositories.state = 'ready'
             ORDER BY git_grants.granted_at, repositories.id LIMIT $3 OFFSET $4",
        )
        .bind(identity.as_str())
        .bind(self.account.as_str())
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        let granted = |row: &SqliteRow| {
            let level = word(row, "level", &RepositoryLevel::ALL, RepositoryLevel::as_str)?;
            Ok::<_, sqlx::Error>((RepositoryRecord::from_row(row)?, level))
        };
        Ok(rows.iter().map(granted).collect::<Result<_, _>>()?)
    }

    /// Ends an identity's right to use a repository at once.
    pub async fn revoke_git_grant(
        &self,
        identity: &IdentityId,
        repository: &str,
    ) -> Result<(), StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let revoked =
            sqlx::query("DELETE FROM git_grants WHERE identity_id = $1 AND repository_id = $2")
                .bind(identity.as_str())
                .bind(repository)
                .execute(&mut *tx)
                .await?;
        if revoked.rows_affected() == 0 {
            return Err(StoreError::NoSuchGrant);
        }
        tx.commit().await?;
        tracing::info!(account = %self.account, %identity, repository, "revoked the grant of a repository");
        Ok(())
    }
}

/// For a repository that is being deleted. The caller holds [`crate::Store::ending_rights`].
pub(crate) async fn end_all(
    database: &mut SqliteConnection,
    repository: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM git_grants WHERE repository_id = $1")
        .bind(repository)
        .execute(database)
        .await?;
    Ok(())
}
