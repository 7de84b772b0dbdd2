//! What every listener does with strangers: counts who is there, from everywhere and from one place,
//! and tells an error of one connection from one of the listener.
//!
//! Owns: [`Visitors`], what counts as one source, and which errors of `accept` mean nothing. Does not
//! own: how many there may be, and what is said on a connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts who is there. Clones count together.
#[derive(Debug, Clone)]
pub struct Visitors {
    most: usize,
    most_of_source: usize,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// Someone who is there, until dropped.
#[derive(Debug)]
pub struct Visitor {
    visitors: Visitors,
    source: IpAddr,
}

impl Visitors {
    /// Nobody yet. There may be so many at once, and of these so many from one [`source`].
    pub fn new(most: usize, most_of_source: usize) -> Self {
        Self { most, most_of_source, counts: Arc::default() }
    }

    /// Counts one more, if there may be one.
    pub fn admit(&self, address: IpAddr) -> Option<Visitor> {
        let source = source(address);
        let mut counts = self.counts();
        let of_source = counts.sources.get(&source).copied().unwrap_or_default();
        if counts.all >= self.most || of_source >= self.most_of_source {
            return None;
        }
        counts.sources.insert(source, of_source + 1);
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

/// Whom an address stands for. Whoever has one IPv6 address has the 64 bits behind it.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

/// Whether an error of `accept` means that the peer was gone before it was accepted; the listener is
/// well.
pub fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_cannot_take_every_place_and_nobody_more_than_there_are() {
        let visitors = Visitors::new(3, 2);
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
    fn one_source_cannot_take_every_place_and_who_left_is_forgotten() {
        let (visitors, here) = (Visitors::new(512, 32), address("192.0.2.1"));
        let all: Vec<_> = (0..32).map(|_| visitors.admit(here).unwrap()).collect();
        assert!(visitors.admit(here).is_none());
        assert!(visitors.admit(address("2001:db8::1")).is_some());
        drop(all);
        assert!(visitors.admit(here).is_some());
        assert!(visitors.counts().sources.is_empty() && visitors.counts().all == 0);
    }

    #[test]
    fn one_network_is_one_source() {
        let source = |text| source(address(text));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
