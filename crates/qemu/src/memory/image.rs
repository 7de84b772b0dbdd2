//! Whole images of guest memory: sealed to be mapped, and as sparse files.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};

use super::guest::{self, Guest};
use crate::QemuError;
use crate::sparse;

/// The name under which the mapping shows in `/proc/PID/maps`.
pub(super) const NAME: &str = "freestyle-ram";

/// Guest RAM that QEMU maps privately; nobody can change it.
#[derive(Debug)]
pub struct SealedMemory {
    file: File,
    size_mib: u64,
    content: u64,
}

impl SealedMemory {
    /// RAM of a machine that has not booted: all zero.
    pub fn zeroed(size_mib: u64) -> Result<Self, QemuError> {
        Self::make(size_mib, |_| Ok(()))
    }

    /// Loads the image at `path`. Blocks while it copies what is not a hole.
    pub fn load(path: &Path) -> Result<Self, QemuError> {
        let loading = || format!("loading the memory image {path:?}");
        let image = File::open(path).map_err(QemuError::io(loading()))?;
        let size = image.metadata().map_err(QemuError::io(loading()))?.len();
        Self::make(size >> 20, |file| sparse::copy(&image, file))
    }

    /// An image that `fill` writes to once; everything else is zero.
    pub(super) fn make(
        size_mib: u64,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<Self, QemuError> {
        let make = || -> io::Result<(File, u64)> {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = File::from(rustix::fs::memfd_create(NAME, flags)?);
            file.set_len(size_mib << 20)?;
            fill(&file)?;
            let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            rustix::fs::fcntl_add_seals(&file, all)?;
            let content = file.metadata()?.blocks() * 512;
            Ok((file, content))
        };
        let made = make().map_err(QemuError::io("making an image of guest memory"))?;
        let (file, content) = made;
        Ok(Self { file, size_mib, content })
    }

    /// Size of the guest's RAM in MiB.
    pub fn size_mib(&self) -> u64 {
        self.size_mib
    }

    /// Bytes of it that are not zero: what a copy would take. While it is mapped it occupies more, as
    /// the kernel also gives it a page for every hole that a guest writes to.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// The descriptor QEMU inherits.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Writes the RAM of a machine that booted on [`SealedMemory::zeroed`] to a new sparse file at
/// `path`, and syncs it. The machine must be paused. Blocks; answers the number of pages written.
pub fn save(pid: i32, size_mib: u64, path: &Path) -> Result<u64, QemuError> {
    let save = || -> io::Result<u64> {
        let guest = Guest::open(pid, size_mib)?;
        let image = File::options().write(true).create_new(true).open(path)?;
        image.set_len(size_mib << 20)?;
        let written = guest.written()?;
        let mut pages = Vec::new();
        for batch in guest::batches(written.iter().cloned()) {
            pages.resize(batch.bytes(), 0);
            guest.read(&batch, &mut pages)?;
            for (piece, bytes) in batch.parts(&pages) {
                sparse::write(&image, bytes, piece)?;
            }
        }
        guest.check_alive()?;
        image.sync_all()?;
        Ok(written.iter().map(guest::len).sum())
    };
    save().map_err(QemuError::io(format!("saving the memory image {path:?}")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_loaded_image_equals_its_file_and_cannot_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let image = File::create(&path).unwrap();
        image.set_len(8 << 20).unwrap();
        image.write_all_at(b"first", 0).unwrap();
        image.write_all_at(b"far", 5 << 20).unwrap();

        let memory = SealedMemory::load(&path).unwrap();

        assert_eq!(memory.size_mib(), 8);
        let mut all = vec![0; 8 << 20];
        memory.file().read_exact_at(&mut all, 0).unwrap();
        assert_eq!(all, fs::read(&path).unwrap());
        assert!(memory.file().write_all_at(b"no", 0).is_err(), "sealed against writing");
        assert!(memory.file().set_len(1).is_err(), "sealed against shrinking");
    }
}
