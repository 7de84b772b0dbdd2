//! The system calls without a safe wrapper: memory of other processes, and a mapping that only the
//! kernel touches. All of this crate's unsafe code.
#![expect(unsafe_code, reason = "process_vm_readv, PAGEMAP_SCAN and mmap have no safe wrapper")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Pid;

/// Most pieces that one call moves: `IOV_MAX`.
pub(super) const MAX_PIECES: usize = 1024;

/// A shared mapping of a file, as a target for the kernel.
///
/// Rust never reads or writes it: the file may shrink or its disk may fail, and then a system call
/// answers an error where a plain access would end the process.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and no method reads or writes through
// the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file that is open for reading and writing.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file, 0)
        }?;
        Ok(Self { start, len })
    }

    /// Makes every page writable now, so that nothing is waited for later.
    pub(super) fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; the call changes no content.
        let done = unsafe { rustix::mm::madvise(self.start, self.len, Advice::LinuxPopulateWrite) };
        done.map_err(io::Error::from)
    }

    fn part(&self, offset: u64, len: usize) -> io::Result<libc::iovec> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Error::other("beyond the end of the mapping"));
        }
        Ok(libc::iovec { iov_base: self.start.wrapping_byte_add(offset), iov_len: len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and with it goes the only way to name it. It cannot
        // fail for a range that was mapped.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

/// Copies ranges of addresses of another process, one behind the other, to `offset` in a mapping.
/// Copies everything or fails.
pub(super) fn read_to_mapping(
    pid: Pid,
    from: &[Range<u64>],
    to: &Mapping,
    offset: u64,
) -> io::Result<()> {
    let (remote, len) = pieces(from)?;
    let local = to.part(offset, len)?;
    // SAFETY: `local` lies within a mapping that no reference points into, and lives as long as
    // `to`. `remote` is checked by the kernel.
    let count = unsafe { transfer(libc::process_vm_readv, pid, local, &remote) };
    complete(count, len)
}

/// Copies ranges of addresses of another process, one behind the other. Fills `to` or fails.
pub(super) fn read(pid: Pid, from: &[Range<u64>], to: &mut [u8]) -> io::Result<()> {
    let (remote, len) = pieces(from)?;
    assert_eq!(len, to.len(), "the ranges are as long as the buffer");
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: len };
    // SAFETY: `local` is the exclusively borrowed slice; any byte is valid in it.
    let count = unsafe { transfer(libc::process_vm_readv, pid, local, &remote) };
    complete(count, len)
}

/// Writes to ranges of addresses of another process, one behind the other. Writes all or fails.
pub(super) fn write(pid: Pid, from: &[u8], to: &[Range<u64>]) -> io::Result<()> {
    let (remote, len) = pieces(to)?;
    assert_eq!(len, from.len(), "the ranges are as long as the buffer");
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: len };
    // SAFETY: the kernel only reads the borrowed slice. `Guest` makes sure that `pid` is another
    // process, so that memory of this one is not written.
    let count = unsafe { transfer(libc::process_vm_writev, pid, local, &remote) };
    complete(count, len)
}

type Transfer = unsafe extern "C" fn(
    libc::pid_t,
    *const libc::iovec,
    libc::c_ulong,
    *const libc::iovec,
    libc::c_ulong,
    libc::c_ulong,
) -> libc::ssize_t;

/// # Safety
///
/// `local` is valid for what `call` does with it.
unsafe fn transfer(
    call: Transfer,
    pid: Pid,
    local: libc::iovec,
    remote: &[libc::iovec],
) -> libc::ssize_t {
    let pid = pid.as_raw_nonzero().get();
    let count = remote.len() as libc::c_ulong;
    // SAFETY: both lists are as long as said; the caller vouches for `local`.
    unsafe { call(pid, &raw const local, 1, remote.as_ptr(), count, 0) }
}

fn pieces(ranges: &[Range<u64>]) -> io::Result<(Vec<libc::iovec>, usize)> {
    if ranges.len() > MAX_PIECES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let piece = |range: &Range<u64>| libc::iovec {
        iov_base: std::ptr::without_provenance_mut(range.start as usize),
        iov_len: (range.end - range.start) as usize,
    };
    let pieces: Vec<_> = ranges.iter().map(piece).collect();
    let len = pieces.iter().map(|piece| piece.iov_len).sum();
    Ok((pieces, len))
}

fn complete(count: libc::ssize_t, len: usize) -> io::Result<()> {
    match usize::try_from(count) {
        Ok(count) if count == len => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "not all of it is there")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Regions fetched by one call.
const REGIONS: usize = 4096;

/// The anonymous pages among these addresses, present or swapped out, as ranges of addresses.
/// `Unsupported` on a kernel before 6.7.
pub(super) fn scan_anonymous(
    pagemap: &File,
    addresses: Range<u64>,
    mut found: impl FnMut(Range<u64>),
) -> io::Result<()> {
    let mut regions = vec![Region::default(); REGIONS];
    let mut start = addresses.start;
    while start < addresses.end {
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start,
            end: addresses.end,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: REGIONS as u64,
            category_inverted: PAGE_IS_FILE,
            category_mask: PAGE_IS_FILE,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..Default::default()
        };
        // SAFETY: the arguments point to `regions` and say how many there is room for.
        let scanned = unsafe { rustix::ioctl::ioctl(pagemap.as_fd(), Scan(&mut arguments)) };
        let count = match scanned {
            Ok(count) => count.min(REGIONS),
            Err(rustix::io::Errno::NOTTY | rustix::io::Errno::INVAL) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Err(error) => return Err(error.into()),
        };
        regions[..count].iter().for_each(|region| found(region.start..region.end));
        if count < REGIONS {
            break;
        }
        // Not `walk_end`: Linux 6.18 leaves an intermediate one there when it got to the end.
        start = regions[count - 1].end;
    }
    Ok(())
}

/// `PAGEMAP_SCAN`; answers how many regions were found.
struct Scan<'a>(&'a mut ScanArguments);

// SAFETY: PAGEMAP_SCAN reads and writes a `struct pm_scan_arg` at the pointer, and answers a count.
unsafe impl Ioctl for Scan<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<ScanArguments>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(count: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        usize::try_from(count).map_err(|_| rustix::io::Errno::INVAL)
    }
}
