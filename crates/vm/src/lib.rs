//! The VM service: what a VM is, what may be asked of it, and what happens to it when things fail.
//!
//! Owns: the lifecycle and its durable operations, snapshots of the base image, the pool of ready
//! VMs, the connection to each guest's agent, and the files of VMs. Does not own: the command line
//! and memory of a QEMU process (`qemu`), namespaces and rules (`network`), what is stored
//! (`store`), or any wire format (`api`).
//!
//! Read in this order: [`model`](crate::CreateVm) says what callers ask for; `operation` has the
//! long operations as tables of steps; `machine` is the task that owns one VM and carries them out,
//! with the state diagram; `service` has the calls; `engine` is what they need of a host and `host`
//! the host itself.

mod engine;
mod error;
mod host;
mod machine;
mod model;
mod operation;
mod pool;
mod service;
pub mod setup;
#[cfg(test)]
mod simulation;
mod terminal;

pub use error::VmError;
pub use host::{Config, LoginKey, LoginSecret, VmService};
pub use model::*;
pub use service::{GuestConnection, Observer, Service};
pub use terminal::*;
