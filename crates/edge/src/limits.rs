//! What visitors and guests may do.

use std::time::Duration;

/// Most bytes of a head, of requests and answers alike: start line and fields.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// What is read ahead of a message, or held of one that the other end does not take, by HTTP/1.
pub(crate) const BUFFER: usize = 128 << 10;

/// What strangers and guests may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of these, from one address; for IPv6 from one network of 64 bits.
    pub connections_of_source: usize,
    /// How long a client may take for the head of a request, and stay without making one.
    pub head: Duration,
    /// How long a client may send nothing in the middle of a request that a guest waits for.
    pub upload_stall: Duration,
    /// How long a client may take nothing of an answer that is there for it.
    pub download_stall: Duration,
    /// How long a guest may think: from the last of a request that it took to the head of its
    /// answer. The answer itself may take as long as it likes.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            // Behind one address there may be a whole office, or a load generator.
            connections_of_source: 2048,
            head: Duration::from_secs(60),
            upload_stall: Duration::from_secs(60),
            download_stall: Duration::from_secs(120),
            answer: Duration::from_secs(300),
        }
    }
}
