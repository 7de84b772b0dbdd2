//! Which address ranges a VPC may have.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

use crate::address::GUEST_SUBNET;

/// Private addresses (RFC 1918): what is in them is reached over no uplink.
const PRIVATE: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// The smallest range with a first and a last address and something between.
const LONGEST_PREFIX: u8 = 30;

/// A range of addresses that a VPC may have. It may overlap with other VPCs, with the host's own
/// networks, and with [`GUEST_SUBNET`], of which no VM can have an address then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpcRange(Ipv4Net);

/// Why a range is none for a VPC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not an IPv4 address and a prefix length.
    #[error("{0:?} is not an IPv4 range such as 192.168.10.0/24")]
    Malformed(String),
    /// The address is in the middle of the range.
    #[error("{0} is not the start of a range; {range} is the range it is in", range = .0.trunc())]
    NotTheStart(Ipv4Net),
    /// Not within one of the private ranges.
    #[error("{0} is not within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")]
    NotPrivate(Ipv4Net),
    /// Too small to hold a VM.
    #[error("{0} has no address for a VM")]
    TooSmall(Ipv4Net),
}

impl VpcRange {
    /// The range.
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// Whether a VM may have this address: it is not the first or the last of the range, and not
    /// one that every guest has already.
    pub fn has_room_for(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
            && address != self.0.network()
            && address != self.0.broadcast()
            && !GUEST_SUBNET.contains(&address)
    }
}

impl TryFrom<Ipv4Net> for VpcRange {
    type Error = RangeError;

    fn try_from(range: Ipv4Net) -> Result<Self, RangeError> {
        if range != range.trunc() {
            return Err(RangeError::NotTheStart(range));
        }
        if !PRIVATE.iter().any(|private| private.contains(&range)) {
            return Err(RangeError::NotPrivate(range));
        }
        if range.prefix_len() > LONGEST_PREFIX || GUEST_SUBNET.contains(&range) {
            return Err(RangeError::TooSmall(range));
        }
        Ok(Self(range))
    }
}

impl FromStr for VpcRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = |_| RangeError::Malformed(text.chars().take(64).collect());
        text.parse::<Ipv4Net>().map_err(malformed)?.try_into()
    }
}

impl fmt::Display for VpcRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_with_room_are_accepted() {
        for text in ["10.0.0.0/8", "10.0.0.0/16", "172.16.0.0/12", "192.168.10.0/24", "10.9.8.4/30"]
        {
            assert_eq!(text.parse::<VpcRange>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let error = |text: &str| text.parse::<VpcRange>().unwrap_err();
        for text in
            ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/-1", "fd00::/8", "10.0.0.0/8 "]
        {
            assert!(matches!(error(text), RangeError::Malformed(_)), "{text}");
        }
        assert!(error("192.168.10.7/24").to_string().contains("192.168.10.0/24"));
        for text in ["0.0.0.0/0", "8.8.8.0/24", "100.96.0.0/16", "169.254.0.0/16", "172.0.0.0/11"] {
            assert!(matches!(error(text), RangeError::NotPrivate(_)), "{text}");
        }
        for text in ["10.1.2.4/31", "10.1.2.3/32", "10.0.0.0/30"] {
            assert!(matches!(error(text), RangeError::TooSmall(_)), "{text}");
        }
    }

    #[test]
    fn the_ends_of_a_range_and_the_addresses_of_every_guest_are_nobodys() {
        let range: VpcRange = "10.0.0.0/24".parse().unwrap();
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let free = (0..=255).filter(|last| range.has_room_for(address(*last)));
        assert_eq!(free.collect::<Vec<_>>(), (4..=254).collect::<Vec<_>>());
        assert!(!range.has_room_for(Ipv4Addr::new(10, 0, 1, 5)));
        let range: VpcRange = "192.168.10.0/24".parse().unwrap();
        assert!(range.has_room_for(Ipv4Addr::new(192, 168, 10, 1)));
    }
}
