//! Shows on a terminal that something is still going on.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, interval_at};

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
    if !io::stderr().is_terminal() {
        return work.await;
    }
    tokio::pin!(work);
    let started = Instant::now();
    let mut ticks = interval_at(started + QUIET, TICK);
    let mut frames = FRAMES.iter().cycle();
    let mut shown = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if shown {
                    // A terminal that went away is no reason to fail.
                    _ = write!(io::stderr(), "{CLEAR_LINE}");
                }
                return done;
            }
            _ = ticks.tick() => {
                let frame = frames.next().unwrap_or(&"");
                let what = what.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let what: String = what.chars().take(MAX_CHARS).collect();
                let seconds = started.elapsed().as_secs();
                _ = write!(io::stderr(), "{CLEAR_LINE}{frame} {what} ({seconds} s)");
                shown = true;
            }
        }
    }
}
