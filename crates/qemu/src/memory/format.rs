//! The file format of a delta.
//!
//! ```text
//! header    4096 bytes, zero behind its fields
//! data      the pages that are not all zero, in the order of the guest's memory
//! index     8 bytes a run: which pages the data is, and which are zero
//! ```
//!
//! All numbers are little-endian. The header is written last, so a file that was not finished is
//! none. Checksums are XXH3: 64 bits that are computed about as fast as memory is read. They find
//! damage, not forgery.

use xxhash_rust::xxh3::xxh3_64;

use crate::sparse::PAGE;

/// Where the data begins.
pub(super) const DATA: u64 = PAGE;
/// The first bytes of every delta.
const MAGIC: [u8; 8] = *b"FSDELTA\n";
/// The version that this build writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;
/// Largest guest: its page numbers fit in 32 bits, lengths of runs in 31.
const MAX_SIZE_MIB: u64 = 1 << 22;
/// Bytes of the header's fields, and of those before its own checksum.
const HEADER: usize = 64;
const CHECKED: usize = HEADER - 8;
/// Bytes of a run in the index.
pub(super) const RUN: u64 = 8;
/// Set in the length of a run of zeros.
const ZERO: u32 = 1 << 31;

/// Why a file is not used as a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaProblem {
    /// Something else, or a delta that was not finished.
    #[error("is no delta of guest memory")]
    NoDelta,
    /// Written by another build.
    #[error("has format {0}; this build knows {VERSION}")]
    Version(u32),
    /// Of a guest with another amount of memory.
    #[error("is of a guest of {0} MiB")]
    OtherSize(u64),
    /// It is not what was written.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
}

/// The fields of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) size_mib: u64,
    /// Pages in the data.
    pub(super) slots: u64,
    /// Runs in the index.
    pub(super) runs: u64,
    pub(super) data_checksum: u64,
    pub(super) index_checksum: u64,
}

impl Header {
    /// The header's fields, and the checksum that covers them and, through them, everything.
    pub(super) fn encode(&self) -> ([u8; HEADER], u64) {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let fields =
            [self.size_mib, self.slots, self.runs, self.data_checksum, self.index_checksum];
        for (place, field) in bytes[16..CHECKED].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads the header of a file of `len` bytes; its size is then what the header says.
    pub(super) fn decode(bytes: &[u8; HEADER], len: u64) -> Result<(Self, u64), DeltaProblem> {
        let (words, _) = bytes.as_chunks::<8>();
        if words[0] != MAGIC {
            return Err(DeltaProblem::NoDelta);
        }
        let word = |index: usize| u64::from_le_bytes(words[index]);
        // The upper half is reserved: zero.
        let version = u32::try_from(word(1)).map_err(|_| DeltaProblem::Version(u32::MAX))?;
        if version != VERSION {
            return Err(DeltaProblem::Version(version));
        }
        let checksum = word(7);
        if xxh3_64(&bytes[..CHECKED]) != checksum {
            return Err(DeltaProblem::Damaged("its header"));
        }
        let header = Self {
            size_mib: word(2),
            slots: word(3),
            runs: word(4),
            data_checksum: word(5),
            index_checksum: word(6),
        };
        let pages = header.pages();
        if header.size_mib > MAX_SIZE_MIB || header.slots > pages || header.runs > pages {
            return Err(DeltaProblem::Damaged("the sizes in its header"));
        }
        if header.len() != len {
            return Err(DeltaProblem::Damaged("its length"));
        }
        Ok((header, checksum))
    }

    /// Pages of the guest.
    pub(super) fn pages(&self) -> u64 {
        // What does not fit is refused for its size; it must only not overflow before.
        self.size_mib.saturating_mul((1 << 20) / PAGE)
    }

    /// Where the index begins.
    pub(super) fn index(&self) -> u64 {
        DATA + self.slots * PAGE
    }

    /// Size of the file.
    pub(super) fn len(&self) -> u64 {
        self.index() + self.runs * RUN
    }
}

/// Pages of the guest that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
    /// Whether the file has data of them; they are zero otherwise.
    pub(super) has_data: bool,
}

impl Run {
    /// The pages, by number.
    pub(super) fn pages(self) -> std::ops::Range<u64> {
        u64::from(self.first)..u64::from(self.first) + u64::from(self.count)
    }
}

/// The bytes of an index.
pub(super) fn encode_index(runs: &[Run]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(runs.len() * RUN as usize);
    for run in runs {
        let zero = if run.has_data { 0 } else { ZERO };
        bytes.extend_from_slice(&run.first.to_le_bytes());
        bytes.extend_from_slice(&(run.count | zero).to_le_bytes());
    }
    bytes
}

/// Reads an index of which the header has been checked.
pub(super) fn decode_index(bytes: &[u8], header: &Header) -> Result<Vec<Run>, DeltaProblem> {
    if xxh3_64(bytes) != header.index_checksum {
        return Err(DeltaProblem::Damaged("its index"));
    }
    let mut runs = Vec::with_capacity(bytes.len() / RUN as usize);
    let (mut end, mut slots) = (0, 0);
    let (words, _) = bytes.as_chunks::<4>();
    for pair in words.chunks_exact(2) {
        let (first, count) = (u32::from_le_bytes(pair[0]), u32::from_le_bytes(pair[1]));
        let run = Run { first, count: count & !ZERO, has_data: count & ZERO == 0 };
        let pages = run.pages();
        if pages.is_empty() || pages.start < end || pages.end > header.pages() {
            return Err(DeltaProblem::Damaged("the order of its index"));
        }
        end = pages.end;
        slots += if run.has_data { u64::from(run.count) } else { 0 };
        runs.push(run);
    }
    if slots != header.slots {
        return Err(DeltaProblem::Damaged("the sum of its index"));
    }
    Ok(runs)
}

/// Bytes at the start of the file that [`Header::decode`] needs.
pub(super) const HEADER_BYTES: usize = HEADER;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(runs: &[Run]) -> Header {
        let data = |run: &&Run| run.has_data;
        Header {
            size_mib: 1,
            slots: runs.iter().filter(data).map(|run| u64::from(run.count)).sum(),
            runs: runs.len() as u64,
            data_checksum: 7,
            index_checksum: xxh3_64(&encode_index(runs)),
        }
    }

    const GOOD: [Run; 3] = [
        Run { first: 0, count: 3, has_data: true },
        Run { first: 3, count: 1, has_data: false },
        Run { first: 200, count: 56, has_data: true },
    ];

    #[test]
    fn an_index_that_contradicts_itself_is_refused_though_its_checksum_is_right() {
        let check = |runs: &[Run]| decode_index(&encode_index(runs), &header(runs));
        assert_eq!(check(&GOOD).unwrap(), GOOD);
        let with = |index: usize, run: Run| {
            let mut runs = GOOD;
            runs[index] = run;
            check(&runs).unwrap_err()
        };
        let order = DeltaProblem::Damaged("the order of its index");
        assert_eq!(with(1, Run { first: 2, ..GOOD[1] }), order, "overlaps");
        assert_eq!(with(1, Run { count: 0, ..GOOD[1] }), order, "is empty");
        assert_eq!(with(2, Run { count: 57, ..GOOD[2] }), order, "beyond the guest");
        assert_eq!(with(2, Run { first: u32::MAX, ..GOOD[2] }), order, "far beyond the guest");
        let mut other = header(&GOOD);
        other.slots += 1;
        let sum = DeltaProblem::Damaged("the sum of its index");
        assert_eq!(decode_index(&encode_index(&GOOD), &other).unwrap_err(), sum);
    }

    #[test]
    fn a_header_of_another_version_says_which() {
        let (mut bytes, _) = header(&GOOD).encode();
        bytes[8] = 2;
        let len = header(&GOOD).len();
        assert_eq!(Header::decode(&bytes, len).unwrap_err(), DeltaProblem::Version(2));
        bytes[0] = b'f';
        assert_eq!(Header::decode(&bytes, len).unwrap_err(), DeltaProblem::NoDelta);
    }

    #[test]
    fn sizes_beyond_all_bounds_are_refused_though_the_checksum_is_right() {
        for size_mib in [MAX_SIZE_MIB + 1, u64::MAX] {
            let (bytes, _) = Header { size_mib, ..header(&GOOD) }.encode();
            assert!(Header::decode(&bytes, header(&GOOD).len()).is_err());
        }
        for slots in [257, u64::MAX] {
            let (bytes, _) = Header { slots, ..header(&GOOD) }.encode();
            assert!(Header::decode(&bytes, header(&GOOD).len()).is_err());
        }
        for runs in [257, u64::MAX] {
            let (bytes, _) = Header { runs, ..header(&GOOD) }.encode();
            assert!(Header::decode(&bytes, header(&GOOD).len()).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_written(size_mib in 0..=MAX_SIZE_MIB, slots: u64, runs: u64, a: u64, b: u64) {
            let pages = size_mib * 256;
            let (slots, runs) = (slots % (pages + 1), runs % (pages + 1));
            let header =
                Header { size_mib, slots, runs, data_checksum: a, index_checksum: b };
            let (bytes, checksum) = header.encode();
            prop_assert_eq!(Header::decode(&bytes, header.len()), Ok((header, checksum)));
            prop_assert!(Header::decode(&bytes, header.len() + 1).is_err());
        }

        #[test]
        fn a_header_with_any_bit_changed_is_refused(bit in 0..HEADER * 8) {
            let (mut bytes, _) = header(&GOOD).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes, header(&GOOD).len()).is_err());
        }

        #[test]
        fn random_bytes_are_no_index(bytes: Vec<u8>) {
            let _ = Header::decode(&std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0)), 1 << 20);
            let mut header = header(&GOOD);
            header.index_checksum = xxh3_64(&bytes);
            if let Ok(runs) = decode_index(&bytes, &header) {
                prop_assert_eq!(runs.iter().filter(|run| run.has_data).map(|run| run.count).sum::<u32>(), 59);
            }
        }
    }
}
