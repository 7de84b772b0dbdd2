//! The HTTP and HTTPS edge: requests from everywhere to the sites in the VMs.
//!
//! Owns: TLS and its certificates, reading and writing HTTP, what of a request is passed on, the
//! connections to guests, and limits against strangers. Does not own: which host leads where or may
//! have a certificate, and how to reach a guest, which somebody else knows ([`Routes`]); so it knows
//! neither VMs nor accounts.
//!
//! ```text
//!  browser ══ HTTP/1.1, HTTP/2, WebSocket; TLS ══► edge ── HTTP/1.1 ──► port of a guest
//!                                                   │ Routes: which guest, and wake it
//!                                                   └ Certificates: local, or by ACME
//! ```
//!
//! Read in this order: `edge` takes a connection from its start to its end, `tls` sets it up;
//! `proxy` is the way of one request, `headers` what becomes of its head, `body` of the rest,
//! `upgrade` of a WebSocket; `pool` has the connections to guests, `workers` the threads that all of
//! this is on, but for what [`Routes`] does. `certificates` is for itself.
//!
//! # Invariants
//!
//! * A request is parsed strictly and written anew. What a guest reads is framed by the edge, so no
//!   two readers of a request differ about where it ends.
//! * What a guest is told of its client (`X-Forwarded-*`) is what the edge has seen itself.
//! * Bodies are never held: whoever reads slowly slows down whoever writes, and nobody else.
//! * Everything that a stranger may do is bounded: connections, from everywhere and from one source;
//!   the size of a head and the time it takes; requests at once. An answer may take for ever, as
//!   streams of events do, but not a client that takes nothing of it.
//! * No certificate is made for a host unless [`Routes`] says so, whatever name a client comes with.
//! * Where SSH is taken too, a connection is handed over before anything of it is read.
//! * A request goes to the host that TLS was set up for, or nowhere (status 421).

mod body;
mod certificates;
mod edge;
mod headers;
mod host;
mod idle;
mod limits;
mod page;
mod pool;
mod proxy;
mod routes;
mod tls;
mod upgrade;
mod workers;

pub use certificates::{CertificateError, Certificates, ca_certificate_file};
pub use edge::{Edge, SshConnections};
pub use futures_util::future::BoxFuture;
pub use host::HostName;
pub use limits::Limits;
pub use routes::{Routes, Unavailable, Upstream};
