//! Small facts about the server itself, such as which base image is the default.

use crate::error::StoreError;
use crate::store::SystemScope;

impl SystemScope<'_> {
    /// A fact, if it was ever set.
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        let value = sqlx::query_scalar("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(self.store.readers())
            .await?;
        Ok(value)
    }

    /// Sets a fact, replacing what it was.
    pub async fn set_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO settings (key, value) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key)
        .bind(value)
        .execute(self.store.writer())
        .await?;
        Ok(())
    }
}
