//! Accounts: the tenants.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::StoreError;
use crate::ids::AccountId;
use crate::rows::parsed;
use crate::store::{SystemScope, now};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Identifier.
    pub id: AccountId,
    /// A label for people; not unique.
    pub name: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for Account {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl SystemScope<'_> {
    /// Makes a tenant, who owns nothing yet.
    pub async fn create_account(&self, name: &str) -> Result<Account, StoreError> {
        let account = Account { id: AccountId::random(), name: name.to_owned(), created_at: now() };
        sqlx::query("INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)")
            .bind(account.id.as_str())
            .bind(name)
            .bind(account.created_at)
            .execute(self.store.writer())
            .await?;
        Ok(account)
    }

    /// All accounts, oldest first.
    pub async fn list_accounts(&self) -> Result<Vec<Account>, StoreError> {
        let accounts = sqlx::query_as("SELECT * FROM accounts ORDER BY created_at, id")
            .fetch_all(self.store.readers())
            .await?;
        Ok(accounts)
    }
}
