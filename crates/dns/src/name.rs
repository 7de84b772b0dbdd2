//! Names in a zone: those of hosts, and such as only DNS knows (`_dmarc`, `*`).

use std::fmt;

/// Longest name (RFC 1035 section 2.3.4), without the dot at its end.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// The domain itself, as zone files write it.
const APEX: &str = "@";

/// An absolute name in its one form: ASCII, lower case, without final dot. Its first label may be `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName(String);

impl RecordName {
    /// Reads an absolute name in any script and case. The reason is for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // Before anything is computed of it: no short form of a name is so long.
        if text.len() > 4 * MAX_NAME {
            return Err("it is too long");
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let (star, rest) = match name.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", name),
        };
        // Lower case, and other scripts in Punycode.
        let rest = idna::domain_to_ascii(rest).map_err(|_| "it is no name")?;
        if star.len() + rest.len() > MAX_NAME {
            return Err("it is too long");
        }
        if !rest.split('.').all(is_label) {
            return Err("a name consists of letters, digits, hyphens and underscores, with dots \
                        between them");
        }
        Ok(Self(format!("{star}{rest}")))
    }

    /// Reads a name as it is written in a domain: `@` is the domain itself, what ends in the domain
    /// stands for itself, and everything else is below the domain.
    pub fn within(domain: &str, text: &str) -> Result<Self, &'static str> {
        if text == APEX || text.is_empty() {
            return Self::parse(domain);
        }
        // A star alone is no name.
        if text != "*" {
            let name = Self::parse(text)?;
            if name.relative_to(domain).is_some() {
                return Ok(name);
            }
            if text.ends_with('.') {
                return Err("it is not in this domain");
            }
        }
        Self::parse(&format!("{text}.{domain}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written in a domain; `None` if it is not there.
    pub fn relative_to(&self, domain: &str) -> Option<&str> {
        if self.0 == domain {
            return Some(APEX);
        }
        self.0.strip_suffix(domain)?.strip_suffix('.')
    }

    /// Whether it stands for others.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn within(text: &str) -> Result<String, &'static str> {
        RecordName::within("example.com", text).map(|name| name.0)
    }

    #[test]
    fn a_name_is_relative_to_its_domain_unless_it_ends_in_it() {
        for (text, expected) in [
            ("@", "example.com"),
            ("", "example.com"),
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("app", "app.example.com"),
            ("App.example.com", "app.example.com"),
            ("a.b", "a.b.example.com"),
            ("*", "*.example.com"),
            ("*.example.com", "*.example.com"),
            ("*.a", "*.a.example.com"),
            ("_dmarc", "_dmarc.example.com"),
            ("k1._domainkey", "k1._domainkey.example.com"),
            ("bücher", "xn--bcher-kva.example.com"),
            // Another domain's name, if no dot says that it is absolute.
            ("example.org", "example.org.example.com"),
            ("badexample.com", "badexample.com.example.com"),
        ] {
            assert_eq!(within(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = ["a"; 128].join(".");
        for text in [
            ".",
            "a..b",
            ".a",
            "a b",
            "a.*",
            "a.*.b",
            "**",
            "*a",
            "a/b",
            "a\"b",
            "a\\b",
            "a;b",
            "a\0",
            "example.org.",
            "xn--zzzzzzzz--",
            &"a".repeat(64),
            &long,
        ] {
            assert!(within(text).is_err(), "{text:?}: {:?}", within(text));
        }
        assert!(within(&"a.".repeat(10_000)).is_err());
    }

    #[test]
    fn a_name_is_written_as_it_was_read() {
        for text in ["@", "app", "*", "*.a", "_dmarc"] {
            let name = RecordName::within("example.com", text).unwrap();
            assert_eq!(name.relative_to("example.com"), Some(text));
        }
        let name = RecordName::parse("badexample.com").unwrap();
        assert_eq!(name.relative_to("example.com"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again_as_the_same(text in "\\PC{0,60}|[a-zA-Z0-9.*_-]{0,300}") {
            if let Ok(name) = RecordName::within("example.com", &text) {
                prop_assert!(name.0.is_ascii() && name.0.len() <= MAX_NAME);
                prop_assert_eq!(RecordName::parse(&name.0), Ok(name.clone()));
                let relative = name.relative_to("example.com").unwrap();
                prop_assert_eq!(RecordName::within("example.com", relative), Ok(name.clone()));
            }
        }
    }
}
