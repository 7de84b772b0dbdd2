//! Metadata of the platform: entities, migrations and every query, on SQLite.
//!
//! Owns: identifiers, what is remembered about accounts, API keys, identities and their grants, VMs,
//! snapshots, builds, operations, repositories, domains and DNS records, and the one place where a
//! query is scoped to an account. Does not own: what runs or lies on the host (`vm`, `network`, `git`), any
//! wire format (`api`), what an operation does (`vm`), what a grant is good for (`access`), or what
//! makes a domain somebody's (`domains`).
//!
//! # Tenancy
//!
//! A [`Store`] by itself answers nothing. What an account may see and change is a method of
//! [`AccountScope`]; what crosses accounts (taking over after a restart, the pool, operations) is a
//! method of [`SystemScope`]. So every call site shows which of the two it is:
//!
//! ```
//! # async fn example(store: &freestyle_store::Store, account: &freestyle_store::AccountId)
//! # -> Result<(), freestyle_store::StoreError> {
//! let mine = store.account_scope(account).vms(false).await?;
//! let everyones = store.system().live_vms().await?;
//! # Ok(()) }
//! ```
//!
//! # Durability
//!
//! A write that was answered survives `kill -9` and power loss. Each one costs a flush to disk, so
//! what belongs together is one call: a VM is inserted together with its operation and its first
//! instance, and an operation ends together with what it changed about its VM and about the memory
//! that the VM stood on or stands on now.

mod accounts;
mod api_keys;
mod builds;
mod deliveries;
mod dns_records;
mod domain_mappings;
mod domains;
mod error;
mod git_grants;
mod github;
mod identities;
mod identity_tokens;
mod ids;
mod instances;
mod migrations;
mod operations;
mod repositories;
mod rights;
mod rows;
mod secret;
mod snapshot_record;
mod snapshots;
mod store;
mod triggers;
mod vm_grants;
mod vm_record;
mod vms;
mod vpcs;
mod wireguard_peers;

pub use accounts::Account;
pub use api_keys::ApiKey;
pub use builds::{BuildEnd, BuildPhase, BuildRecord, BuildState, NewBuild};
pub use deliveries::{
    Attempt, DeliveryOutcome, DeliveryRecord, DeliveryState, DueDeliveries, DueDelivery,
};
pub use dns_records::{DnsRecord, MAX_DNS_RECORDS, MAX_DNS_RECORDS_OF_NAME};
pub use domain_mappings::{DomainMapping, MAX_MAPPINGS, MappedName, Route};
pub use domains::{DomainRecord, DomainVerification, MAX_DOMAINS};
pub use error::StoreError;
pub use git_grants::{GitGrant, MAX_GIT_GRANTS, RepositoryLevel};
pub use github::{
    DueGitHubSync, GitHubAppRecord, GitHubAppSecrets, GitHubBase, GitHubConflict, GitHubSyncEnd,
    GitHubSyncRecord, NewGitHubApp,
};
pub use identities::{Identity, MAX_IDENTITIES};
pub use identity_tokens::{IdentityToken, MAX_TOKENS};
pub use ids::{
    AccountId, ApiKeyId, BuildId, BuildPhaseId, DeliveryId, DomainId, DomainMappingId,
    DomainVerificationId, IdentityId, InstanceId, OperationId, ParseIdError, SnapshotId, TokenId,
    TriggerId, VmGrantId, VmId, VpcId, WireguardPeerId,
};
pub use instances::SLOTS;
pub use operations::Operation;
pub use repositories::{RepositoryPage, RepositoryRecord, RepositoryState};
pub use rows::Page;
pub use secret::Secret;
pub use snapshot_record::{
    NewSnapshot, SnapshotPersistence, SnapshotPurpose, SnapshotRecord, SnapshotState,
};
pub use snapshots::SnapshotEnd;
pub use store::{AccountScope, Store, SystemScope};
pub use triggers::{BranchMove, MAX_TRIGGERS, NewTrigger, TriggerRecord};
pub use vm_grants::{MAX_VM_GRANTS, VmGrant};
pub use vm_record::{
    DeleteEvent, Instance, NewNic, NewVm, Nic, Persistence, Sizing, VmPhase, VmRecord, VmSettings,
};
pub use vms::Settled;
pub use vpcs::{MAX_VPCS, VpcRecord};
pub use wireguard_peers::{
    MAX_WIREGUARD_PEERS, NewWireguardPeer, WireguardPeer, WireguardSighting,
};
