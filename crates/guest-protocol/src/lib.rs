//! The link between the host and the agent in a guest: messages, framing, streams, and the host's
//! client.
//!
//! Owns: every byte on the virtio-serial port. Does not own: what a request does in the guest
//! (`guest-agent`), or how the port's socket is found on the host (`qemu`, `vm`).
//!
//! From the wire up:
//!
//! * [`frame`]: frames cut out of a byte stream that may be broken off and continued by someone
//!   else at any byte (a snapshot of a guest is taken whenever it is taken).
//! * [`message`]: what is said inside frames, and [`pty`]: what is said about terminals.
//! * [`mux`]: many streams of requests over one link, with credit so that one that stalls holds up
//!   no other.
//! * [`wire`]: frames in and out of an asynchronous byte stream.
//! * [`AgentConnection`]: the host's side. The guest's side is the crate `freestyle-guest-agent`.
//!
//! # A connection
//!
//! The host opens with `Hello`, which names a random *epoch*; whatever belonged to an earlier
//! epoch is void from then on, in both directions. The agent makes the guest what the `Hello` says
//! it is (clock, entropy, hostname), and answers `Welcome` with the epoch; the host takes no
//! notice of anything before it. An agent that starts, or gives up a connection, says `HelloWanted`.
//!
//! Requests then each open a stream with a number of the host's choosing, ever increasing. Both
//! sides send data on it within the credit they were given; the agent's `Reply` ends it. The host
//! may give a request up with `Cancel`; it, too, is answered with a `Reply`, so each side knows
//! exactly which streams the other may still send on.

mod client;
mod cobs;
pub mod frame;
pub mod message;
pub mod mux;
pub mod pty;
pub mod wire;

pub use client::{
    AgentConnection, CallError, DirEntry, ExecEnd, ExecOutcome, FileOrDir, LinkError, PtyInput,
    PtyOutput, PtyStream, RemoteStream, StreamEvent,
};
pub use message::{ExecRequest, Identity, PowerOff, PtyOpen, Request, Welcome};
