//! VPCs and the VPN into them: which there are, who may join from outside, and for how long.
//!
//! Owns: making and deleting VPCs, WireGuard sessions and peers from their creation to their end, and
//! the text of a client's configuration. Does not own: the NICs of VMs, which are made and removed
//! with them (`freestyle-vm`), packets (`freestyle-network`, `freestyle-wireguard`), what is stored
//! (`freestyle-store`), or any wire format (`api`).
//!
//! Who may join is what the store says, and the endpoint follows: every change is written first, and
//! then one routine makes the endpoint's peers those of the store. The same routine runs at the
//! start of a server and every two seconds, so nothing that goes wrong in between lasts.
//!
//! A client's private key is in the answer to the call that made it and nowhere else. The server's
//! own is given by the caller, who keeps it.

mod client_config;
mod error;
mod host;
mod service;

pub use error::VpcError;
pub use host::VpnHost;
pub use service::{Config, Member, VpcInfo, VpcService, VpnConfig, VpnPeer, VpnSession};
