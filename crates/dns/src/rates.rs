//! How much a source is answered over UDP, where anybody can write any sender on a question.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use freestyle_inbound::source;

/// Answers in full that one source gets in a second: more than a busy resolver asks for, since it
/// keeps what it is told.
const PER_SECOND: u32 = 100;
/// Sources that are counted; when there are more, the rest gets no answer in full until the next
/// second.
const MAX_SOURCES: usize = 1 << 16;
const SECOND: Duration = Duration::from_secs(1);

/// Counts the answers of this second.
pub(crate) struct Rates {
    since: Instant,
    answers: HashMap<IpAddr, u32>,
}

impl Rates {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, answers: HashMap::new() }
    }

    /// Counts one more answer, and says whether it may be larger than its question.
    pub(crate) fn may_be_full(&mut self, address: IpAddr, now: Instant) -> bool {
        if now.duration_since(self.since) >= SECOND {
            self.since = now;
            self.answers.clear();
        }
        let source = source(address);
        if self.answers.len() >= MAX_SOURCES && !self.answers.contains_key(&source) {
            return false;
        }
        let answers = self.answers.entry(source).or_default();
        *answers = answers.saturating_add(1);
        *answers <= PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_source_has_its_share_of_every_second_and_takes_none_of_another() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        let (here, there) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        for _ in 0..PER_SECOND {
            assert!(rates.may_be_full(here, start));
        }
        assert!(!rates.may_be_full(here, start + SECOND / 2));
        assert!(rates.may_be_full(there, start + SECOND / 2));
        assert!(rates.may_be_full(here, start + SECOND));
    }

    #[test]
    fn no_more_sources_are_counted_than_there_is_room_for() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        for bits in 0..MAX_SOURCES as u32 {
            assert!(rates.may_be_full(Ipv4Addr::from_bits(bits).into(), start));
        }
        let late = Ipv4Addr::BROADCAST.into();
        assert!(!rates.may_be_full(late, start));
        assert_eq!(rates.answers.len(), MAX_SOURCES);
        assert!(rates.may_be_full(Ipv4Addr::from_bits(0).into(), start));
        assert!(rates.may_be_full(late, start + SECOND));
    }
}
