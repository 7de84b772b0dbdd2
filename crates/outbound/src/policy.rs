//! Which addresses users may send the server to: public ones, and what the operator lists.
//!
//! An address is refused unless it is known to be public. Forms that carry another address in
//! themselves (NAT64, 6to4, Teredo) are refused whatever they carry; an IPv4 address that is
//! written as an IPv6 one is judged as what it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 that is not the public internet (the registry of special-purpose addresses, RFC 6890).
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    // Carrier-grade NAT; some clouds have metadata services here.
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    // Link-local, with the metadata service of most clouds.
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    // Protocol assignments; Oracle's cloud has its metadata service here.
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    // Deprecated 6to4 relays.
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    // Benchmarks; the networks of VMs are here.
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    // Azure's host agent: a public address that means the machine itself.
    v4([168, 63, 129, 16], 32),
];

/// All public IPv6 addresses are in here.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0], 3);
/// What in it is not the public internet.
const SPECIAL_V6: [Ipv6Net; 4] = [
    // Protocol assignments, with Teredo and ORCHID.
    v6([0x2001, 0], 23),
    v6([0x2001, 0xdb8], 32),
    // 6to4.
    v6([0x2002, 0], 16),
    v6([0x3fff, 0], 20),
];

const fn v4(address: [u8; 4], prefix_length: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_length)
}

const fn v6([a, b]: [u16; 2], prefix_length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix_length)
}

/// The rule by which addresses are judged.
#[derive(Debug)]
pub(crate) struct Policy {
    allowed: Vec<IpNet>,
}

impl Policy {
    /// `allowed` may be connected to whatever else is said of it.
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether a user may send the server there. Asks the kernel for the subnets that the host is
    /// in now, so it also refuses the host's own public addresses and its neighbours'.
    pub(crate) fn accepts(&self, address: IpAddr) -> io::Result<bool> {
        let address = address.to_canonical();
        if self.allowed.iter().any(|net| net.contains(&address)) {
            return Ok(true);
        }
        if !is_public(address) {
            return Ok(false);
        }
        let own = freestyle_network::host_subnets().map_err(io::Error::other)?;
        Ok(!own.iter().any(|net| net.contains(&address)))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            PUBLIC_V6.contains(&address) && !SPECIAL_V6.iter().any(|net| net.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepts(policy: &Policy, address: &str) -> bool {
        policy.accepts(address.parse().unwrap()).unwrap()
    }

    #[test]
    fn only_public_addresses_are_accepted() {
        let policy = Policy::new(Vec::new());
        for public in ["1.1.1.1", "11.0.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(accepts(&policy, public), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            // An IPv4 address in other clothes: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::1.1.1.1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:0101:0101::1",
            "2001::1",
            "fe80::5efe:a00:1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "5f00::1",
        ] {
            assert!(!accepts(&policy, special), "{special}");
        }
        // What is public stays so when it is written as IPv6.
        assert!(accepts(&policy, "::ffff:1.1.1.1"));
    }

    #[test]
    fn what_the_operator_lists_is_accepted_and_nothing_beside_it() {
        let nets = ["127.0.0.0/8", "10.20.0.0/16", "fd00:1::/64"];
        let policy = Policy::new(nets.map(|net| net.parse().unwrap()).to_vec());
        for listed in ["127.0.0.1", "::ffff:127.0.0.1", "10.20.30.40", "fd00:1::7"] {
            assert!(accepts(&policy, listed), "{listed}");
        }
        for other in ["10.21.0.1", "192.168.0.1", "::1", "fd00:2::7", "64:ff9b::7f00:1"] {
            assert!(!accepts(&policy, other), "{other}");
        }
    }
}
