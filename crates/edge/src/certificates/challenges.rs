//! What proves to an authority that a host is here, while it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

use super::names::Names;
use crate::host::HostName;

/// The label of the text in front of a domain (RFC 8555 section 8.4).
const DNS_LABEL: &str = "_acme-challenge";

/// The proofs that are wanted at present. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Challenges(Arc<Mutex<HashMap<Names, Proof>>>);

/// What proves it.
#[derive(Clone)]
pub(super) enum Proof {
    /// A text under a name (HTTP-01).
    Http { token: String, text: String },
    /// A certificate (TLS-ALPN-01).
    Tls(Arc<CertifiedKey>),
    /// A text in the domain's zone (DNS-01).
    Dns(String),
}

/// A proof that is to be seen, until dropped.
pub(super) struct Published {
    challenges: Challenges,
    names: Names,
}

impl Challenges {
    pub(super) fn publish(&self, names: &Names, proof: Proof) -> Published {
        self.proofs().insert(names.clone(), proof);
        Published { challenges: self.clone(), names: names.clone() }
    }

    pub(super) fn over_http(&self, host: &HostName, asked: &str) -> Option<String> {
        match self.proofs().get(&Names::Host(host.clone()))? {
            Proof::Http { token, text } if token == asked => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn over_tls(&self, host: &HostName) -> Option<Arc<CertifiedKey>> {
        match self.proofs().get(&Names::Host(host.clone()))? {
            Proof::Tls(key) => Some(key.clone()),
            Proof::Http { .. } | Proof::Dns(_) => None,
        }
    }

    /// What is to be read at a name of DNS.
    pub(super) fn over_dns(&self, name: &str) -> Vec<String> {
        let domain = name.strip_prefix(DNS_LABEL).and_then(|rest| rest.strip_prefix('.'));
        let Some(domain) = domain.and_then(HostName::parse) else { return Vec::new() };
        match self.proofs().get(&Names::Below(domain)) {
            Some(Proof::Dns(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    fn proofs(&self) -> MutexGuard<'_, HashMap<Names, Proof>> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.challenges.proofs().remove(&self.names);
    }
}
