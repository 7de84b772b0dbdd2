//! Which hosts a certificate is for.

use std::fmt;

use crate::host::HostName;

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Names {
    /// One host.
    Host(HostName),
    /// All hosts right below a domain.
    Below(HostName),
}

impl Names {
    /// Reads what is in a certificate.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(domain) => HostName::parse(domain).map(Self::Below),
            None => HostName::parse(text).map(Self::Host),
        }
    }

    /// The domain without what stands for others.
    pub(super) fn domain(&self) -> &HostName {
        match self {
            Self::Host(name) | Self::Below(name) => name,
        }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}
