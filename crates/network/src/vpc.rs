//! The network of one VPC: a namespace that routes between the VMs that are plugged into it.
//!
//! ```text
//!  namespace fs-<instance>            namespace fs-vpc-...            namespace fs-<instance>
//! ┌───────────────────────────┐     ┌───────────────────────┐      ┌──────────────────────┐
//! │ QEMU ── tap0              │veth │                       │ veth │                      │
//! │ (guest 192.168.10.10) vpc ├─────┤ v0                 v1 ├──────┤ vpc       tap0 ── QEMU
//! │                           │     │          wg0          │      │                      │
//! └───────────────────────────┘     └───────────┬───────────┘      └──────────────────────┘
//!                                     the VPN's own process
//! ```
//!
//! It is a router and no switch: each VM has a link of its own with a route for its one address, so
//! there is nothing to be learned and nothing to be poisoned, and a packet is forwarded only if it
//! came over the link of its sender (the reverse path filter). No packet is translated or tracked:
//! VMs of a VPC are one trust domain, and the kernel does nothing but look up a route. Since every
//! VPC is a namespace of its own, their ranges may overlap.

use std::{fmt, net::Ipv4Addr, os::fd::OwnedFd, str::FromStr};

use ipnet::Ipv4Net;

use crate::{
    address::{TUNNEL_ADDRESS, TUNNEL_RANGE},
    error::{Because, NetworkError},
    instance::is_random_name,
    link::Netlink,
    namespace,
    range::VpcRange,
    records::Records,
    rules, settings, tap,
};

/// The end of the VPN in a VPC's namespace.
pub(crate) const TUNNEL: &str = "wg0";
/// What `wg-quick` gives a tunnel whose path carries 1500 bytes, with IPv6 outside.
const TUNNEL_MTU: u32 = 1420;
const NAME_PREFIX: &str = "vpc-";

/// The name of a VPC, safe in file names and rule sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VpcName(String);

impl VpcName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the VPC's namespace. Longer than any instance's.
    pub(crate) fn namespace(&self) -> String {
        format!("fs-{}", self.0)
    }
}

impl FromStr for VpcName {
    type Err = NetworkError;

    fn from_str(name: &str) -> Result<Self, NetworkError> {
        match name.strip_prefix(NAME_PREFIX) {
            Some(random) if is_random_name(random) => Ok(Self(name.to_owned())),
            _ => Err(NetworkError::InvalidVpc(name.to_owned())),
        }
    }
}

impl fmt::Display for VpcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VPC: a name and a range of addresses, of which neither ever changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    pub(crate) name: VpcName,
    pub(crate) range: VpcRange,
}

/// The place of a VM in a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    pub(crate) vpc: Vpc,
    pub(crate) address: Ipv4Addr,
}

impl Vpc {
    /// `name` is `vpc-` and 20 characters of `[a-z0-9]`, unique on the host.
    ///
    /// # Errors
    /// [`NetworkError::InvalidVpc`].
    pub fn new(name: &str, range: VpcRange) -> Result<Self, NetworkError> {
        Ok(Self { name: name.parse()?, range })
    }
}

impl Nic {
    /// No two VMs of a VPC that run at the same time may have one address: that is for the caller
    /// to see to.
    ///
    /// # Errors
    /// [`NetworkError::NotOfVpc`] if the address is none for a VM of this VPC.
    pub fn new(vpc: Vpc, address: Ipv4Addr) -> Result<Self, NetworkError> {
        if !vpc.range.has_room_for(address) {
            return Err(NetworkError::NotOfVpc { address, range: vpc.range.net() });
        }
        Ok(Self { vpc, address })
    }

    /// Where the VM's packets go by way of the VPC.
    pub(crate) fn destinations(&self) -> [Ipv4Net; 2] {
        [self.vpc.range.net(), TUNNEL_RANGE]
    }
}

type Step = fn(&Records, &Vpc) -> Result<(), NetworkError>;

/// In order, as with VMs: rules come before any link.
pub(crate) const STEPS: [(&str, Step); 4] = [
    ("record", |records, vpc| records.add(vpc.name.as_str())),
    ("namespace", |_, vpc| namespace::ensure(&vpc.name.namespace())),
    ("settings", |_, vpc| vpc.inside(settings::apply)?),
    ("rules", |_, vpc| vpc.inside(|| rules::load_for_vpc(vpc.range))?),
];

impl Vpc {
    /// Makes whatever is missing. After an error the rest stays for [`remove`].
    pub(crate) fn ensure(&self, records: &Records) -> Result<(), NetworkError> {
        STEPS.iter().try_for_each(|(_, step)| step(records, self))
    }

    /// A tunnel into the VPC, up: what is written to it arrives there, what the VPC's VMs send to
    /// [`TUNNEL_RANGE`] is read from it. It is gone when it is closed.
    pub(crate) fn open_tunnel(&self) -> Result<OwnedFd, NetworkError> {
        let action = || format!("open the tunnel of {}", self.name);
        self.inside(|| {
            let tunnel = tap::open_tun(TUNNEL).because(action)?;
            let netlink = Netlink::open()?;
            netlink.set_mtu(TUNNEL, TUNNEL_MTU)?;
            netlink.add_address(TUNNEL, TUNNEL_ADDRESS, TUNNEL_RANGE.prefix_len())?;
            netlink.set_up(TUNNEL, None)?;
            Ok(tunnel)
        })?
    }

    pub(crate) fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, NetworkError> {
        namespace::enter(namespace::open(&self.name.namespace())?, work)
    }
}

/// Removes whatever is there of a VPC, the record last. Links to VMs go with its namespace.
pub(crate) fn remove(records: &Records, name: &VpcName) -> Result<(), NetworkError> {
    namespace::remove(&name.namespace())?;
    records.remove(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_an_instances_or_a_path() {
        assert!("vpc-abcdefghij0123456789".parse::<VpcName>().is_ok());
        for bad in [
            "",
            "vpc-",
            "abcdefghij0123456789",
            "vpc-../../../etc/passwd0",
            "vpc-ABCDEFGHIJ0123456789",
        ] {
            assert!(bad.parse::<VpcName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_nic_has_an_address_of_its_vpc() {
        let vpc = Vpc::new("vpc-abcdefghij0123456789", "10.1.0.0/24".parse().unwrap()).unwrap();
        assert!(Nic::new(vpc.clone(), Ipv4Addr::new(10, 1, 0, 5)).is_ok());
        for bad in [[10, 1, 0, 0], [10, 1, 0, 255], [10, 1, 1, 5], [192, 0, 2, 1]] {
            let nic = Nic::new(vpc.clone(), bad.into());
            assert!(matches!(nic, Err(NetworkError::NotOfVpc { .. })), "{bad:?}");
        }
    }
}
