//! An authoritative DNS server: the records of zones, over UDP and TCP.
//!
//! Owns: what a record may be, what a zone answers, the protocol's messages, and limits against
//! strangers. Does not own: whose a zone is and where its records are kept, which somebody else knows
//! ([`Zones`]); so it knows neither accounts nor VMs. It resolves nothing: of names that are in none of
//! its zones it only says so.
//!
//! ```text
//!  resolver ── UDP, TCP ──► server ──► answer ──► zone ──► records
//!                                        └ Zones: which zone a name is in
//! ```
//!
//! Read in this order: `server` takes questions, `rates` counts them, `answer` is the way of one,
//! `zone` finds what is said of a name. `record` and `name` are how records are written.
//!
//! # Invariants
//!
//! * What is answered over UDP is no larger than 1232 bytes, and than the question for who asks a lot,
//!   so that nobody is flooded by way of us; the rest is for TCP.
//! * Everything that a stranger may do is bounded: questions at once, connections, their time.
//! * What cannot be understood is answered by an error or not at all, and never with records.

mod answer;
mod name;
mod rates;
mod record;
mod server;
mod zone;

pub use name::RecordName;
pub use record::{Data, InvalidRecord, MAX_TTL, Record};
pub use server::Server;
pub use zone::{Authority, Unavailable, Zone, Zones};
