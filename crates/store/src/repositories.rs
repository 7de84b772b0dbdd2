//! Git repositories: whose they are and how they come and go.
//!
//! What is in a repository, and where its files are, is not known here. A row is there before the
//! first file and until after the last one, so that no file can be without an owner:
//!
//! ```text
//! insert_repository ─► creating ─ finish_repository ─► ready ─ begin_repository_delete ─► deleting
//!                          └──────────────── remove_repository ◄───────────────────────────┘
//! ```
//!
//! Only one that is ready exists for anybody but the server.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::StoreError;
use crate::git_grants;
use crate::ids::AccountId;
use crate::rows::{integer, number, parsed, word};
use crate::store::{AccountScope, SystemScope, now};

/// How far a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryState {
    /// Its files are being made.
    Creating,
    /// It exists.
    Ready,
    /// Its files are being removed.
    Deleting,
}

impl RepositoryState {
    const ALL: &[Self] = &[Self::Creating, Self::Ready, Self::Deleting];

    fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }
}

/// A repository as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRecord {
    /// Its identifier, as the text that `git` made.
    pub id: String,
    /// Whose it is.
    pub account_id: AccountId,
    /// A label for people; not unique.
    pub name: Option<String>,
    /// Whether everybody may read it.
    pub public: bool,
    /// How far it is.
    pub state: RepositoryState,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for RepositoryRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            account_id: parsed(row, "account_id")?,
            name: row.try_get("name")?,
            public: row.try_get("public")?,
            state: word(row, "state", RepositoryState::ALL, RepositoryState::as_str)?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Some of an account's repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPage {
    /// Newest first.
    pub repositories: Vec<RepositoryRecord>,
    /// How many there are on all pages.
    pub total: u64,
}

impl AccountScope<'_> {
    /// Records a repository whose files are about to be made. `None` when the account has as many
    /// as it may have.
    pub async fn insert_repository(
        &self,
        id: &str,
        name: Option<&str>,
        public: bool,
        most: u64,
    ) -> Result<Option<RepositoryRecord>, StoreError> {
        let inserted = sqlx::query_as(
            "INSERT INTO repositories (id, account_id, name, public, state, created_at)
             SELECT $1, $2, $3, $4, $5, $6
             WHERE (SELECT count(*) FROM repositories WHERE account_id = $2) < $7
             RETURNING *",
        )
        .bind(id)
        .bind(self.account.as_str())
        .bind(name)
        .bind(public)
        .bind(RepositoryState::Creating.as_str())
        .bind(now())
        .bind(integer(most)?)
        .fetch_optional(self.store.writer())
        .await?;
        Ok(inserted)
    }

    /// A repository of this account. `None` if it does not exist or is someone else's.
    pub async fn repository(&self, id: &str) -> Result<Option<RepositoryRecord>, StoreError> {
        let repository = sqlx::query_as(
            "SELECT * FROM repositories WHERE id = $1 AND account_id = $2 AND state = 'ready'",
        )
        .bind(id)
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(repository)
    }

    /// The account's repositories, newest first: those whose name contains `search` (whatever the
    /// case of ASCII letters) or whose id it is, or all of them.
    pub async fn repositories(
        &self,
        search: Option<&str>,
        limit: u64,
        offset: u64,
    ) -> Result<RepositoryPage, StoreError> {
        let pattern = search.map(contains_pattern);
        let repositories = sqlx::query_as(
            "SELECT * FROM repositories
             WHERE account_id = $1 AND state = 'ready'
                 AND ($2 IS NULL OR id = $2 OR lower(name) LIKE lower($3) ESCAPE '\\')
             ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5",
        )
        .bind(self.account.as_str())
        .bind(search)
        .bind(&pattern)
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        let counted = sqlx::query(
            "SELECT count(*) AS total FROM repositories
             WHERE account_id = $1 AND state = 'ready'
                 AND ($2 IS NULL OR id = $2 OR lower(name) LIKE lower($3) ESCAPE '\\')",
        )
        .bind(self.account.as_str())
        .bind(search)
        .bind(&pattern)
        .fetch_one(self.store.readers())
        .await?;
        Ok(RepositoryPage { repositories, total: number(&counted, "total")? })
    }

    /// Records who may read a repository of this account. `None` if there is no such one.
    pub async fn set_repository_public(
        &self,
        id: &str,
        public: bool,
    ) -> Result<Option<RepositoryRecord>, StoreError> {
        let _ending = self.store.ending_rights();
        let changed = sqlx::query_as(
            "UPDATE repositories SET public = $3
             WHERE id = $1 AND account_id = $2 AND state = 'ready' RETURNING *",
        )
        .bind(id)
        .bind(self.account.as_str())
        .bind(public)
        .fetch_optional(self.store.writer())
        .await?;
        Ok(changed)
    }

    /// Records that a repository of this account is being deleted: from now on it exists for nobody,
    /// and nobody has a grant on it. False if there is no such one.
    pub async fn begin_repository_delete(&self, id: &str) -> Result<bool, StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        let marked = sqlx::query(
            "UPDATE repositories SET state = $3
             WHERE id = $1 AND account_id = $2 AND state = 'ready'",
        )
        .bind(id)
        .bind(self.account.as_str())
        .bind(RepositoryState::Deleting.as_str())
        .execute(&mut *tx)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(false);
        }
        git_grants::end_all(&mut tx, id).await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl SystemScope<'_> {
    /// Records that the files of a repository are complete: from now on it exists. False if it was
    /// not being created.
    pub async fn finish_repository(&self, id: &str) -> Result<bool, StoreError> {
        let finished = sqlx::query(
            "UPDATE repositories SET state = 'ready' WHERE id = $1 AND state = 'creating'",
        )
        .bind(id)
        .execute(self.store.writer())
        .await?;
        Ok(finished.rows_affected() == 1)
    }

    /// Forgets a repository whose files are gone. Never one that exists.
    pub async fn remove_repository(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM repositories WHERE id = $1 AND state <> 'ready'")
            .bind(id)
            .execute(self.store.writer())
            .await?;
        Ok(())
    }

    /// Repositories that are being created or deleted, oldest first: after a restart, those that an
    /// earlier server left so.
    pub async fn unfinished_repositories(&self) -> Result<Vec<RepositoryRecord>, StoreError> {
        let unfinished = sqlx::query_as(
            "SELECT * FROM repositories WHERE state <> 'ready' ORDER BY created_at, id",
        )
        .fetch_all(self.store.readers())
        .await?;
        Ok(unfinished)
    }

    /// Every repository that exists, of all accounts, oldest first.
    pub async fn all_repositories(&self) -> Result<Vec<RepositoryRecord>, StoreError> {
        let all = sqlx::query_as(
            "SELECT * FROM repositories WHERE state = 'ready' ORDER BY created_at, id",
        )
        .fetch_all(self.store.readers())
        .await?;
        Ok(all)
    }

    /// A repository that everybody may read.
    pub async fn public_repository(
        &self,
        id: &str,
    ) -> Result<Option<RepositoryRecord>, StoreError> {
        let repository = sqlx::query_as(
            "SELECT * FROM repositories WHERE id = $1 AND public AND state = 'ready'",
        )
        .bind(id)
        .fetch_optional(self.store.readers())
        .await?;
        Ok(repository)
    }
}

/// A pattern of LIKE for texts that contain this one.
fn contains_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
