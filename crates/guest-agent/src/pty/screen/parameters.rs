//! Numbers in control sequences, cut to four digits. The parser repeats a character as often as it is
//! told to, and a program could have it do nothing else with a few bytes. No number of use is longer.

use std::borrow::Cow;

use memchr::memchr;

const ESC: u8 = 0x1B;
const MAX_DIGITS: usize = 4;

/// Cuts numbers in the bytes, which follow on `beginning`: that of a control sequence, or nothing.
pub(super) fn cut<'a>(beginning: &[u8], bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let mut cut = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    // A sequence that was begun goes on.
    let mut digits = beginning.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let mut inside = beginning.starts_with(b"\x1b[");
    let mut escaped = beginning == [ESC];
    while at < bytes.len() {
        if !inside && !escaped {
            let Some(escape) = memchr(ESC, &bytes[at..]) else { break };
            at += escape + 1;
            escaped = true;
            continue;
        }
        match bytes[at] {
            ESC => (inside, escaped) = (false, true),
            b'[' if escaped => (inside, escaped, digits) = (true, false, 0),
            b'0'..=b'9' if inside => {
                digits += 1;
                if digits > MAX_DIGITS {
                    cut.extend_from_slice(&bytes[copied..at]);
                    copied = at + 1;
                }
            }
            0x20..=0x3F if inside => digits = 0,
            // The parser acts on these wherever they are.
            0x00..0x20 => {}
            _ => (inside, escaped) = (false, false),
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    cut.extend_from_slice(&bytes[copied..]);
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_sequences_have_four_digits_and_text_is_text() {
        for (bytes, expected) in [
            ("x\x1b[65535b12345", "x\x1b[6553b12345"),
            ("\x1b[1;123456789;2004h", "\x1b[1;1234;2004h"),
            ("\x1b[38;2;255;255;255mok", "\x1b[38;2;255;255;255mok"),
            ("\x1b]2;12345\x07", "\x1b]2;12345\x07"),
            ("\x1b\x1b[12345A", "\x1b\x1b[1234A"),
            ("\x1b\r[123\n45A", "\x1b\r[123\n4A"),
            ("12345", "12345"),
        ] {
            assert_eq!(cut(b"", bytes.as_bytes()), expected.as_bytes(), "{bytes:?}");
        }
    }

    #[test]
    fn a_number_that_comes_in_pieces_is_cut_too() {
        assert_eq!(&*cut(b"\x1b[12", b"345b12345"), b"34b12345");
        assert_eq!(&*cut(b"\x1b", b"[12345b"), b"[1234b");
        assert_eq!(&*cut(b"\x1b]12", b"345b"), b"345b");
        assert_eq!(&*cut("\u{e4}".as_bytes(), b"[12345"), b"[12345");
    }
}
