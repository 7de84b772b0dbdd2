//! The VM service on this host: real QEMU, real guests, real networks. Needs root and the packages
//! that `cargo xtask up` installs.

#![allow(clippy::unwrap_used, reason = "a test")]

mod lifecycle;
mod memory;
mod setup;
mod support;
