//! Names, addresses and uids as pure functions of (block, slot): unique on the host without asking.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// The address of every guest.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The guest's default gateway and DNS server: the namespace's side of the tap.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Prefix length of the guest's subnet.
pub const PREFIX_LENGTH: u8 = 30;
/// The guest's subnet: the addresses of a VPC's range that none of its VMs can have.
pub const GUEST_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), PREFIX_LENGTH);
/// The addresses of computers that have joined a VPC over its tunnel: shared address space (RFC
/// 6598), which is no VPC's.
pub const TUNNEL_RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 96, 0, 0), 16);
/// The VPC's own end of every tunnel.
pub const TUNNEL_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
/// The gateway's MAC address, the same for every VM so that clones need not learn it again.
pub const GATEWAY_MAC: [u8; 6] = [0x06, 0x00, 10, 0, 0, 1];
/// VMs per block; valid slots are `0..SLOTS`.
pub const SLOTS: u16 = 1024;

/// Blocks per host.
const BLOCKS: u8 = 32;
/// Benchmark-testing range (RFC 2544): never routed, and rarely used by anyone's local network.
pub(crate) const ALL_BLOCKS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
const BLOCK_PREFIX_LENGTH: u8 = 20;
/// The links between VMs and their VPCs: link-local, so that they are in nobody's way.
const VPC_LINKS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 20);
/// Above what distributions, containers and systemd's dynamic users hand out.
const FIRST_UID: u32 = 900_000_000;

/// One of the host's address blocks: a /20, a prefix of link names, a table name, a range of uids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Block(u8);

impl Block {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..BLOCKS).map(Self)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        (number < BLOCKS).then_some(Self(number))
    }

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn subnet(self) -> Ipv4Net {
        let first = u32::from(ALL_BLOCKS.network()) + (u32::from(self.0) << 12);
        Ipv4Net::new_assert(first.into(), BLOCK_PREFIX_LENGTH)
    }

    /// The block's table in the root namespace.
    pub(crate) fn table(self) -> String {
        format!("freestyle_{}", self.0)
    }

    /// What every link of this block starts with, and no other link does.
    pub(crate) fn link_prefix(self) -> String {
        format!("fs{}-", self.0)
    }

    pub(crate) fn slot(self, index: u16) -> Option<Slot> {
        (index < SLOTS).then_some(Slot { block: self, index })
    }

    pub(crate) fn owns_uid(self, uid: u32) -> bool {
        let first = FIRST_UID + u32::from(self.0) * u32::from(SLOTS);
        (first..first + u32::from(SLOTS)).contains(&uid)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of one VM in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    block: Block,
    index: u16,
}

impl Slot {
    pub(crate) fn index(self) -> u16 {
        self.index
    }

    /// The veth's end in the root namespace. Derived from the slot, not the instance, so that a
    /// rule can match a whole block by prefix and two names can never collide when cut to 15 bytes.
    pub(crate) fn link_name(self) -> String {
        format!("fs{}-{}", self.block, self.index)
    }

    /// The veth's address in the root namespace.
    pub(crate) fn host_address(self) -> Ipv4Addr {
        self.address(self.block.subnet(), 1)
    }

    /// The veth's address in the VM's namespace.
    pub(crate) fn namespace_address(self) -> Ipv4Addr {
        self.address(self.block.subnet(), 2)
    }

    /// The end of the VM's link in its VPC's namespace.
    pub(crate) fn vpc_link_name(self) -> String {
        format!("v{}", self.index)
    }

    /// The VPC's address on the VM's link to it. Blocks share these: a VPC is in one block.
    pub(crate) fn vpc_gateway(self) -> Ipv4Addr {
        self.address(VPC_LINKS, 1)
    }

    /// The address of the VM's namespace on its link to the VPC.
    pub(crate) fn vpc_address(self) -> Ipv4Addr {
        self.address(VPC_LINKS, 2)
    }

    /// The unprivileged user that the VM's processes run as.
    pub(crate) fn uid(self) -> u32 {
        FIRST_UID + u32::from(self.block.0) * u32::from(SLOTS) + u32::from(self.index)
    }

    fn address(self, range: Ipv4Net, offset: u32) -> Ipv4Addr {
        let subnet = u32::from(range.network()) + 4 * u32::from(self.index);
        (subnet + offset).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn blocks_and_slots_never_overlap() {
        let mut addresses = HashSet::new();
        let mut uids = HashSet::new();
        let mut links = HashSet::new();
        for block in Block::all() {
            for slot in (0..SLOTS).map(|index| block.slot(index).unwrap()) {
                for address in [slot.host_address(), slot.namespace_address()] {
                    assert!(block.subnet().contains(&address));
                    assert!(ALL_BLOCKS.contains(&address));
                    assert!(addresses.insert(address));
                }
                assert!(block.owns_uid(slot.uid()));
                assert!(uids.insert(slot.uid()));
                assert!(slot.link_name().starts_with(&block.link_prefix()));
                assert!(slot.link_name().len() <= 15, "IFNAMSIZ");
                assert!(links.insert(slot.link_name()));
            }
        }
        assert_eq!(uids.len(), 32 * 1024);
    }

    #[test]
    fn links_to_vpcs_never_overlap() {
        let block = Block::from_number(1).unwrap();
        let mut addresses = HashSet::new();
        for slot in (0..SLOTS).map(|index| block.slot(index).unwrap()) {
            for address in [slot.vpc_gateway(), slot.vpc_address()] {
                assert!(VPC_LINKS.contains(&address));
                assert!(addresses.insert(address));
            }
            assert!(slot.vpc_link_name().len() <= 15, "IFNAMSIZ");
        }
    }

    #[test]
    fn a_link_prefix_matches_one_block_only() {
        for block in Block::all() {
            let name = block.slot(0).unwrap().link_name();
            let owners = Block::all().filter(|other| name.starts_with(&other.link_prefix()));
            assert_eq!(owners.collect::<Vec<_>>(), [block]);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(Block::from_number(32), None);
        assert_eq!(Block::all().next().unwrap().slot(1024), None);
    }
}
