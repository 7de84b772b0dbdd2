//! Everything that can go wrong in the store, as callers need to tell it apart.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::ids::{
    BuildId, DeliveryId, IdentityId, OperationId, SnapshotId, TokenId, TriggerId, VmId, VpcId,
};

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("the metadata store failed: {0}")]
    Database(String),
    /// The database file cannot be made or read.
    #[error("cannot open the metadata store {}: {source}", .path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer server has written this database; an older one must not guess what it means.
    #[error(
        "the metadata store has schema version {found} and this server knows versions up to \
         {supported}: run the newer server, or restore a backup from before the upgrade"
    )]
    NewerDatabase {
        /// Version of the database.
        found: i64,
        /// Newest version that this build knows.
        supported: i64,
    },
    /// The VM never existed or was deleted.
    #[error("there is no VM {0}")]
    NoSuchVm(VmId),
    /// The snapshot never existed, was deleted, or is no snapshot to do this with.
    #[error("there is no such snapshot {0}")]
    NoSuchSnapshot(SnapshotId),
    /// The build never existed.
    #[error("there is no build {0}")]
    NoSuchBuild(BuildId),
    /// The identity never existed or was deleted.
    #[error("there is no identity {0}")]
    NoSuchIdentity(IdentityId),
    /// The token never existed, was revoked, or is another identity's.
    #[error("the identity has no token {0}")]
    NoSuchToken(TokenId),
    /// The repository never existed or was deleted.
    #[error("there is no repository {0}")]
    NoSuchRepository(String),
    /// The trigger never existed, was deleted, or is another repository's.
    #[error("the repository has no trigger {0}")]
    NoSuchTrigger(TriggerId),
    /// The delivery never existed, was forgotten, or is another trigger's.
    #[error("the trigger has no delivery {0}")]
    NoSuchDelivery(DeliveryId),
    /// The identity may not use this, so that there is nothing to change or revoke.
    #[error("the identity has no such grant")]
    NoSuchGrant,
    /// The identity may use this already.
    #[error("the identity has such a grant already; change that one, or revoke it first")]
    GrantExists,
    /// The VPC never existed or was deleted.
    #[error("there is no VPC {0}")]
    NoSuchVpc(VpcId),
    /// VMs have a NIC in the VPC.
    #[error("VPC {vpc} is in use by {vms} of your VMs; delete them first")]
    VpcInUse {
        /// The VPC.
        vpc: VpcId,
        /// How many.
        vms: u64,
    },
    /// No VM can have this address in this VPC.
    #[error("no VM can have the address {address} in a VPC of the range {cidr}")]
    AddressUnusable {
        /// The address asked for.
        address: Ipv4Addr,
        /// The VPC's range.
        cidr: Ipv4Net,
    },
    /// Another VM of the VPC has this address.
    #[error("the address {0} belongs to another VM of the VPC")]
    AddressTaken(Ipv4Addr),
    /// Every address of the range is taken.
    #[error("no address of {cidr} is free")]
    NoFreeAddress {
        /// The range.
        cidr: Ipv4Net,
    },
    /// Another WireGuard peer has this public key.
    #[error("the public key belongs to another peer; generate a new pair of keys")]
    KeyInUse,
    /// There are as many as there may be.
    #[error("there are {limit} already, and no more than that are kept")]
    LimitReached {
        /// How many there may be.
        limit: u64,
    },
    /// The operation is finished.
    #[error("there is no unfinished operation {0}")]
    NoSuchOperation(OperationId),
    /// The VM has an unfinished operation: one at a time.
    #[error("operation {0} is in progress")]
    OperationInProgress(OperationId),
    /// Every slot of the host is taken by an instance.
    #[error("all {} slots for running VMs are taken", crate::SLOTS)]
    NoFreeSlot,
    /// The account has not proven that the domain is its own.
    #[error("the domain {0} is not verified")]
    DomainNotOwned(String),
    /// The domain is somebody else's for as long as it is mapped.
    #[error("the domain {0} is mapped already")]
    DomainTaken(String),
    /// A DNS record would contradict another one, or the zone.
    #[error("{name} cannot have this record: {reason}")]
    DnsConflict {
        /// Of what the record would have been.
        name: String,
        /// What leaves no room for it.
        reason: &'static str,
    },
    /// A number is larger than a database integer.
    #[error("{0} is too large a number to be stored")]
    NumberTooLarge(u64),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}
