//! Copying files that are mostly holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};

/// What stays a hole where it is zero.
pub(crate) const PAGE: u64 = 4096;
/// Bytes copied at once: enough to make the system calls cheap.
pub(crate) const CHUNK: usize = 1 << 20;

/// Copies everything of `from` that is not a hole to the same place in `to`, and its size. Blocks.
pub fn copy(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at)? {
        at = start;
        while at < end {
            let len = buffer.len().min((end - at) as usize);
            let piece = &mut buffer[..len];
            from.read_exact_at(piece, at)?;
            write(to, piece, at)?;
            at += len as u64;
        }
    }
    Ok(())
}

/// The next range of `file` at or after `at` that holds data.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}

/// Writes to a part of `to` that is a hole; pages that are all zero stay one.
pub(crate) fn write(to: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    stretches(bytes)
        .filter(|(_, _, zero)| !zero)
        .try_for_each(|(offset, bytes, _)| to.write_all_at(bytes, at + offset))
}

/// Makes a part of the file a hole: it is zero then.
pub(crate) fn punch(file: &File, at: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, at, len)?)
}

/// The stretches of a buffer that are zero and those that are not, page by page: where each
/// begins, its bytes, and whether it is zero.
pub(crate) fn stretches(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8], bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[at..];
        let mut pages = rest.chunks(PAGE as usize);
        let zero = is_zero(pages.next()?);
        let more = pages.take_while(|page| is_zero(page) == zero).map(<[u8]>::len);
        let len = rest.len().min(PAGE as usize) + more.sum::<usize>();
        let begin = at as u64;
        at += len;
        Some((begin, &rest[..len], zero))
    })
}

/// Whether all bytes are zero. Most pages that are not differ in their first bytes.
fn is_zero(page: &[u8]) -> bool {
    let (blocks, rest) = page.as_chunks::<64>();
    blocks.iter().all(|block| *block == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn holes_and_zeros_take_no_space_in_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let from = File::create_new(dir.path().join("from")).unwrap();
        from.set_len(1 << 30).unwrap();
        from.write_all_at(&[0; 1 << 20], 1 << 20).unwrap();
        from.write_all_at(b"data", (1 << 29) + 5).unwrap();
        let from = File::open(dir.path().join("from")).unwrap();
        let path = dir.path().join("to");
        let to = File::options().read(true).write(true).create_new(true).open(path).unwrap();

        copy(&from, &to).unwrap();

        assert_eq!(to.metadata().unwrap().len(), 1 << 30);
        assert!(to.metadata().unwrap().blocks() * 512 < 64 << 10);
        let mut found = [0; 4];
        to.read_exact_at(&mut found, (1 << 29) + 5).unwrap();
        assert_eq!(&found, b"data");
    }
}
