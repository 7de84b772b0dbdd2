//! A process that runs, with the server's connections to it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freestyle_guest_protocol::{AgentConnection, Identity, LinkError};
use freestyle_qemu::{
    Event, Events, Process, QemuError, Qmp, agent_socket, console_log, qmp_socket,
};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OnceCell, watch};
use tokio::task::AbortHandle;

use crate::error::VmError;

/// Bytes of the guest's console that are kept; it is emptied when it grows larger.
const MAX_CONSOLE: u64 = 1 << 20;
/// Bytes of its end that are shown when a VM dies.
const CONSOLE_TAIL: u64 = 2000;
/// How long a machine waits for space on the host's disk before it tries again.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(5);
/// How long a process may take to end after its sockets did.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long an agent that was up before may take to answer again.
const RECONNECT: Duration = Duration::from_secs(10);

/// One instance's process. It outlives this value.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) process: Process,
    dir: PathBuf,
    /// The guest has been told who it is and answered, in this server's life.
    greeted: AtomicBool,
    /// QEMU reported that the guest reset the machine.
    reset: Arc<AtomicBool>,
    monitor: OnceCell<Monitor>,
    /// Who the guest is; needed again whenever the connection is made anew.
    guest: Mutex<Guest>,
    /// How often everybody who looks at a terminal had to leave.
    evictions: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Guest {
    identity: Option<Identity>,
    connection: Option<AgentConnection>,
    up_since: Option<Instant>,
}

/// The connection to the monitor, which QEMU serves one of at a time, and the task that listens to
/// its events.
#[derive(Debug)]
struct Monitor {
    qmp: Qmp,
    listener: AbortHandle,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Running {
    /// The process that runs in `dir`, started by whichever server.
    pub(crate) fn new(process: Process, dir: PathBuf) -> Self {
        Self {
            process,
            dir,
            greeted: AtomicBool::new(false),
            reset: Arc::default(),
            monitor: OnceCell::new(),
            guest: Mutex::default(),
            evictions: watch::Sender::default(),
        }
    }

    /// Changes when everybody who looks at a terminal has to leave.
    pub(crate) fn evictions(&self) -> watch::Receiver<u64> {
        self.evictions.subscribe()
    }

    /// Has everybody who looks at a terminal leave.
    pub(crate) fn evict_viewers(&self) {
        self.evictions.send_modify(|count| *count += 1);
    }

    /// The monitor.
    pub(crate) async fn monitor(&self) -> Result<Qmp, VmError> {
        let connect = || async {
            let (qmp, events) = match Qmp::connect(&qmp_socket(&self.dir)).await {
                Ok(connected) => connected,
                Err(error) => return Err(self.explain(error).await),
            };
            let listener = tokio::spawn(listen(qmp.clone(), events, self.reset.clone()));
            Ok(Monitor { qmp, listener: listener.abort_handle() })
        };
        Ok(self.monitor.get_or_try_init(connect).await?.qmp.clone())
    }

    /// Whether the guest has answered and its process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.greeted.load(Ordering::Acquire) && self.process.is_alive()
    }

    /// Tells the guest who it is and waits for its answer.
    pub(crate) async fn greet(&self, identity: Identity, limit: Duration) -> Result<(), VmError> {
        let mut guest = self.guest.lock().await;
        let connection = self.connect(&identity, limit).await?;
        *guest = Guest {
            identity: Some(identity),
            connection: Some(connection),
            up_since: Some(Instant::now()),
        };
        self.greeted.store(true, Ordering::Release);
        Ok(())
    }

    /// How long ago the guest was greeted, in this server's life.
    pub(crate) async fn up_for(&self) -> Option<Duration> {
        Some(self.guest.lock().await.up_since?.elapsed())
    }

    /// Forgets the connection, so that the guest waits for the next greeting.
    pub(crate) async fn disconnect(&self) {
        self.greeted.store(false, Ordering::Release);
        *self.guest.lock().await = Guest::default();
    }

    /// The connection to a guest that was greeted; made anew if it broke.
    pub(crate) async fn guest(&self) -> Result<AgentConnection, VmError> {
        let mut guest = self.guest.lock().await;
        if let Some(connection) = &guest.connection
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let identity = guest.identity.clone();
        let never = || VmError::GuestUnreachable("it was not greeted".to_owned());
        let connection = self.connect(&identity.ok_or_else(never)?, RECONNECT).await?;
        guest.connection = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(
        &self,
        identity: &Identity,
        limit: Duration,
    ) -> Result<AgentConnection, VmError> {
        let connect = async {
            let socket = agent_socket(&self.dir);
            let stream = UnixStream::connect(&socket)
                .await
                .map_err(|error| VmError::GuestUnreachable(format!("its port: {error}")))?;
            let (connection, welcome) =
                AgentConnection::connect(stream, identity.clone()).await.map_err(unreachable)?;
            for problem in welcome.problems {
                tracing::warn!(host = identity.hostname, problem, "the guest is not quite itself");
            }
            Ok(connection)
        };
        let connected = tokio::time::timeout(limit, connect).await;
        let error = match connected.map_err(|_| VmError::StartTimeout { after: limit }) {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) | Err(error) => error,
        };
        // A link that broke is mostly the first sign of a process that ends.
        match tokio::time::timeout(LAST_BREATH, self.process.exited()).await {
            Ok(how) => {
                let reason = format!("{how}; {}", self.last_words().await);
                Err(VmError::ExitDuringStart { reason })
            }
            Err(_) => Err(error),
        }
    }

    /// Whether the process ended because the guest rebooted.
    pub(crate) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    /// The end of what QEMU and the guest printed.
    pub(crate) async fn last_words(&self) -> String {
        let logs = [self.dir.join("qemu.log"), console_log(&self.dir)];
        let read = move || logs.map(|log| tail(&log)).concat();
        let words = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        if words.trim().is_empty() { "it printed nothing".to_owned() } else { words }
    }

    /// Keeps a guest that floods its console from filling the host's disk. Blocks briefly.
    pub(crate) fn trim_console(&self) {
        let path = console_log(&self.dir);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_CONSOLE) {
            // QEMU appends, so it goes on at the new end.
            let _ = File::options().write(true).open(&path).and_then(|file| file.set_len(0));
        }
    }

    /// A QEMU that fails while it starts says why on standard error.
    async fn explain(&self, error: QemuError) -> VmError {
        if self.process.is_alive() {
            return VmError::Internal(error.to_string());
        }
        VmError::ExitDuringStart { reason: format!("{error}; {}", self.last_words().await) }
    }
}

/// Hears of a reset, and resumes a machine that QEMU paused because the host's disk was full.
async fn listen(qmp: Qmp, mut events: Events, reset: Arc<AtomicBool>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Shutdown { reset: asked } => reset.store(asked, Ordering::Release),
            Event::DiskFull => {
                tracing::error!("the host's disk is full; a VM waits for space");
                tokio::time::sleep(DISK_FULL_PAUSE).await;
                // If there is still no space, it is paused again and we hear of it.
                let _ = qmp.resume().await;
            }
        }
    }
}

/// What a broken link means to a caller.
pub(crate) fn unreachable(error: LinkError) -> VmError {
    VmError::GuestUnreachable(error.to_string())
}

/// The printable end of a file.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(CONSOLE_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(CONSOLE_TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}
