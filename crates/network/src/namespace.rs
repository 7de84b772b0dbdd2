//! Named network namespaces, and running code inside one.
//!
//! A namespace is entered by a thread that was made for it and ends afterwards: moving a pooled
//! thread would leave whatever runs on it next in the wrong network. Sockets and taps opened inside
//! keep working outside, since they belong to the namespace they were made in.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic,
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags},
    thread::{LinkNameSpaceType, UnshareFlags},
};

use crate::error::{Because, NetworkError};

/// Where `ip netns` looks.
const DIRECTORY: &str = "/run/netns";
/// File system type of a namespace's handle.
const NSFS_MAGIC: u64 = 0x6e73_6673;

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Prepares the directory as `ip netns` does: a shared mount, so that a namespace unmounted here is
/// not kept alive by a copy of the mount in some other mount namespace. Must not run twice at the
/// same time: the second mount would hide what was made on the first.
pub(crate) fn prepare_directory() -> Result<(), NetworkError> {
    let action = || format!("make {DIRECTORY} a shared mount");
    fs::create_dir_all(DIRECTORY).because(action)?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match rustix::mount::mount_change(DIRECTORY, shared) {
        // Not a mount point yet.
        Err(Errno::INVAL) => {
            rustix::mount::mount_bind_recursive(DIRECTORY, DIRECTORY).because(action)?;
            rustix::mount::mount_change(DIRECTORY, shared).because(action)
        }
        result => result.because(action),
    }
}

/// Makes the namespace unless it exists; also completes one that a crash left as a bare file.
pub(crate) fn ensure(name: &str) -> Result<(), NetworkError> {
    let path = path(name);
    let action = || format!("create namespace {name}");
    if is_mounted(&path) {
        return Ok(());
    }
    fs::File::create(&path).because(action)?;
    on_own_thread(|| {
        unshare_network()?;
        Ok(rustix::mount::mount_bind("/proc/thread-self/ns/net", &path)?)
    })
    .because(action)
}

/// Removes the name. The kernel frees the namespace once no process or socket uses it any more.
pub(crate) fn remove(name: &str) -> Result<(), NetworkError> {
    let path = path(name);
    let action = || format!("remove namespace {name}");
    match rustix::mount::unmount(&path, UnmountFlags::DETACH) {
        // Absent, or a file that never became a namespace.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(error) => return Err(error).because(action),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.because(action),
    }
}

/// A handle to enter the namespace by. While open it keeps the namespace alive.
pub(crate) fn open(name: &str) -> Result<OwnedFd, NetworkError> {
    let path = path(name);
    let action = || format!("open namespace {name}");
    if !is_mounted(&path) {
        return Err(io::Error::from(io::ErrorKind::NotFound)).because(action);
    }
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).because(action)
}

/// Runs `work` on a new thread inside `namespace` and waits for it.
pub(crate) fn enter<T: Send>(
    namespace: impl AsFd,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetworkError> {
    let namespace = namespace.as_fd();
    on_own_thread(|| {
        join_network(namespace)?;
        Ok(work())
    })
    .because(|| "enter a network namespace".to_owned())
}

/// Proves that namespaces can be made here, leaving nothing behind.
pub(crate) fn in_throwaway<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        unshare_network()?;
        Ok(work())
    })
}

/// Whether a namespace of that name is there: not only its file, as after a crash.
pub(crate) fn exists(name: &str) -> bool {
    is_mounted(&path(name))
}

fn is_mounted(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|status| status.f_type as u64 == NSFS_MAGIC)
}

fn join_network(namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

#[expect(deprecated, reason = "its unsafe successor is about CLONE_FILES, which is not used here")]
fn unshare_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}

/// Runs `work` on a new thread and waits for it; an error if there can be no more threads.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}
