//! The RAM of a running QEMU, seen from outside.

use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use super::image::NAME;
use super::sys::{self, MAX_PIECES};
use crate::sparse::{CHUNK, PAGE};

/// Pages of guest memory, by number.
pub(super) type Pages = Range<u64>;

/// Pages moved by one call: enough to make it cheap, few enough to be shared out evenly.
const BATCH_PAGES: u64 = 1024;
/// More threads than this wait for memory and not for the processor.
const MAX_THREADS: usize = 4;

/// The private mapping of guest memory in a process.
#[derive(Debug)]
pub(super) struct Guest {
    pid: Pid,
    /// Refers to the process and never to a later one with the same id.
    pidfd: OwnedFd,
    pagemap: File,
    /// Where in the process's address space it is.
    start: u64,
    pages: u64,
}

impl Guest {
    /// Finds the guest memory of `size_mib` in the process, which must not be this one.
    pub(super) fn open(pid: i32, size_mib: u64) -> io::Result<Self> {
        let id = u32::try_from(pid).ok().filter(|id| *id != std::process::id());
        let pid = id.and_then(|_| Pid::from_raw(pid)).ok_or(io::ErrorKind::InvalidInput)?;
        let proc = format!("/proc/{pid}");
        let guest = Self {
            pid,
            pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            start: mapping_start(&fs::read_to_string(format!("{proc}/maps"))?, size_mib)?,
            pagemap: File::open(format!("{proc}/pagemap"))?,
            pages: (size_mib << 20) / PAGE,
        };
        guest.check_alive()?;
        Ok(guest)
    }

    /// Fails if the process has ended. As long as it has not, its id is its own: what was read or
    /// written before this call was the guest's.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        let mut poll = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut poll, Some(&Default::default()))? {
            0 => Ok(()),
            _ => Err(io::Error::other("the process has ended")),
        }
    }

    /// All pages of guest memory.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// The pages that the process wrote, in order. Exact while the machine is paused.
    pub(super) fn written(&self) -> io::Result<Vec<Pages>> {
        match self.written_by_scan() {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.written_by_table(),
            result => result,
        }
    }

    fn written_by_scan(&self) -> io::Result<Vec<Pages>> {
        let mut written = Vec::new();
        let all = self.start..self.start + self.pages * PAGE;
        sys::scan_anonymous(&self.pagemap, all, |range| {
            let (start, end) = (range.start - self.start, range.end - self.start);
            append(&mut written, start / PAGE..end / PAGE);
        })?;
        Ok(written)
    }

    /// Reads 8 bytes for every page of the guest: 30 ms for 32 GiB of which little was touched.
    pub(super) fn written_by_table(&self) -> io::Result<Vec<Pages>> {
        let mut written = Vec::new();
        let mut table = vec![0; CHUNK];
        let mut page = 0;
        while page < self.pages {
            let count = (CHUNK as u64 / 8).min(self.pages - page);
            let table = &mut table[..count as usize * 8];
            self.pagemap.read_exact_at(table, (self.start / PAGE + page) * 8)?;
            let (entries, _) = table.as_chunks();
            for (page, entry) in (page..).zip(entries) {
                if is_written(u64::from_ne_bytes(*entry)) {
                    append(&mut written, page..page + 1);
                }
            }
            page += count;
        }
        Ok(written)
    }

    /// Copies a batch to a buffer of its size.
    pub(super) fn read(&self, batch: &Batch, to: &mut [u8]) -> io::Result<()> {
        sys::read(self.pid, &self.addresses(&batch.pieces), to)
    }

    /// Overwrites a batch from a buffer of its size.
    pub(super) fn write(&self, from: &[u8], batch: &Batch) -> io::Result<()> {
        sys::write(self.pid, from, &self.addresses(&batch.pieces))
    }

    fn addresses(&self, pieces: &[Pages]) -> Vec<Range<u64>> {
        let address = |page: u64| self.start + page * PAGE;
        pieces.iter().map(|pages| address(pages.start)..address(pages.end)).collect()
    }
}

/// Pages that are moved together; in a file they lie one behind the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// The place of the first among all pages that are moved.
    pub(super) slot: u64,
    pub(super) pieces: Vec<Pages>,
}

impl Batch {
    /// How many pages.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        (self.len() * PAGE) as usize
    }

    /// Where in the guest's memory each part of a buffer of the batch's size belongs, in bytes.
    pub(super) fn parts<'a>(&self, mut buffer: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8])> {
        self.pieces.iter().map(move |piece| {
            let (part, rest) = buffer.split_at((len(piece) * PAGE) as usize);
            buffer = rest;
            (piece.start * PAGE, part)
        })
    }
}

/// Divides pages into batches that can be moved in any order.
pub(super) fn batches(all: impl IntoIterator<Item = Pages>) -> Vec<Batch> {
    let mut done = Vec::new();
    let mut batch = Batch::default();
    let mut room = BATCH_PAGES;
    for mut pages in all {
        while !pages.is_empty() {
            let end = pages.end.min(pages.start + room);
            room -= end - pages.start;
            batch.pieces.push(pages.start..end);
            pages.start = end;
            if room == 0 || batch.pieces.len() == MAX_PIECES {
                let slot = batch.slot + batch.len();
                done.push(std::mem::replace(&mut batch, Batch { slot, pieces: Vec::new() }));
                room = BATCH_PAGES;
            }
        }
    }
    if !batch.pieces.is_empty() {
        done.push(batch);
    }
    done
}

/// Does the work for each item, on several threads if there are several items; ends at the first
/// error. Each thread has a buffer that it keeps from one item to the next.
pub(super) fn in_parallel<T: Send>(
    items: Vec<T>,
    work: impl Fn(T, &mut Vec<u8>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MAX_THREADS).min(items.len());
    let items = Mutex::new(items.into_iter());
    let failed = AtomicBool::new(false);
    let take_turns = || {
        let mut buffer = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            // An iterator over what is there is never left half-changed.
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(item) = item else { break };
            work(item, &mut buffer).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        // This thread is one of them, so a host that gives no more will do.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, take_turns).ok();
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut outcome = take_turns();
        for helper in helpers {
            let helped = helper.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
            outcome = outcome.and(helped);
        }
        outcome
    })
}

/// How many pages there are.
pub(super) fn len(pages: &Pages) -> u64 {
    pages.end - pages.start
}

/// Appends pages that come after all others.
pub(super) fn append(all: &mut Vec<Pages>, pages: Pages) {
    match all.last_mut() {
        Some(last) if last.end == pages.start => last.end = pages.end,
        _ => all.push(pages),
    }
}

/// Bits of an entry of `/proc/PID/pagemap` (kernel documentation, admin-guide/mm/pagemap).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;

/// A page of a private file mapping turns anonymous when it is first written.
fn is_written(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) != 0 && entry & FILE_OR_SHARED == 0
}

/// Where the RAM of a guest of this size starts in the address space of its QEMU.
pub(crate) fn ram_start(pid: i32, size_mib: u64) -> io::Result<u64> {
    mapping_start(&fs::read_to_string(format!("/proc/{pid}/maps"))?, size_mib)
}

fn mapping_start(maps: &str, size_mib: u64) -> io::Result<u64> {
    let wanted = format!("/memfd:{NAME} (deleted)");
    for line in maps.lines().filter(|line| line.ends_with(&wanted)) {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let Some((start, end)) = range else { continue };
        let parse = |text| u64::from_str_radix(text, 16);
        if let (Ok(start), Ok(end)) = (parse(start), parse(end))
            && end.checked_sub(start) == Some(size_mib << 20)
        {
            return Ok(start);
        }
    }
    Err(io::Error::other("the process has no mapping of guest memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_anonymous_pages_count_as_written() {
        assert!(is_written(PRESENT));
        assert!(is_written(SWAPPED));
        assert!(!is_written(PRESENT | FILE_OR_SHARED));
        assert!(!is_written(SWAPPED | FILE_OR_SHARED));
        assert!(!is_written(0));
    }

    #[test]
    fn the_mapping_is_found_by_name_and_size() {
        let maps = "7f00-7f10 rw-p 0 00:01 1 /memfd:freestyle-ram (deleted)\n\
                    10000000-10200000 rw-p 0 00:01 1 /memfd:freestyle-ram (deleted)\n";
        assert_eq!(mapping_start(maps, 2).unwrap(), 0x1000_0000);
        assert!(mapping_start(maps, 3).is_err());
    }

    #[test]
    fn batches_hold_every_page_once_and_in_order() {
        let single = |page| page..page + 1;
        let mut all: Vec<Pages> = (0..3000).map(|index| single(index * 2)).collect();
        all.push(10_000..10_000 + 3 * BATCH_PAGES + 1);
        let batches = batches(all.iter().cloned());
        let mut slot = 0;
        for batch in &batches {
            assert_eq!(batch.slot, slot);
            assert!((1..=BATCH_PAGES).contains(&batch.len()) && batch.pieces.len() <= MAX_PIECES);
            slot += batch.len();
        }
        let each = |pages: &[Pages]| pages.iter().cloned().flatten().collect::<Vec<_>>();
        let moved: Vec<Pages> = batches.into_iter().flat_map(|batch| batch.pieces).collect();
        assert_eq!(each(&moved), each(&all));
    }

    #[test]
    fn every_item_is_worked_on_once_and_an_error_is_not_lost() {
        let mut done = vec![0; 100];
        let count = |item: &mut u32, _: &mut Vec<u8>| {
            *item += 1;
            Ok(())
        };
        in_parallel(done.iter_mut().collect(), count).unwrap();
        assert_eq!(done, vec![1; 100]);

        let fail =
            |item, _: &mut Vec<u8>| if item == 50 { Err(io::Error::other("no")) } else { Ok(()) };
        assert_eq!(in_parallel((0..100).collect(), fail).unwrap_err().to_string(), "no");
    }

    #[test]
    fn this_process_and_none_are_no_guests() {
        for pid in [std::process::id() as i32, 0, -1] {
            assert_eq!(Guest::open(pid, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
