//! Shows on a terminal that something is still going on.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, Interval, interval_at};

/// What is done sooner needs no explanation.
const QUIET: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const CLEAR_LINE: &str = "\r\x1b[K";

/// A longer text would wrap, and a wrapped line cannot be cleared.
const MAX_CHARS: usize = 60;

/// Waits for `work`. After a second, `what` is shown on standard error if that is a terminal.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    during_steps(&Mutex::new(what.to_owned()), work).await
}

/// Like [`during`], for work that says in between what it is at.
pub(crate) async fn during_steps<T>(what: &Mutex<String>, work: impl Future<Output = T>) -> T {
    let on_terminal = io::stderr().is_terminal();
    let mut work = pin!(work);
    let mut spinner = Spinner::new();
    loop {
        tokio::select! {
            done = &mut work => {
                spinner.clear();
                return done;
            }
            _ = spinner.ticks.tick(), if on_terminal => spinner.show(what),
        }
    }
}

/// A line on standard error, which may be a terminal that went away: that is no reason to fail.
struct Spinner {
    started: Instant,
    ticks: Interval,
    shown: usize,
}

impl Spinner {
    fn new() -> Self {
        let started = Instant::now();
        Self { started, ticks: interval_at(started + QUIET, TICK), shown: 0 }
    }

    fn show(&mut self, what: &Mutex<String>) {
        let frame = FRAMES[self.shown % FRAMES.len()];
        let what = what.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let what: String = what.chars().take(MAX_CHARS).collect();
        let seconds = self.started.elapsed().as_secs();
        _ = write!(io::stderr(), "{CLEAR_LINE}{frame} {what} ({seconds} s)");
        self.shown += 1;
    }

    fn clear(&self) {
        if self.shown > 0 {
            _ = write!(io::stderr(), "{CLEAR_LINE}");
        }
    }
}
