//! The virtio-serial port as an asynchronous byte stream.
//!
//! A port is no ordinary file: while the host's side is closed, it is readable (the end of file,
//! over and over) and hung up, and it stays the same port when the host comes back. Waiting for it
//! the usual way would spin. Edges, however, are reliable: the kernel reports one whenever data
//! comes, room comes, or the host opens or closes its side. So the port sits, edge-triggered, in an
//! epoll instance of its own, and it is that which the runtime waits for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{Timespec, epoll};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys;

const PORTS: &str = "/sys/class/virtio-ports";

/// An open port. Reading waits for the host where another file would end.
///
/// For one task on a runtime of one thread: the two directions share their events, and whichever is
/// polled takes them.
#[derive(Debug)]
pub struct Port {
    port: OwnedFd,
    events: AsyncFd<OwnedFd>,
}

impl Port {
    /// Opens a port by its device file. Needs a tokio runtime with I/O.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let port = rustix::fs::open(path, flags, Mode::empty())?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edges = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&events, &port, epoll::EventData::new_u64(0), edges)?;
        let events = sys::readable(events)?;
        Ok(Self { port, events })
    }

    /// Finds the device file of the port with this name; waits for as long as there is none. Blocks.
    ///
    /// Without udev, which may come later than the agent: the kernel makes the device file itself.
    pub fn wait_for(name: &str) -> io::Result<PathBuf> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut created = inotify::Reader::new(&watch, &mut buffer);
        loop {
            if let Some(device) = find(name) {
                return Ok(Path::new("/dev").join(device));
            }
            created.next()?;
        }
    }

    /// Ready once something has happened to the port since the last time.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.events.poll_read_ready(cx))?;
        let mut event = [MaybeUninit::<epoll::Event>::uninit(); 1];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Taking the event is what makes the next edge show.
        epoll::wait(guard.get_inner(), &mut event, Some(&now))?;
        guard.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Repeats a system call until it does something or there is nothing to do but wait.
    fn poll_io(
        &mut self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        // The port may always be ready; let other tasks have their turn.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        loop {
            match call(&self.port) {
                Ok(0) | Err(Errno::AGAIN) => ready!(self.poll_event(cx))?,
                Ok(count) => {
                    turn.made_progress();
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

fn find(name: &str) -> Option<OsString> {
    let is_it = |device: &fs::DirEntry| {
        fs::read(device.path().join("name"))
            .is_ok_and(|found| found.trim_ascii() == name.as_bytes())
    };
    let mut devices = fs::read_dir(PORTS).ok()?.filter_map(Result::ok);
    devices.find(is_it).map(|device| device.file_name())
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        let count = ready!(self.poll_io(cx, |port| rustix::io::read(port, &mut *space)))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(cx, |port| rustix::io::write(port, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
