//! Copying files that are mostly holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;

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
        copy_range(&mut buffer, start, end, |piece, at| from.read_exact_at(piece, at), to)?;
        at = end;
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

/// Copies a range piece by piece; pieces that are all zero stay holes in `to`.
pub(crate) fn copy_range(
    buffer: &mut [u8],
    start: u64,
    end: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
    to: &File,
) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let len = buffer.len().min((end - at) as usize);
        let piece = &mut buffer[..len];
        read(piece, at)?;
        for (index, page) in piece.chunks(PAGE as usize).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                to.write_all_at(page, at + index as u64 * PAGE)?;
            }
        }
        at += len as u64;
    }
    Ok(())
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
