//! What a program has drawn, so that it can be drawn again for who comes later.
//!
//! What a program prints is hostile: everything here is bounded in memory, by a few megabytes for
//! each session, and in time, by the number of bytes.
//!
//! * `model`: the terminal and its state.
//! * `rows`: rows as the bytes that print them, for those that have scrolled away and for viewers.
//! * `render`: the bytes that draw everything again.
//! * `unfinished`: where what was printed breaks off.
//! * `parameters`: what keeps numbers within reason.

mod model;
mod parameters;
mod render;
mod rows;
#[cfg(test)]
mod tests;
mod unfinished;

use std::fmt;
use std::time::Duration;

use alacritty_terminal::vte::ansi::{Processor, Timeout};
use freestyle_guest_protocol::pty::PtySize;
use memchr::memchr3;

use self::model::Model;
use self::unfinished::{CAN, Unfinished};

/// The parser collects operating system commands (titles, links, clipboards) whole. Longer ones are
/// not for it.
const MAX_OSC: usize = 4096;
/// Bytes parsed at once.
const PIECE: usize = 4096;

/// The screen of a session.
pub(super) struct Screen {
    parser: Processor<AtOnce>,
    model: Model,
    unfinished: Unfinished,
    /// An operating system command is too long, and its rest not for the parser.
    skips: bool,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Screen(..)")
    }
}

impl Screen {
    /// An empty one.
    pub(super) fn new(size: PtySize) -> Self {
        Self {
            parser: Processor::new(),
            model: Model::new(size),
            unfinished: Unfinished::default(),
            skips: false,
        }
    }

    /// Draws what the program printed.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            let cut = parameters::cut(self.unfinished.beginning(), piece);
            self.unfinished.scan(piece);
            self.parse(&cut);
            if !self.skips && self.unfinished.osc_length().is_some_and(|length| length > MAX_OSC) {
                self.parse(&[CAN]);
                self.skips = true;
            }
        }
    }

    fn parse(&mut self, mut bytes: &[u8]) {
        if self.skips {
            // The bell and an escape end it; what aborts it does nothing else.
            let end = memchr3(0x07, 0x1B, CAN, bytes);
            let sub = memchr::memchr(0x1A, bytes);
            let Some(end) = end.into_iter().chain(sub).min() else { return };
            bytes = &bytes[end..];
            self.skips = false;
        }
        self.model.expect(bytes.len());
        self.parser.advance(&mut self.model, bytes);
    }

    /// Gives it another size. Lines are broken anew.
    pub(super) fn resize(&mut self, size: PtySize) {
        self.model.resize(size);
    }

    /// The bytes that draw it, scrollback included, on a terminal of the viewer's size, which is not
    /// smaller than its own. What the program prints next can follow on them.
    pub(super) fn render(&mut self, viewer: PtySize) -> Vec<u8> {
        let mut drawn = render::render(&mut self.model, viewer);
        drawn.extend_from_slice(self.unfinished.beginning());
        drawn
    }
}

/// Programs may ask that several changes be shown together (mode 2026). That is for viewers: the
/// parser would hold them back.
#[derive(Default)]
struct AtOnce;

impl Timeout for AtOnce {
    fn set_timeout(&mut self, _: Duration) {}

    fn clear_timeout(&mut self) {}

    fn pending_timeout(&self) -> bool {
        false
    }
}
