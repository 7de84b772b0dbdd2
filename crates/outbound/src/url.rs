//! URLs of users: `http` and `https`, taken apart once.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use percent_encoding::percent_decode_str;

use crate::OutboundError;

const LONGEST: usize = 2048;

/// An `http` or `https` URL. Its text, as `Display` gives it, is free of credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct WebUrl {
    is_https: bool,
    host: String,
    port: u16,
    /// With the query; begins with a slash.
    path: String,
    credentials: Option<Credentials>,
}

/// The user name and password that a URL carried.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// A user name, without a colon, and a password.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// The value of an `Authorization` header. A secret.
    pub fn basic(&self) -> String {
        use base64::Engine;
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl WebUrl {
    /// Name or address of the host; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it is the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it asks for TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Path and query, beginning with a slash.
    pub fn path_and_query(&self) -> &str {
        &self.path
    }

    /// What stood before the host.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Scheme, host and port, as `https://example.com`.
    pub fn origin(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl FromStr for WebUrl {
    type Err = OutboundError;

    fn from_str(text: &str) -> Result<Self, OutboundError> {
        let invalid = OutboundError::InvalidUrl;
        if text.len() > LONGEST {
            return Err(invalid("it is longer than 2048 bytes"));
        }
        if text.contains('#') {
            return Err(invalid("it has a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it cannot be parsed"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or(invalid("it names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || !host.bytes().all(is_of_host) {
            return Err(invalid("its host is neither a name nor an address"));
        }
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        let port = match (authority.port_u16(), place.rsplit_once(':')) {
            (Some(0), _) => return Err(invalid("port 0 is none")),
            (Some(port), _) => port,
            // What follows the last colon is the end of an IPv6 address, or no number.
            (None, Some((_, after))) if !after.ends_with(']') => {
                return Err(invalid("its port is not a number"));
            }
            (None, _) if is_https => 443,
            (None, _) => 80,
        };
        Ok(Self {
            is_https,
            host: host.to_ascii_lowercase(),
            port,
            path: match uri.path_and_query().map_or("/", |path| path.as_str()) {
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            },
            credentials: user.map(parse_credentials).transpose()?,
        })
    }
}

/// Letters, digits, and what stands in names and addresses: nothing that a resolver, a log or a
/// header could take for something else.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)
}

fn parse_credentials(text: &str) -> Result<Credentials, OutboundError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text| {
        let decoded = percent_decode_str(text).decode_utf8();
        let decoded = decoded.ok().filter(|decoded| !decoded.contains(char::is_control));
        decoded.ok_or(OutboundError::InvalidUrl("its user name or password is not text"))
    };
    let (user, password) = (decode(user)?.into_owned(), decode(password)?.into_owned());
    if user.contains(':') {
        return Err(OutboundError::InvalidUrl("its user name has a colon"));
    }
    Ok(Credentials { user, password })
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<WebUrl, OutboundError> {
        text.parse()
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = parse("HTTPS://Example.COM/a/b?c=d").unwrap();
        assert_eq!((url.host(), url.port(), url.is_https()), ("example.com", 443, true));
        assert_eq!(url.path_and_query(), "/a/b?c=d");
        assert_eq!(url.to_string(), "https://example.com/a/b?c=d");

        let url = parse("http://[::1]:8080").unwrap();
        assert_eq!((url.host(), url.port(), url.path_and_query()), ("::1", 8080, "/"));
        assert_eq!(url.to_string(), "http://[::1]:8080/");
        assert_eq!(parse("http://h?q").unwrap().path_and_query(), "/?q");
        assert_eq!(parse("http://[2606:4700::1111]/").unwrap().port(), 80);
    }

    #[test]
    fn credentials_are_kept_apart_and_never_shown() {
        let url = parse("https://x-access-token:s%40cret@example.com:444/r").unwrap();
        assert_eq!(url.credentials().unwrap().basic(), "Basic eC1hY2Nlc3MtdG9rZW46c0BjcmV0");
        for shown in [format!("{url}"), format!("{url:?}"), format!("{:?}", url.credentials())] {
            assert!(!shown.contains("cret"), "{shown}");
        }
        assert_eq!(url.to_string(), "https://example.com:444/r");
    }

    #[test]
    fn what_is_not_a_web_url_is_refused() {
        for bad in [
            "",
            "example.com",
            "/path",
            "ftp://example.com/",
            "file:///etc/passwd",
            "ssh://git@example.com/x",
            "ext::sh -c id",
            "http://",
            "http:///path",
            "http://:80/",
            "http://h:0/",
            "http://h:99999/",
            "http://h:x/",
            "http://h:/",
            "http://h#f",
            "http://a b/",
            "http://h\r\nx: y/",
            "http://h/\n",
            "http://%6c/",
            "http://a%3ab@h%00/",
            "http://a%0ab@h/",
            "http://a%3ab:c@h/",
            "http://\u{e9}.com/",
            &format!("http://h/{}", "x".repeat(3000)),
        ] {
            assert!(parse(bad).is_err(), "{bad:?} is {:?}", parse(bad));
        }
    }

    proptest! {
        #[test]
        fn what_is_parsed_reads_the_same_again(text in "https?://[ -~]{0,40}") {
            if let Ok(url) = parse(&text) {
                let again = parse(&url.to_string()).unwrap();
                prop_assert_eq!(again.host(), url.host());
                prop_assert_eq!(again.port(), url.port());
                prop_assert_eq!(again.path_and_query(), url.path_and_query());
            }
        }
    }
}
