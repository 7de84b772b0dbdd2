//! One QEMU process: its command line, its monitor (QMP), its memory and the layers of its disk.
//!
//! Owns everything that is particular to QEMU. Does not own what a VM is, which host resources it
//! gets, or when it runs (`vm`), and never talks to the guest (`guest-protocol`).
//!
//! How the pieces make a VM start, and be captured while it runs, in milliseconds:
//!
//! * [`memory`]: guest RAM is a private mapping of a sealed in-memory file. Clones share the pages
//!   none of them wrote, and what one wrote is exactly its anonymous pages: they are what is
//!   captured, and poured into a new process or made part of a new image.
//! * [`disk`]: a new, empty qcow2 file on a chain of immutable layers. A running machine is given
//!   another on top, and what it wrote so far is frozen; long chains are shortened behind its back.
//! * [`Launch`]: the process gets every file, socket and device it needs as an open descriptor and
//!   runs as a user of its own: QEMU opens nothing by name, so a guest that breaks out of it finds
//!   nothing it may open.
//! * [`Qmp`]: the monitor protocol, with descriptors attached to commands, for as many callers as
//!   there are, and with [`Events`] at the same time.
//! * [`Process`]: a QEMU that outlives the server and can be adopted again, identified by process
//!   id and start time so that a recycled id is never mistaken for it.

pub mod disk;
mod error;
mod host;
mod launch;
pub mod memory;
mod process;
mod qmp;
mod self_test;
pub mod sparse;
pub mod tiny_guest;

pub use error::QemuError;
pub use host::{Accelerator, AcceleratorChoice, Qemu};
pub use launch::{AGENT_PORT, Begin, Launch, MachineShape, agent_socket, console_log, launch};
pub use process::Process;
pub use qmp::{Event, Events, Progress, Qmp, RunState, Stream, qmp_socket};
pub use self_test::SelfTest;
