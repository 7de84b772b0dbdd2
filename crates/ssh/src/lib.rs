//! The SSH gateway: `ssh <vmId>:<token>@gateway` ends up in the VM (protocol section 15).
//!
//! Owns: the SSH protocol below channels, toward clients as a server and toward guests as a client;
//! the login name; limits against strangers; and a log of who came and went. Does not own: who may
//! enter which VM (`freestyle-access`), waking VMs and reaching into them (`freestyle-vm`), or
//! anything that happens in a session, which is between the client and the guest's own sshd.
//!
//! ```text
//!  client ══ SSH ══► gateway ══ SSH ══► sshd in the guest
//!        token       │  key of this run of the VM
//!                    └ access: may this token log in there, as this user?
//! ```
//!
//! Read in this order: `gateway` takes a connection from its start to its end; `auth` is the
//! client's login, `login` its name; `guest` the login to the guest; `relay` what passes between
//! them. Below: `connection` has the stream, `transport` the packets and exchanges of keys
//! (`negotiation`, `kex`, `cipher`, `key`), `wire` the encoding.
//!
//! # Why this is not a library for SSH
//!
//! Libraries end channels: they accept a client's, open their own to the guest, and copy. Then every
//! request of every kind has to be known and carried over, windows are granted by who does not
//! consume what arrives, and one stalled channel holds up all (russh) or has to be buffered. Here
//! both ends speak their own connection protocol with each other and the gateway only re-encrypts;
//! there are no channels in it. What remains is the transport, which for two modern peers is one
//! kind of key, one cipher and two key exchanges; all cryptography is `ring`'s and `ml-kem`'s.
//!
//! # Invariants
//!
//! * A credential never enters a guest: the gateway logs in there with a key of its own, which is
//!   another for each run of each VM, so that a clone does not let in who had a key to its parent.
//! * Nothing of the connection protocol is looked at before the right was checked, and a connection
//!   ends at once when the right does.
//! * Memory per connection is bounded whatever the peers do, and so is everything before a login:
//!   its time, its messages, its number.

mod audit;
mod auth;
mod cipher;
mod connection;
mod error;
mod gateway;
mod guest;
mod guests;
mod kex;
mod key;
mod limits;
mod login;
mod negotiation;
mod relay;
mod transport;
mod wire;

pub use gateway::{Gateway, Patience};
pub use guests::{Ended, Guest, Guests};
pub use key::SigningKey;
