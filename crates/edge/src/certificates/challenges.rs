//! What proves to an authority that a host is here, while it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

use crate::host::HostName;

/// The proofs that are wanted at present. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Challenges(Arc<Mutex<HashMap<HostName, Proof>>>);

/// What proves it.
#[derive(Clone)]
pub(super) enum Proof {
    /// A text under a name (HTTP-01).
    Http { token: String, text: String },
    /// A certificate (TLS-ALPN-01).
    Tls(Arc<CertifiedKey>),
}

/// A proof that is to be seen, until dropped.
pub(super) struct Published {
    challenges: Challenges,
    host: HostName,
}

impl Challenges {
    pub(super) fn publish(&self, host: &HostName, proof: Proof) -> Published {
        self.proofs().insert(host.clone(), proof);
        Published { challenges: self.clone(), host: host.clone() }
    }

    pub(super) fn over_http(&self, host: &HostName, asked: &str) -> Option<String> {
        match self.proofs().get(host)? {
            Proof::Http { token, text } if token == asked => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn over_tls(&self, host: &HostName) -> Option<Arc<CertifiedKey>> {
        match self.proofs().get(host)? {
            Proof::Tls(key) => Some(key.clone()),
            Proof::Http { .. } => None,
        }
    }

    fn proofs(&self) -> MutexGuard<'_, HashMap<HostName, Proof>> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.challenges.proofs().remove(&self.host);
    }
}
