//! Consistent Overhead Byte Stuffing: bytes without a zero in them, so that zero can end a frame.
//!
//! Works in runs of up to 254 bytes, found with `memchr` and copied whole: a guest under emulation
//! pays some thirty times for every instruction, and this is done to every byte of every transfer.

/// Bytes in the longest run; its code is 0xFF and no zero follows it.
const MAX_RUN: usize = 254;

/// Most bytes that `len` bytes become.
pub(crate) const fn max_encoded_len(len: usize) -> usize {
    len + len / MAX_RUN + 1
}

/// Appends the encoding of what is pushed to `out`.
///
/// An encoding never ends in an empty block that a decoder could do without: the last byte pushed,
/// if it is not zero, is the last byte of the encoding. [`crate::frame`] builds on that.
pub(crate) struct Encoder<'out> {
    out: &'out mut Vec<u8>,
    /// Where the open block's code goes; the block after a longest run is opened by its first byte.
    code_at: Option<usize>,
}

impl<'out> Encoder<'out> {
    pub(crate) fn new(out: &'out mut Vec<u8>) -> Self {
        let mut encoder = Self { out, code_at: None };
        encoder.open_block();
        encoder
    }

    fn open_block(&mut self) -> usize {
        let at = self.out.len();
        self.out.push(0);
        self.code_at = Some(at);
        at
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let code_at = match self.code_at {
                Some(at) => at,
                None => self.open_block(),
            };
            let run = self.out.len() - code_at - 1;
            let window = &bytes[..bytes.len().min(MAX_RUN - run)];
            if let Some(zero) = memchr::memchr(0, window) {
                self.out.extend_from_slice(&window[..zero]);
                self.out[code_at] = (run + zero + 1) as u8;
                self.open_block();
                bytes = &bytes[zero + 1..];
                continue;
            }
            self.out.extend_from_slice(window);
            bytes = &bytes[window.len()..];
            if run + window.len() == MAX_RUN {
                self.out[code_at] = 0xFF;
                self.code_at = None;
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Some(at) = self.code_at {
            self.out[at] = (self.out.len() - at) as u8;
        }
    }
}

/// Decodes bytes that hold no zero. `None` if a block is cut short.
pub(crate) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&code, tail)) = rest.split_first() {
        let (run, tail) = tail.split_at_checked(usize::from(code).checked_sub(1)?)?;
        out.extend_from_slice(run);
        rest = tail;
        if code != 0xFF && !rest.is_empty() {
            out.push(0);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        for piece in pieces {
            encoder.push(piece);
        }
        encoder.finish();
        out
    }

    #[test]
    fn known_encodings() {
        let run: Vec<u8> = (1..=254).collect();
        let check = |data: &[u8], expected: &[u8]| assert_eq!(encode(&[data]), expected);
        check(&[], &[1]);
        check(&[0], &[1, 1]);
        check(&[0, 0], &[1, 1, 1]);
        check(&[0x11, 0x22, 0, 0x33], &[3, 0x11, 0x22, 2, 0x33]);
        check(&run, &[&[0xFF], run.as_slice()].concat());
        check(&[run.as_slice(), &[0]].concat(), &[&[0xFF], run.as_slice(), &[1, 1]].concat());
        check(&[run.as_slice(), &[7]].concat(), &[&[0xFF], run.as_slice(), &[2, 7]].concat());
    }

    /// Few different bytes and long stretches without zeros, so that blocks of every length occur.
    fn data() -> impl Strategy<Value = Vec<u8>> {
        let stretch = prop_oneof![
            (1..600usize).prop_map(|len| vec![0xA5; len]),
            (1..4usize).prop_map(|len| vec![0; len]),
            proptest::collection::vec(any::<u8>(), 0..300),
        ];
        proptest::collection::vec(stretch, 0..6).prop_map(|stretches| stretches.concat())
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(data in data(), cut in any::<prop::sample::Index>()) {
            let (head, tail) = data.split_at(cut.index(data.len() + 1));
            let encoded = encode(&[head, tail]);
            prop_assert!(!encoded.contains(&0));
            prop_assert!(encoded.len() <= max_encoded_len(data.len()));
            prop_assert_eq!(&encoded, &encode(&[&data]), "pieces make no difference");
            prop_assert_eq!(decode(&encoded), Some(data));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(garbage in proptest::collection::vec(1u8.., 0..2000)) {
            if let Some(data) = decode(&garbage) {
                prop_assert!(data.len() < garbage.len().max(1));
            }
        }
    }
}
