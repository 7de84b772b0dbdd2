//! One identifier type per kind of thing, so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of the random part of every identifier.
const RANDOM_CHARS: usize = 20;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A string that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct ParseIdError {
    /// What a valid identifier looks like, as a sentence for the user.
    pub expected: &'static str,
}

/// `RANDOM_CHARS` characters of `[a-z0-9]` from the operating system's random source: 103 bits.
fn random_chars() -> String {
    let mut text = String::with_capacity(RANDOM_CHARS);
    let mut bytes = [0u8; 32];
    while text.len() < RANDOM_CHARS {
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        // 252 is the largest multiple of 36 in a byte: values above it would bias the choice.
        let unbiased = bytes.iter().filter(|byte| **byte < 252);
        text.extend(unbiased.map(|byte| ALPHABET[usize::from(byte % 36)] as char));
    }
    text.truncate(RANDOM_CHARS);
    text
}

/// A text that no one can guess, for proofs: 206 bits.
pub(crate) fn random_code() -> String {
    random_chars() + &random_chars()
}

fn is_random_chars(text: &str) -> bool {
    text.len() == RANDOM_CHARS
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// A new identifier that no one can guess.
            pub fn random() -> Self {
                Self(format!("{}{}", $prefix, random_chars()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                match text.strip_prefix($prefix) {
                    Some(random) if is_random_chars(random) => Ok(Self(text.to_owned())),
                    _ => Err(ParseIdError { expected: $expected }),
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        /// As strict as its `FromStr`.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// A virtual machine. 20 characters of `[a-z0-9]` (protocol section 5).
    VmId,
    "",
    "a VM id is 20 characters of a-z and 0-9"
);
id_type!(
    /// One run of a VM's process: a new one for every create and start. What the server makes on
    /// the host (network namespace, device, directory) is named after it.
    InstanceId,
    "",
    "an instance id is 20 characters of a-z and 0-9"
);
id_type!(
    /// A snapshot. `sc-` and 20 characters of `[a-z0-9]` (protocol section 5).
    SnapshotId,
    "sc-",
    "a snapshot id is sc- and 20 characters of a-z and 0-9"
);
id_type!(
    /// The making of a snapshot or VM from a spec. `bld-` and 20 characters of `[a-z0-9]`
    /// (protocol section 5).
    BuildId,
    "bld-",
    "a build id is bld- and 20 characters of a-z and 0-9"
);
id_type!(
    /// One phase of a build. `bph-` and 20 characters of `[a-z0-9]` (protocol section 5).
    BuildPhaseId,
    "bph-",
    "a build phase id is bph- and 20 characters of a-z and 0-9"
);
id_type!(
    /// An API key's public name; the key itself is a secret.
    ApiKeyId,
    "key-",
    "an API key id is key- and 20 characters of a-z and 0-9"
);
id_type!(
    /// An end user of an account (protocol section 12).
    IdentityId,
    "idn-",
    "an identity id is idn- and 20 characters of a-z and 0-9"
);
id_type!(
    /// An identity's token by its public name; the token itself is a secret.
    TokenId,
    "tok-",
    "a token id is tok- and 20 characters of a-z and 0-9"
);
id_type!(
    /// An identity's right to use a VM.
    VmGrantId,
    "vmg-",
    "the id of a VM grant is vmg- and 20 characters of a-z and 0-9"
);
id_type!(
    /// A private network of VMs.
    VpcId,
    "vpc-",
    "a VPC id is vpc- and 20 characters of a-z and 0-9"
);
id_type!(
    /// A computer that joins a VPC over WireGuard, ephemeral sessions included.
    WireguardPeerId,
    "wgs-",
    "a WireGuard session id is wgs- and 20 characters of a-z and 0-9"
);
id_type!(
    /// A long operation on a VM, as reported to a caller who has to wait for it.
    OperationId,
    "op-",
    "an operation id is op- and 20 characters of a-z and 0-9"
);

id_type!(
    /// A webhook of a repository.
    TriggerId,
    "trg-",
    "a trigger id is trg- and 20 characters of a-z and 0-9"
);
id_type!(
    /// One message to a webhook.
    DeliveryId,
    "dlv-",
    "a delivery id is dlv- and 20 characters of a-z and 0-9"
);

/// A tenant: it owns API keys and everything else. A UUID (protocol section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    /// A new random (version 4) UUID.
    pub fn random() -> Self {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        Self(format!("{a}-{b}-{c}-{d}-{e}"))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError { expected: "an account id is a lower-case UUID" })
        }
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> String {
        id.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
id_type!(
    /// A domain's ownership by an account.
    DomainId,
    "dom-",
    "the id of an owned domain is dom- and 20 characters of a-z and 0-9"
);
id_type!(
    /// What is to be proven of a domain.
    DomainVerificationId,
    "dv-",
    "a verification id is dv- and 20 characters of a-z and 0-9"
);
id_type!(
    /// What a domain leads to.
    DomainMappingId,
    "dm-",
    "a mapping id is dm- and 20 characters of a-z and 0-9"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_as_their_own_kind_only() {
        let snapshot = SnapshotId::random();
        assert_eq!(snapshot.as_str().parse(), Ok(snapshot.clone()));
        assert!(snapshot.as_str().parse::<VmId>().is_err());
        assert!(VmId::random().as_str().parse::<SnapshotId>().is_err());
        let account = AccountId::random();
        assert_eq!(account.as_str().parse(), Ok(account));
    }

    #[test]
    fn ids_are_json_strings_that_are_read_as_strictly() {
        let snapshot = SnapshotId::random();
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(json, format!("\"{snapshot}\""));
        assert_eq!(serde_json::from_str::<SnapshotId>(&json).unwrap(), snapshot);
        assert!(serde_json::from_str::<BuildId>(&json).is_err());
    }

    #[test]
    fn ids_are_parsed_strictly() {
        for bad in
            ["", "short", "../../../../etc/passw", "ABCDEFGHIJKLMNOPQRST", "é2345678901234567890"]
        {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
        assert!("6ba7b8109dad-11d1-80b4-00c04fd430c8-".parse::<AccountId>().is_err());
    }
}
