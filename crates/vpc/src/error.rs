//! Everything that can go wrong with a VPC, as callers need to tell it apart.

use std::io;

use freestyle_network::{NetworkError, RangeError};
use freestyle_store::{StoreError, VmId, VpcId};

/// Why a call of the VPC service failed.
#[derive(Debug, thiserror::Error)]
pub enum VpcError {
    /// The account has no such VPC: it never existed, was deleted, or belongs to someone else.
    #[error("there is no VPC {0}")]
    NotFound(VpcId),
    /// Not a range that a VPC can have.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A request that cannot be met, in the user's words.
    #[error("{0}")]
    BadRequest(String),
    /// The account has no such VM in the VPC.
    #[error("there is no VM {vm} with a NIC in VPC {vpc}")]
    NoSuchMember {
        /// The VM asked for.
        vm: VmId,
        /// The VPC.
        vpc: VpcId,
    },
    /// The server listens for no WireGuard.
    #[error("this server offers no VPN: its wireguard-listen is off")]
    NoVpn,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The host's network failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The WireGuard endpoint failed.
    #[error("the WireGuard endpoint: {0}")]
    Endpoint(#[from] io::Error),
}

impl From<StoreError> for VpcError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchVpc(vpc) => Self::NotFound(vpc),
            error @ (StoreError::VpcInUse { .. }
            | StoreError::KeyInUse
            | StoreError::NoFreeAddress { .. }
            | StoreError::LimitReached { .. }) => Self::BadRequest(error.to_string()),
            other => Self::Store(other),
        }
    }
}
