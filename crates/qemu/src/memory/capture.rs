//! Capturing what a machine has written, with a pause that is as short as a copy.
//!
//! ```text
//! machine   runs                is paused         runs
//! here      prepare       ──►   copy        ──►   finish
//!           memory to copy to   written pages     file: data, index, checksums
//! ```
//!
//! The pages are copied to memory, not to a mapping of the file: a file system that begins to write
//! such a mapping to its disk makes everyone wait who writes to it again, in the middle of the
//! pause.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::format::DATA;
use super::guest::{self, Guest, Pages};
use super::sys::Buffer;
use super::writer::{Summary, Writer};
use crate::QemuError;
use crate::sparse::PAGE;

/// Pages that a machine may write between preparation and pause before the copy gets slow: so
/// many, and a quarter of what it has written.
const HEADROOM: u64 = (16 << 20) / PAGE;
/// Bytes of memory that the host must have left.
const RESERVE: u64 = 256 << 20;

/// Everything that can be done before the machine is paused. Dropping it removes the file.
#[derive(Debug)]
pub struct Capture {
    guest: Guest,
    size_mib: u64,
    file: Unfinished,
    buffer: Buffer,
}

/// The pages of a machine at one moment, in memory. Dropping it removes the file.
#[derive(Debug)]
pub struct Copied {
    size_mib: u64,
    file: Unfinished,
    buffer: Buffer,
    /// In the order in which they lie in the buffer.
    written: Vec<Pages>,
}

impl Capture {
    /// Reserves memory, and room in a new file at `path`, for what the process has written so far
    /// and some more. The machine may run. Blocks, for about 0.1 s a GB.
    ///
    /// [`QemuError::is_no_space`] knows a disk without room, and [`QemuError::is_no_memory`] a host
    /// without memory, which must not become a reason for the kernel to kill some process.
    pub fn prepare(pid: i32, size_mib: u64, path: &Path) -> Result<Self, QemuError> {
        let prepare = || -> io::Result<Self> {
            let guest = Guest::open(pid, size_mib)?;
            let written = count(&guest.written()?);
            let room = (written + written / 4 + HEADROOM).min(guest.pages());
            let file = Unfinished::create(path)?;
            file.reserve(DATA + room * PAGE)?;
            let buffer = reserve(room)?;
            Ok(Self { guest, size_mib, file, buffer })
        };
        prepare().map_err(QemuError::io(format!("preparing the memory delta {path:?}")))
    }

    /// Copies what the machine has written. It must be paused until this returns. Blocks, for about
    /// 0.1 s a GB.
    pub fn copy(self) -> Result<Copied, QemuError> {
        self.copy_pages().map_err(QemuError::io("copying guest memory"))
    }

    fn copy_pages(self) -> io::Result<Copied> {
        let Self { guest, size_mib, file, mut buffer } = self;
        let written = guest.written()?;
        if (buffer.len() as u64) < count(&written) * PAGE {
            drop(buffer);
            buffer = reserve(count(&written))?;
        }
        let mut rest = &mut *buffer;
        let mut work = Vec::new();
        for batch in guest::batches(written.iter().cloned()) {
            let (part, behind) = rest.split_at_mut(batch.bytes());
            rest = behind;
            work.push((batch, part));
        }
        guest::in_parallel(work, |(batch, part), _| guest.read(&batch, part))?;
        guest.check_alive()?;
        Ok(Copied { size_mib, file, buffer, written })
    }
}

impl Copied {
    /// Writes the delta; a `durable` one survives a power failure once its folder is synced. The
    /// machine may run. Blocks, for about 0.3 s a GB, and waits for the disk if it is durable.
    pub fn finish(self, durable: bool) -> Result<Summary, QemuError> {
        let path = self.file.path.clone();
        self.write(durable).map_err(QemuError::io(format!("writing the memory delta {path:?}")))
    }

    fn write(self, durable: bool) -> io::Result<Summary> {
        let file = &self.file.file;
        let mut writer = Writer::new(file, self.size_mib)?;
        let mut rest = &*self.buffer;
        for pages in self.written {
            let (part, behind) = rest.split_at((guest::len(&pages) * PAGE) as usize);
            rest = behind;
            writer.append(pages.start, part)?;
        }
        let summary = writer.finish()?;
        if durable {
            file.sync_all()?;
        }
        self.file.keep();
        Ok(summary)
    }
}

fn count(written: &[Pages]) -> u64 {
    written.iter().map(guest::len).sum()
}

/// Memory for so many pages, if the host has it.
fn reserve(pages: u64) -> io::Result<Buffer> {
    let len = pages * PAGE;
    let info = fs::read_to_string("/proc/meminfo")?;
    if available(&info).is_some_and(|available| available < len + RESERVE) {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the host has too little memory"));
    }
    Buffer::new(usize::try_from(len.max(PAGE)).map_err(io::Error::other)?)
}

/// Bytes that can be had without pushing anything out, from the text of `/proc/meminfo`.
fn available(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
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

    /// Makes sure of so many bytes of the disk. Where that cannot be done, a full disk shows later.
    fn reserve(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_off_the_kernels_table() {
        let info = "MemTotal:       24000000 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n";
        assert_eq!(available(info), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB"), None);
        assert!(available(&fs::read_to_string("/proc/meminfo").unwrap()).unwrap() > 0);
    }
}
