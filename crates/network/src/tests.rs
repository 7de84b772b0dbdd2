//! The real thing, as root on a real kernel: networks made by this crate, a guest behind the tap,
//! and a namespace that plays the internet. No test touches the host's own links or routes, and
//! each works in its own address block, so that they run side by side.

mod isolation;
mod lifecycle;
mod reachability;
mod support;
mod vpcs;
