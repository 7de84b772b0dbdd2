//! DNS records: what is said of the names of a domain. A record is its domain's owner's.
//!
//! What a record may say is not known here; only what makes it contradict another one.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::domains::owner;
use crate::error::StoreError;
use crate::ids::AccountId;
use crate::rows::{integer, number, optional_number};
use crate::store::{AccountScope, SystemScope, now};

/// How many records an account may have.
pub const MAX_DNS_RECORDS: u64 = 10_000;
/// How many of one kind a name may have: all of them are one answer.
pub const MAX_DNS_RECORDS_OF_NAME: u64 = 20;

const ALIAS: &str = "CNAME";
const DELEGATION: &str = "NS";

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// Whose it is: an absolute name.
    pub name: String,
    /// Its kind, as `CNAME`.
    pub kind: String,
    /// What it says.
    pub value: String,
    /// Of those of its kind, if it has an order.
    pub priority: Option<u16>,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
}

impl FromRow<'_, SqliteRow> for DnsRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: row.try_get("name")?,
            kind: row.try_get("kind")?,
            value: row.try_get("value")?,
            priority: optional_number(row, "priority")?,
            ttl: number(row, "ttl")?,
        })
    }
}

impl AccountScope<'_> {
    /// Adds a record to a domain that the account has proven, or changes the one that says the same.
    ///
    /// # Errors
    /// [`StoreError::DomainNotOwned`]; [`StoreError::DnsConflict`] if another record or the zone
    /// itself leaves no room for it; [`StoreError::LimitReached`].
    pub async fn put_dns_record(&self, record: &DnsRecord) -> Result<(), StoreError> {
        // Those who answer for the name find out by what this changes.
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        let DnsRecord { name, kind, value, priority, ttl } = record;
        let domain = match owner(&mut tx, name).await? {
            Some(owner) if owner.account_id == *self.account && !owner.preview => owner,
            _ => return Err(StoreError::DomainNotOwned(name.clone())),
        };
        if domain.domain == *name && [ALIAS, DELEGATION].contains(&kind.as_str()) {
            let reason = "of the domain itself this server says who answers for it";
            return Err(StoreError::DnsConflict { name: name.clone(), reason });
        }
        self.check_room(&mut tx, record).await?;
        sqlx::query(
            "INSERT INTO dns_records (name, kind, value, priority, ttl, domain_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (name, kind, value) DO UPDATE SET priority = excluded.priority,
                 ttl = excluded.ttl, domain_id = excluded.domain_id",
        )
        .bind(name)
        .bind(kind)
        .bind(value)
        .bind(priority.map(i64::from))
        .bind(i64::from(*ttl))
        .bind(domain.id.as_str())
        .bind(now())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        tracing::info!(account = %self.account, name, kind, "made a DNS record");
        Ok(())
    }

    /// Fails if this record, where it is none that is there, would contradict others or be too many.
    async fn check_room(
        &self,
        database: &mut SqliteConnection,
        DnsRecord { name, kind, value, .. }: &DnsRecord,
    ) -> Result<(), StoreError> {
        let (of_kind, others, aliases): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE kind = $2), count(*), count(*) FILTER (WHERE kind = $4)
             FROM dns_records WHERE name = $1 AND NOT (kind = $2 AND value = $3)",
        )
        .bind(name)
        .bind(kind)
        .bind(value)
        .bind(ALIAS)
        .fetch_one(&mut *database)
        .await?;
        let reason = match kind.as_str() {
            _ if aliases > 0 => "it has a CNAME record, beside which there can be no other",
            ALIAS if others > 0 => "it has other records, beside which there can be no CNAME",
            _ => "",
        };
        if !reason.is_empty() {
            return Err(StoreError::DnsConflict { name: name.clone(), reason });
        }
        if of_kind >= integer(MAX_DNS_RECORDS_OF_NAME)? {
            return Err(StoreError::LimitReached { limit: MAX_DNS_RECORDS_OF_NAME });
        }
        let all: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM dns_records JOIN domains ON domains.id = domain_id
             WHERE account_id = $1 AND NOT (name = $2 AND kind = $3 AND value = $4)",
        )
        .bind(self.account.as_str())
        .bind(name)
        .bind(kind)
        .bind(value)
        .fetch_one(&mut *database)
        .await?;
        match all >= integer(MAX_DNS_RECORDS)? {
            true => Err(StoreError::LimitReached { limit: MAX_DNS_RECORDS }),
            false => Ok(()),
        }
    }

    /// Removes a record. False if the account has none that says so.
    pub async fn remove_dns_record(
        &self,
        name: &str,
        kind: &str,
        value: &str,
    ) -> Result<bool, StoreError> {
        let _ending = self.store.ending_rights();
        let removed = sqlx::query(
            "DELETE FROM dns_records WHERE name = $1 AND kind = $2 AND value = $3
             AND domain_id IN (SELECT id FROM domains WHERE account_id = $4)",
        )
        .bind(name)
        .bind(kind)
        .bind(value)
        .bind(self.account.as_str())
        .execute(self.store.writer())
        .await?;
        let is_removed = removed.rows_affected() == 1;
        if is_removed {
            tracing::info!(account = %self.account, name, kind, "removed a DNS record");
        }
        Ok(is_removed)
    }

    /// The account's records at a domain and below it, by name.
    pub async fn dns_records(&self, domain: &str) -> Result<Vec<DnsRecord>, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        records(&mut reader, self.account, domain).await
    }
}

impl SystemScope<'_> {
    /// The proven domain that a name is in, the most exact one, and whose it is; `None` if the name is
    /// nobody's or a preview.
    pub async fn zone_of(&self, name: &str) -> Result<Option<(String, AccountId)>, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        let owner = owner(&mut reader, name).await?.filter(|owner| !owner.preview);
        Ok(owner.map(|owner| (owner.domain, owner.account_id)))
    }

    /// The records that an account has at a domain and below it.
    pub async fn records_of_zone(
        &self,
        domain: &str,
        account: &AccountId,
    ) -> Result<Vec<DnsRecord>, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        records(&mut reader, account, domain).await
    }
}

/// An account has few, so they are all looked through.
async fn records(
    database: &mut SqliteConnection,
    account: &AccountId,
    domain: &str,
) -> Result<Vec<DnsRecord>, StoreError> {
    let records = sqlx::query_as(
        "SELECT dns_records.* FROM dns_records JOIN domains ON domains.id = domain_id
         WHERE account_id = $1 AND (name = $2 OR substr(name, -length($3)) = $3)
         ORDER BY name, kind, dns_records.created_at, value",
    )
    .bind(account.as_str())
    .bind(domain)
    .bind(format!(".{domain}"))
    .fetch_all(database)
    .await?;
    Ok(records)
}
