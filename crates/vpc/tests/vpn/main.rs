//! VPCs and the VPN with real clients: `wg-quick` and `wireguard-go` in a network namespace that plays
//! a laptop somewhere else, and guests that are namespaces behind a VM's own network.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod clients;
mod support;
mod vpcs;
