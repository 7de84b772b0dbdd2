//! Mappings: which VM and port a domain leads to. A mapping is its domain's owner's, and goes with
//! its VM.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::domains::owner;
use crate::error::StoreError;
use crate::ids::{AccountId, DomainId, DomainMappingId, VmId};
use crate::rows::{integer, number, parsed};
use crate::store::{AccountScope, SystemScope, now};

/// How many mappings an account may have.
pub const MAX_MAPPINGS: u64 = 10_000;

/// What a domain leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainMapping {
    /// Identifier.
    pub id: DomainMappingId,
    /// The host, or `*.` and the domain that all hosts are right below of.
    pub domain: String,
    /// The ownership that it stands on.
    pub domain_id: DomainId,
    /// The VM.
    pub vm_id: VmId,
    /// The port in the VM.
    pub port: u16,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for DomainMapping {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            domain: row.try_get("domain")?,
            domain_id: parsed(row, "domain_id")?,
            vm_id: parsed(row, "vm_id")?,
            port: number(row, "port")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// What is to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedName<'a> {
    /// A host of a domain that was proven.
    Host(&'a str),
    /// All hosts right below this domain, which was proven.
    HostsBelow(&'a str),
    /// A host that belongs to whoever maps it first.
    Preview(&'a str),
}

impl MappedName<'_> {
    /// The name without what stands for other names.
    fn domain(&self) -> &str {
        match self {
            Self::Host(name) | Self::HostsBelow(name) | Self::Preview(name) => name,
        }
    }

    /// As it is kept.
    fn pattern(&self) -> String {
        match self {
            Self::Host(name) | Self::Preview(name) => (*name).to_owned(),
            Self::HostsBelow(name) => format!("*.{name}"),
        }
    }
}

/// Where a host leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Whose VM it is.
    pub account_id: AccountId,
    /// The VM.
    pub vm_id: VmId,
    /// The port in the VM.
    pub port: u16,
}

impl FromRow<'_, SqliteRow> for Route {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            account_id: parsed(row, "account_id")?,
            vm_id: parsed(row, "vm_id")?,
            port: number(row, "port")?,
        })
    }
}

impl AccountScope<'_> {
    /// Has a domain lead to a port of a VM of this account, in place of whatever it led to.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`]; [`StoreError::DomainNotOwned`] if the account has not proven it,
    /// [`StoreError::DomainTaken`] for a preview of somebody else's; [`StoreError::LimitReached`] if
    /// there would be more than [`MAX_MAPPINGS`].
    pub async fn map_domain(
        &self,
        name: MappedName<'_>,
        vm: &VmId,
        port: u16,
    ) -> Result<DomainMapping, StoreError> {
        // Requests find their way by what this changes.
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        let exists: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT 1 FROM vms WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL)",
        )
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if !exists {
            return Err(StoreError::NoSuchVm(vm.clone()));
        }
        let domain_id = self.ownership(&mut tx, name).await?;
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM domain_mappings JOIN domains ON domains.id = domain_id
             WHERE account_id = $1 AND domain_mappings.domain <> $2",
        )
        .bind(self.account.as_str())
        .bind(name.pattern())
        .fetch_one(&mut *tx)
        .await?;
        if count >= integer(MAX_MAPPINGS)? {
            return Err(StoreError::LimitReached { limit: MAX_MAPPINGS });
        }
        let mapped: DomainMapping = sqlx::query_as(
            "INSERT INTO domain_mappings (id, domain, domain_id, vm_id, port, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (domain) DO UPDATE SET id = excluded.id, domain_id = excluded.domain_id,
                 vm_id = excluded.vm_id, port = excluded.port, created_at = excluded.created_at
             RETURNING *",
        )
        .bind(DomainMappingId::random().as_str())
        .bind(name.pattern())
        .bind(domain_id.as_str())
        .bind(vm.as_str())
        .bind(i64::from(port))
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        let domain = &mapped.domain;
        tracing::info!(account = %self.account, domain, %vm, port, "mapped a domain");
        Ok(mapped)
    }

    /// The ownership that lets the account map this name.
    async fn ownership(
        &self,
        database: &mut SqliteConnection,
        name: MappedName<'_>,
    ) -> Result<DomainId, StoreError> {
        let owner = match name {
            MappedName::Host(_) | MappedName::HostsBelow(_) => {
                owner(database, name.domain()).await?
            }
            MappedName::Preview(host) => {
                sqlx::query(
                    "INSERT INTO domains (id, account_id, domain, preview, created_at)
                     VALUES ($1, $2, $3, TRUE, $4) ON CONFLICT (domain) DO NOTHING",
                )
                .bind(DomainId::random().as_str())
                .bind(self.account.as_str())
                .bind(host)
                .bind(now())
                .execute(&mut *database)
                .await?;
                owner(database, host).await?
            }
        };
        match owner {
            Some(owner) if owner.account_id == *self.account => Ok(owner.id),
            _ => {
                let domain = name.pattern();
                Err(match name {
                    MappedName::Preview(_) => StoreError::DomainTaken(domain),
                    MappedName::Host(_) | MappedName::HostsBelow(_) => {
                        StoreError::DomainNotOwned(domain)
                    }
                })
            }
        }
    }

    /// Has a domain, as it is kept, lead nowhere; a preview is everybody's again. False if the account
    /// has no such mapping.
    pub async fn unmap_domain(&self, domain: &str) -> Result<bool, StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        let unmapped = sqlx::query(
            "DELETE FROM domain_mappings WHERE domain = $1
             AND domain_id IN (SELECT id FROM domains WHERE account_id = $2)",
        )
        .bind(domain)
        .bind(self.account.as_str())
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM domains WHERE domain = $1 AND account_id = $2 AND preview")
            .bind(domain)
            .bind(self.account.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        let is_unmapped = unmapped.rows_affected() == 1;
        if is_unmapped {
            tracing::info!(account = %self.account, domain, "unmapped a domain");
        }
        Ok(is_unmapped)
    }

    /// The account's mappings, newest first: all, or those of a domain as it is kept, or those that
    /// stand on an ownership.
    pub async fn mappings(
        &self,
        domain: Option<&str>,
        ownership: Option<&DomainId>,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DomainMapping>, StoreError> {
        let mappings = sqlx::query_as(
            "SELECT domain_mappings.* FROM domain_mappings JOIN domains ON domains.id = domain_id
             WHERE account_id = $1 AND ($2 IS NULL OR domain_mappings.domain = $2)
                 AND ($3 IS NULL OR domain_id = $3)
             ORDER BY domain_mappings.created_at DESC, domain_mappings.id LIMIT $4 OFFSET $5",
        )
        .bind(self.account.as_str())
        .bind(domain)
        .bind(ownership.map(DomainId::as_str))
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        Ok(mappings)
    }

    /// The domains that lead to a VM of this account, as they are kept, oldest first.
    pub async fn domains_of_vm(&self, vm: &VmId) -> Result<Vec<String>, StoreError> {
        let domains = sqlx::query_scalar(
            "SELECT domain_mappings.domain FROM domain_mappings
             JOIN domains ON domains.id = domain_id
             WHERE vm_id = $1 AND account_id = $2
             ORDER BY domain_mappings.created_at, domain_mappings.id",
        )
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(domains)
    }
}

impl SystemScope<'_> {
    /// Where a host leads that is a VM's by itself: to a port of the VM, if it is somebody's.
    pub async fn route_to_vm(&self, vm: &VmId, port: u16) -> Result<Option<Route>, StoreError> {
        let route = sqlx::query_as(
            "SELECT account_id, id AS vm_id, $2 AS port FROM vms
             WHERE id = $1 AND account_id IS NOT NULL AND deleted_at IS NULL",
        )
        .bind(vm.as_str())
        .bind(i64::from(port))
        .fetch_optional(self.store.readers())
        .await?;
        Ok(route)
    }

    /// Where a host leads: by its own mapping, or by one of the domain right above it that is not
    /// somebody else's than the host.
    pub async fn route(&self, host: &str) -> Result<Option<Route>, StoreError> {
        let above = host.split_once('.').map(|(_, above)| format!("*.{above}"));
        let route = sqlx::query_as(
            "SELECT domains.account_id, vm_id, port FROM domain_mappings
             JOIN domains ON domains.id = domain_id
             WHERE domain_mappings.domain = $1 OR (domain_mappings.domain = $2 AND NOT EXISTS (
                 SELECT 1 FROM domains AS own
                 WHERE own.domain = $1 AND own.account_id <> domains.account_id))
             ORDER BY domain_mappings.domain = $1 DESC LIMIT 1",
        )
        .bind(host)
        .bind(above)
        .fetch_optional(self.store.readers())
        .await?;
        Ok(route)
    }
}

/// Ends what leads to a VM that is deleted.
pub(crate) async fn end_all(database: &mut SqliteConnection, vm: &VmId) -> Result<(), StoreError> {
    // Mappings of previews go with their ownership.
    for sql in [
        "DELETE FROM domains WHERE preview
         AND id IN (SELECT domain_id FROM domain_mappings WHERE vm_id = $1)",
        "DELETE FROM domain_mappings WHERE vm_id = $1",
    ] {
        sqlx::query(sql).bind(vm.as_str()).execute(&mut *database).await?;
    }
    Ok(())
}
