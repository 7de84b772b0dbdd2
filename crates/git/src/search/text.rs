//! Lines of a text and what matches in them.

use std::borrow::Cow;

use regex::bytes::Regex;

/// Characters of a line that are shown.
const LONGEST_SHOWN: usize = 4096;

/// Text as UTF-8. Lines that are not are taken for Latin-1, in which every byte is a character.
pub(super) fn decode(content: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(content) {
        return Cow::Borrowed(text);
    }
    let lines = content.split_inclusive(|byte| *byte == b'\n').map(decode_line);
    Cow::Owned(lines.collect())
}

fn decode_line(line: &[u8]) -> String {
    match std::str::from_utf8(line) {
        Ok(line) => line.to_owned(),
        Err(_) => line.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// A line of text in which something matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MatchingLine<'a> {
    /// From 1.
    pub(super) number: usize,
    /// Where the line begins in the text.
    pub(super) start: usize,
    /// Without its end.
    pub(super) line: &'a str,
}

/// Hands each line with a match. A match never goes over the end of a line, as in `grep`: the
/// expression is tried on the whole text, which is fast, and what it finds is tried again on the
/// line alone.
pub(super) fn for_each_matching_line<'a>(
    text: &'a str,
    expression: &Regex,
    mut line: impl FnMut(MatchingLine<'a>),
) {
    let bytes = text.as_bytes();
    let (mut at, mut number, mut counted) = (0, 1, 0);
    while at < bytes.len() {
        let Some(found) = expression.find_at(bytes, at) else { return };
        let first = found.start();
        if first == bytes.len() {
            // An empty match after the last line end is in no line.
            return;
        }
        let start = bytes[..first].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = bytes[first..].iter().position(|byte| *byte == b'\n');
        let end = end.map_or(bytes.len(), |at| first + at);
        number += bytes[counted..start].iter().filter(|byte| **byte == b'\n').count();
        counted = start;
        let content = text[start..end].strip_suffix('\r').unwrap_or(&text[start..end]);
        if expression.is_match(content.as_bytes()) {
            line(MatchingLine { number, start, line: content });
        }
        at = end + 1;
    }
}

/// Where an expression matches in one line, in bytes. A line may be a large file.
pub(super) fn matches_in(line: &str, expression: &Regex) -> impl Iterator<Item = (usize, usize)> {
    expression.find_iter(line.as_bytes()).map(|found| (found.start(), found.end()))
}

/// A column as JavaScript counts it, so that `line.slice(start, end)` is the match.
pub(super) fn utf16_column(line: &str, byte: usize) -> usize {
    // A match of bytes can end within a character only if there are none to match.
    let head = line.get(..byte).unwrap_or(line);
    if head.is_ascii() { head.len() } else { head.encode_utf16().count() }
}

/// A line as it is answered: cut when it is very long.
pub(super) fn shown(line: &str) -> String {
    match line.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => line[..end].to_owned(),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (usize, String, Vec<(usize, usize)>);

    fn lines(text: &str, expression: &str) -> Vec<Found> {
        let expression =
            regex::bytes::RegexBuilder::new(expression).multi_line(true).crlf(true).build();
        let mut found = Vec::new();
        let expression = expression.unwrap();
        for_each_matching_line(text, &expression, |line| {
            let matches = matches_in(line.line, &expression).collect();
            found.push((line.number, line.line.to_owned(), matches));
        });
        found
    }

    #[test]
    fn matches_stay_within_their_line() {
        let text = "one\r\ntwo one\nthree\n";
        assert_eq!(
            lines(text, "one"),
            [(1, "one".into(), vec![(0, 3)]), (2, "two one".into(), vec![(4, 7)])]
        );
        assert_eq!(lines(text, r"e\s+t"), []);
        assert_eq!(lines(text, r"one$").len(), 2);
        assert_eq!(
            lines(text, r"[^x]+"),
            [
                (1, "one".into(), vec![(0, 3)]),
                (2, "two one".into(), vec![(0, 7)]),
                (3, "three".into(), vec![(0, 5)]),
            ]
        );
        assert_eq!(lines("", "x*"), []);
        assert_eq!(lines("a\n\nb", "^$"), [(2, String::new(), vec![(0, 0)])]);
    }

    #[test]
    fn lines_that_are_not_utf8_are_latin_1() {
        let content = b"caf\xe9\nna\xc3\xafve\n";
        assert_eq!(decode(content), "café\nnaïve\n");
    }

    #[test]
    fn columns_are_those_of_javascript() {
        assert_eq!(utf16_column("aé😀b", "aé😀".len()), 4);
    }
}
