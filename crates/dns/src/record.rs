//! Records, as people write them and as messages carry them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, TXT};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::name::RecordName;

/// Longest time that a record may be kept by others, in seconds: a week.
pub const MAX_TTL: u32 = 7 * 24 * 3600;
/// Longest text: a key of DKIM takes some 800 bytes. With the number of records of a name this keeps
/// every answer within a message.
const MAX_TEXT: usize = 2048;
/// The pieces that a text comes in (RFC 1035 section 3.3).
const TEXT_PIECE: usize = 255;

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidRecord {
    /// What of it.
    pub field: &'static str,
    /// Why, for whoever wrote it.
    pub reason: &'static str,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name for everything.
    Cname(RecordName),
    /// The host that takes mail.
    Mx {
        /// The lowest is tried first.
        priority: u16,
        /// The host.
        host: RecordName,
    },
    /// A name server of what is below.
    Ns(RecordName),
    /// A text.
    Txt(String),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: RecordName,
    /// How long others may keep it, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

impl From<IpAddr> for Data {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }
}

impl Data {
    /// Reads what a record of a kind says.
    pub fn parse(kind: &str, value: &str, priority: Option<u16>) -> Result<Self, InvalidRecord> {
        let bad = |field, reason| Err(InvalidRecord { field, reason });
        let host = || host(value).map_err(|reason| InvalidRecord { field: "value", reason });
        if priority.is_some() && kind != "MX" {
            return bad("priority", "only an MX record has one");
        }
        match (kind, priority) {
            ("A", _) => match value.parse() {
                Ok(address) => Ok(Self::A(address)),
                Err(_) => bad("value", "an A record is an IPv4 address, like 192.0.2.1"),
            },
            ("AAAA", _) => match value.parse() {
                Ok(address) => Ok(Self::Aaaa(address)),
                Err(_) => bad("value", "an AAAA record is an IPv6 address, like 2001:db8::1"),
            },
            ("CNAME", _) => host().map(Self::Cname),
            ("NS", _) => host().map(Self::Ns),
            ("MX", Some(priority)) => host().map(|host| Self::Mx { priority, host }),
            ("MX", None) => bad("priority", "an MX record needs one, like 10"),
            ("TXT", _) => match value {
                _ if value.is_empty() || value.len() > MAX_TEXT => {
                    bad("value", "a text has 1 to 2048 bytes")
                }
                _ if value.chars().any(char::is_control) => {
                    bad("value", "a text has no control characters")
                }
                text => Ok(Self::Txt(text.to_owned())),
            },
            _ => bad("kind", "it must be A, AAAA, CNAME, MX, NS or TXT"),
        }
    }

    /// Its kind, as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Mx { .. } => "MX",
            Self::Ns(_) => "NS",
            Self::Txt(_) => "TXT",
        }
    }

    /// What it says besides a priority, as it is written.
    pub fn value(&self) -> String {
        match self {
            Self::A(address) => address.to_string(),
            Self::Aaaa(address) => address.to_string(),
            Self::Cname(host) | Self::Ns(host) | Self::Mx { host, .. } => host.to_string(),
            Self::Txt(text) => text.clone(),
        }
    }

    /// Its priority, if its kind has one.
    pub fn priority(&self) -> Option<u16> {
        match self {
            Self::Mx { priority, .. } => Some(*priority),
            _ => None,
        }
    }

    pub(crate) fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Cname(_) => RecordType::CNAME,
            Self::Mx { .. } => RecordType::MX,
            Self::Ns(_) => RecordType::NS,
            Self::Txt(_) => RecordType::TXT,
        }
    }

    pub(crate) fn to_rdata(&self) -> Result<RData, ProtoError> {
        Ok(match self {
            Self::A(address) => RData::A(A(*address)),
            Self::Aaaa(address) => RData::AAAA(AAAA(*address)),
            Self::Cname(host) => RData::CNAME(CNAME(wire_name(host.as_str())?)),
            Self::Mx { priority, host } => RData::MX(MX::new(*priority, wire_name(host.as_str())?)),
            Self::Ns(host) => RData::NS(NS(wire_name(host.as_str())?)),
            Self::Txt(text) => text_data(text),
        })
    }
}

/// A name as messages carry it.
pub(crate) fn wire_name(name: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes))?;
    name.set_fqdn(true);
    Ok(name)
}

pub(crate) fn text_data(text: &str) -> RData {
    RData::TXT(TXT::from_bytes(text.as_bytes().chunks(TEXT_PIECE).collect()))
}

/// The name of another host, which is always absolute.
fn host(text: &str) -> Result<RecordName, &'static str> {
    let name = RecordName::parse(text)?;
    let Some((_, top)) = name.as_str().rsplit_once('.') else {
        return Err("it must be a whole name, like app.example.com");
    };
    if top.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it must be a name, and this is an address");
    }
    if name.is_wildcard() {
        return Err("a host has no star in its name");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_as_it_was_read() {
        for (kind, value, priority) in [
            ("A", "192.0.2.1", None),
            ("AAAA", "2001:db8::1", None),
            ("CNAME", "_x.app.example.com", None),
            ("MX", "mail.example.com", Some(10)),
            ("NS", "ns1.example.com", None),
            ("TXT", "v=spf1 \"quoted\" ; -all ü", None),
        ] {
            let data = Data::parse(kind, value, priority).unwrap();
            assert_eq!(
                (data.kind(), data.value().as_str(), data.priority()),
                (kind, value, priority)
            );
            assert!(data.to_rdata().is_ok());
        }
        assert_eq!(Data::parse("AAAA", "2001:DB8:0::1", None).unwrap().value(), "2001:db8::1");
        assert_eq!(
            Data::parse("CNAME", "App.Example.com.", None).unwrap().value(),
            "app.example.com"
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let (long, text) = ("a.".repeat(200), "x".repeat(MAX_TEXT + 1));
        for (kind, value, priority, field) in [
            ("A", "192.0.2", None, "value"),
            ("A", "192.0.2.256", None, "value"),
            ("A", "2001:db8::1", None, "value"),
            ("A", "192.0.2.1", Some(1), "priority"),
            ("AAAA", "192.0.2.1", None, "value"),
            ("AAAA", "fe80::1%eth0", None, "value"),
            ("CNAME", "localhost", None, "value"),
            ("CNAME", "192.0.2.1", None, "value"),
            ("CNAME", "*.example.com", None, "value"),
            ("CNAME", "a b.example.com", None, "value"),
            ("CNAME", &long, None, "value"),
            ("MX", "mail.example.com", None, "priority"),
            ("NS", "", None, "value"),
            ("TXT", "", None, "value"),
            ("TXT", "a\nb", None, "value"),
            ("TXT", &text, None, "value"),
            ("SRV", "x", None, "kind"),
            ("a", "192.0.2.1", None, "kind"),
        ] {
            let refused = Data::parse(kind, value, priority).unwrap_err();
            assert_eq!(refused.field, field, "{kind} {value}: {refused}");
        }
    }

    #[test]
    fn a_long_text_comes_in_pieces() {
        let RData::TXT(txt) = Data::Txt("x".repeat(600)).to_rdata().unwrap() else { panic!() };
        let pieces: Vec<_> = txt.txt_data.iter().map(|piece| piece.len()).collect();
        assert_eq!(pieces, [255, 255, 90]);
    }
}
