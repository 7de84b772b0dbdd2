//! The name of a repository on disk and in URLs.

use std::fmt;
use std::str::FromStr;

/// A repository. A random (version 4) UUID in lower case: 36 characters of `[0-9a-f-]`.
///
/// It is the only part of a path on disk that comes from outside, so it is parsed strictly and
/// can hold nothing that means anything to a file system.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryId(String);

/// The text is not the identifier of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a repository id is a lower-case UUID")]
pub struct ParseRepositoryIdError;

impl RepositoryId {
    /// A new identifier that no one can guess.
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

    /// The folder of the repository below the root: two levels, so that no directory gets huge.
    pub(crate) fn folder(&self) -> (&str, String) {
        (&self.0[..2], format!("{}.git", self.0))
    }
}

impl FromStr for RepositoryId {
    type Err = ParseRepositoryIdError;

    fn from_str(text: &str) -> Result<Self, ParseRepositoryIdError> {
        let well_formed = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            });
        if well_formed { Ok(Self(text.to_owned())) } else { Err(ParseRepositoryIdError) }
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_strictly() {
        let id = RepositoryId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        let upper = id.as_str().to_uppercase().replace(|c: char| c.is_ascii_digit(), "A");
        for bad in ["", "../../../../../../../../../etc/passwd", &upper, &format!("{id}.git")] {
            assert!(bad.parse::<RepositoryId>().is_err(), "{bad}");
        }
    }
}
