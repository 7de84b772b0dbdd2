//! What a process writes comes back in another, byte for byte. The processes are QEMUs without a
//! machine: all that matters is how they map memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use proptest::prelude::*;
use tempfile::TempDir;

use super::guest::{Guest, batches};
use super::*;
use crate::QemuError;
use crate::sparse::PAGE;

const SIZE_MIB: u64 = 4;
const PAGES: u64 = (SIZE_MIB << 20) / PAGE;

/// A process that maps an image as a guest's memory.
struct Machine(Child);

impl Machine {
    fn start(memory: &SealedMemory) -> Self {
        let size = memory.size_mib();
        let object = format!(
            "memory-backend-file,id=ram,size={size}M,mem-path=/proc/self/fd/3,share=off,reserve=off"
        );
        let fd = memory.file().try_clone().unwrap().into();
        let qemu = std::env::var_os("FREESTYLE_QEMU").unwrap_or("qemu-system-x86_64".into());
        let mut child = Command::new(qemu)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-S", "-M", "none"])
            .args(["-object", &object, "-qmp", "stdio"])
            .fd_mappings(vec![FdMapping { parent_fd: fd, child_fd: 3 }])
            .unwrap()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // When it answers a command, it has mapped its memory.
        let input = child.stdin.as_mut().unwrap();
        input.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("QMP"));
        assert!(lines.next().unwrap().unwrap().contains("return"));
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn guest(&self, size_mib: u64) -> Guest {
        Guest::open(self.pid(), size_mib).unwrap()
    }

    /// All of its memory.
    fn memory(&self) -> Vec<u8> {
        let guest = self.guest(SIZE_MIB);
        let mut memory = Vec::new();
        for batch in batches(std::iter::once(0..PAGES)) {
            let mut part = vec![0; batch.bytes()];
            guest.read(&batch, &mut part).unwrap();
            memory.extend(part);
        }
        memory
    }

    fn write(&self, writes: &[Written]) {
        let guest = self.guest(SIZE_MIB);
        for write in writes {
            for batch in batches([write.pages()]) {
                guest.write(&write.content(&batch), &batch).unwrap();
            }
        }
    }

    fn capture(&self, path: &Path) -> Summary {
        let capture = Capture::prepare(self.pid(), SIZE_MIB, path).unwrap();
        capture.copy().unwrap().finish(false).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Some pages that are written with one byte, or with zeros.
#[derive(Debug, Clone)]
struct Written {
    first: u64,
    count: u64,
    byte: u8,
}

impl Written {
    fn pages(&self) -> guest::Pages {
        self.first..(self.first + self.count).min(PAGES)
    }

    /// Different for every page, unless it is zero.
    fn content(&self, batch: &guest::Batch) -> Vec<u8> {
        let page = |page: u64| {
            let mut bytes = [self.byte; PAGE as usize];
            if self.byte != 0 {
                bytes[PAGE as usize - 8..].copy_from_slice(&page.to_le_bytes());
            }
            bytes
        };
        batch.pieces.iter().cloned().flatten().flat_map(page).collect()
    }

    fn apply(&self, memory: &mut [u8]) {
        let pages = self.pages();
        for batch in batches([pages]) {
            let content = self.content(&batch);
            for (at, part) in batch.parts(&content) {
                memory[at as usize..][..part.len()].copy_from_slice(part);
            }
        }
    }
}

fn writes() -> impl Strategy<Value = Vec<Written>> {
    let byte = prop_oneof![1 => Just(0), 3 => 1..=255u8];
    let write = (0..PAGES, prop_oneof![Just(1), 1..9u64, 1..400u64], byte)
        .prop_map(|(first, count, byte)| Written { first, count, byte });
    prop::collection::vec(write, 0..20)
}

/// An image with these writes in it, and its bytes.
fn image(writes: &[Written]) -> (SealedMemory, Vec<u8>) {
    let mut bytes = vec![0; (SIZE_MIB << 20) as usize];
    writes.iter().for_each(|write| write.apply(&mut bytes));
    let memory = SealedMemory::make(SIZE_MIB, |file| crate::sparse::write(file, &bytes, 0));
    (memory.unwrap(), bytes)
}

fn bytes_of(memory: &SealedMemory) -> Vec<u8> {
    let mut bytes = vec![0; (SIZE_MIB << 20) as usize];
    memory.file().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_written_comes_back_by_pouring_composing_and_merging(
        base in writes(), first in writes(), second in writes(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (base, mut expected) = image(&base);
        let parent = Machine::start(&base);
        parent.write(&first);
        first.iter().for_each(|write| write.apply(&mut expected));
        let lower = dir.path().join("lower");
        let summary = parent.capture(&lower);
        let lower = Delta::open(&lower).unwrap();
        lower.verify().unwrap();
        prop_assert_eq!(lower.bytes(), summary.bytes);
        prop_assert_eq!(lower.checksum(), summary.checksum);

        let composed = SealedMemory::compose(&base, &lower).unwrap();
        prop_assert!(bytes_of(&composed) == expected, "composed");
        let child = Machine::start(&base);
        lower.pour(child.pid(), SIZE_MIB).unwrap();
        prop_assert!(child.memory() == expected, "poured");
        prop_assert!(parent.memory() == expected, "the parent is as it was");

        let child = Machine::start(&composed);
        child.write(&second);
        second.iter().for_each(|write| write.apply(&mut expected));
        let upper = dir.path().join("upper");
        child.capture(&upper);
        let upper = Delta::open(&upper).unwrap();
        let merged = dir.path().join("merged");
        let summary = merge(&lower, &upper, &merged).unwrap();
        let merged = Delta::open(&merged).unwrap();
        merged.verify().unwrap();
        prop_assert_eq!(merged.bytes(), summary.bytes);
        let whole = SealedMemory::compose(&base, &merged).unwrap();
        prop_assert!(bytes_of(&whole) == expected, "merged");
    }
}

#[test]
fn both_ways_to_find_written_pages_agree() {
    let (base, _) = image(&[Written { first: 0, count: 600, byte: 1 }]);
    let machine = Machine::start(&base);
    // Reading maps pages of the file, which then are there but not written.
    machine.memory();
    let single = |first| Written { first, count: 1, byte: 2 };
    machine.write(&[single(0), single(2), single(3), single(511), single(512), single(PAGES - 1)]);
    let guest = machine.guest(SIZE_MIB);
    let expected = vec![0..1, 2..4, 511..513, PAGES - 1..PAGES];
    assert_eq!(guest.written_by_table().unwrap(), expected);
    assert_eq!(guest.written().unwrap(), expected);
}

/// The kernel hands out so many runs in several steps, to itself and to us.
#[test]
fn runs_are_found_once_however_many_there_are() {
    let size_mib = 128;
    let machine = Machine::start(&SealedMemory::zeroed(size_mib).unwrap());
    let guest = machine.guest(size_mib);
    for count in [511, 512, 513, 4095, 4096, 4097, 12_345] {
        let expected: Vec<_> = (0..count).map(|index| index * 2..index * 2 + 1).collect();
        for batch in batches(expected.iter().cloned()) {
            guest.write(&vec![1; batch.bytes()], &batch).unwrap();
        }
        assert!(guest.written_by_table().unwrap() == expected, "{count} runs by table");
        assert!(guest.written().unwrap() == expected, "{count} runs");
    }
}

#[test]
fn a_machine_that_writes_more_than_was_prepared_for_is_captured_as_well() {
    let size_mib = 64;
    let base = SealedMemory::zeroed(size_mib).unwrap();
    let machine = Machine::start(&base);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let capture = Capture::prepare(machine.pid(), size_mib, &path).unwrap();
    let guest = machine.guest(size_mib);
    let late = (40 << 20) / PAGE;
    for batch in batches(std::iter::once(7..7 + late)) {
        guest.write(&vec![5; batch.bytes()], &batch).unwrap();
    }
    let summary = capture.copy().unwrap().finish(true).unwrap();
    assert_eq!(summary.pages, late);
    let composed = SealedMemory::compose(&base, &Delta::open(&path).unwrap()).unwrap();
    let mut bytes = vec![0; 40 << 20];
    composed.file().read_exact_at(&mut bytes, 7 * PAGE).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 5));
    assert_eq!(composed.content(), 40 << 20);
}

#[test]
fn zeros_take_no_room_and_hide_what_is_below() {
    let (base, _) = image(&[Written { first: 0, count: 100, byte: 1 }]);
    let machine = Machine::start(&base);
    machine.write(&[Written { first: 0, count: 100, byte: 0 }]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let summary = machine.capture(&path);
    assert_eq!(summary.pages, 100);
    assert_eq!(summary.bytes, 4096 + 8);
    assert_eq!(fs::metadata(&path).unwrap().len(), summary.bytes);
    let composed = SealedMemory::compose(&base, &Delta::open(&path).unwrap()).unwrap();
    assert!(bytes_of(&composed).iter().all(|byte| *byte == 0));
}

#[test]
fn a_capture_that_is_given_up_leaves_no_file() {
    let base = SealedMemory::zeroed(SIZE_MIB).unwrap();
    let machine = Machine::start(&base);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let prepare = || Capture::prepare(machine.pid(), SIZE_MIB, &path).unwrap();
    drop(prepare());
    assert!(!path.exists());
    drop(prepare().copy().unwrap());
    assert!(!path.exists());

    let capture = prepare();
    assert!(Capture::prepare(machine.pid(), SIZE_MIB, &path).is_err(), "never overwrites");
    drop(machine);
    assert!(capture.copy().is_err(), "the process has ended");
    assert!(!path.exists());
}

#[test]
fn a_process_that_ended_or_is_something_else_is_no_guest() {
    let base = SealedMemory::zeroed(SIZE_MIB).unwrap();
    let machine = Machine::start(&base);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    machine.capture(&path);
    let delta = Delta::open(&path).unwrap();
    assert!(matches!(
        delta.pour(machine.pid(), SIZE_MIB + 1),
        Err(QemuError::Delta { problem: DeltaProblem::OtherSize(SIZE_MIB), .. })
    ));
    let pid = machine.pid();
    drop(machine);
    assert!(delta.pour(pid, SIZE_MIB).is_err());
    assert!(delta.pour(1, SIZE_MIB).is_err());
    let other = dir.path().join("other");
    assert!(Capture::prepare(pid, SIZE_MIB, &other).is_err());
    assert!(!other.exists());
}

#[test]
fn a_full_disk_is_recognised() {
    let mount = SmallDisk::mount();
    let base = SealedMemory::zeroed(SIZE_MIB).unwrap();
    let machine = Machine::start(&base);
    let path = mount.0.path().join("memory");
    let error = Capture::prepare(machine.pid(), SIZE_MIB, &path).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(!path.exists());
}

/// A file system that has room for less than the smallest capture.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-t", "tmpfs", "-o", "size=1m", "none"];
        assert!(Command::new("mount").args(args).arg(dir.path()).status().unwrap().success());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0.path()).status().unwrap().success());
    }
}

/// A finished delta with some runs, in a file.
fn written_delta() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut writer = writer::Writer::new(&file, SIZE_MIB).unwrap();
    for run in 0..20u8 {
        let mut pages = vec![run; 3 * PAGE as usize];
        pages[..PAGE as usize].fill(0);
        writer.append(u64::from(run) * 7, &pages).unwrap();
    }
    writer.finish().unwrap();
    (dir, path)
}

#[test]
fn damage_anywhere_is_found() {
    let (_dir, path) = written_delta();
    let good = fs::read(&path).unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Delta::open(&path).and_then(|delta| delta.verify())
    };
    check(&good).unwrap();
    // Behind its fields, the header page is not looked at.
    let data = (4096..good.len()).step_by(1021);
    for place in (0..64).chain(data).chain(good.len() - 16..good.len()) {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        assert!(matches!(check(&bad), Err(QemuError::Delta { .. })), "a bit at {place}");
    }
    for len in [0, 1, 63, 64, 4095, 4096, 5000, good.len() - 1] {
        assert!(matches!(check(&good[..len]), Err(QemuError::Delta { .. })), "cut at {len}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(check(&longer), Err(QemuError::Delta { .. })), "a byte more");
}

proptest! {
    #[test]
    fn random_files_and_random_changes_are_refused_or_read_in_full(
        bytes in prop::collection::vec(any::<u8>(), 0..10_000),
        changes in prop::collection::vec((0..30_000usize, any::<u8>()), 0..8),
    ) {
        let (_dir, path) = written_delta();
        let mut changed = fs::read(&path).unwrap();
        let len = changed.len();
        changes.iter().for_each(|(at, byte)| changed[at % len] = *byte);
        for bytes in [bytes, changed] {
            fs::write(&path, bytes).unwrap();
            if let Ok(delta) = Delta::open(&path) && delta.verify().is_ok() {
                let zero = SealedMemory::zeroed(SIZE_MIB).unwrap();
                SealedMemory::compose(&zero, &delta).unwrap();
            }
        }
    }
}
