//! DNS records (protocol section 13).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum DnsRecordKind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name for everything.
    Cname,
    /// The host that takes mail. Has a priority.
    Mx,
    /// A name server of what is below.
    Ns,
    /// A text.
    Txt,
}

impl DnsRecordKind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Txt => "TXT",
        }
    }
}

impl fmt::Display for DnsRecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record as it is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DnsRecordInput {
    /// What it is about.
    pub kind: DnsRecordKind,
    /// Whose it is, in the domain: `@` is the domain itself, `*` whatever has no records of its own.
    pub name: String,
    /// What it says: an address, the whole name of a host, or a text.
    pub value: String,
    /// How many seconds others may keep it: a number, as a string; 300 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Of an MX record: the lowest is tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DnsRecord {
    /// What it is about.
    pub kind: DnsRecordKind,
    /// Whose it is, in the domain: `@` is the domain itself.
    pub name: String,
    /// What it says.
    pub value: String,
    /// How many seconds others may keep it, as a string.
    pub ttl: String,
    /// Of an MX record.
    pub priority: Option<u16>,
    /// Whether the server made it: nobody can change or delete it.
    pub managed: bool,
}

/// The body of `POST /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateDnsRecordRequest {
    /// A domain that was verified, or one below it.
    pub domain: String,
    /// The record.
    pub record: DnsRecordInput,
}

/// The reply of `POST /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateDnsRecordResponse {
    /// The record, as everybody is told of it.
    pub record: DnsRecord,
}

/// The query of `GET /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListDnsRecordsQuery {
    /// A domain that was verified, or one below it.
    pub domain: String,
}

/// The reply of `GET /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListDnsRecordsResponse {
    /// What is said of the domain and of what is below it.
    pub records: Vec<DnsRecord>,
}

/// The query of `DELETE /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct DeleteDnsRecordQuery {
    /// The domain that the record was made in.
    pub domain: String,
    /// The record, in JSON: kind, name and value say which one. The SDK puts `[object Object]` here
    /// unless it is given a string: `JSON.stringify(record)`.
    pub record: String,
}

/// The reply of `DELETE /dns/v1/records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeleteDnsRecordResponse {
    /// What was done, in a sentence.
    pub message: String,
}
