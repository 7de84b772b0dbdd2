//! Names of hosts, as requests carry them.

use std::fmt;

/// Longest name (RFC 1035 section 2.3.4), without the dot at its end.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The name of a host in its one form: ASCII, lower case, without port and final dot.
///
/// Addresses are no names: whoever asks for one means this server and none of the sites behind it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// Reads a name as TLS carries it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_name = text.len() <= MAX_NAME && text.split('.').all(is_label);
        // No top-level domain is a number, and what ends in one is an address or pretends to be.
        let ends_in_number = text.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
        (is_name && !ends_in_number).then(|| Self(text.to_ascii_lowercase()))
    }

    /// Reads a `Host` field or the authority of a URI. The port is of no interest: everybody who got
    /// here came by the right one.
    pub(crate) fn from_authority(authority: &str) -> Option<Self> {
        match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => Self::parse(host),
            Some(_) => None,
            None => Self::parse(authority),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain right above, if there is one.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_once('.')?;
        Some(Self(parent.to_owned()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The underscore is no part of a host's name by the book, but people have such.
fn is_label(label: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(is_part)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for text in ["app.example.com", "App.EXAMPLE.com", "app.example.com."] {
            assert_eq!(HostName::parse(text).unwrap().as_str(), "app.example.com", "{text}");
        }
        for text in ["a_b.example.com", "localhost", "xn--bcher-kva.example", "1.example", "a--b.c"]
        {
            assert_eq!(HostName::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = ["a"; 128].join(".");
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "bücher.example",
            "*.example.com",
            "-a.com",
            "a-.com",
            "127.0.0.1",
            "1.2",
            "[::1]",
            "::1",
            "a:80",
            "a@b",
            "a.com..",
            "a\0b",
            &long_label,
            &long_name,
        ] {
            assert_eq!(HostName::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_is_passed_over_and_must_be_one() {
        let host = |text| HostName::from_authority(text).map(|host| host.to_string());
        assert_eq!(host("a.com:8443").as_deref(), Some("a.com"));
        assert_eq!(host("a.com:").as_deref(), Some("a.com"));
        assert_eq!(host("a.com").as_deref(), Some("a.com"));
        for text in ["a.com:80:80", "a.com:x", "a.com:123456", ":80", "user@a.com", "[::1]:80"] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again_as_the_same(text in "\\PC{0,80}|[a-zA-Z0-9.:-]{0,300}") {
            if let Some(host) = HostName::from_authority(&text) {
                prop_assert_eq!(HostName::parse(host.as_str()), Some(host.clone()));
                prop_assert!(host.as_str().is_ascii() && host.as_str().len() <= MAX_NAME);
            }
        }
    }
}
