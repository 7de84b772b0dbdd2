//! The packet filter and NAT rules, and how they are loaded.
//!
//! Both rule sets follow one order: established connections first (they were judged when they
//! began), then what is refused, then what is allowed.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use ipnet::Ipv4Net;

use crate::{
    address::{
        ALL_BLOCKS, Block, GATEWAY_ADDRESS, GUEST_ADDRESS, GUEST_SUBNET, Slot, TUNNEL_RANGE,
    },
    error::{Because, NetworkError},
    range::VpcRange,
    tap,
    vpc::{Nic, TUNNEL},
};

/// The veth's end in a VM's namespace.
pub(crate) const UPLINK: &str = "uplink";
/// The end of the link to the VPC in a VM's namespace.
pub(crate) const VPC_LINK: &str = "vpc";
/// The table in a VM's or VPC's namespace.
const TABLE: &str = "freestyle";
/// What a router says about packets it could not deliver.
const ICMP_ERRORS: &str = "{ destination-unreachable, time-exceeded, parameter-problem }";

/// Destinations no guest may reach, whatever the host looks like.
const DENIED: [Ipv4Net; 13] = [
    net([0, 0, 0, 0], 8),
    net([10, 0, 0, 0], 8),
    net([100, 64, 0, 0], 10),
    net([127, 0, 0, 0], 8),
    net([169, 254, 0, 0], 16),
    net([172, 16, 0, 0], 12),
    net([192, 168, 0, 0], 16),
    ALL_BLOCKS,
    net([224, 0, 0, 0], 4),
    net([240, 0, 0, 0], 4),
    // Protocol assignments (RFC 6890); Oracle's cloud answers metadata requests at 192.0.0.192.
    net([192, 0, 0, 0], 24),
    // Deprecated 6to4 relays.
    net([192, 88, 99, 0], 24),
    // Azure's host agent: a public address that means the machine itself.
    net([168, 63, 129, 16], 32),
];

const fn net(address: [u8; 4], prefix_length: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_length)
}

/// Connections a guest may have open, and may open per second after a burst of `NEW_BURST`. Every
/// connection is an entry in the host's own connection table, which all guests and the host share.
const OPEN_CONNECTIONS: u32 = 4096;
const NEW_PER_SECOND: u32 = 200;
const NEW_BURST: u32 = 2048;

/// The kernel would keep an entry for five days, also after the VM is gone; RFC 5382 asks for 2 h
/// 4 min. Closed connections do not count as open, so they have to go soon.
const TIMEOUTS: &str = "ct timeout guest_tcp {
		protocol tcp
		l3proto ip
		policy = { established : 7440, fin_wait : 60, time_wait : 30, close_wait : 60 }
	}";

/// What both rule sets depend on besides the place of the VM.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    denied: Vec<Ipv4Net>,
    resolver: Option<Ipv4Addr>,
}

impl Policy {
    /// `local` are the subnets the host is in; `extra` is the operator's own list.
    pub(crate) fn new(local: &[Ipv4Net], extra: &[Ipv4Net], resolver: Option<Ipv4Addr>) -> Self {
        let local = local.iter().filter(|subnet| !ALL_BLOCKS.contains(*subnet));
        let all: Vec<_> = DENIED.iter().chain(local).chain(extra).copied().collect();
        let denied = Ipv4Net::aggregate(&all);
        Self { denied, resolver }
    }

    pub(crate) fn resolver(&self) -> Option<Ipv4Addr> {
        self.resolver
    }

    fn denied_set(&self) -> String {
        let mut elements = String::new();
        for range in &self.denied {
            let separator = if elements.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(elements, "{separator}{range}");
        }
        format!(
            "set denied {{
		type ipv4_addr
		flags interval
		elements = {{ {elements} }}
	}}"
        )
    }

    /// The rules of a VM's namespace.
    fn vm_rules(&self, slot: Slot, nic: Option<&Nic>) -> String {
        let tap = tap::NAME;
        let (admit_from_vpc, forward_in_vpc) = match nic {
            Some(nic) => vpc_rules_of_vm(slot, nic),
            None => Default::default(),
        };
        let (redirect_dns, admit_dns) = match self.resolver {
            Some(resolver) => (
                format!(
                    "iifname \"{tap}\" ip daddr {GATEWAY_ADDRESS} meta l4proto {{ tcp, udp }} \
                     th dport 53 dnat to {resolver}"
                ),
                format!(
                    "ct status dnat ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53 \
                     goto admit"
                ),
            ),
            None => Default::default(),
        };
        let denied = self.denied_set();
        format!(
            r#"table ip {TABLE} {{
	{TIMEOUTS}

	{denied}

	# Before connection tracking, so that forged packets leave no trace.
	chain antispoof {{
		type filter hook prerouting priority raw; policy drop;
		iifname "{tap}" ip saddr {GUEST_ADDRESS} accept
		iifname "{UPLINK}" accept
		{admit_from_vpc}
	}}

	chain dns {{
		type nat hook prerouting priority dstnat; policy accept;
		{redirect_dns}
	}}

	# To the namespace itself: only replies. The guest is told at once, others get silence.
	chain input {{
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname "{tap}" goto refuse
	}}

	# From the namespace itself: the server's connections to the guest. QEMU lives here as well, under
	# a uid of its own; it must gain nothing by that if the guest takes it over.
	chain output {{
		type filter hook output priority filter; policy drop;
		ct state established,related accept
		oifname "{tap}" ip daddr {GUEST_ADDRESS} ct state new meta skuid 0 accept
		icmp type {ICMP_ERRORS} accept
	}}

	chain forward {{
		type filter hook forward priority filter; policy drop;
		{forward_in_vpc}
		ct state established,related accept
		iifname "{tap}" oifname "{UPLINK}" ct state new goto outbound
	}}

	chain outbound {{
		limit rate over {NEW_PER_SECOND}/second burst {NEW_BURST} packets drop
		{admit_dns}
		ip daddr @denied goto refuse
		goto admit
	}}

	chain admit {{
		ct count over {OPEN_CONNECTIONS} drop
		meta l4proto tcp ct timeout set "guest_tcp"
		accept
	}}

	# An answer instead of a time-out: guests probe for metadata services when they boot.
	chain refuse {{
		meta l4proto tcp reject with tcp reset
		reject with icmp admin-prohibited
	}}

	chain nat {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname "{UPLINK}" masquerade
	}}
}}
"#
        )
    }

    /// The rules of a block in the root namespace.
    fn block_rules(&self, block: Block) -> String {
        let table = block.table();
        let links = block.link_prefix();
        let subnet = block.subnet();
        let denied = self.denied_set();
        let (admit_dns, accept_dns) = match self.resolver {
            Some(resolver) => {
                let matches =
                    format!("ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53");
                (format!("{matches} goto admit"), format!("{matches} accept"))
            }
            None => Default::default(),
        };
        format!(
            r#"table ip {table} {{
	{TIMEOUTS}

	{denied}

	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname "{links}*" goto from_guest
		oifname "{links}*" goto to_guest
	}}

	# The host's uplink may carry less than the 1500 bytes guests believe in. Both directions take
	# part: "rt mtu" is the smaller of the two.
	chain from_guest {{
		tcp flags syn tcp option maxseg size set rt mtu
		ct state established,related accept
		ip saddr != {subnet} drop
		{admit_dns}
		ip daddr @denied drop
		goto admit
	}}

	chain admit {{
		meta l4proto tcp ct timeout set "guest_tcp"
		accept
	}}

	chain to_guest {{
		tcp flags syn tcp option maxseg size set rt mtu
		ct state established,related accept
		drop
	}}

	chain input {{
		type filter hook input priority filter; policy accept;
		iifname "{links}*" goto to_host
	}}

	# A resolver on the host itself is reached here.
	chain to_host {{
		ct state established,related accept
		{accept_dns}
		drop
	}}

	chain nat {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {subnet} oifname != "{links}*" masquerade
	}}
}}
"#
        )
    }

    /// Installs or replaces the rules of the VM whose namespace the thread is in.
    pub(crate) fn load_for_vm(&self, slot: Slot, nic: Option<&Nic>) -> Result<(), NetworkError> {
        create_or_replace(&self.vm_rules(slot, nic))
    }

    /// Installs or replaces the rules of a block; the thread is in the root namespace.
    pub(crate) fn load_for_block(&self, block: Block) -> Result<(), NetworkError> {
        replace(&block.table(), &self.block_rules(block))
    }
}

/// What a NIC adds to the rules of its VM: who may send what at all, and what is forwarded then.
/// Nothing of a VPC is tracked, so that its connections cost the host nothing, however many there
/// are, and none is broken by a restart of anything.
fn vpc_rules_of_vm(slot: Slot, nic: &Nic) -> (String, String) {
    let (tap, address, gateway) = (tap::NAME, nic.address, slot.vpc_gateway());
    let [range, tunnels] = nic.destinations();
    // The range may contain the guest's own subnet, where its gateway and DNS server is.
    let members = format!("{{ {range}, {tunnels} }}");
    let admit = format!(
        r#"iifname "{tap}" ip saddr {address} ip daddr {members} ip daddr != {GUEST_SUBNET} notrack accept
		iifname "{tap}" ip saddr {address} accept
		iifname "{VPC_LINK}" ip daddr {address} ip saddr {members} notrack accept
		iifname "{VPC_LINK}" ip daddr {address} ip saddr {gateway} icmp type {ICMP_ERRORS} notrack accept"#
    );
    let forward = format!(
        r#"iifname "{tap}" oifname "{VPC_LINK}" ct state untracked accept
		iifname "{VPC_LINK}" oifname "{tap}" ct state untracked accept
		iifname "{tap}" oifname "{VPC_LINK}" goto refuse"#
    );
    (admit, forward)
}

/// The rules of a VPC's namespace. Which VM sends from which address is told by the routes: the
/// reverse path filter drops what came over another link.
fn vpc_rules(range: VpcRange) -> String {
    format!(
        r#"table ip {TABLE} {{
	chain members {{
		type filter hook prerouting priority raw; policy drop;
		iifname "v*" ip saddr {range} ip daddr {{ {range}, {TUNNEL_RANGE} }} notrack accept
		iifname "{TUNNEL}" ip saddr {TUNNEL_RANGE} ip daddr {range} notrack accept
	}}

	# Nothing here is to be talked to.
	chain input {{
		type filter hook input priority filter; policy drop;
	}}

	chain output {{
		type filter hook output priority filter; policy drop;
		icmp type {ICMP_ERRORS} accept
	}}

	# The tunnel carries less than the links of VMs.
	chain forward {{
		type filter hook forward priority filter; policy drop;
		oifname "{TUNNEL}" tcp flags syn tcp option maxseg size set rt mtu
		iifname "v*" accept
		iifname "{TUNNEL}" oifname "v*" accept
	}}
}}
"#
    )
}

/// Installs or replaces the rules of the VPC whose namespace the thread is in.
pub(crate) fn load_for_vpc(range: VpcRange) -> Result<(), NetworkError> {
    create_or_replace(&vpc_rules(range))
}

/// Removes the rules of a block; content if there are none.
pub(crate) fn unload_block(block: Block) -> Result<(), NetworkError> {
    let table = block.table();
    nft(&table, &format!("add table ip {table}\ndelete table ip {table}\n"))
}

/// For a namespace's table, which is mostly not there yet: replacing costs three times as much as
/// creating, even where there is nothing to replace.
fn create_or_replace(rules: &str) -> Result<(), NetworkError> {
    nft(TABLE, &format!("create table ip {TABLE}\n{rules}")).or_else(|_| replace(TABLE, rules))
}

/// In one transaction: no packet sees the old rules gone and the new ones not there.
fn replace(table: &str, rules: &str) -> Result<(), NetworkError> {
    nft(table, &format!("add table ip {table}\ndelete table ip {table}\n{rules}"))
}

fn nft(table: &str, script: &str) -> Result<(), NetworkError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .because(|| "run nft".to_owned())?;
    // nft reads everything before it writes anything. If it ends early its status says more than
    // the broken pipe, and the pipe is closed by dropping it.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().because(|| "run nft".to_owned())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).chars().take(1000).collect();
        return Err(NetworkError::Rules { table: table.to_owned(), message });
    }
    written.transpose().because(|| "write to nft".to_owned())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixed_range_is_denied() {
        let denied = Policy::new(&[], &[], None).denied;
        for range in DENIED {
            assert!(denied.iter().any(|net| net.contains(&range)), "{range}");
        }
    }

    #[test]
    fn local_and_extra_subnets_are_denied_and_overlaps_merged() {
        let local = ["192.0.2.0/24".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
        let extra = ["203.0.113.7/32".parse().unwrap()];
        let denied = Policy::new(&local, &extra, None).denied;
        assert!(denied.contains(&local[0]));
        assert!(denied.contains(&extra[0]));
        assert!(!denied.contains(&local[1]), "within 10.0.0.0/8");
    }
}
