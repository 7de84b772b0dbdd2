//! The edge as its visitors meet it: real clients, real servers, real certificate authorities.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod acme;
mod forwarding;
mod hostile;
mod ssh;
mod support;
mod tls;
mod upgrades;
