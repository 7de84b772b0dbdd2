//! The real thing: sockets, a DNS server, `git`, in a network namespace of each test's own. Needs
//! root.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod exchanges;
mod places;
mod proxies;
mod support;
