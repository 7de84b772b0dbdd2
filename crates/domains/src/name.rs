//! Names of domains, as people write them and as everybody else reads them.

use std::fmt;

use crate::error::DomainError;

/// Longest name (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// How much of a wrong name is repeated.
const EXCERPT: usize = 100;

/// The name of a domain or host, in its one form: ASCII (international names in Punycode), lower case,
/// without final dot, at least two labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

/// What can be mapped: one host, or all hosts right below a domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The host of this name.
    Host(DomainName),
    /// `*.` and this name.
    HostsBelow(DomainName),
}

impl DomainName {
    /// Reads a name in any script and case.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        Self::read(text).map_err(|reason| invalid(text, reason))
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        // Before anything is computed of it: no short form of a name is so long.
        if text.len() > 4 * MAX_NAME {
            return Err("it is too long");
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        // Maps letters to lower case and other scripts to Punycode, and refuses what is no host's
        // name: spaces, slashes, underscores, too long labels, hyphens at their ends.
        let name = idna::domain_to_ascii_strict(name).map_err(
            |_| "a name consists of letters, digits and hyphens, with dots between them",
        )?;
        if name.len() > MAX_NAME {
            return Err("it is too long");
        }
        let Some((_, top)) = name.rsplit_once('.') else {
            return Err("a single label is no domain of anybody's");
        };
        if top.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("an address is no domain");
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a host right below this domain.
    pub fn child(&self, label: &str) -> Result<Self, DomainError> {
        Self::parse(&format!("{label}.{}", self.0))
    }

    /// What comes before this suffix and its dot; `None` if the name does not end so.
    pub(crate) fn below<'a>(&'a self, suffix: &str) -> Option<&'a str> {
        self.0.strip_suffix(suffix)?.strip_suffix('.')
    }
}

impl Pattern {
    /// Reads a name, or `*.` and a name.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        match text.strip_prefix("*.") {
            Some(domain) => DomainName::parse(domain).map(Self::HostsBelow),
            None => DomainName::parse(text).map(Self::Host),
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => name.fmt(f),
            Self::HostsBelow(name) => write!(f, "*.{name}"),
        }
    }
}

pub(crate) fn invalid(name: &str, reason: &'static str) -> DomainError {
    DomainError::Invalid { name: name.chars().take(EXCERPT).collect(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for (text, expected) in [
            ("app.example.com", "app.example.com"),
            ("App.EXAMPLE.com.", "app.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("1.example", "1.example"),
        ] {
            assert_eq!(DomainName::parse(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let (long_label, long_name) = (format!("{}.com", "a".repeat(64)), ["a"; 128].join("."));
        for text in [
            "",
            ".",
            "com",
            "localhost",
            "a..com",
            ".a.com",
            "a.com..",
            "a b.com",
            "a_b.com",
            "-a.com",
            "a-.com",
            "*.com.",
            "*",
            "a.*.com",
            "https://a.com",
            "a.com/",
            "a.com:80",
            "a@b.com",
            "127.0.0.1",
            "::1",
            "a.1",
            "a\0.com",
            "xn--a.com",
            "xn--zzzzzzzz--.com",
            "\u{200d}.com",
            "a\u{202e}b.com",
            &long_label,
            &long_name,
        ] {
            let refused = DomainName::parse(text);
            assert!(matches!(refused, Err(DomainError::Invalid { .. })), "{text:?}: {refused:?}");
        }
        let refused = DomainName::parse(&"a.".repeat(10_000)).unwrap_err().to_string();
        assert!(refused.len() < 300, "{refused}");
    }

    #[test]
    fn a_star_stands_for_the_hosts_below_and_for_nothing_else() {
        let pattern = Pattern::parse("*.Example.com").unwrap();
        assert_eq!(pattern, Pattern::HostsBelow(DomainName::parse("example.com").unwrap()));
        assert_eq!(pattern.to_string(), "*.example.com");
        for text in ["*.*.example.com", "*.com", "*example.com", "a.*.example.com"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_suffix_ends_at_a_dot() {
        let name = DomainName::parse("a.b.example.com").unwrap();
        assert_eq!(name.below("example.com"), Some("a.b"));
        assert_eq!(name.below("a.b.example.com"), None);
        assert_eq!(name.below("xample.com"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again_as_the_same(text in "\\PC{0,60}|[a-zA-Z0-9.*-]{0,300}") {
            if let Ok(name) = DomainName::parse(&text) {
                prop_assert!(name.as_str().is_ascii() && name.as_str().len() <= MAX_NAME);
                prop_assert_eq!(DomainName::parse(name.as_str()).unwrap(), name);
            }
        }
    }
}
