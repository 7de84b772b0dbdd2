//! Secrets that open something: how they are made, recognised and stored.
//!
//! A secret is 256 random bits. Only its SHA-256 is stored: that many random bits cannot be searched,
//! so the slow and salted hashes that protect passwords would only slow every request down.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

const BYTES: usize = 32;
/// Of `BYTES` in base64.
const CHARS: usize = 43;

/// What a secret opens. Its prefix lets people and secret scanners recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ApiKey,
    IdentityToken,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "fs_",
            Self::IdentityToken => "fsi_",
        }
    }
}

/// The secret of an API key or of an identity's token: a prefix and 43 characters of
/// `[A-Za-z0-9_-]`, which need no quoting in a shell, a URL, a header or an SSH login name. Shown
/// once, when it is made.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn random(kind: Kind) -> Self {
        let mut bytes = [0u8; BYTES];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        Self(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Accepts exactly what [`Self::random`] can make, so that nothing else is hashed or looked up.
    pub(crate) fn parse(kind: Kind, text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(kind.prefix())?;
        if encoded.len() != CHARS {
            return None;
        }
        let mut bytes = [0u8; BYTES];
        URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
        Some(Self(text.to_owned()))
    }

    /// The secret itself. Hand it to its owner; never log or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it: SHA-256 in hex.
    pub(crate) fn hash(&self) -> String {
        Sha256::digest(&self.0).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Whether a hash that was found is the one that was looked for. The index has compared them already,
/// and not in constant time; an attacker cannot choose hashes, so that tells nothing. This comparison
/// does not depend on that argument.
pub(crate) fn same_hash(found: &str, wanted: &str) -> bool {
    let same: Choice = found.as_bytes().ct_eq(wanted.as_bytes());
    same.into()
}
