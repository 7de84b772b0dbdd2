//! The user's terminal.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::TIDY;

/// The window where there is none.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Pieces of input that may wait to be sent.
const QUEUE: usize = 16;
const PIECE: usize = 16 * 1024;

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

/// What comes on standard input, until it ends. Read by a thread of its own, which is left behind in a
/// read that may never return when the process ends.
pub(super) fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, keys) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    keys
}
