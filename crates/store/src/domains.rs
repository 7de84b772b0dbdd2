//! Domains: whose they are, and who is about to prove that one is theirs.
//!
//! Names come in lower case, in ASCII and without a final dot; this module knows no more of them than
//! that a dot separates a name from the domain above it.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{AccountId, DomainId, DomainVerificationId, random_code};
use crate::rows::{integer, parsed};
use crate::store::{AccountScope, SystemScope, now};

/// How many domains an account may have proven or be about to prove.
pub const MAX_DOMAINS: u64 = 1000;

/// What somebody has to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainVerification {
    /// Identifier.
    pub id: DomainVerificationId,
    /// The domain.
    pub domain: String,
    /// What its TXT record has to say.
    pub code: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// A domain and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// Identifier of the ownership: another one when it changes hands.
    pub id: DomainId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The domain.
    pub domain: String,
    /// Whether it is owned because it is mapped, and not because of a proof.
    pub preview: bool,
    /// When it was proven or mapped, in Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for DomainVerification {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            domain: row.try_get("domain")?,
            code: row.try_get("code")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for DomainRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            domain: row.try_get("domain")?,
            preview: row.try_get("preview")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// What the account has to prove of a domain: what it was told before, or a new code.
    /// [`StoreError::LimitReached`] if there would be more than [`MAX_DOMAINS`].
    pub async fn begin_verification(&self, domain: &str) -> Result<DomainVerification, StoreError> {
        let mut tx = self.store.begin().await?;
        if let Some(begun) = verification(&mut tx, self.account, domain).await? {
            return Ok(begun);
        }
        let count: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM domain_verifications WHERE account_id = $1)
                  + (SELECT count(*) FROM domains WHERE account_id = $1 AND NOT preview)",
        )
        .bind(self.account.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if count >= integer(MAX_DOMAINS)? {
            return Err(StoreError::LimitReached { limit: MAX_DOMAINS });
        }
        let begun = sqlx::query_as(
            "INSERT INTO domain_verifications (id, account_id, domain, code, created_at)
             VALUES ($1, $2, $3, $4, $5) RETURNING *",
        )
        .bind(DomainVerificationId::random().as_str())
        .bind(self.account.as_str())
        .bind(domain)
        .bind(random_code())
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(begun)
    }

    /// What the account has to prove of a domain; `None` if it was not begun.
    pub async fn verification(
        &self,
        domain: &str,
    ) -> Result<Option<DomainVerification>, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        verification(&mut reader, self.account, domain).await
    }

    /// As [`AccountScope::verification`], by its id.
    pub async fn verification_by_id(
        &self,
        id: &DomainVerificationId,
    ) -> Result<Option<DomainVerification>, StoreError> {
        let found =
            sqlx::query_as("SELECT * FROM domain_verifications WHERE id = $1 AND account_id = $2")
                .bind(id.as_str())
                .bind(self.account.as_str())
                .fetch_optional(self.store.readers())
                .await?;
        Ok(found)
    }

    /// Everything the account has to prove, oldest first; there are few.
    pub async fn verifications(&self) -> Result<Vec<DomainVerification>, StoreError> {
        let all = sqlx::query_as(
            "SELECT * FROM domain_verifications WHERE account_id = $1 ORDER BY created_at, id",
        )
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(all)
    }

    /// Forgets what was to be proven. False if there is nothing with this domain and code.
    pub async fn cancel_verification(&self, domain: &str, code: &str) -> Result<bool, StoreError> {
        let cancelled = sqlx::query(
            "DELETE FROM domain_verifications
             WHERE account_id = $1 AND domain = $2 AND code = $3",
        )
        .bind(self.account.as_str())
        .bind(domain)
        .bind(code)
        .execute(self.store.writer())
        .await?;
        Ok(cancelled.rows_affected() == 1)
    }

    /// Makes the account the owner of a domain that it has proven to be its own. Whoever owned it
    /// before does so no more; what others had mapped there, at or below it, leads nowhere, and their
    /// DNS records there are gone. False if the verification was cancelled meanwhile.
    pub async fn own_domain(&self, proven: &DomainVerification) -> Result<bool, StoreError> {
        // Requests find their way by what this changes.
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        let ended =
            sqlx::query("DELETE FROM domain_verifications WHERE id = $1 AND account_id = $2")
                .bind(proven.id.as_str())
                .bind(self.account.as_str())
                .execute(&mut *tx)
                .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        // Its mappings and records go with it, by ON DELETE CASCADE.
        sqlx::query("DELETE FROM domains WHERE domain = $1 AND account_id <> $2")
            .bind(&proven.domain)
            .bind(self.account.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO domains (id, account_id, domain, preview, created_at)
             VALUES ($1, $2, $3, FALSE, $4) ON CONFLICT (domain) DO NOTHING",
        )
        .bind(DomainId::random().as_str())
        .bind(self.account.as_str())
        .bind(&proven.domain)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        end_those_of_less_exact_owners(&mut tx, self.account, &proven.domain).await?;
        tx.commit().await?;
        tracing::info!(account = %self.account, domain = proven.domain, "owns a domain");
        Ok(true)
    }

    /// The account's domains, oldest first: those it has proven, or also its previews.
    pub async fn domains(
        &self,
        with_previews: bool,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DomainRecord>, StoreError> {
        let domains = sqlx::query_as(
            "SELECT * FROM domains WHERE account_id = $1 AND (NOT preview OR $2)
             ORDER BY created_at, id LIMIT $3 OFFSET $4",
        )
        .bind(self.account.as_str())
        .bind(with_previews)
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        Ok(domains)
    }

    /// Whether the account owns this name, because of its own proof or one of a domain above it.
    pub async fn owns(&self, name: &str) -> Result<bool, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        let owner = owner(&mut reader, name).await?;
        Ok(owner.is_some_and(|owner| owner.account_id == *self.account))
    }
}

impl SystemScope<'_> {
    /// Whether anybody owns this name.
    pub async fn is_owned(&self, name: &str) -> Result<bool, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        Ok(owner(&mut reader, name).await?.is_some())
    }
}

/// The most exact ownership of a name.
pub(crate) async fn owner(
    database: &mut SqliteConnection,
    name: &str,
) -> Result<Option<DomainRecord>, StoreError> {
    let mut query: QueryBuilder<Sqlite> =
        QueryBuilder::new("SELECT * FROM domains WHERE domain IN (");
    let mut list = query.separated(", ");
    let mut rest = Some(name);
    while let Some(domain) = rest {
        list.push_bind(domain);
        rest = domain.split_once('.').map(|(_, above)| above);
    }
    query.push(") ORDER BY length(domain) DESC LIMIT 1");
    Ok(query.build_query_as().fetch_optional(database).await?)
}

/// Ends what others mapped or say at or below a domain because they own one above it.
async fn end_those_of_less_exact_owners(
    database: &mut SqliteConnection,
    account: &AccountId,
    domain: &str,
) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM domain_mappings
         WHERE (domain = $1 OR substr(domain, -length($2)) = $2) AND domain_id IN (
             SELECT id FROM domains WHERE account_id <> $3 AND length(domain) < length($1))",
        "DELETE FROM dns_records
         WHERE (name = $1 OR substr(name, -length($2)) = $2) AND domain_id IN (
             SELECT id FROM domains WHERE account_id <> $3 AND length(domain) < length($1))",
    ] {
        sqlx::query(sql)
            .bind(domain)
            .bind(format!(".{domain}"))
            .bind(account.as_str())
            .execute(&mut *database)
            .await?;
    }
    Ok(())
}

async fn verification(
    database: &mut SqliteConnection,
    account: &AccountId,
    domain: &str,
) -> Result<Option<DomainVerification>, StoreError> {
    let found =
        sqlx::query_as("SELECT * FROM domain_verifications WHERE account_id = $1 AND domain = $2")
            .bind(account.as_str())
            .bind(domain)
            .fetch_optional(database)
            .await?;
    Ok(found)
}
