//! The one error type of the crate.

use std::{io, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::range::RangeError;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A system call failed. `action` reads as "cannot ...".
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done, with the object's name.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `nft` rejected a rule set, which means the host lacks a kernel feature or the tool is old.
    #[error("nft refused the rules of table {table}: {message}")]
    Rules {
        /// The table that was to be replaced.
        table: String,
        /// What `nft` wrote to standard error, shortened.
        message: String,
    },
    /// Every address block belongs to a live server or to VMs that still run.
    #[error(
        "all 32 address blocks of this host are taken; stop a server or end the VMs of one that is gone"
    )]
    NoFreeBlock,
    /// Instance names are 20 characters of `[a-z0-9]`, because they become file and link names.
    #[error("{0:?} is not an instance name (20 characters a-z, 0-9)")]
    InvalidInstance(String),
    /// Slots are below [`SLOTS`](crate::SLOTS).
    #[error("slot {0} is out of range")]
    InvalidSlot(u16),
    /// Two VMs cannot share a slot: it is their address and uid.
    #[error("slot {slot} belongs to instance {instance}")]
    SlotInUse {
        /// The slot asked for.
        slot: u16,
        /// Who has it.
        instance: String,
    },
    /// The instance exists with another slot; a slot never changes during an instance's life.
    #[error("instance {instance} already exists in slot {slot}")]
    SlotMismatch {
        /// The instance asked for.
        instance: String,
        /// The slot it has.
        slot: u16,
    },
    /// The namespace exists and is not this server's: the name is not unique, as with a copy of
    /// another server's data.
    #[error("namespace fs-{0} exists but belongs to no instance or VPC of this server")]
    ForeignNamespace(String),
    /// VPC names are `vpc-` and 20 characters of `[a-z0-9]`, because they become file names.
    #[error("{0:?} is not the name of a VPC (vpc- and 20 characters a-z, 0-9)")]
    InvalidVpc(String),
    /// Not a range that a VPC can have.
    #[error(transparent)]
    InvalidRange(#[from] RangeError),
    /// Not an address that a VM of the VPC can have.
    #[error("no VM can have the address {address} in a VPC of the range {range}")]
    NotOfVpc {
        /// The address asked for.
        address: Ipv4Addr,
        /// The VPC's range.
        range: Ipv4Net,
    },
    /// This server has no such instance.
    #[error("no network for instance {0}")]
    UnknownInstance(String),
    /// A process, usually the previous QEMU, still holds the tap.
    #[error("the tap of instance {0} is still held by another process")]
    TapBusy(String),
    /// The server is shutting down and took no more work.
    #[error("shutting down")]
    ShuttingDown,
}

/// Adds what was being done to an I/O result: `.because(|| format!("open {path}"))`.
pub(crate) trait Because<T> {
    /// `action` continues "cannot ...".
    fn because(self, action: impl FnOnce() -> String) -> Result<T, NetworkError>;
}

impl<T, E: Into<io::Error>> Because<T> for Result<T, E> {
    fn because(self, action: impl FnOnce() -> String) -> Result<T, NetworkError> {
        self.map_err(|error| NetworkError::Io { action: action(), source: error.into() })
    }
}
