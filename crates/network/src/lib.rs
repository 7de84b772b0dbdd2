//! The host side of guest networking: one network namespace per VM, its tap, NAT and packet filter.
//!
//! ```text
//!  namespace fs-<instance>                          root namespace
//! ┌────────────────────────────────────────┐       ┌──────────────────────────────┐
//! │ QEMU ── tap0 10.0.0.1/30               │       │                              │
//! │ (guest 10.0.0.2)    │ deny list        │ veth  │ fs<block>-<slot>             │
//! │                     │ DNS redirect     ├───────┤   198.18.x.1/30              │
//! │                   uplink 198.18.x.2/30 │       │      │ deny list, masquerade │
//! └────────────────────────────────────────┘       └──────┴── the host's uplink ──┘
//! ```
//!
//! Every guest has the same address, so that a snapshot can be resumed as any number of clones
//! without the guest noticing: the gateway keeps its MAC address too ([`GATEWAY_MAC`]), or a clone
//! would wake with a stale neighbour entry. A guest reaches public IPv4 addresses and one DNS
//! resolver (its port 53 only, by way of [`GATEWAY_ADDRESS`]). It does not reach the host, private
//! or link-local ranges, cloud metadata services, the host's neighbours or another guest. IPv6 is
//! off. Both namespaces check this independently, so that one mistake does not open the door.
//!
//! A VM with a [`Nic`] is also plugged into a [`Vpc`], a namespace that routes between its VMs and
//! its tunnel (see `vpc.rs`). Its guest has one address more, the one it has in the VPC, on the same
//! device and with the same gateway: so a restored guest needs to be told nothing but that.
//!
//! ```no_run
//! # use freestyle_network::{Network, NetworkConfig, NetworkError};
//! # async fn example() -> Result<(), NetworkError> {
//! let network = Network::open(NetworkConfig::new("/var/lib/freestyle/network"))?;
//! let vm = network.create("k3v9x0q2m7a1c5z8e4t6", 0, None).await?;
//! let tap = vm.open_tap()?; // for a QEMU that runs as `vm.uid()` in `vm.namespace()?`
//! let ssh = network.connect_tcp(vm.instance(), 22).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who owns what
//!
//! Several servers, and tests, share one host. Each claims a [block](Network::block) of host-wide
//! unique names, addresses and uids for its lifetime ([`Network::open`]). Inside it, callers choose
//! a slot per VM. Everything made for a VM or VPC is preceded by a record in the run directory and
//! the record goes last, so after a crash between any two steps [`Network::list`] and
//! [`Network::vpcs`] name what is left and [`Network::remove`] and [`Network::remove_vpc`] remove
//! it. Nothing here stops processes: end the VM's QEMU first.
//!
//! # What this crate does not do
//!
//! It allocates no slots or addresses, starts no QEMU, keeps no state in a database, and encrypts
//! nothing: what a VPC's tunnel leads to is for others.
//!
//! # How it talks to the kernel
//!
//! Links, addresses and routes over rtnetlink, with `netlink-packet-route` for the messages and a
//! blocking socket: all this work happens on threads of its own anyway (a namespace is entered by a
//! thread, which then ends), and an asynchronous client would add four crates. Packet filters go
//! through one `nft` process per change, as there is no typed client of the quality of `nft` itself
//! and its text is what operators read back with `nft list ruleset`.

mod address;
mod block;
mod checks;
mod error;
mod instance;
mod link;
mod namespace;
mod network;
mod range;
mod records;
mod resolver;
mod rules;
mod settings;
mod tap;
#[cfg(test)]
mod tests;
mod vm;
mod vpc;

pub use address::{
    GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, GUEST_SUBNET, PREFIX_LENGTH, SLOTS,
    TUNNEL_ADDRESS, TUNNEL_RANGE,
};
pub use checks::{Check, checks};
pub use error::NetworkError;
pub use ipnet::Ipv4Net;
pub use link::host_subnets;
pub use network::{Network, NetworkConfig, OwnedInstance, Traffic};
pub use range::{RangeError, VpcRange};
pub use vm::VmNetwork;
pub use vpc::{Nic, Vpc};
