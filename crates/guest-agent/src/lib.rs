//! The agent that runs inside every VM and does there what the host asks for.
//!
//! Owns: running commands, terminal sessions and their screens, reading and writing files, Linux
//! users, the guest's clock, randomness, names and place in a VPC, and its end. Does not own: how any of it is asked for on the wire
//! (`guest-protocol`), nor any policy: the host is trusted, and whoever has reached it has already
//! been authorised.
//!
//! The agent configures the network and never uses it, so a guest that breaks its own can still be operated. It
//! serves one connection at a time; a new one voids the one before (its requests, not the commands
//! and sessions they started: a server may be restarted without its users' commands noticing).
//!
//! One thread runs everything except file operations, which may block for as long as a disk or a
//! user's own filesystem likes: each has a thread of its own, which can also take on the
//! permissions of a user.

mod agent;
mod exec;
mod files;
mod identity;
mod linux;
mod nic;
mod port;
mod pty;
mod stream;
#[expect(unsafe_code, reason = "what neither rustix nor tokio wraps safely")]
mod sys;
mod users;

pub use agent::serve;
pub use identity::{Generation, Machine};
pub use linux::LinuxMachine;
pub use port::Port;
