//! Where in a sequence of control characters, or in a character, what a program printed breaks off.
//! A viewer that comes at that moment must be given the beginning, or it would take the rest for
//! text. Follows the state machine of the parser, `vte`.

use memchr::memrchr;

const ESC: u8 = 0x1B;
const BELL: u8 = 0x07;
/// Aborts any sequence.
pub(super) const CAN: u8 = 0x18;
const SUB: u8 = 0x1A;
/// Bytes of the beginning that are kept. Only strings are longer, which terminals ignore or bound.
const KEPT: usize = 4096;

/// The beginning of a sequence or character whose rest has not come yet.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    state: State,
    beginning: Vec<u8>,
    length: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text; the beginning is that of a character.
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    Csi,
    Osc,
    Dcs,
    DcsPassthrough,
    /// Other strings: SOS, PM and APC.
    String,
}

impl Unfinished {
    /// What has come of what is not finished; empty if all is.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// Bytes so far of an operating system command that is not finished.
    pub(super) fn osc_length(&self) -> Option<usize> {
        (self.state == State::Osc).then_some(self.length)
    }

    /// Looks at what comes next.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        // Whatever was before, an escape begins anew.
        let mut rest = match memrchr(ESC, bytes) {
            Some(at) => {
                self.begin(State::Escape);
                self.keep(ESC);
                &bytes[at + 1..]
            }
            None => bytes,
        };
        while self.state != State::Ground
            && let Some((&byte, after)) = rest.split_first()
        {
            self.step(byte);
            rest = after;
        }
        if self.state == State::Ground && !rest.is_empty() {
            self.beginning.extend_from_slice(&rest[rest.len().saturating_sub(3)..]);
            let cut = self.beginning.len() - incomplete_suffix(&self.beginning).len();
            self.beginning.drain(..cut);
        }
    }

    fn begin(&mut self, state: State) {
        *self = Self { state, ..Self::default() };
    }

    fn keep(&mut self, byte: u8) {
        self.length += 1;
        if self.beginning.len() < KEPT {
            self.beginning.push(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        use State::{Csi, Dcs, DcsPassthrough, Escape, EscapeIntermediate, Ground, Osc, String};
        let next = match (self.state, byte) {
            (_, CAN | SUB) => Ground,
            // The parser has acted on these already, or ignores them.
            (Escape | EscapeIntermediate | Csi, 0x00..0x20) => return,
            (Escape, 0x20..=0x2F) => EscapeIntermediate,
            (Escape, b'[') => Csi,
            (Escape, b']') => Osc,
            (Escape, b'P') => Dcs,
            (Escape, b'X' | b'^' | b'_') => String,
            (Escape | EscapeIntermediate, 0x30..=0x7E) | (Csi, 0x40..=0x7E) => Ground,
            (Osc, BELL) | (DcsPassthrough, 0x9C) => Ground,
            (Dcs, 0x40..=0x7E) => DcsPassthrough,
            (same, _) => same,
        };
        if next == Ground {
            self.begin(Ground);
        } else {
            self.state = next;
            self.keep(byte);
        }
    }
}

/// The beginning of a UTF-8 character at the end of the text, if there is one.
fn incomplete_suffix(text: &[u8]) -> &[u8] {
    let last = text.len().saturating_sub(3)..text.len();
    let is_incomplete = |start: &usize| {
        let checked = std::str::from_utf8(&text[*start..]);
        checked.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    last.into_iter().find(is_incomplete).map_or(&[], |start| &text[start..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beginning(text: &[u8]) -> Vec<u8> {
        let mut unfinished = Unfinished::default();
        unfinished.scan(text);
        unfinished.beginning().to_vec()
    }

    #[test]
    fn what_is_not_finished_is_known_at_every_byte() {
        let whole: [&[u8]; 9] = [
            b"\x1b[38;2;1;2;3m",
            b"\x1b(0",
            b"\x1b7",
            b"\x1b]2;title\x07",
            b"\x1bPq#0;2;0\x9c",
            b"\x1b_anything \xc3\xa4\x18",
            "ü".as_bytes(),
            "世".as_bytes(),
            "🚀".as_bytes(),
        ];
        for sequence in whole {
            for cut in 1..sequence.len() {
                assert_eq!(beginning(&sequence[..cut]), &sequence[..cut], "{sequence:?}");
                let text = [b"text \x1b[m", &sequence[..cut]].concat();
                assert_eq!(beginning(&text), &sequence[..cut], "{sequence:?}");
            }
            assert_eq!(beginning(sequence), b"", "{sequence:?}");
        }
    }

    #[test]
    fn a_string_is_ended_by_an_escape() {
        assert_eq!(beginning(b"\x1b]8;;http://x\x1b"), b"\x1b");
        assert_eq!(beginning(b"\x1b]8;;http://x\x1b\\"), b"");
    }

    #[test]
    fn what_was_acted_on_is_not_said_again() {
        assert_eq!(beginning(b"\x1b[3\n1"), b"\x1b[31");
    }

    #[test]
    fn a_long_string_is_counted_and_not_kept() {
        let mut unfinished = Unfinished::default();
        unfinished.scan(b"\x1b]2;");
        for _ in 0..1000 {
            unfinished.scan(&[b'x'; 1000]);
        }
        assert_eq!(unfinished.osc_length(), Some(1_000_004));
        assert_eq!(unfinished.beginning().len(), KEPT);
        unfinished.scan(b"\x07");
        assert_eq!((unfinished.osc_length(), unfinished.beginning()), (None, &[][..]));
    }

    proptest! {
        #[test]
        fn pieces_are_the_same_as_the_whole(
            bytes in proptest::collection::vec(prop_oneof![
                any::<u8>(),
                proptest::sample::select(b"\x1b[]P_0;m\x07\x18\xc3\xe4\x9c".as_slice()),
            ], 0..60),
            cuts in proptest::collection::vec(0..60usize, 0..6),
        ) {
            let mut unfinished = Unfinished::default();
            let mut at = 0;
            let mut cuts = cuts;
            cuts.sort_unstable();
            for cut in cuts.into_iter().chain([bytes.len()]) {
                let cut = cut.clamp(at, bytes.len());
                unfinished.scan(&bytes[at..cut]);
                at = cut;
            }
            prop_assert_eq!(unfinished.beginning(), beginning(&bytes));
        }
    }
}
