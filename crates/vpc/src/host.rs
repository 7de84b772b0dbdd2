//! By which name clients reach the endpoint.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A host name or an IP address, safe to be written into a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpnHost(String);

impl VpnHost {
    /// The host of an HTTP `Host` header or `host:port`; `None` if it is none.
    pub fn of_authority(authority: &str) -> Option<Self> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Some(address.ip().into());
        }
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.parse().ok()
    }

    /// As it stands before a colon and a port.
    pub(crate) fn bracketed(&self) -> String {
        if self.0.contains(':') { format!("[{}]", self.0) } else { self.0.clone() }
    }

    /// The host.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IpAddr> for VpnHost {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

impl FromStr for VpnHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = inner.unwrap_or(text).parse::<IpAddr>() {
            return Ok(address.into());
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err("it is neither a host name nor an IP address")
        }
    }
}

impl fmt::Display for VpnHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_header_is_found_and_what_is_none_is_not_believed() {
        let host = |text| VpnHost::of_authority(text).map(|host| host.bracketed());
        assert_eq!(host("api.example.com:8080").as_deref(), Some("api.example.com"));
        assert_eq!(host("API.example.com").as_deref(), Some("api.example.com"));
        assert_eq!(host("192.0.2.1:80").as_deref(), Some("192.0.2.1"));
        assert_eq!(host("[2001:db8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(host("[2001:db8::1]").as_deref(), Some("[2001:db8::1]"));
        for bad in
            ["", ":80", "a b", "a\nPostUp = reboot", "a..b", "a/b", "ü.example", &"a".repeat(64)]
        {
            assert_eq!(host(bad), None, "{bad:?}");
        }
    }
}
