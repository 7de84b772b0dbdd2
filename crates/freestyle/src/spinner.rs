//! Shows on a terminal that something is still going on.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// What is done sooner needs no explanation.
const QUIET: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const CLEAR_LINE: &str = "\r\x1b[K";

/// Waits for `work`. After a second, `what` turns on standard error if that is a terminal.
pub(crate) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
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
                let seconds = started.elapsed().as_secs();
                _ = write!(io::stderr(), "{CLEAR_LINE}{frame} {what} ({seconds} s)");
                shown = true;
            }
        }
    }
}
