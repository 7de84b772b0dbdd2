//! The user's terminal.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::{mpsc, watch};

use super::TIDY;

/// The window where there is none.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Leaves a session: Ctrl-], as in telnet; and as a terminal sends it that a program has asked to tell keys
/// apart (the kitty protocol, xterm's modifyOtherKeys).
const DETACH: [&[u8]; 3] = [b"\x1d", b"\x1b[93;5u", b"\x1b[27;5;93~"];
/// Pieces of input that may wait to be sent. Many, so that the key that leaves is seen behind all that was
/// pasted before it.
const QUEUE: usize = 1024;
const PIECE: usize = 4096;

/// While this lives, every key goes to the session as it is. Dropped, the terminal is as it was, and what
/// the session left in it is tidied up.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// `None` if standard input is no terminal.
    pub(super) fn of_standard_input() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that went away is as good as tidy.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        let mut stdout = io::stdout();
        if stdout.is_terminal() {
            let _ = stdout.write_all(TIDY).and_then(|()| writeln!(stdout));
            let _ = stdout.flush();
        }
    }
}

/// Columns and rows of the user's window.
pub(super) fn window_size() -> (u16, u16) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => DEFAULT_SIZE,
    }
}

/// What comes on standard input.
pub(super) struct Keys {
    /// Until the user leaves, or the input ends.
    pub(super) typed: mpsc::Receiver<Vec<u8>>,
    /// Turns true when the user leaves; its sender is gone if the input has ended.
    pub(super) left: watch::Receiver<bool>,
}

/// Reads standard input, in which a key leaves if it `can_leave`. A thread of its own does, which may stay
/// in its last read for as long as the process lives.
pub(super) fn keys(can_leave: bool) -> Keys {
    let (sender, typed) = mpsc::channel(QUEUE);
    let (leave, left) = watch::channel(false);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
            let typed = &buffer[..count];
            let end = key_that_leaves(typed).filter(|_| can_leave);
            let is_taken = sender.blocking_send(typed[..end.unwrap_or(count)].to_vec()).is_ok();
            if end.is_some() {
                leave.send_replace(true);
            }
            if end.is_some() || !is_taken {
                return;
            }
        }
    });
    Keys { typed, left }
}

/// Where in the input the user leaves.
fn key_that_leaves(typed: &[u8]) -> Option<usize> {
    (0..typed.len()).find(|at| DETACH.iter().any(|key| typed[*at..].starts_with(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_that_leaves_counts() {
        for key in DETACH {
            let typed = [&b"ls\r"[..], key, b"exit\r", b"\x1d"].concat();
            assert_eq!(key_that_leaves(&typed), Some(3));
        }
        assert_eq!(key_that_leaves(b"\x1b[93u \x1b[A ]"), None);
    }
}
