//! The monitor protocol (QEMU's `docs/interop/qmp-spec`): JSON lines over a unix socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::QemuError;

/// Longest line accepted. A QEMU that was taken over by its guest may send anything.
const MAX_LINE: u64 = 1 << 20;
/// How long a command may take. None of those used here waits for the guest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Where QEMU listens for the monitor of the machine that runs in `dir`.
pub fn qmp_socket(dir: &Path) -> PathBuf {
    dir.join("qmp")
}

/// Whether the virtual CPUs run, as QEMU tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Device state is still being read.
    Incoming,
    /// The virtual CPUs run.
    Running,
    /// They do not, for whatever reason.
    Paused,
}

/// Something that happened to the machine by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It ends; on a reset the guest wanted to boot again.
    Shutdown {
        /// The guest asked for a reboot.
        reset: bool,
    },
    /// The host's disk is full: the machine was paused in the middle of a write, which is done
    /// again when it is resumed.
    DiskFull,
}

/// A connection to a monitor. QEMU serves one at a time.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode. Waits for a QEMU that is still starting.
    pub async fn connect(socket: &Path) -> Result<Self, QemuError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(QemuError::io(format!("connecting to the monitor {socket:?}")))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = timeout(COMMAND_TIMEOUT, qmp.line())
            .await
            .map_err(|_| QemuError::Timeout("the monitor's greeting"))??;
        if greeting.get("QMP").is_none() {
            return Err(QemuError::Monitor("no QMP greeting".to_owned()));
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs one command and answers what it returned.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        self.transact(command, arguments, None).await
    }

    /// As [`Qmp::execute`], with a descriptor attached.
    pub async fn execute_with_fd(
        &mut self,
        command: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
    ) -> Result<Value, QemuError> {
        self.transact(command, arguments, Some(fd)).await
    }

    async fn transact(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QemuError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let exchange = async {
            self.send(line.as_bytes(), fd)
                .await
                .map_err(QemuError::io("writing to the monitor"))?;
            self.reply(command).await
        };
        timeout(COMMAND_TIMEOUT, exchange)
            .await
            .map_err(|_| QemuError::Timeout("a command of the monitor"))?
    }

    /// Sends all of `bytes`, the descriptor with the first of them.
    async fn send(&self, mut bytes: &[u8], mut fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let stream = self.stream.get_ref();
        while !bytes.is_empty() {
            stream.writable().await?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let fds = fd.as_slice();
                if !fds.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(fds));
                }
                let pieces = [io::IoSlice::new(bytes)];
                let flags = SendFlags::NOSIGNAL;
                Ok(rustix::net::sendmsg(stream.as_fd(), &pieces, &mut ancillary, flags)?)
            });
            match sent {
                Ok(count) => {
                    bytes = &bytes[count..];
                    fd = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The reply to the command that was just sent; events before it are passed over.
    async fn reply(&mut self, command: &str) -> Result<Value, QemuError> {
        loop {
            let mut message = self.line().await?;
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = message.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                return Err(QemuError::Refused {
                    command: command.to_owned(),
                    message: text.to_owned(),
                });
            }
        }
    }

    async fn line(&mut self) -> Result<Value, QemuError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await;
        read.map_err(QemuError::io("reading from the monitor"))?;
        if line.last() != Some(&b'\n') {
            return Err(QemuError::Monitor("the connection ended".to_owned()));
        }
        serde_json::from_slice(&line).map_err(|error| QemuError::Monitor(error.to_string()))
    }

    /// Waits for the next event that concerns the machine's life. Fails when the connection ends.
    pub async fn next_event(&mut self) -> Result<Event, QemuError> {
        loop {
            let message = self.line().await?;
            let data = |pointer| message.pointer(pointer).and_then(Value::as_str);
            match message.get("event").and_then(Value::as_str) {
                Some("SHUTDOWN") => {
                    return Ok(Event::Shutdown {
                        reset: data("/data/reason") == Some("guest-reset"),
                    });
                }
                Some("BLOCK_IO_ERROR") if data("/data/action") == Some("stop") => {
                    return Ok(Event::DiskFull);
                }
                _ => {}
            }
        }
    }

    /// Whether the virtual CPUs run.
    pub async fn run_state(&mut self) -> Result<RunState, QemuError> {
        let reply = self.execute("query-status", json!({})).await?;
        match reply.get("status").and_then(Value::as_str) {
            Some("inmigrate") => Ok(RunState::Incoming),
            Some("running") => Ok(RunState::Running),
            Some(_) => Ok(RunState::Paused),
            None => Err(QemuError::Monitor("query-status answered no status".to_owned())),
        }
    }

    /// Waits until the device state given at launch has been read. The machine is then paused.
    pub async fn wait_for_incoming(&mut self) -> Result<(), QemuError> {
        // The state is some 200 KB from the page cache and read in QEMU's main loop, which also
        // answers this query: it is almost always done by the first reply.
        let wait = async {
            while self.run_state().await? == RunState::Incoming {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        timeout(COMMAND_TIMEOUT, wait)
            .await
            .map_err(|_| QemuError::Timeout("reading the device state"))?
    }

    /// Lets the virtual CPUs run.
    pub async fn resume(&mut self) -> Result<(), QemuError> {
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Stops the virtual CPUs; drains and flushes what the guest gave its disk.
    pub async fn pause(&mut self) -> Result<(), QemuError> {
        self.execute("stop", json!({})).await.map(drop)
    }

    /// Tells the guest that its disk is now `size_mib` large.
    pub async fn resize_disk(&mut self, size_mib: u64) -> Result<(), QemuError> {
        let arguments = json!({ "node-name": crate::launch::DISK_NODE, "size": size_mib << 20 });
        self.execute("block_resize", arguments).await.map(drop)
    }

    /// Writes the state of CPUs and devices, without RAM, to `file`. The machine must be paused.
    pub async fn save_devices(&mut self, file: BorrowedFd<'_>) -> Result<(), QemuError> {
        let reply = self.execute_with_fd("add-fd", json!({}), file).await?;
        let set = reply.get("fdset-id").and_then(Value::as_u64);
        let set = set.ok_or_else(|| QemuError::Monitor("add-fd answered no set".to_owned()))?;
        let arguments = json!({ "filename": format!("/dev/fdset/{set}"), "live": false });
        let saved = self.execute("xen-save-devices-state", arguments).await;
        self.execute("remove-fd", json!({ "fdset-id": set })).await?;
        saved.map(drop)
    }

    /// Ends the process at once.
    pub async fn quit(&mut self) -> Result<(), QemuError> {
        self.execute("quit", json!({})).await.map(drop)
    }
}
