//! Instance names.

use std::{fmt, str::FromStr};

use crate::error::NetworkError;

const LENGTH: usize = 20;

/// A VM instance's name, safe in file names, link names and rule sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance(String);

impl Instance {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the instance's namespace, as `ip netns` shows it.
    pub(crate) fn namespace(&self) -> String {
        format!("fs-{}", self.0)
    }
}

impl FromStr for Instance {
    type Err = NetworkError;

    fn from_str(name: &str) -> Result<Self, NetworkError> {
        if !is_random_name(name) {
            return Err(NetworkError::InvalidInstance(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

/// Whether it is 20 characters of `[a-z0-9]`.
pub(crate) fn is_random_name(name: &str) -> bool {
    name.len() == LENGTH
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_lowercase_letters_and_digits_are_a_name() {
        assert!("abcdefghij0123456789".parse::<Instance>().is_ok());
        for bad in ["", "short", "abcdefghij012345678", "abcdefghij01234567890"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
        for bad in ["ABCDEFGHIJ0123456789", "../../../etc/passwd0", "abcdefghij01234567\u{e9}"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
    }
}
