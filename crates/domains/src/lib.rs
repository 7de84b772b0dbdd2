//! Domains: whose they are, and which VM they lead to (protocol section 13).
//!
//! Owns: what a domain's name may be, proving that one is somebody's by its DNS, the suffixes under
//! which previews need no proof, finding the VM of a host for every request, and the DNS records of
//! domains. Does not own: what is remembered (`freestyle-store`), requests themselves and certificates
//! (`freestyle-edge`), answering questions of DNS (`freestyle-dns`), or any wire format
//! (`freestyle-api`).
//!
//! # Rules
//!
//! * A domain is an account's when its TXT record `_freestyle_custom_hostname.<domain>` says the code
//!   that the account was told. Then so is everything below it, apart from what another account has
//!   proven more exactly.
//! * The newest proof counts: who controls the DNS now is the owner, and what an earlier owner had
//!   mapped there leads nowhere.
//! * A name right below a preview suffix needs no proof. It belongs to whoever maps it first, for as
//!   long as it is mapped. Nothing below such a name can be mapped, so that nobody gets a place under
//!   the name of another (their cookies, for instance).
//! * DNS records are made in domains that were proven, and go with the ownership they stand on. Of a
//!   host that is mapped the DNS says where this server is, unless a record says something else.
//! * With a domain for VMs, every VM has a host below it by itself, and nobody can map one there.
//! * What is unmapped leads nowhere at once, and so does everything that leads to a VM that is
//!   deleted.

mod dns;
mod error;
mod kept;
mod name;
mod records;
mod routes;
mod service;

pub use error::DomainError;
pub use freestyle_dns::Authority;
pub use freestyle_store::{DomainId, DomainMapping, DomainRecord, DomainVerification, Route};
pub use name::{DomainName, Pattern};
pub use records::{DEFAULT_TTL, DomainDnsRecord, WrittenRecord};
pub use service::{Config, Domains, TXT_LABEL, Which};
