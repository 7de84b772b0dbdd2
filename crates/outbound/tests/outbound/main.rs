//! The real thing: sockets, a DNS server, `git`, in a network namespace of each test's own. Needs
//! root.

mod exchanges;
mod places;
mod proxies;
mod support;
