//! VPCs, and which address a VM gets in one.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{AccountId, VpcId};
use crate::rows::{integer, parsed};
use crate::store::{AccountScope, SystemScope, now};
use crate::vm_record::{NewNic, Nic};
use crate::wireguard_peers;

/// How many VPCs an account may have.
pub const MAX_VPCS: u64 = 256;

/// A private network of VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcRecord {
    /// Identifier.
    pub id: VpcId,
    /// Whose it is.
    pub account_id: AccountId,
    /// A label for people; not unique.
    pub name: Option<String>,
    /// The range of its VMs' addresses. Never changes, and may overlap with that of others.
    pub cidr: Ipv4Net,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl FromRow<'_, SqliteRow> for VpcRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            name: row.try_get("name")?,
            cidr: parsed(row, "cidr")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// Makes a VPC. Which ranges make sense is the caller's matter. [`StoreError::LimitReached`] if
    /// there are [`MAX_VPCS`].
    pub async fn create_vpc(
        &self,
        name: Option<&str>,
        cidr: Ipv4Net,
    ) -> Result<VpcRecord, StoreError> {
        let created: Option<VpcRecord> = sqlx::query_as(
            "INSERT INTO vpcs (id, account_id, name, cidr, created_at) SELECT $1, $2, $3, $4, $5
             WHERE (SELECT count(*) FROM vpcs WHERE account_id = $2 AND deleted_at IS NULL) < $6
             RETURNING *",
        )
        .bind(VpcId::random().as_str())
        .bind(self.account.as_str())
        .bind(name)
        .bind(cidr.to_string())
        .bind(now())
        .bind(integer(MAX_VPCS)?)
        .fetch_optional(self.store.writer())
        .await?;
        created.ok_or(StoreError::LimitReached { limit: MAX_VPCS })
    }

    /// A VPC of this account; [`StoreError::NoSuchVpc`] if it never existed, was deleted or is
    /// someone else's.
    pub async fn vpc(&self, id: &VpcId) -> Result<VpcRecord, StoreError> {
        let mut reader = self.store.readers().acquire().await?;
        live_vpc(&mut reader, self.account, id).await
    }

    /// The account's VPCs, oldest first.
    pub async fn vpcs(&self) -> Result<Vec<VpcRecord>, StoreError> {
        let vpcs = sqlx::query_as(
            "SELECT * FROM vpcs WHERE account_id = $1 AND deleted_at IS NULL
             ORDER BY created_at, id",
        )
        .bind(self.account.as_str())
        .fetch_all(self.store.readers())
        .await?;
        Ok(vpcs)
    }

    /// Deletes a VPC and all that joins it from outside. [`StoreError::VpcInUse`] if a VM has a NIC
    /// in it, also one that does not run.
    pub async fn delete_vpc(&self, id: &VpcId) -> Result<VpcRecord, StoreError> {
        let mut tx = self.store.begin().await?;
        let vpc = live_vpc(&mut tx, self.account, id).await?;
        let vms: i64 =
            sqlx::query_scalar("SELECT count(*) FROM vms WHERE vpc_id = $1 AND deleted_at IS NULL")
                .bind(id.as_str())
                .fetch_one(&mut *tx)
                .await?;
        if vms > 0 {
            return Err(StoreError::VpcInUse { vpc: vpc.id, vms: vms.unsigned_abs() });
        }
        wireguard_peers::remove_all(&mut tx, id).await?;
        sqlx::query("UPDATE vpcs SET deleted_at = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(now())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(vpc)
    }
}

impl SystemScope<'_> {
    /// Every VPC of every account, oldest first.
    pub async fn vpcs(&self) -> Result<Vec<VpcRecord>, StoreError> {
        let vpcs =
            sqlx::query_as("SELECT * FROM vpcs WHERE deleted_at IS NULL ORDER BY created_at, id")
                .fetch_all(self.store.readers())
                .await?;
        Ok(vpcs)
    }
}

pub(crate) async fn live_vpc(
    database: &mut SqliteConnection,
    account: &AccountId,
    id: &VpcId,
) -> Result<VpcRecord, StoreError> {
    sqlx::query_as("SELECT * FROM vpcs WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL")
        .bind(id.as_str())
        .bind(account.as_str())
        .fetch_optional(database)
        .await?
        .ok_or_else(|| StoreError::NoSuchVpc(id.clone()))
}

/// The NIC that a VM of this account is about to get.
pub(crate) async fn choose_address(
    database: &mut SqliteConnection,
    account: &AccountId,
    new: &NewNic,
) -> Result<Nic, StoreError> {
    let vpc = live_vpc(database, account, &new.vpc).await?;
    let taken: Vec<String> =
        sqlx::query_scalar("SELECT vpc_address FROM vms WHERE vpc_id = $1 AND deleted_at IS NULL")
            .bind(new.vpc.as_str())
            .fetch_all(database)
            .await?;
    let taken: HashSet<Ipv4Addr> =
        taken.iter().filter_map(|text| text.parse().ok()).map(|net: Ipv4Net| net.addr()).collect();
    let is_usable = |address: &Ipv4Addr| {
        vpc.cidr.contains(address)
            && *address != vpc.cidr.network()
            && *address != vpc.cidr.broadcast()
            && !new.excluded.iter().any(|excluded| excluded.contains(address))
    };
    let address = match new.address {
        Some(address) if !is_usable(&address) => {
            return Err(StoreError::AddressUnusable { address, cidr: vpc.cidr });
        }
        Some(address) if taken.contains(&address) => {
            return Err(StoreError::AddressTaken(address));
        }
        Some(address) => address,
        None => {
            let free = |address: &Ipv4Addr| is_usable(address) && !taken.contains(address);
            let lowest = vpc.cidr.hosts().find(free);
            lowest.ok_or(StoreError::NoFreeAddress { cidr: vpc.cidr })?
        }
    };
    // The prefix length is a valid one: it is the range's.
    let address = Ipv4Net::new_assert(address, vpc.cidr.prefix_len());
    Ok(Nic { vpc: vpc.id, address, is_default: new.is_default })
}
