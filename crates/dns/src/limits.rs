//! How many connections there may be, from everywhere and from one place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
/// Of these, from one source.
const MAX_OF_SOURCE: usize = 32;

/// Counts who is there. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<Counts>>);

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
    /// Counts one more, if there may be one.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Visitor> {
        let source = source(address);
        let mut counts = self.counts();
        let of_source = counts.sources.get(&source).copied().unwrap_or_default();
        if counts.all >= MAX_CONNECTIONS || of_source >= MAX_OF_SOURCE {
            return None;
        }
        counts.sources.insert(source, of_source + 1);
        counts.all += 1;
        drop(counts);
        Some(Visitor { visitors: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn one_source_cannot_take_every_place_and_who_left_is_forgotten() {
        let (visitors, here) = (Visitors::default(), "192.0.2.1".parse().unwrap());
        let all: Vec<_> = (0..MAX_OF_SOURCE).map(|_| visitors.admit(here).unwrap()).collect();
        assert!(visitors.admit(here).is_none());
        assert!(visitors.admit("2001:db8::1".parse().unwrap()).is_some());
        drop(all);
        assert!(visitors.admit(here).is_some());
        assert!(visitors.counts().sources.is_empty() && visitors.counts().all == 0);
    }
}
