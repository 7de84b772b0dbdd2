//! A finished delta: what a machine wrote over the image it began with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::format::{self, DATA, DeltaProblem, HEADER_BYTES, Header, Run};
use super::guest::{self, Batch, Guest};
use super::image::SealedMemory;
use super::merge::Stretch;
use crate::QemuError;
use crate::sparse::{self, CHUNK, PAGE};

/// Pages that differ from those of an image below, in a file.
///
/// Only means something together with the very image it was captured over; whoever names one must
/// name the other. The content is read when it is needed.
#[derive(Debug)]
pub struct Delta {
    file: File,
    path: PathBuf,
    header: Header,
    checksum: u64,
    runs: Vec<Run>,
}

impl Delta {
    /// Opens the file and checks everything but the pages themselves; see [`Delta::verify`]. Holds
    /// its index in memory. Blocks briefly.
    pub fn open(path: &Path) -> Result<Self, QemuError> {
        let file = File::open(path)
            .map_err(QemuError::io(format!("opening the memory delta {path:?}")))?;
        Self::read(file, path)
    }

    fn read(file: File, path: &Path) -> Result<Self, QemuError> {
        let len = file.metadata().map_err(reading(path))?.len();
        if len < DATA {
            return Err(problem(path)(DeltaProblem::NoDelta));
        }
        let mut fields = [0; HEADER_BYTES];
        file.read_exact_at(&mut fields, 0).map_err(reading(path))?;
        let (header, checksum) = Header::decode(&fields, len).map_err(problem(path))?;
        // No larger than the file, which it was checked against.
        let mut index = vec![0; (len - header.index()) as usize];
        file.read_exact_at(&mut index, header.index()).map_err(reading(path))?;
        let runs = format::decode_index(&index, &header).map_err(problem(path))?;
        Ok(Self { file, path: path.to_owned(), header, checksum, runs })
    }

    /// Size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.header.len()
    }

    /// Memory of the guest it is of, in MiB.
    pub fn size_mib(&self) -> u64 {
        self.header.size_mib
    }

    /// What [`Summary::checksum`](super::Summary::checksum) was.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Compares the pages with their checksum. Blocks: reads the whole file, in about 0.1 s a GB if
    /// it is in memory.
    pub fn verify(&self) -> Result<(), QemuError> {
        let mut checksum = Xxh3Default::new();
        let mut buffer = vec![0; CHUNK];
        let mut at = DATA;
        while at < self.header.index() {
            let len = buffer.len().min((self.header.index() - at) as usize);
            let piece = &mut buffer[..len];
            self.file.read_exact_at(piece, at).map_err(reading(&self.path))?;
            checksum.update(piece);
            at += len as u64;
        }
        if checksum.digest() == self.header.data_checksum {
            return Ok(());
        }
        Err(problem(&self.path)(DeltaProblem::Damaged("its pages")))
    }

    /// Writes the pages into the process, which maps the image that this delta is over, has
    /// `size_mib` of guest memory and has not looked at it yet: before it gets its device state.
    /// Afterwards they are the process's own. Blocks, for about 0.3 s a GB.
    pub fn pour(&self, pid: i32, size_mib: u64) -> Result<(), QemuError> {
        self.check_size(size_mib)?;
        let pour = || -> io::Result<()> {
            let guest = Guest::open(pid, size_mib)?;
            guest::in_parallel(self.batches(true), |batch, pages| {
                pages.resize(batch.bytes(), 0);
                self.read_slots(batch.slot, pages)?;
                guest.write(pages, &batch)
            })?;
            let zeros = self.batches(false);
            guest::in_parallel(zeros, |batch, pages| {
                pages.resize(batch.bytes(), 0);
                guest.write(pages, &batch)
            })?;
            guest.check_alive()
        };
        let path = &self.path;
        pour().map_err(QemuError::io(format!("pouring the memory delta {path:?}")))
    }

    /// Fails for a guest of another size.
    pub(super) fn check_size(&self, size_mib: u64) -> Result<(), QemuError> {
        if size_mib == self.size_mib() {
            return Ok(());
        }
        Err(problem(&self.path)(DeltaProblem::OtherSize(self.size_mib())))
    }

    /// The pages with data or those that are zero.
    pub(super) fn batches(&self, has_data: bool) -> Vec<Batch> {
        let wanted = self.runs.iter().filter(|run| run.has_data == has_data);
        guest::batches(wanted.map(|run| run.pages()))
    }

    /// Reads pages of the data, from the one at `slot`.
    pub(super) fn read_slots(&self, slot: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, DATA + slot * PAGE)
    }

    /// All of its pages, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = Stretch> {
        self.runs.iter().scan(0, |slots, run| {
            let slot = *slots;
            *slots += if run.has_data { u64::from(run.count) } else { 0 };
            Some(Stretch { pages: run.pages(), slot: run.has_data.then_some(slot) })
        })
    }
}

impl SealedMemory {
    /// A new image: `base` with the pages of `delta` over it. Blocks: copies both, in about 0.6 s a
    /// GB.
    pub fn compose(base: &Self, delta: &Delta) -> Result<Self, QemuError> {
        delta.check_size(base.size_mib())?;
        Self::make(base.size_mib(), |image| {
            sparse::copy(base.file(), image)?;
            let mut pages = Vec::new();
            for batch in delta.batches(true) {
                pages.resize(batch.bytes(), 0);
                delta.read_slots(batch.slot, &mut pages)?;
                for (at, part) in batch.parts(&pages) {
                    image.write_all_at(part, at)?;
                }
            }
            for batch in delta.batches(false) {
                for piece in batch.pieces {
                    sparse::punch(image, piece.start * PAGE, guest::len(&piece) * PAGE)?;
                }
            }
            Ok(())
        })
    }
}

fn problem(path: &Path) -> impl FnOnce(DeltaProblem) -> QemuError {
    move |problem| QemuError::Delta { path: path.to_owned(), problem }
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> QemuError {
    QemuError::io(format!("reading the memory delta {path:?}"))
}
