//! The system calls without a safe wrapper: memory of other processes, and memory in huge pages.
//! All of this crate's unsafe code.
#![expect(unsafe_code, reason = "process_vm_readv, PAGEMAP_SCAN and mmap have no safe wrapper")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Pid;

/// Most pieces that one call moves: `IOV_MAX`.
pub(super) const MAX_PIECES: usize = 1024;

/// Zeroed memory that is there: writing to it waits for nothing. In huge pages where the host has
/// them, which makes it several times faster to get than from the allocator.
#[derive(Debug)]
pub(super) struct Buffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as a boxed slice's does, on any thread.
unsafe impl Send for Buffer {}
// SAFETY: as above; through a shared reference it is only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Reserves and touches so many bytes, at least one.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address range that nothing else uses.
        let start = unsafe { rustix::mm::mmap_anonymous(null, len, access, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffer = Self { start, len };
        // Without huge pages it takes longer; a kernel before 5.14 does not know the second, and
        // writing then waits.
        let _ = buffer.advise(Advice::LinuxHugepage);
        match buffer.advise(Advice::LinuxPopulateWrite) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(buffer),
            Err(error) => Err(error.into()),
        }
    }

    fn advise(&self, advice: Advice) -> rustix::io::Result<()> {
        // SAFETY: the range is this buffer; neither advice used changes its content.
        unsafe { rustix::mm::madvise(self.start.as_ptr().cast(), self.len, advice) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is mapped and readable as long as `self` lives, and only this value
        // names it; anonymous memory begins as zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for reading, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the range is this buffer, and with it goes the only way to name it. It cannot
        // fail for a range that was mapped.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
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
