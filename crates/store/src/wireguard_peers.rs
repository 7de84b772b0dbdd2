//! Computers that may join a VPC over WireGuard.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::ids::{VmId, VpcId, WireguardPeerId};
use crate::rows::{parsed, parsed_optional};
use crate::store::{AccountScope, SystemScope, now};
use crate::vpcs;

/// How many peers a VPC may have.
pub const MAX_WIREGUARD_PEERS: u64 = 256;

/// A computer that may join a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardPeer {
    /// Identifier; of an ephemeral session the one it is closed by.
    pub id: WireguardPeerId,
    /// The VPC it joins.
    pub vpc: VpcId,
    /// Its public key in base64; no other peer of the server has it.
    pub public_key: String,
    /// Its address inside the tunnel; no other peer of the VPC has it.
    pub tunnel_address: Ipv4Addr,
    /// The VM it goes with; `None` for an ephemeral session.
    pub gateway: Option<VmId>,
    /// Where it was last heard from.
    pub endpoint: Option<SocketAddr>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; that of its creation if it never came.
    pub last_seen_at: i64,
}

/// A peer that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWireguardPeer {
    /// The VPC it joins.
    pub vpc: VpcId,
    /// In base64.
    pub public_key: String,
    /// The VM it goes with, which must have a NIC in the VPC; `None` for an ephemeral session.
    pub gateway: Option<VmId>,
}

/// When and where a peer was last heard from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardSighting {
    /// The peer.
    pub id: WireguardPeerId,
    /// Unix milliseconds.
    pub at: i64,
    /// Where it was.
    pub endpoint: Option<SocketAddr>,
}

impl FromRow<'_, SqliteRow> for WireguardPeer {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            vpc: parsed(row, "vpc_id")?,
            public_key: row.try_get("public_key")?,
            tunnel_address: parsed(row, "tunnel_address")?,
            gateway: parsed_optional(row, "gateway_vm_id")?,
            endpoint: parsed_optional(row, "endpoint")?,
            created_at: row.try_get("created_at")?,
            last_seen_at: row.try_get("last_seen_at")?,
        })
    }
}

impl AccountScope<'_> {
    /// Makes a peer with the lowest free address of `tunnels`, whose first is the server's own. One
    /// with a gateway that is there already, with the same key in the same VPC, gets the new
    /// gateway and stays what it is otherwise.
    ///
    /// [`StoreError::NoSuchVpc`] or [`StoreError::NoSuchVm`] if the account has not got them,
    /// [`StoreError::KeyInUse`] if another peer has the key, [`StoreError::LimitReached`] if the VPC
    /// has [`MAX_WIREGUARD_PEERS`].
    pub async fn create_wireguard_peer(
        &self,
        new: &NewWireguardPeer,
        tunnels: Ipv4Net,
    ) -> Result<WireguardPeer, StoreError> {
        let mut tx = self.store.begin().await?;
        vpcs::live_vpc(&mut tx, self.account, &new.vpc).await?;
        if let Some(gateway) = &new.gateway {
            let member: Option<i64> = sqlx::query_scalar(
                "SELECT 1 FROM vms
                 WHERE id = $1 AND account_id = $2 AND vpc_id = $3 AND deleted_at IS NULL",
            )
            .bind(gateway.as_str())
            .bind(self.account.as_str())
            .bind(new.vpc.as_str())
            .fetch_optional(&mut *tx)
            .await?;
            member.ok_or_else(|| StoreError::NoSuchVm(gateway.clone()))?;
        }
        let peer = match with_key(&mut tx, &new.public_key).await? {
            None => insert(&mut tx, new, tunnels).await?,
            Some(peer) => change_gateway(&mut tx, peer, new).await?,
        };
        tx.commit().await?;
        Ok(peer)
    }

    /// Removes an ephemeral session of a VPC; false if the account has none of that name there.
    pub async fn remove_wireguard_session(
        &self,
        vpc: &VpcId,
        session: &WireguardPeerId,
    ) -> Result<bool, StoreError> {
        let removed = sqlx::query(
            "DELETE FROM wireguard_peers WHERE id = $1 AND vpc_id = $2 AND gateway_vm_id IS NULL
             AND vpc_id IN (SELECT id FROM vpcs WHERE account_id = $3)",
        )
        .bind(session.as_str())
        .bind(vpc.as_str())
        .bind(self.account.as_str())
        .execute(self.store.writer())
        .await?;
        Ok(removed.rows_affected() == 1)
    }
}

impl SystemScope<'_> {
    /// Every peer of every VPC, oldest first.
    pub async fn wireguard_peers(&self) -> Result<Vec<WireguardPeer>, StoreError> {
        let peers = sqlx::query_as("SELECT * FROM wireguard_peers ORDER BY created_at, id")
            .fetch_all(self.store.readers())
            .await?;
        Ok(peers)
    }

    /// Records when and where peers were last heard from; those that are gone are passed over.
    pub async fn record_wireguard_sightings(
        &self,
        sightings: &[WireguardSighting],
    ) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        for sighting in sightings {
            sqlx::query(
                "UPDATE wireguard_peers SET last_seen_at = $2, endpoint = $3 WHERE id = $1",
            )
            .bind(sighting.id.as_str())
            .bind(sighting.at)
            .bind(sighting.endpoint.map(|endpoint| endpoint.to_string()))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes ephemeral sessions that were not heard from since `before` (Unix milliseconds).
    /// Answers how many.
    pub async fn expire_wireguard_sessions(&self, before: i64) -> Result<u64, StoreError> {
        let expired = sqlx::query(
            "DELETE FROM wireguard_peers WHERE gateway_vm_id IS NULL AND last_seen_at < $1",
        )
        .bind(before)
        .execute(self.store.writer())
        .await?;
        Ok(expired.rows_affected())
    }
}

/// Removes all peers of a VPC.
pub(crate) async fn remove_all(
    database: &mut SqliteConnection,
    vpc: &VpcId,
) -> Result<(), StoreError> {
    let remove = sqlx::query("DELETE FROM wireguard_peers WHERE vpc_id = $1").bind(vpc.as_str());
    remove.execute(database).await?;
    Ok(())
}

/// Removes the peers that go with a VM.
pub(crate) async fn remove_of_gateway(
    database: &mut SqliteConnection,
    vm: &VmId,
) -> Result<(), StoreError> {
    let remove =
        sqlx::query("DELETE FROM wireguard_peers WHERE gateway_vm_id = $1").bind(vm.as_str());
    remove.execute(database).await?;
    Ok(())
}

async fn with_key(
    database: &mut SqliteConnection,
    public_key: &str,
) -> Result<Option<WireguardPeer>, StoreError> {
    let peer = sqlx::query_as("SELECT * FROM wireguard_peers WHERE public_key = $1")
        .bind(public_key)
        .fetch_optional(database)
        .await?;
    Ok(peer)
}

async fn insert(
    database: &mut SqliteConnection,
    new: &NewWireguardPeer,
    tunnels: Ipv4Net,
) -> Result<WireguardPeer, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM wireguard_peers WHERE vpc_id = $1")
        .bind(new.vpc.as_str())
        .fetch_one(&mut *database)
        .await?;
    if count.unsigned_abs() >= MAX_WIREGUARD_PEERS {
        return Err(StoreError::LimitReached { limit: MAX_WIREGUARD_PEERS });
    }
    let taken: Vec<String> =
        sqlx::query_scalar("SELECT tunnel_address FROM wireguard_peers WHERE vpc_id = $1")
            .bind(new.vpc.as_str())
            .fetch_all(&mut *database)
            .await?;
    let taken: HashSet<Ipv4Addr> = taken.iter().filter_map(|text| text.parse().ok()).collect();
    let free = tunnels.hosts().skip(1).find(|address| !taken.contains(address));
    let address = free.ok_or(StoreError::NoFreeAddress { cidr: tunnels })?;
    let peer = sqlx::query_as(
        "INSERT INTO wireguard_peers (id, vpc_id, public_key, tunnel_address, gateway_vm_id,
             created_at, last_seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING *",
    )
    .bind(WireguardPeerId::random().as_str())
    .bind(new.vpc.as_str())
    .bind(&new.public_key)
    .bind(address.to_string())
    .bind(new.gateway.as_ref().map(VmId::as_str))
    .bind(now())
    .fetch_one(database)
    .await?;
    Ok(peer)
}

async fn change_gateway(
    database: &mut SqliteConnection,
    peer: WireguardPeer,
    new: &NewWireguardPeer,
) -> Result<WireguardPeer, StoreError> {
    let Some(gateway) = &new.gateway else { return Err(StoreError::KeyInUse) };
    if peer.vpc != new.vpc || peer.gateway.is_none() {
        return Err(StoreError::KeyInUse);
    }
    let peer =
        sqlx::query_as("UPDATE wireguard_peers SET gateway_vm_id = $2 WHERE id = $1 RETURNING *")
            .bind(peer.id.as_str())
            .bind(gateway.as_str())
            .fetch_one(database)
            .await?;
    Ok(peer)
}
