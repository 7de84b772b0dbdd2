//! Capturing what a machine has written, with a pause that is as short as a copy.
//!
//! ```text
//! machine   runs            is paused        runs
//! here      prepare   ──►   copy      ──►    finish
//!           room in a file  pages into it    checksum, index, trim
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::format::DATA;
use super::guest::{self, Guest, Pages};
use super::sys::Mapping;
use super::writer::{Summary, Writer};
use crate::QemuError;
use crate::sparse::{CHUNK, PAGE};

/// Pages that a machine may write between preparation and pause before the copy gets slow: so
/// many, and a quarter of what it has written.
const HEADROOM: u64 = (16 << 20) / PAGE;

/// A file with room for what a machine has written. Dropping it removes the file.
#[derive(Debug)]
pub struct Capture {
    guest: Guest,
    size_mib: u64,
    file: Unfinished,
    mapping: Mapping,
    /// Pages there is room for.
    room: u64,
}

/// The pages of a machine at one moment, in a file that is no delta yet. Dropping it removes the
/// file.
#[derive(Debug)]
pub struct Copied {
    size_mib: u64,
    file: Unfinished,
    /// In the order in which they lie in the file.
    written: Vec<Pages>,
}

impl Capture {
    /// Makes a file at `path`, where there is none, with memory behind it for what the process has
    /// written so far and some more. The machine may run. Blocks, for about 0.5 s a GB; a disk
    /// without room is an error that [`QemuError::is_no_space`] knows.
    pub fn prepare(pid: i32, size_mib: u64, path: &Path) -> Result<Self, QemuError> {
        let prepare = || -> io::Result<Self> {
            let guest = Guest::open(pid, size_mib)?;
            let written: u64 = guest.written()?.iter().map(guest::len).sum();
            let room = (written + written / 4 + HEADROOM).min(guest.pages());
            let file = Unfinished::create(path)?;
            let mapping = reserve(&file.file, room)?;
            mapping.populate()?;
            Ok(Self { guest, size_mib, file, mapping, room })
        };
        prepare().map_err(QemuError::io(format!("preparing the memory delta {path:?}")))
    }

    /// Copies what the machine has written. It must be paused until this returns. Blocks, for about
    /// 0.1 s a GB.
    pub fn copy(self) -> Result<Copied, QemuError> {
        let path = self.file.path.clone();
        self.copy_pages().map_err(QemuError::io(format!("copying guest memory to {path:?}")))
    }

    fn copy_pages(mut self) -> io::Result<Copied> {
        let written = self.guest.written()?;
        let count = written.iter().map(guest::len).sum();
        if count > self.room {
            // Pages of the file are then made while they are written.
            self.mapping = reserve(&self.file.file, count)?;
        }
        let batches = guest::batches(written.iter().cloned());
        guest::in_parallel(&batches, |batch| {
            self.guest.read_to_mapping(batch, &self.mapping, DATA)
        })?;
        self.guest.check_alive()?;
        Ok(Copied { size_mib: self.size_mib, file: self.file, written })
    }
}

impl Copied {
    /// Makes the file a delta; a `durable` one survives a power failure once its folder is synced.
    /// The machine may run. Blocks: reads all of it, at about 4 GB/s, and waits for the disk if it
    /// is durable.
    pub fn finish(self, durable: bool) -> Result<Summary, QemuError> {
        let path = self.file.path.clone();
        self.complete(durable).map_err(QemuError::io(format!("finishing the delta {path:?}")))
    }

    fn complete(self, durable: bool) -> io::Result<Summary> {
        let file = &self.file.file;
        let mut writer = Writer::new(file, self.size_mib);
        let mut buffer = vec![0; CHUNK];
        let mut slot = 0;
        for pages in self.written {
            let mut first = pages.start;
            while first < pages.end {
                let count = (CHUNK as u64 / PAGE).min(pages.end - first);
                let piece = &mut buffer[..(count * PAGE) as usize];
                file.read_exact_at(piece, DATA + slot * PAGE)?;
                writer.append(first, piece, Some(slot))?;
                first += count;
                slot += count;
            }
        }
        let summary = writer.finish()?;
        if durable {
            file.sync_all()?;
        }
        self.file.keep();
        Ok(summary)
    }
}

/// Gives the file room for so many pages on its disk, and maps it.
fn reserve(file: &File, pages: u64) -> io::Result<Mapping> {
    let len = DATA + pages * PAGE;
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len)?;
    Mapping::of(file, len)
}

/// A new file that is removed again unless it is kept.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) file: File,
    path: PathBuf,
    kept: bool,
}

impl Unfinished {
    /// Makes the file, for reading and writing, with mode 0600.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, path: path.to_owned(), kept: false })
    }

    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A file that cannot be removed is no delta: it has no header.
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
