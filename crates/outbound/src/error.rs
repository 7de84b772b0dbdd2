//! Why a request to an address of a user's failed, in words that the user may read.
//!
//! No message says what a name resolved to: it may be a name of the operator's private network.

use std::time::Duration;

/// Why a connection or an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Not an `http` or `https` URL, or one with a part that is not supported.
    #[error("the URL is not usable: {0}")]
    InvalidUrl(&'static str),
    /// The name resolves to nothing.
    #[error("the name {host} cannot be resolved")]
    UnknownHost {
        /// As in the URL.
        host: String,
    },
    /// An address that this server does not connect to for a user.
    #[error("{host} is not at a public address, and this server connects to no other")]
    Refused {
        /// As in the URL.
        host: String,
    },
    /// Nobody listens, or there is no way there.
    #[error("cannot connect to {host}: {reason}")]
    Unreachable {
        /// As in the URL.
        host: String,
        /// The operating system's word for it.
        reason: String,
    },
    /// The peer could not prove who it is, or speaks no TLS.
    #[error("TLS with {host} failed: {reason}")]
    Tls {
        /// As in the URL.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The answer is not HTTP, or the connection broke.
    #[error("{host} did not answer properly: {reason}")]
    BadAnswer {
        /// As in the URL.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// It took longer than it may.
    #[error("{host} did not answer within {} s", .time.as_secs_f64())]
    TimedOut {
        /// As in the URL.
        host: String,
        /// How long it may take.
        time: Duration,
    },
    /// More was sent than is taken.
    #[error("more than {limit} bytes were received")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// This server cannot do it, whatever the address.
    #[error("{0}")]
    Internal(String),
}
