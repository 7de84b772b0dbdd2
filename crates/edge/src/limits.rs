//! How many connections there may be, from everywhere and from one place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Counts who is there. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Visitors {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// Someone who is there, until dropped.
#[derive(Debug)]
pub(crate) struct Visitor {
    visitors: Visitors,
    source: IpAddr,
}

impl Visitors {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Counts one more, if there may be one.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Visitor> {
        let source = source(address);
        let mut counts = self.counts();
        if counts.all >= self.limits.connections {
            return None;
        }
        let of_source = counts.sources.entry(source).or_default();
        if *of_source >= self.limits.connections_of_source {
            return None;
        }
        *of_source += 1;
        counts.all += 1;
        drop(counts);
        Some(Visitor { visitors: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut counts = self.visitors.counts();
        counts.all -= 1;
        if let Some(of_source) = counts.sources.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.sources.remove(&self.source);
            }
        }
    }
}

/// Whoever has one IPv6 address has the 64 bits behind it.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_cannot_take_every_place_and_nobody_more_than_there_are() {
        let visitors =
            Visitors::new(Limits { connections: 3, connections_of_source: 2, ..Limits::default() });
        let (here, there) = (address("192.0.2.1"), address("2001:db8::1"));
        let first = visitors.admit(here).unwrap();
        let _second = visitors.admit(here).unwrap();
        assert!(visitors.admit(here).is_none());
        let _third = visitors.admit(there).unwrap();
        assert!(visitors.admit(address("198.51.100.1")).is_none());
        drop(first);
        assert!(visitors.admit(here).is_some());
    }

    #[test]
    fn who_left_is_forgotten() {
        let visitors = Visitors::new(Limits::default());
        drop(visitors.admit(address("192.0.2.1")).unwrap());
        assert!(visitors.counts().sources.is_empty());
        assert_eq!(visitors.counts().all, 0);
    }

    #[test]
    fn one_network_is_one_source() {
        let source = |text| source(address(text));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
