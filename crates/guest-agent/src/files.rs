//! Files and directories, each operation on a thread of its own (protocol sections 7 and 8).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;

use freestyle_guest_protocol::message::{
    self, DirEntryMessage, Failure, MAX_DIR_BYTES, MAX_DIR_ENTRIES, Reply,
};
use freestyle_guest_protocol::mux::{Channel, Event, MAX_DATA};
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use tokio::runtime::Handle;

use crate::stream::Stream;
use crate::users::Credentials;

/// Far more than the deepest call here takes; the default would be eight times that of each.
const STACK: usize = 256 * 1024;

/// A file that is made may be read by everyone and written by its owner.
const NEW_FILE: Mode = Mode::from_raw_mode(0o644);

/// The host, from a thread that may block.
pub(crate) struct Link {
    stream: Stream,
    runtime: Handle,
}

impl Link {
    fn send(&self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.runtime.block_on(self.stream.sender.send(Channel::Main, bytes)).map_err(|_| given_up())
    }

    fn recv(&mut self) -> Option<Event> {
        self.runtime.block_on(self.stream.receiver.recv())
    }
}

/// Nobody reads it: whoever asked is gone.
fn given_up() -> Failure {
    Failure::Refused("the request was given up".to_owned())
}

/// Runs a file operation, with the permissions of a user if one is given.
pub(crate) fn start(
    user: Option<String>,
    stream: Stream,
    operation: impl FnOnce(&mut Link) -> Result<Reply, Failure> + Send + 'static,
) {
    let mut link = Link { stream, runtime: Handle::current() };
    // Never a pooled thread: one that has taken on a user's permissions must end with the operation.
    let thread = thread::Builder::new().name("file".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        let permitted = user.map_or(Ok(()), |user| {
            let credentials = Credentials::look_up(&user)?;
            credentials.limit_this_thread().map_err(|error| failure(&error))
        });
        let reply = permitted.and_then(|()| operation(&mut link)).unwrap_or_else(Reply::Failed);
        link.runtime.block_on(link.stream.reply(reply));
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot start a thread for a file operation");
    }
}

/// What went wrong, in the words of the system without its number.
pub(crate) fn failure(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::NotFound {
        return Failure::NotFound;
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    Failure::Refused(first.into_iter().chain(chars).collect())
}

fn refused<T>(reason: &str) -> Result<T, Failure> {
    Err(Failure::Refused(reason.to_owned()))
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// Opens a regular file, and nothing else: opening a FIFO can block, opening a device can act.
fn open_regular(path: &Path, flags: OFlags) -> Result<File, Failure> {
    match fs::metadata(path) {
        Ok(metadata) => check_regular(&metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound && flags.contains(OFlags::CREATE) => {}
        Err(error) => return Err(failure(&error)),
    }
    // What was put in its place meanwhile at least does not block.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, NEW_FILE).map_err(|error| failure(&error.into()))?;
    let file = File::from(file);
    check_regular(&file.metadata().map_err(|error| failure(&error))?)?;
    Ok(file)
}

fn check_regular(metadata: &fs::Metadata) -> Result<(), Failure> {
    match metadata {
        file if file.is_file() => Ok(()),
        directory if directory.is_dir() => refused("is a directory"),
        _ => refused("not a regular file"),
    }
}

/// Sends a file's content, or a directory's entries.
pub(crate) fn read_path(link: &mut Link, path: &str, max_bytes: u64) -> Result<Reply, Failure> {
    let path = absolute(path);
    if fs::metadata(&path).map_err(|error| failure(&error))?.is_dir() {
        return list(link, &path);
    }
    let file = open_regular(&path, OFlags::RDONLY)?;
    // A file in /proc says it has none.
    let size = file.metadata().map_err(|error| failure(&error))?.len();
    if size > max_bytes {
        return Err(Failure::TooLarge { size });
    }
    let mut sent = 0;
    loop {
        let mut chunk = Vec::with_capacity(MAX_DATA);
        let count =
            rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut chunk)))
                .map_err(|error| failure(&error.into()))?;
        if count == 0 {
            return Ok(Reply::File);
        }
        sent += count as u64;
        if sent > max_bytes {
            return Err(Failure::TooLarge { size: sent });
        }
        link.send(chunk)?;
    }
}

fn list(link: &mut Link, path: &Path) -> Result<Reply, Failure> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failure(&error))? {
        let entry = entry.map_err(|error| failure(&error))?;
        if entries.len() == MAX_DIR_ENTRIES {
            return refused("the directory has too many entries");
        }
        let is_dir = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => fs::metadata(entry.path()).is_ok_and(|at| at.is_dir()),
            Ok(kind) => kind.is_dir(),
            // It is gone already.
            Err(_) => continue,
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntryMessage { name, is_dir });
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let listing: Vec<u8> = entries.iter().flat_map(message::encode).collect();
    if listing.len() > MAX_DIR_BYTES {
        return refused("the directory has too many entries");
    }
    for chunk in listing.chunks(MAX_DATA) {
        link.send(chunk.to_vec())?;
    }
    Ok(Reply::Directory)
}

/// Writes what the host sends into a file, in place: it keeps its owner, mode and links. A file that
/// is given up halfway is left halfway.
pub(crate) fn write_file(link: &mut Link, path: &str) -> Result<Reply, Failure> {
    let path = absolute(path);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let opened = match (open_regular(&path, flags), path.parent()) {
        (Err(Failure::NotFound), Some(parent)) => {
            fs::create_dir_all(parent).map_err(|error| failure(&error))?;
            open_regular(&path, flags)
        }
        (opened, _) => opened,
    };
    let mut file = opened?;
    loop {
        match link.recv() {
            Some(Event::Data(_, bytes)) => {
                file.write_all(&bytes).map_err(|error| failure(&error))?;
            }
            Some(Event::End) => return Ok(Reply::Done),
            Some(Event::Cancel | Event::Reply(_)) | None => return Err(given_up()),
        }
    }
}
