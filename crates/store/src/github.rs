//! GitHub Apps of accounts, and which repositories are kept equal to one at GitHub.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::StoreError;
use crate::ids::AccountId;
use crate::rows::{integer, json, number, optional_json, parsed};
use crate::store::{AccountScope, SystemScope, now};

/// A GitHub App that an account connects with.
#[derive(Clone)]
pub struct NewGitHubApp {
    /// The number that GitHub gave it.
    pub app_id: String,
    /// RSA, in PEM. A secret.
    pub private_key: String,
    /// What GitHub signs webhooks with. A secret.
    pub webhook_secret: String,
    /// Where GitHub's API is.
    pub api_url: String,
}

/// Shows nothing of the secrets.
impl fmt::Debug for NewGitHubApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewGitHubApp").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

/// A GitHub App without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubAppRecord {
    /// The number that GitHub gave it.
    pub app_id: String,
    /// Where GitHub's API is.
    pub api_url: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for GitHubAppRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            app_id: row.try_get("app_id")?,
            api_url: row.try_get("api_url")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A GitHub App with its secrets, for the server itself.
#[derive(Clone)]
pub struct GitHubAppSecrets {
    /// Whose it is.
    pub account_id: AccountId,
    /// The number that GitHub gave it.
    pub app_id: String,
    /// RSA, in PEM.
    pub private_key: String,
    /// What GitHub signs webhooks with.
    pub webhook_secret: String,
    /// Where GitHub's API is.
    pub api_url: String,
}

/// Shows nothing of the secrets.
impl fmt::Debug for GitHubAppSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubAppSecrets").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

impl FromRow<'_, SqliteRow> for GitHubAppSecrets {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            account_id: parsed(row, "account_id")?,
            app_id: row.try_get("app_id")?,
            private_key: row.try_get("private_key")?,
            webhook_secret: row.try_get("webhook_secret")?,
            api_url: row.try_get("api_url")?,
        })
    }
}

/// A branch or tag about which someone has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitHubConflict {
    /// Full name.
    pub name: String,
    /// Where it is here.
    pub here: Option<String>,
    /// Where it is at GitHub.
    pub there: Option<String>,
    /// Why nothing was done.
    pub reason: String,
}

/// How a repository is kept equal to one at GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubSyncRecord {
    /// `owner/name`.
    pub github_name: String,
    /// Whether there is a reason to sync that no sync has met yet.
    pub is_wanted: bool,
    /// Why the last sync failed.
    pub error: Option<String>,
    /// What the last sync left to people.
    pub conflicts: Vec<GitHubConflict>,
    /// When a sync last came to its end, in Unix milliseconds.
    pub synced_at: Option<i64>,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for GitHubSyncRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let (wanted, done): (i64, i64) = (row.try_get("wanted")?, row.try_get("done")?);
        Ok(Self {
            github_name: row.try_get("github_name")?,
            is_wanted: wanted != done,
            error: row.try_get("error")?,
            conflicts: optional_json(row, "conflicts")?.unwrap_or_default(),
            synced_at: row.try_get("synced_at")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A sync whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueGitHubSync {
    /// Whose repository it is.
    pub account_id: AccountId,
    /// The repository.
    pub repository_id: String,
    /// `owner/name`.
    pub github_name: String,
    /// What it is to meet.
    wanted: i64,
    /// Syncs one after the other that have to be tried again.
    pub failures: u32,
}

impl FromRow<'_, SqliteRow> for DueGitHubSync {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            account_id: parsed(row, "account_id")?,
            repository_id: row.try_get("repository_id")?,
            github_name: row.try_get("github_name")?,
            wanted: row.try_get("wanted")?,
            failures: number(row, "failures")?,
        })
    }
}

/// Branches and tags by their full names, and where they are, in hexadecimal.
pub type GitHubBase = BTreeMap<String, String>;

/// What came of a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitHubSyncEnd {
    /// Branches and tags that are the same on both sides by now, and where; `None` for one that is
    /// on neither.
    pub agreed: BTreeMap<String, Option<String>>,
    /// What is left to people.
    pub conflicts: Vec<GitHubConflict>,
    /// Why it failed. Then the conflicts that were found before are still the truth.
    pub error: Option<String>,
    /// When to try again, in Unix milliseconds; `None` if all was done that can be done.
    pub retry_at: Option<i64>,
}

impl GitHubSyncEnd {
    /// Notes that a branch or tag is the same on both sides.
    pub fn agree(&mut self, name: &str, at: Option<impl fmt::Display>) {
        self.agreed.insert(name.to_owned(), at.map(|at| at.to_string()));
    }
}

impl AccountScope<'_> {
    /// Connects the account with a GitHub App, in the place of another, which is a reason to sync all
    /// that is kept equal.
    pub async fn set_github_app(&self, new: &NewGitHubApp) -> Result<GitHubAppRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        let app = sqlx::query_as(
            "INSERT INTO github_apps
                 (account_id, app_id, private_key, webhook_secret, api_url, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (account_id) DO UPDATE SET app_id = excluded.app_id,
                 private_key = excluded.private_key, webhook_secret = excluded.webhook_secret,
                 api_url = excluded.api_url, created_at = excluded.created_at
             RETURNING *",
        )
        .bind(self.account.as_str())
        .bind(&new.app_id)
        .bind(&new.private_key)
        .bind(&new.webhook_secret)
        .bind(&new.api_url)
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE github_syncs SET wanted = wanted + 1, next_attempt_at = 0, failures = 0
             WHERE repository_id IN (SELECT id FROM repositories WHERE account_id = $1)",
        )
        .bind(self.account.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.store.queue_has_grown();
        Ok(app)
    }

    /// The account's GitHub App.
    pub async fn github_app(&self) -> Result<Option<GitHubAppRecord>, StoreError> {
        let app = sqlx::query_as("SELECT * FROM github_apps WHERE account_id = $1")
            .bind(self.account.as_str())
            .fetch_optional(self.store.readers())
            .await?;
        Ok(app)
    }

    /// Forgets the account's GitHub App. False if it has none.
    pub async fn delete_github_app(&self) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM github_apps WHERE account_id = $1")
            .bind(self.account.as_str())
            .execute(self.store.writer())
            .await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Has a repository of this account kept equal to one at GitHub. Another one at GitHub is begun
    /// anew with. False if another repository of the account is kept equal to that one.
    pub async fn enable_github_sync(
        &self,
        repository: &str,
        github_name: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        self.require_repository(&mut tx, repository).await?;
        let taken: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT 1 FROM github_syncs JOIN repositories ON repositories.id = repository_id
                 WHERE account_id = $1 AND repository_id <> $2
                     AND lower(github_name) = lower($3))",
        )
        .bind(self.account.as_str())
        .bind(repository)
        .bind(github_name)
        .fetch_one(&mut *tx)
        .await?;
        if taken {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM github_refs WHERE repository_id = $1 AND EXISTS (
                 SELECT 1 FROM github_syncs
                 WHERE repository_id = $1 AND lower(github_name) <> lower($2))",
        )
        .bind(repository)
        .bind(github_name)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO github_syncs (repository_id, github_name, wanted, done, next_attempt_at,
                 failures, conflicts, created_at)
             VALUES ($1, $2, 1, 0, $3, 0, '[]', $3)
             ON CONFLICT (repository_id) DO UPDATE SET github_name = excluded.github_name,
                 wanted = wanted + 1, next_attempt_at = excluded.next_attempt_at, failures = 0,
                 error = NULL, conflicts = '[]', synced_at = NULL",
        )
        .bind(repository)
        .bind(github_name)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.store.queue_has_grown();
        Ok(true)
    }

    /// How a repository of this account is kept equal to one at GitHub.
    pub async fn github_sync(
        &self,
        repository: &str,
    ) -> Result<Option<GitHubSyncRecord>, StoreError> {
        let sync = sqlx::query_as(
            "SELECT github_syncs.* FROM github_syncs
             JOIN repositories ON repositories.id = repository_id
             WHERE repository_id = $1 AND account_id = $2 AND state = 'ready'",
        )
        .bind(repository)
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(sync)
    }

    /// Ends that; content if it was not begun.
    pub async fn disable_github_sync(&self, repository: &str) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        self.require_repository(&mut tx, repository).await?;
        sqlx::query("DELETE FROM github_syncs WHERE repository_id = $1")
            .bind(repository)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes a reason to sync the account's repository that is kept equal to this one, at once, even
    /// if the last sync failed: GitHub is there again.
    pub async fn want_github_sync_with(&self, github_name: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE github_syncs SET wanted = wanted + 1, next_attempt_at = 0
             WHERE lower(github_name) = lower($2) AND repository_id IN (
                 SELECT id FROM repositories WHERE account_id = $1)",
        )
        .bind(self.account.as_str())
        .bind(github_name)
        .execute(self.store.writer())
        .await?;
        self.store.queue_has_grown();
        Ok(())
    }
}

impl SystemScope<'_> {
    /// The app of an account, with its secrets.
    pub async fn github_app_of(
        &self,
        account: &AccountId,
    ) -> Result<Option<GitHubAppSecrets>, StoreError> {
        let app = sqlx::query_as("SELECT * FROM github_apps WHERE account_id = $1")
            .bind(account.as_str())
            .fetch_optional(self.store.readers())
            .await?;
        Ok(app)
    }

    /// Apps with this number, with their secrets: those from which a webhook may be.
    pub async fn github_apps_with_id(
        &self,
        app_id: &str,
    ) -> Result<Vec<GitHubAppSecrets>, StoreError> {
        let apps = sqlx::query_as("SELECT * FROM github_apps WHERE app_id = $1 LIMIT 1000")
            .bind(app_id)
            .fetch_all(self.store.readers())
            .await?;
        Ok(apps)
    }

    /// Notes a reason to sync a repository, if it is kept equal to one at GitHub. Costs one small
    /// read if it is not.
    pub async fn want_github_sync(&self, repository: &str) -> Result<(), StoreError> {
        let is_synced: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM github_syncs WHERE repository_id = $1)",
        )
        .bind(repository)
        .fetch_one(self.store.readers())
        .await?;
        if !is_synced {
            return Ok(());
        }
        sqlx::query("UPDATE github_syncs SET wanted = wanted + 1 WHERE repository_id = $1")
            .bind(repository)
            .execute(self.store.writer())
            .await?;
        self.store.queue_has_grown();
        Ok(())
    }

    /// Notes a reason to sync every repository that is kept equal to one at GitHub.
    pub async fn want_all_github_syncs(&self) -> Result<(), StoreError> {
        sqlx::query("UPDATE github_syncs SET wanted = wanted + 1")
            .execute(self.store.writer())
            .await?;
        self.store.queue_has_grown();
        Ok(())
    }

    /// Syncs whose time has come, those that wait longest first, so many of each account.
    pub async fn due_github_syncs(
        &self,
        of_each: u64,
        limit: u64,
    ) -> Result<Vec<DueGitHubSync>, StoreError> {
        let due = sqlx::query_as(
            "SELECT * FROM (
                 SELECT github_syncs.*, account_id, row_number() OVER (
                     PARTITION BY account_id ORDER BY next_attempt_at, repository_id) AS place
                 FROM github_syncs JOIN repositories ON repositories.id = repository_id
                 WHERE wanted > done AND next_attempt_at <= $1 AND state = 'ready')
             WHERE place <= $2 ORDER BY next_attempt_at, repository_id LIMIT $3",
        )
        .bind(now())
        .bind(integer(of_each)?)
        .bind(integer(limit)?)
        .fetch_all(self.store.readers())
        .await?;
        Ok(due)
    }

    /// Where each branch and tag of a repository was when it was last the same on both sides.
    pub async fn github_base(&self, repository: &str) -> Result<GitHubBase, StoreError> {
        let base: Vec<(String, String)> =
            sqlx::query_as("SELECT name, target FROM github_refs WHERE repository_id = $1")
                .bind(repository)
                .fetch_all(self.store.readers())
                .await?;
        Ok(base.into_iter().collect())
    }

    /// When the next sync is due that is not due yet, in Unix milliseconds.
    pub async fn next_github_sync_at(&self) -> Result<Option<i64>, StoreError> {
        let next = sqlx::query_scalar(
            "SELECT min(next_attempt_at) FROM github_syncs
             WHERE wanted > done AND next_attempt_at > $1",
        )
        .bind(now())
        .fetch_one(self.store.readers())
        .await?;
        Ok(next)
    }

    /// Records what came of a sync. One that is with another repository of GitHub's by now, or was
    /// ended, stays as it is.
    pub async fn finish_github_sync(
        &self,
        due: &DueGitHubSync,
        end: &GitHubSyncEnd,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        // What has to be tried again has not met what was wanted.
        let (done, failures) = match end.retry_at {
            None => (due.wanted, 0),
            Some(_) => (due.wanted - 1, i64::from(due.failures) + 1),
        };
        let updated = sqlx::query(
            "UPDATE github_syncs SET done = $3, error = $4, next_attempt_at = $5, failures = $6,
                 conflicts = CASE WHEN $4 IS NULL THEN $7 ELSE conflicts END,
                 synced_at = CASE WHEN $4 IS NULL THEN $8 ELSE synced_at END
             WHERE repository_id = $1 AND github_name = $2 AND wanted >= $9",
        )
        .bind(&due.repository_id)
        .bind(&due.github_name)
        .bind(done)
        .bind(&end.error)
        .bind(end.retry_at.unwrap_or(0))
        .bind(failures)
        .bind(json(&end.conflicts)?)
        .bind(now())
        .bind(due.wanted)
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Ok(());
        }
        for (name, at) in &end.agreed {
            let query = match at {
                Some(target) => sqlx::query(
                    "INSERT INTO github_refs (repository_id, name, target) VALUES ($1, $2, $3)
                     ON CONFLICT (repository_id, name) DO UPDATE SET target = excluded.target
                     WHERE target <> excluded.target",
                )
                .bind(&due.repository_id)
                .bind(name)
                .bind(target),
                None => {
                    sqlx::query("DELETE FROM github_refs WHERE repository_id = $1 AND name = $2")
                        .bind(&due.repository_id)
                        .bind(name)
                }
            };
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
