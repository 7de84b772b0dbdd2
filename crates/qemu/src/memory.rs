//! Images of guest memory.
//!
//! A memory image is a sparse file with the guest's RAM, byte for byte. To run clones of it, it is
//! loaded once into an anonymous in-memory file that is then sealed against every change, and each
//! QEMU maps that file privately. This has three effects that the design rests on:
//!
//! * pages no clone wrote exist once on the host;
//! * the pages a clone did write are exactly the anonymous pages of its mapping, so a snapshot
//!   copies those and nothing else;
//! * QEMU before 8.2 can only open the backing file for writing. With a file on disk, a guest that
//!   takes over its QEMU could write into the memory of every future clone; a seal cannot be
//!   undone by anyone.
//!
//! The price is that a loaded image occupies RAM while something maps it or holds its descriptor.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::QemuError;
use crate::sparse::{self, CHUNK, PAGE};

/// The name under which the mapping shows in `/proc/PID/maps`.
const NAME: &str = "freestyle-ram";

/// Guest RAM that QEMU maps privately; nobody can change it.
#[derive(Debug)]
pub struct SealedMemory {
    file: File,
    size_mib: u64,
}

impl SealedMemory {
    /// RAM of a machine that has not booted: all zero.
    pub fn zeroed(size_mib: u64) -> Result<Self, QemuError> {
        let file = create(size_mib).map_err(QemuError::io("reserving guest memory"))?;
        Self::seal(file, size_mib)
    }

    /// Loads the image at `path`. Blocks while it copies what is not a hole.
    pub fn load(path: &Path) -> Result<Self, QemuError> {
        let load = || -> io::Result<(File, u64)> {
            let image = File::open(path)?;
            let size_mib = image.metadata()?.len() >> 20;
            let file = create(size_mib)?;
            sparse::copy(&image, &file)?;
            Ok((file, size_mib))
        };
        let (file, size_mib) =
            load().map_err(QemuError::io(format!("loading the memory image {path:?}")))?;
        Self::seal(file, size_mib)
    }

    fn seal(file: File, size_mib: u64) -> Result<Self, QemuError> {
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, all).map_err(QemuError::io("sealing guest memory"))?;
        Ok(Self { file, size_mib })
    }

    /// Size of the guest's RAM in MiB.
    pub fn size_mib(&self) -> u64 {
        self.size_mib
    }

    /// The descriptor QEMU inherits.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn create(size_mib: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create(NAME, flags)?);
    file.set_len(size_mib << 20)?;
    Ok(file)
}

/// Writes the RAM of a machine that booted on [`SealedMemory::zeroed`] to a new sparse file at
/// `path`, and syncs it. The machine must be paused and its process must not end meanwhile. Blocks;
/// answers the number of pages written.
pub fn save(pid: i32, size_mib: u64, path: &Path) -> Result<u64, QemuError> {
    let save = || -> io::Result<u64> {
        let base = mapping_start(&fs::read_to_string(format!("/proc/{pid}/maps"))?, size_mib)?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        let image = File::options().write(true).create_new(true).open(path)?;
        image.set_len(size_mib << 20)?;
        let pages = copy_written_pages(base, size_mib, &pagemap, &memory, &image)?;
        image.sync_all()?;
        Ok(pages)
    };
    save().map_err(QemuError::io(format!("saving the memory image {path:?}")))
}

/// Where the guest's RAM starts in the address space of QEMU.
fn mapping_start(maps: &str, size_mib: u64) -> io::Result<u64> {
    let wanted = format!("/memfd:{NAME} (deleted)");
    for line in maps.lines().filter(|line| line.ends_with(&wanted)) {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let Some((start, end)) = range else { continue };
        let parse = |text| u64::from_str_radix(text, 16);
        if let (Ok(start), Ok(end)) = (parse(start), parse(end))
            && end - start == size_mib << 20
        {
            return Ok(start);
        }
    }
    Err(io::Error::other("the process has no mapping of guest memory"))
}

/// Bits of an entry of `/proc/PID/pagemap` (kernel documentation, admin-guide/mm/pagemap).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;

/// A page of a private file mapping turns anonymous when it is first written.
fn is_written(entry: u64) -> bool {
    entry & SWAPPED != 0 || entry & PRESENT != 0 && entry & FILE_OR_SHARED == 0
}

fn copy_written_pages(
    base: u64,
    size_mib: u64,
    pagemap: &File,
    memory: &File,
    image: &File,
) -> io::Result<u64> {
    let pages = (size_mib << 20) / PAGE;
    let entries_at_once = CHUNK as u64 / 8;
    let mut entries = vec![0u8; CHUNK];
    let mut buffer = vec![0; CHUNK];
    let mut written = 0;
    let mut first = 0;
    while first < pages {
        let count = entries_at_once.min(pages - first);
        let table = &mut entries[..count as usize * 8];
        pagemap.read_exact_at(table, (base / PAGE + first) * 8)?;
        let is_written_at = |index: u64| {
            let at = index as usize * 8;
            let bytes = table[at..at + 8].try_into().expect("a slice of 8 bytes");
            is_written(u64::from_ne_bytes(bytes))
        };
        let mut index = 0;
        while index < count {
            let run = (index..count).take_while(|at| is_written_at(*at)).count() as u64;
            if run > 0 {
                let (start, end) = ((first + index) * PAGE, (first + index + run) * PAGE);
                let read = |piece: &mut [u8], at| memory.read_exact_at(piece, base + at);
                sparse::copy_range(&mut buffer, start, end, read, image)?;
            }
            written += run;
            index += run.max(1);
        }
        first += count;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn only_anonymous_pages_count_as_written() {
        assert!(is_written(PRESENT));
        assert!(is_written(SWAPPED));
        assert!(!is_written(PRESENT | FILE_OR_SHARED));
        assert!(!is_written(0));
    }

    #[test]
    fn the_mapping_is_found_by_name_and_size() {
        let maps = "7f00-7f10 rw-p 0 00:01 1 /memfd:freestyle-ram (deleted)\n\
                    10000000-10200000 rw-p 0 00:01 1 /memfd:freestyle-ram (deleted)\n";
        assert_eq!(mapping_start(maps, 2).unwrap(), 0x1000_0000);
        assert!(mapping_start(maps, 3).is_err());
    }
}
