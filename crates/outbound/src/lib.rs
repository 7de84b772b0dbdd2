//! Requests to addresses that users name: sources of imports, webhooks.
//!
//! Owns: which addresses the server may be sent to, resolving and connecting under that rule, one
//! HTTP exchange, and a proxy through which a child process (`git`) has to go. Does not own: what
//! is sent, how often, and what the answer means.
//!
//! A user who may name an address could otherwise use the server to reach what only the server
//! reaches: its own services, its neighbours, the cloud's metadata. So there is one function that
//! opens a connection ([`Outbound::connect`]): it resolves the name once, judges every address that
//! it got (`policy`), and connects to exactly one of those. A name that changes its mind afterwards
//! (DNS rebinding) changes nothing. No redirect is followed here; whoever follows one asks again,
//! and is judged again.

mod connect;
mod error;
mod http;
mod policy;
mod proxy;
mod socks;
mod url;

pub use connect::Outbound;
pub use error::OutboundError;
pub use http::{Exchange, Received};
pub use hyper::header;
pub use hyper::{Method, StatusCode};
pub use ipnet::IpNet;
pub use proxy::{Proxy, ProxyLimits};
pub use url::{Credentials, WebUrl};
