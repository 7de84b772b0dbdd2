//! Frames: how messages are cut out of a stream of bytes that can break off at any byte.
//!
//! A frame on the wire is the COBS encoding of
//!
//! ```text
//! payload | stream: u32 LE | crc32 of payload, stream and kind: u32 LE | kind: u8
//! ```
//!
//! and a zero byte. A new connection first sends [`CUT`]: it ends whatever half of a frame an
//! earlier connection left with the receiver in a way that can never make a valid frame of it. That
//! is certain, not probable, because the kind comes last and 0xFF is no kind: the 0xFF of the cut
//! is either the code of a block that is cut short, or the last byte of a frame.
//!
//! What is no valid frame is dropped and counted.

use crate::cobs;

/// Most payload bytes in a frame: a command of the longest argument Linux takes (128 KiB), and room.
pub const MAX_PAYLOAD: usize = 160 * 1024;
/// What comes after the payload.
const TRAILER: usize = 4 + 4 + 1;
const MAX_ENCODED: usize = cobs::max_encoded_len(MAX_PAYLOAD + TRAILER);

/// Sent by each side at the start of a connection; see the module's documentation.
pub const CUT: [u8; 2] = [0xFF, 0];

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A `message::LinkMessage`. The stream is 0.
    Link = 1,
    /// Host to guest: a `message::Request`, which opens the stream.
    Open = 2,
    /// Either way: bytes on the stream's [`Main`](crate::mux::Channel::Main) channel.
    Data = 3,
    /// Either way: bytes on the stream's [`Side`](crate::mux::Channel::Side) channel.
    SideData = 4,
    /// Either way: the sender sends no more data on the stream.
    End = 5,
    /// Either way: the receiver of data takes so many bytes more (u32 LE).
    Credit = 6,
    /// Guest to host: a `message::Reply`, which ends the stream.
    Reply = 7,
    /// Host to guest: the request is given up. The guest still replies.
    Cancel = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        let kinds = [
            Self::Link,
            Self::Open,
            Self::Data,
            Self::SideData,
            Self::End,
            Self::Credit,
            Self::Reply,
            Self::Cancel,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One message, or part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream it belongs to; 0 is the link itself.
    pub stream: u32,
    /// What it is about.
    pub kind: Kind,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Appends the frame, as it is sent, to `out`.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`MAX_PAYLOAD`]: no receiver would take it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.payload.len() <= MAX_PAYLOAD, "a frame's payload is bounded by its maker");
        out.reserve(cobs::max_encoded_len(self.payload.len() + TRAILER) + 1);
        let stream = self.stream.to_le_bytes();
        let kind = self.kind as u8;
        let mut encoder = cobs::Encoder::new(out);
        encoder.push(&self.payload);
        encoder.push(&stream);
        encoder.push(&checksum(&self.payload, stream, kind).to_le_bytes());
        encoder.push(&[kind]);
        encoder.finish();
        out.push(0);
    }

    fn decode(encoded: &[u8]) -> Option<Self> {
        let mut raw = cobs::decode(encoded)?;
        let (rest, &[kind]) = raw.split_last_chunk()?;
        let (rest, &crc) = rest.split_last_chunk()?;
        let (payload, &stream) = rest.split_last_chunk()?;
        if payload.len() > MAX_PAYLOAD || u32::from_le_bytes(crc) != checksum(payload, stream, kind)
        {
            return None;
        }
        let len = payload.len();
        raw.truncate(len);
        Some(Self {
            stream: u32::from_le_bytes(stream),
            kind: Kind::from_byte(kind)?,
            payload: raw,
        })
    }
}

fn checksum(payload: &[u8], stream: [u8; 4], kind: u8) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(payload);
    hasher.update(&stream);
    hasher.update(&[kind]);
    hasher.finalize()
}

/// Finds frames in bytes as they arrive. Holds at most one frame's worth of unfinished bytes besides
/// what was pushed last.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Bytes before this were decoded.
    start: usize,
    /// Bytes between `start` and this hold no zero.
    scanned: usize,
    /// The frame at `start` is longer than any frame; its beginning is gone already.
    overlong: bool,
    dropped: u64,
}

impl FrameDecoder {
    /// Adds bytes that arrived. Call [`FrameDecoder::next_frame`] until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes are pushed.
    pub fn next_frame(&mut self) -> Option<Frame> {
        while let Some(zero) = memchr::memchr(0, &self.buffer[self.scanned..]) {
            let encoded = self.start..self.scanned + zero;
            self.start = encoded.end + 1;
            self.scanned = self.start;
            let encoded = &self.buffer[encoded];
            let is_cut_of_nothing = encoded.is_empty() || encoded == &CUT[..1];
            if is_cut_of_nothing && !self.overlong {
                continue;
            }
            let frame = Frame::decode(encoded);
            if let Some(frame) = frame.filter(|_| !self.overlong) {
                return Some(frame);
            }
            self.overlong = false;
            self.dropped += 1;
        }
        self.scanned = self.buffer.len();
        if self.scanned - self.start > MAX_ENCODED {
            self.start = self.scanned;
            self.overlong = true;
        }
        None
    }

    /// How many stretches between zeros were no valid frame, nor the [`CUT`] of a new connection.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u32, kind: Kind, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { stream, kind, payload: payload.into() }
    }

    fn encode(frames: &[Frame]) -> Vec<u8> {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut out));
        out
    }

    fn decode(decoder: &mut FrameDecoder, bytes: &[u8]) -> Vec<Frame> {
        decoder.push(bytes);
        std::iter::from_fn(|| decoder.next_frame()).collect()
    }

    /// What a parent sent is cut at every byte and continued by a clone's first connection: frames
    /// that had arrived whole count, the cut one is gone, and none of the clone's is lost.
    #[test]
    fn a_stream_cut_at_any_byte_is_continued_by_another() {
        let parent = [
            frame(1, Kind::Open, "command"),
            frame(1, Kind::Data, vec![0xFF; 254 * 2 - 9]), // ends with a longest run
            frame(2, Kind::Data, vec![0xFF; 300]),
            frame(3, Kind::Data, vec![0; 40]),
            frame(u32::MAX, Kind::SideData, (0..=255).collect::<Vec<u8>>()),
            frame(2, Kind::End, ""),
        ];
        let clone = [frame(0, Kind::Link, "hello"), frame(1, Kind::Open, "other")];
        let sent = encode(&parent);
        let continued = [CUT.as_slice(), &encode(&clone)].concat();
        for cut in 0..=sent.len() {
            let whole = sent[..cut].iter().filter(|byte| **byte == 0).count();
            let is_between = cut == 0 || sent[cut - 1] == 0;
            let mut decoder = FrameDecoder::default();
            assert_eq!(decode(&mut decoder, &sent[..cut]), parent[..whole], "cut at {cut}");
            assert_eq!(decode(&mut decoder, &continued), clone, "cut at {cut}");
            assert_eq!(decoder.dropped(), u64::from(!is_between), "cut at {cut}");
        }
    }

    /// The other half of the same: a receiver that comes in the middle of a stream.
    #[test]
    fn a_receiver_may_begin_in_the_middle() {
        let frames = [frame(1, Kind::Data, vec![1; 700]), frame(2, Kind::Data, "second")];
        let sent = encode(&frames);
        let second_at = encode(&frames[..1]).len();
        for from in 1..second_at {
            let mut decoder = FrameDecoder::default();
            assert_eq!(decode(&mut decoder, &sent[from..]), frames[1..], "from {from}");
        }
    }

    #[test]
    fn the_largest_frame_passes_and_a_longer_run_of_bytes_is_not_kept() {
        let largest = frame(9, Kind::Data, vec![7; MAX_PAYLOAD]);
        let mut decoder = FrameDecoder::default();
        assert_eq!(decode(&mut decoder, &encode(std::slice::from_ref(&largest))), [largest]);

        for _ in 0..1000 {
            assert_eq!(decode(&mut decoder, &[0x41; 4096]), []);
            assert!(decoder.buffer.len() <= MAX_ENCODED + 2 * 4096);
        }
        let next = frame(1, Kind::End, "");
        assert_eq!(
            decode(&mut decoder, &[&[0], encode(std::slice::from_ref(&next)).as_slice()].concat()),
            [next]
        );
        assert_eq!(decoder.dropped(), 1);
    }

    #[test]
    fn a_flipped_bit_drops_the_frame() {
        let sent = encode(&[frame(5, Kind::Data, "some bytes of a transfer")]);
        for bit in 0..(sent.len() - 1) * 8 {
            let mut damaged = sent.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&mut FrameDecoder::default(), &damaged), [], "bit {bit}");
        }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let payload = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            (0..70_000usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        ];
        (any::<u32>(), 1..=8u8, payload).prop_map(|(stream, kind, payload)| Frame {
            stream,
            kind: Kind::from_byte(kind).expect("in range"),
            payload,
        })
    }

    proptest! {
        #[test]
        fn frames_arrive_however_the_bytes_are_split(
            frames in proptest::collection::vec(any_frame(), 0..5),
            step in 1..5000usize,
        ) {
            let mut decoder = FrameDecoder::default();
            let arrived: Vec<Frame> =
                encode(&frames).chunks(step).flat_map(|chunk| decode(&mut decoder, chunk)).collect();
            prop_assert_eq!(arrived, frames);
            prop_assert_eq!(decoder.dropped(), 0);
        }

        #[test]
        fn garbage_is_dropped_and_the_next_connection_is_understood(
            garbage in proptest::collection::vec(any::<u8>(), 0..5000),
            frames in proptest::collection::vec(any_frame(), 1..3),
        ) {
            let mut decoder = FrameDecoder::default();
            prop_assert_eq!(decode(&mut decoder, &garbage), []);
            decode(&mut decoder, &CUT);
            prop_assert_eq!(decode(&mut decoder, &encode(&frames)), frames);
        }
    }
}
