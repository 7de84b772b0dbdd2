//! When a delivery that failed is attempted again.

use std::time::Duration;

/// Attempts of one delivery.
const ATTEMPTS: u32 = 10;
/// Each pause is this much longer than the one before.
const GROWTH: u64 = 3;

/// The pauses between attempts: exponential, and together as long as the retry time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    first: Duration,
}

impl Schedule {
    /// `time` is from the first attempt to the last.
    pub(crate) fn over(time: Duration) -> Self {
        // 1 + 3 + 9 + ... for each pause.
        let parts = (GROWTH.pow(ATTEMPTS - 1) - 1) / (GROWTH - 1);
        Self { first: Duration::from_secs_f64(time.as_secs_f64() / parts as f64) }
    }

    /// The pause after this many failed attempts; `None` when it is time to give up. `chance` is
    /// from 0 to 1 and moves it by up to a quarter, so that receivers that were down are not met by
    /// everything at one moment.
    pub(crate) fn pause(self, failed: u32, chance: f64) -> Option<Duration> {
        if failed == 0 || failed >= ATTEMPTS {
            return None;
        }
        let pause = self.first.as_secs_f64() * GROWTH.pow(failed - 1) as f64;
        Some(Duration::from_secs_f64(pause * (0.75 + chance / 2.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_as_long_as_they_may_be() {
        let schedule = Schedule::over(Duration::from_secs(8 * 3600));
        let pauses: Vec<_> = (1..).map_while(|failed| schedule.pause(failed, 0.5)).collect();
        assert_eq!(pauses.len(), 9);
        assert!(pauses.is_sorted() && pauses[0] > Duration::from_secs(2), "{pauses:?}");
        let sum: Duration = pauses.iter().sum();
        assert_eq!(sum.as_secs_f64().round(), 8.0 * 3600.0);
    }

    #[test]
    fn chance_moves_a_pause_by_a_quarter() {
        let schedule = Schedule::over(Duration::from_secs(9841));
        let pause = |chance| schedule.pause(1, chance).unwrap().as_secs_f64();
        assert_eq!((pause(0.0), pause(1.0)), (0.75, 1.25));
    }
}
