//! Why something about a domain cannot be done.

use freestyle_dns::InvalidRecord;
use freestyle_store::{StoreError, VmId};

/// Why something about a domain cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The text is no name of a domain, or none that can be used for this.
    #[error("{name:?} is no domain that can be used here: {reason}")]
    Invalid {
        /// As it was given, cut to a sane length.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The account has not proven that the domain is its own.
    #[error("{0} is not verified: `domains.verifications` proves that a domain is yours")]
    NotVerified(String),
    /// The domain is somebody else's preview.
    #[error("{0} is mapped already; choose another name")]
    Taken(String),
    /// The account did not begin to prove this.
    #[error("there is no verification of {0}")]
    NoSuchVerification(String),
    /// The DNS record is not there or says something else.
    #[error("{record} does not say so: {found}; changes of DNS may take a while to be seen")]
    NotProven {
        /// The name of the TXT record.
        record: String,
        /// What was found instead.
        found: String,
    },
    /// The DNS cannot be asked.
    #[error("{record} cannot be looked up: {reason}")]
    LookupFailed {
        /// The name of the TXT record.
        record: String,
        /// What the resolver said.
        reason: String,
    },
    /// What is to be said by DNS is none that can be.
    #[error(transparent)]
    InvalidRecord(InvalidRecord),
    /// Another record, or the zone itself, leaves no room for it.
    #[error("{name} cannot have this record: {reason}")]
    RecordConflict {
        /// Of what the record would have been.
        name: String,
        /// What leaves no room for it.
        reason: &'static str,
    },
    /// The account has no such record.
    #[error("{domain} has no record {record} that is yours and says so")]
    NoSuchRecord {
        /// The domain.
        domain: String,
        /// The record's kind and name.
        record: String,
    },
    /// Nobody would be told of a record.
    #[error(
        "this server answers no questions of DNS; its operator can have it do so (--dns-listen)"
    )]
    NoDns,
    /// The DNS of the domain is elsewhere.
    #[error(
        "the DNS of {domain} is not answered by this server: have it delegated, with NS records to \
         {servers}; changes of DNS may take a while to be seen"
    )]
    NotAnsweredHere {
        /// The domain.
        domain: String,
        /// The names of this server.
        servers: String,
    },
    /// The account has no such VM.
    #[error("there is no VM {0}")]
    NoSuchVm(VmId),
    /// The account has not mapped this domain.
    #[error("no mapping of {0} is yours")]
    NoSuchMapping(String),
    /// The account has as many as it may have.
    #[error("there are {limit} already, which is the limit")]
    LimitReached {
        /// How many there may be.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchVm(vm) => Self::NoSuchVm(vm),
            StoreError::DomainNotOwned(domain) => Self::NotVerified(domain),
            StoreError::DnsConflict { name, reason } => Self::RecordConflict { name, reason },
            StoreError::DomainTaken(domain) => Self::Taken(domain),
            StoreError::LimitReached { limit } => Self::LimitReached { limit },
            error => Self::Store(error),
        }
    }
}
