//! The monitor protocol (QEMU's `docs/interop/qmp-spec`): JSON lines over a unix socket.

mod connection;
mod disk;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::QemuError;
use connection::{COMMAND_TIMEOUT, Request};
pub use connection::{Event, Events};
pub use disk::{Progress, Stream};
pub(crate) use disk::{READ_LABEL, WRITE_LABEL, reader_of, top_options};

/// Marks the file of the device state, which QEMU keeps open until
/// [`Qmp::release_files`].
const DEVICES_LABEL: &str = "devices";

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

/// A connection to a monitor. QEMU serves one at a time; it closes soon after the last clone and
/// its [`Events`] are dropped.
///
/// Commands are executed one after another. A caller may give up on one at any time: what QEMU had
/// not got is then not done, and no other caller sees its reply.
#[derive(Debug, Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Request>,
    jobs: watch::Receiver<()>,
    /// Held while descriptors are given to QEMU or taken from it: in between, they look unused.
    files: Arc<Mutex<()>>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode; guest memory is mapped then. Waits for a QEMU that
    /// is still starting and for its other connection, if there is one. Needs a running tokio.
    pub async fn connect(socket: &Path) -> Result<(Self, Events), QemuError> {
        let connection::Opened { requests, jobs, events } = connection::open(socket).await?;
        let qmp = Self { requests, jobs, files: Arc::default() };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok((qmp, events))
    }

    /// Runs one command and answers what it returned.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QemuError> {
        self.transact(command, arguments, None).await
    }

    /// As [`Qmp::execute`], with a descriptor attached.
    pub async fn execute_with_fd(
        &self,
        command: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
    ) -> Result<Value, QemuError> {
        let fd = fd.try_clone_to_owned().map_err(QemuError::io("sharing a descriptor"))?;
        self.transact(command, arguments, Some(fd)).await
    }

    async fn transact(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
    ) -> Result<Value, QemuError> {
        let ended = || QemuError::Monitor("the connection ended".to_owned());
        let (reply, replied) = oneshot::channel();
        let request = Request { command: command.to_owned(), arguments, fd, reply };
        let exchange = async {
            self.requests.send(request).await.map_err(|_| ended())?;
            replied.await.map_err(|_| ended())?
        };
        timeout(COMMAND_TIMEOUT, exchange)
            .await
            .map_err(|_| QemuError::Timeout("a command of the monitor"))?
    }

    /// Whether the virtual CPUs run.
    pub async fn run_state(&self) -> Result<RunState, QemuError> {
        let reply = self.execute("query-status", json!({})).await?;
        match reply.get("status").and_then(Value::as_str) {
            Some("inmigrate") => Ok(RunState::Incoming),
            Some("running") => Ok(RunState::Running),
            Some(_) => Ok(RunState::Paused),
            None => Err(unexpected("query-status")),
        }
    }

    /// Waits until the device state given at launch has been read. The machine is then paused.
    pub async fn wait_for_incoming(&self) -> Result<(), QemuError> {
        // The state is some 200 KB and read in QEMU's main loop, which also answers this query: it
        // is almost always done by the first reply.
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
    pub async fn resume(&self) -> Result<(), QemuError> {
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Stops the virtual CPUs; drains and flushes what the guest gave its disk.
    pub async fn pause(&self) -> Result<(), QemuError> {
        self.execute("stop", json!({})).await.map(drop)
    }

    /// Writes the state of CPUs and devices, without RAM, to `file`, which must be open for writing
    /// and not for reading. The machine must be paused. Once it runs again, call
    /// [`Qmp::release_files`].
    pub async fn save_devices(&self, file: BorrowedFd<'_>) -> Result<(), QemuError> {
        let _files = self.files.lock().await;
        let set = self.add_fd(file, DEVICES_LABEL, None).await?;
        let arguments = json!({ "filename": fdset_path(set), "live": false });
        self.execute("xen-save-devices-state", arguments).await.map(drop)
    }

    /// Ends the process at once.
    pub async fn quit(&self) -> Result<(), QemuError> {
        self.execute("quit", json!({})).await.map(drop)
    }

    /// Gives QEMU a descriptor, in a new set or an existing one; answers the number of the set.
    async fn add_fd(&self, fd: impl AsFd, label: &str, set: Option<u64>) -> Result<u64, QemuError> {
        let mut arguments = json!({ "opaque": label });
        if let Some(set) = set {
            arguments["fdset-id"] = set.into();
        }
        let reply = self.execute_with_fd("add-fd", arguments, fd.as_fd()).await?;
        reply.get("fdset-id").and_then(Value::as_u64).ok_or_else(|| unexpected("add-fd"))
    }
}

/// The name under which QEMU opens a descriptor it was given.
pub(crate) fn fdset_path(set: impl std::fmt::Display) -> String {
    format!("/dev/fdset/{set}")
}

fn unexpected(command: &str) -> QemuError {
    QemuError::Monitor(format!("{command} answered something else"))
}
