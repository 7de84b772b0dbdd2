//! A WireGuard server in user space: one UDP socket on the host, any number of networks behind it,
//! and in each any number of peers.
//!
//! ```text
//!  laptop ──UDP──┐                 ┌── Tunnel ── TUN device of one network
//!  laptop ──UDP──┤ Endpoint: socket│     peers by address
//!  laptop ──UDP──┘  peers by key, ─┤
//!                   by index       └── Tunnel ── TUN device of another
//! ```
//!
//! One port serves all networks. A handshake names its sender by its public key, which only the
//! server can read, and every later packet by an index that the server chose; so a public key
//! belongs to one peer of one network. What a peer sends is let in only with its own address as the
//! source. A peer that is dismissed is gone at once: its packets find nobody.
//!
//! Owns: keys, handshakes, sessions and who may send what. Does not own: the TUN devices, which are
//! handed to it, who is a peer and for how long, or anything that is stored.
//!
//! # Loads of strangers
//!
//! A handshake costs the server a few curve multiplications. One without a valid first MAC, which
//! takes the server's public key to make, costs a hash; and of more than some per second each must
//! bring a cookie that was sent to its address, so that a flood needs real addresses. What is of no
//! peer is never answered.
//!
//! # The protocol
//!
//! is `boringtun`'s: the noise handshake, session keys, replay windows and timers of one peer, with
//! no I/O. It is the leaner of the two libraries that there are: `gotatun`, its fork, is built around
//! a device of its own.

mod endpoint;
mod key;
mod peer;
mod tunnel;

pub use endpoint::{Endpoint, Sighting};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use peer::PeerConfig;
pub use tunnel::Tunnel;
