//! Archives that become the files of a repository. They come from anywhere, so everything about them
//! is counted before it is held.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use freestyle_git::{FileChange, FileMode};
use tar::EntryType;
use zip::ZipArchive;

/// Files of one archive.
const MOST_FILES: usize = 20_000;
/// Bytes of all of them.
const LARGEST_UNPACKED: u64 = 128 << 20;
/// What a tar file takes besides the content: a header, its extension and filling for each file.
const BESIDES_CONTENT: u64 = 4096 * MOST_FILES as u64;
/// How long reading one may take: whatever it makes a reader do, it is over then.
const TIME: Duration = Duration::from_secs(60);
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Begins each entry of a zip file's directory.
const ZIP_ENTRY: &[u8] = b"PK\x01\x02";

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A tar file, compressed with gzip or not.
    Tar,
    /// A zip file.
    Zip,
}

/// Why an archive cannot become the files of a repository.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is damaged, or no archive of this format.
    #[error("the archive cannot be read: {0}")]
    Damaged(String),
    /// It holds more than a commit may.
    #[error(
        "the archive holds more than {MOST_FILES} files or {} MiB",
        LARGEST_UNPACKED >> 20
    )]
    TooLarge,
    /// Something in it is neither a file nor a directory nor a symbolic link.
    #[error("{path:?} in the archive {reason}")]
    Unusable {
        /// As the archive has it.
        path: String,
        /// What is the matter with it.
        reason: &'static str,
    },
    /// There is no such directory in it.
    #[error("there is no directory {dir:?} in the archive")]
    NoSuchDirectory {
        /// As requested.
        dir: String,
    },
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The files of an archive, or those below one of its directories, which becomes the root. What
/// their paths may be is judged by whoever makes the commit. Blocks for at most a minute, and holds
/// 128 MiB at most.
pub(crate) fn unpack(
    kind: ArchiveKind,
    archive: &[u8],
    dir: Option<&str>,
) -> Result<Vec<FileChange>, ArchiveError> {
    let mut files = Files::default();
    let timed = Timed { inner: Cursor::new(archive), until: Instant::now() + TIME };
    match kind {
        ArchiveKind::Tar if archive.starts_with(GZIP) => {
            untar(GzDecoder::new(timed), &mut files)?;
        }
        ArchiveKind::Tar => untar(timed, &mut files)?,
        ArchiveKind::Zip => unzip(timed, &mut files)?,
    }
    if files.by_path.is_empty() {
        return Err(ArchiveError::Damaged("it has no files".to_owned()));
    }
    files.below(dir)
}

/// An archive that cannot be read any more when its time is over.
struct Timed<'a> {
    inner: Cursor<&'a [u8]>,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long to read"));
        }
        self.inner.read(into)
    }
}

impl Seek for Timed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// A file as it was found.
struct File {
    content: Vec<u8>,
    mode: FileMode,
}

/// By path, so that of two with the same the later one counts, as when it is unpacked.
#[derive(Default)]
struct Files {
    by_path: BTreeMap<String, File>,
    bytes: u64,
}

impl Files {
    /// Reads a file. Not more than there is room for is read.
    fn add(
        &mut self,
        path: String,
        mode: FileMode,
        content: impl Read,
    ) -> Result<(), ArchiveError> {
        let left = LARGEST_UNPACKED - self.bytes;
        let mut bytes = Vec::new();
        content.take(left + 1).read_to_end(&mut bytes)?;
        self.insert(path, File { content: bytes, mode })
    }

    fn insert(&mut self, path: String, file: File) -> Result<(), ArchiveError> {
        self.bytes += file.content.len() as u64;
        self.by_path.insert(path, file);
        match self.bytes > LARGEST_UNPACKED || self.by_path.len() > MOST_FILES {
            true => Err(ArchiveError::TooLarge),
            false => Ok(()),
        }
    }

    fn below(self, dir: Option<&str>) -> Result<Vec<FileChange>, ArchiveError> {
        let wanted = dir.map(|dir| clean(dir.trim_matches('/'))).filter(|dir| !dir.is_empty());
        let files = self.by_path.into_iter().filter_map(|(path, File { content, mode })| {
            let path = match wanted {
                Some(dir) => path.strip_prefix(dir)?.strip_prefix('/')?.to_owned(),
                None => path,
            };
            let (content, mode) = (Some(content), Some(mode));
            Some(FileChange { path, content, mode, ..FileChange::default() })
        });
        let files: Vec<_> = files.collect();
        match wanted {
            Some(dir) if files.is_empty() => {
                Err(ArchiveError::NoSuchDirectory { dir: dir.to_owned() })
            }
            _ => Ok(files),
        }
    }
}

/// A path without what means nothing at its beginning.
fn clean(path: &str) -> &str {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    path
}

fn text(path: &[u8]) -> Result<String, ArchiveError> {
    std::str::from_utf8(path).map(|path| clean(path).to_owned()).map_err(|_| {
        let path = String::from_utf8_lossy(path).into_owned();
        ArchiveError::Unusable { path, reason: "has a name that is not UTF-8" }
    })
}

fn untar(archive: impl Read, files: &mut Files) -> Result<(), ArchiveError> {
    // Names and attributes are held too, and have no limit of their own.
    let archive = archive.take(LARGEST_UNPACKED + BESIDES_CONTENT);
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap_or(0));
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader | EntryType::Directory) {
            continue;
        }
        let path = text(&entry.path_bytes())?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let is_directory = path.ends_with('/');
                if !is_directory {
                    files.add(path, file_mode(mode), &mut entry)?;
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                files.insert(path, File { content: target, mode: FileMode::Link })?;
            }
            EntryType::Link => {
                let target = text(&entry.link_name_bytes().unwrap_or_default())?;
                let Some(same) = files.by_path.get(&target) else {
                    let reason = "is a link to something that does not come before it";
                    return Err(ArchiveError::Unusable { path, reason });
                };
                let same = File { content: same.content.clone(), mode: same.mode };
                files.insert(path, same)?;
            }
            _ => return Err(ArchiveError::Unusable { path, reason: NO_FILE }),
        }
    }
    Ok(())
}

fn unzip(archive: Timed<'_>, files: &mut Files) -> Result<(), ArchiveError> {
    // The whole directory is read at once.
    let entries = memchr::memmem::find_iter(archive.inner.get_ref(), ZIP_ENTRY).count();
    if entries > 2 * MOST_FILES {
        return Err(ArchiveError::TooLarge);
    }
    let damaged = |error: zip::result::ZipError| ArchiveError::Damaged(error.to_string());
    let mut archive = ZipArchive::new(archive).map_err(damaged)?;
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(damaged)?;
        let path = text(entry.name_raw())?;
        if path.ends_with('/') {
            continue;
        }
        let mode = entry.unix_mode().unwrap_or(0);
        let mode = match mode & FILE_TYPE {
            // Made where files have no modes.
            0 | REGULAR => file_mode(mode),
            LINK => FileMode::Link,
            _ => return Err(ArchiveError::Unusable { path, reason: NO_FILE }),
        };
        files.add(path, mode, entry)?;
    }
    Ok(())
}

/// What a Unix mode says of the kind of a file.
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const NO_FILE: &str = "is neither a file nor a directory nor a symbolic link";

fn file_mode(mode: u32) -> FileMode {
    if mode & 0o111 == 0 { FileMode::Plain } else { FileMode::Executable }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    type Entry<'a> = (&'a str, EntryType, u32, &'a [u8]);

    fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, mode, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            header.set_size(if is_link { 0 } else { content.len() as u64 });
            // As it is: the library would refuse what an attacker writes.
            let name = &mut header.as_gnu_mut().unwrap().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            if is_link {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content);
            }
            header.set_cksum();
            builder.append(&header, if is_link { &[][..] } else { content }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn zipped(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, mode, content) in entries {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            writer.start_file(*path, options).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn listed(files: Vec<FileChange>) -> Vec<(String, FileMode, Vec<u8>)> {
        let all = files.into_iter();
        all.map(|file| (file.path, file.mode.unwrap(), file.content.unwrap())).collect()
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn the_files_of_a_tar_file_are_taken_with_what_they_are() {
        let archive = tar(&[
            ("./", EntryType::Directory, 0o755, b""),
            ("./README.md", FILE, 0o644, b"old"),
            ("src/run", FILE, 0o755, b"\x00\xff"),
            ("link", EntryType::Symlink, 0o777, b"src/run"),
            ("same", EntryType::Link, 0o644, b"./src/run"),
            ("README.md", FILE, 0o600, b"new"),
        ]);
        let expected = vec![
            ("README.md".to_owned(), FileMode::Plain, b"new".to_vec()),
            ("link".to_owned(), FileMode::Link, b"src/run".to_vec()),
            ("same".to_owned(), FileMode::Executable, b"\x00\xff".to_vec()),
            ("src/run".to_owned(), FileMode::Executable, b"\x00\xff".to_vec()),
        ];
        assert_eq!(listed(unpack(ArchiveKind::Tar, &archive, None).unwrap()), expected);
        let compressed = gzipped(&archive);
        assert_eq!(listed(unpack(ArchiveKind::Tar, &compressed, None).unwrap()), expected);
        for dir in ["src", "/src/", "./src", "src/"] {
            let below = listed(unpack(ArchiveKind::Tar, &archive, Some(dir)).unwrap());
            let only = [("run".to_owned(), FileMode::Executable, b"\x00\xff".to_vec())];
            assert_eq!(below, only, "{dir}");
        }
        for dir in ["sr", "src/run", "nowhere"] {
            let refused = unpack(ArchiveKind::Tar, &archive, Some(dir));
            assert!(matches!(refused, Err(ArchiveError::NoSuchDirectory { .. })), "{dir}");
        }
    }

    #[test]
    fn the_files_of_a_zip_file_are_taken_with_what_they_are() {
        let archive = zipped(&[
            ("pkg/", 0o755, b""),
            ("pkg/a.txt", 0o644, b"1"),
            ("pkg/run", 0o755, b"2"),
            ("grüße", 0o644, b"3"),
        ]);
        let files = listed(unpack(ArchiveKind::Zip, &archive, Some("pkg")).unwrap());
        assert_eq!(
            files,
            [
                ("a.txt".to_owned(), FileMode::Plain, b"1".to_vec()),
                ("run".to_owned(), FileMode::Executable, b"2".to_vec()),
            ]
        );
        assert_eq!(unpack(ArchiveKind::Zip, &archive, None).unwrap().len(), 3);
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        let archive = writer.finish().unwrap().into_inner();
        let files = listed(unpack(ArchiveKind::Zip, &archive, None).unwrap());
        assert_eq!(files, [("link".to_owned(), FileMode::Link, b"/etc/passwd".to_vec())]);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let device = tar(&[("dev/sda", EntryType::Block, 0o644, b"")]);
        let dangling = tar(&[("a", EntryType::Link, 0o644, b"../../etc/passwd")]);
        let nameless = {
            let mut archive = tar(&[("x", FILE, 0o644, b"1")]);
            archive[0] = 0xff;
            // The header's sum is that of its bytes.
            let sum: u64 = archive[..512].iter().map(|byte| u64::from(*byte)).sum();
            let old: u64 = archive[148..156].iter().map(|byte| u64::from(*byte)).sum();
            let sum = format!("{:06o}\0 ", sum - old + 8 * 32);
            archive[148..156].copy_from_slice(sum.as_bytes());
            archive
        };
        for archive in [device, dangling, nameless] {
            let refused = unpack(ArchiveKind::Tar, &archive, None);
            assert!(matches!(refused, Err(ArchiveError::Unusable { .. })), "{refused:?}");
        }
        for (kind, bytes) in [
            (ArchiveKind::Tar, &b"<html>"[..]),
            (ArchiveKind::Tar, b""),
            (ArchiveKind::Tar, &[0; 1024]),
            (ArchiveKind::Tar, b"\x1f\x8bnonsense"),
            (ArchiveKind::Zip, b""),
            (ArchiveKind::Zip, b"PK\x03\x04"),
            (ArchiveKind::Zip, b"<html>"),
        ] {
            let refused = unpack(kind, bytes, None);
            assert!(matches!(refused, Err(ArchiveError::Damaged(_))), "{refused:?}");
        }
    }

    #[test]
    fn little_that_becomes_much_is_refused() {
        let zeros = vec![0; LARGEST_UNPACKED as usize + 1];
        let bomb = gzipped(&tar(&[("zeros", FILE, 0o644, &zeros)]));
        assert!(bomb.len() < 4 << 20);
        let refused = unpack(ArchiveKind::Tar, &bomb, None);
        assert!(matches!(refused, Err(ArchiveError::TooLarge)), "{refused:?}");
        let bomb = zipped(&[("zeros", 0o644, &zeros)]);
        let refused = unpack(ArchiveKind::Zip, &bomb, None);
        assert!(matches!(refused, Err(ArchiveError::TooLarge)), "{refused:?}");

        let names: Vec<_> = (0..=MOST_FILES).map(|n| n.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), FILE, 0o644, &[][..])).collect();
        let refused = unpack(ArchiveKind::Tar, &tar(&many), None);
        assert!(matches!(refused, Err(ArchiveError::TooLarge)), "{refused:?}");
        let directory = [ZIP_ENTRY; 2 * MOST_FILES + 1].concat();
        let refused = unpack(ArchiveKind::Zip, &directory, None);
        assert!(matches!(refused, Err(ArchiveError::TooLarge)), "{refused:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// An archive that was changed somewhere is refused or is another one.
        #[test]
        fn no_damage_is_too_strange(
            at in 0usize..4096,
            bytes in prop::collection::vec(any::<u8>(), 1..24),
            is_zip in any::<bool>(),
        ) {
            let (kind, mut archive) = match is_zip {
                true => {
                    (ArchiveKind::Zip, zipped(&[("a/b", 0o644, b"content"), ("c", 0o755, b"more")]))
                }
                false => {
                    let entries =
                        [("a/b", FILE, 0o644, &b"content"[..]), ("c", EntryType::Symlink, 0o777, b"a")];
                    (ArchiveKind::Tar, tar(&entries))
                }
            };
            let at = at % archive.len();
            let end = archive.len().min(at + bytes.len());
            archive[at..end].copy_from_slice(&bytes[..end - at]);
            if let Ok(files) = unpack(kind, &archive, None) {
                prop_assert!(files.len() <= MOST_FILES);
            }
        }
    }
}
