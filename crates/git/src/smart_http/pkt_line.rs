//! Git's framing: four hexadecimal digits of length, themselves included, and the content.

/// Longest content of a line; git never sends more.
pub(super) const LONGEST: usize = 65_520 - 4;

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A line with its content.
    Data(Vec<u8>),
    /// `0000`.
    Flush,
    /// `0001`, `0002`.
    Other,
}

/// The bytes are not packets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes a stream of bytes apart, holding back at most one packet.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    /// Adds bytes to what is not parsed yet.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet and its bytes as they came.
    pub(super) fn next(&mut self) -> Result<Option<(Packet, Vec<u8>)>, Malformed> {
        let Some(digits) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed);
        }
        let digits = std::str::from_utf8(digits).map_err(|_| Malformed)?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| Malformed)?;
        let (packet, length) = match length {
            0 => (Packet::Flush, 4),
            1 | 2 => (Packet::Other, 4),
            3 => return Err(Malformed),
            length if length > LONGEST + 4 => return Err(Malformed),
            length if self.buffer.len() < length => return Ok(None),
            length => (Packet::Data(self.buffer[4..length].to_vec()), length),
        };
        let rest = self.buffer.split_off(length);
        Ok(Some((packet, std::mem::replace(&mut self.buffer, rest))))
    }

    /// Bytes that are no whole packet.
    pub(super) fn rest(self) -> Vec<u8> {
        self.buffer
    }
}

/// A line with its length in front.
pub(super) fn line(content: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", content.len() + 4).into_bytes();
    line.extend_from_slice(content);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_wherever_the_stream_is_cut() {
        let stream = [line(b"hello\n"), b"0000".to_vec(), b"0001".to_vec(), line(b"")].concat();
        for cut in 0..=stream.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                parser.push(part);
                while let Some((packet, _)) = parser.next().unwrap() {
                    found.push(packet);
                }
            }
            let hello = Packet::Data(b"hello\n".to_vec());
            assert_eq!(found, [hello, Packet::Flush, Packet::Other, Packet::Data(Vec::new())]);
            assert!(parser.rest().is_empty());
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bad in [&b"PACK"[..], b"0003", b"+001", b"fff1"] {
            let mut parser = Parser::default();
            parser.push(bad);
            assert_eq!(parser.next(), Err(Malformed), "{bad:?}");
        }
    }
}
