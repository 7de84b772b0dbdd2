//! The connection to a monitor: one task that sends commands and hands out replies and events.
//!
//! Only the task touches the socket, so a caller that gives up in the middle of a command leaves
//! neither half a command in it nor a reply for the next caller to mistake for its own.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::QemuError;

/// Longest line accepted. A QEMU that was taken over by its guest may send anything.
const MAX_LINE: usize = 1 << 20;
/// How long a command may take. None of those used here waits for the guest.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// More than there are values of [`Event`], of which each waits at most once.
const EVENTS: usize = 4;

/// Something that happened to the machine by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Event {
    fn parse(message: &Value) -> Option<Self> {
        let data = |pointer| message.pointer(pointer).and_then(Value::as_str);
        match message.get("event")?.as_str()? {
            "SHUTDOWN" => {
                Some(Self::Shutdown { reset: data("/data/reason") == Some("guest-reset") })
            }
            "BLOCK_IO_ERROR" if data("/data/action") == Some("stop") => Some(Self::DiskFull),
            _ => None,
        }
    }
}

/// The events of one connection. An event that has not been taken is not repeated: a guest can
/// neither fill a queue nor push another event out of it.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    waiting: Waiting,
}

impl Events {
    /// The next event; `None` once the connection has ended. Nothing is lost if the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await?;
        forget(&self.waiting, event);
        Some(event)
    }
}

/// The events that were sent and not yet taken.
type Waiting = Arc<Mutex<HashSet<Event>>>;

fn remember(waiting: &Waiting, event: Event) -> bool {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(event)
}

fn forget(waiting: &Waiting, event: Event) {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&event);
}

/// A command on its way to QEMU.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: String,
    pub(super) arguments: Value,
    pub(super) fd: Option<OwnedFd>,
    pub(super) reply: Reply,
}

/// Where the answer to a command goes.
type Reply = oneshot::Sender<Result<Value, QemuError>>;

/// A connection that has just been made, as its users see it.
pub(super) struct Opened {
    pub(super) requests: mpsc::Sender<Request>,
    /// Changes whenever a job of QEMU does.
    pub(super) jobs: watch::Receiver<()>,
    pub(super) events: Events,
}

/// Connects and starts the task. It ends with the connection, or when nobody uses it any more.
pub(super) async fn open(socket: &Path) -> Result<Opened, QemuError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(QemuError::io(format!("connecting to the monitor {socket:?}")))?;
    let (reader, writer) = stream.into_split();
    let mut lines = Lines { reader: BufReader::new(reader), line: Vec::new() };
    let greeting = timeout(COMMAND_TIMEOUT, lines.next())
        .await
        .map_err(|_| QemuError::Timeout("the monitor's greeting"))??;
    if greeting.get("QMP").is_none() {
        return Err(QemuError::Monitor("no QMP greeting".to_owned()));
    }
    let (requests, waiting_requests) = mpsc::channel(1);
    let (job_sender, jobs) = watch::channel(());
    let (event_sender, receiver) = mpsc::channel(EVENTS);
    let waiting = Waiting::default();
    let connection = Connection {
        lines,
        writer,
        requests: waiting_requests,
        jobs: job_sender,
        events: event_sender,
        waiting: waiting.clone(),
        last_id: 0,
    };
    tokio::spawn(connection.run());
    Ok(Opened { requests, jobs, events: Events { receiver, waiting } })
}

/// The command whose reply comes next: QEMU answers in order.
struct InFlight {
    id: u64,
    command: String,
    reply: Reply,
}

struct Connection {
    lines: Lines,
    writer: OwnedWriteHalf,
    requests: mpsc::Receiver<Request>,
    jobs: watch::Sender<()>,
    events: mpsc::Sender<Event>,
    waiting: Waiting,
    last_id: u64,
}

impl Connection {
    async fn run(mut self) {
        let mut in_flight: Option<InFlight> = None;
        // Taken from the channel even while another is in flight: only so is its end noticed.
        let mut next: Option<Request> = None;
        let mut more = true;
        loop {
            if in_flight.is_none()
                && let Some(request) = next.take()
            {
                in_flight = match self.send(request).await {
                    Ok(sent) => sent,
                    Err(error) => return tracing::warn!(%error, "the monitor takes no commands"),
                };
            }
            tokio::select! {
                message = self.lines.next() => {
                    match message.and_then(|message| self.receive(message, &mut in_flight)) {
                        Ok(()) => {}
                        Err(error) => {
                            if let Some(InFlight { reply, .. }) = in_flight {
                                // Whoever gave up needs no answer.
                                let _ = reply.send(Err(error));
                            }
                            return;
                        }
                    }
                }
                request = self.requests.recv(), if more && next.is_none() => match request {
                    Some(request) => next = Some(request),
                    None => more = false,
                },
                () = self.events.closed(), if !more && next.is_none() => return,
            }
        }
    }

    /// Sends a command, unless nobody waits for its answer any more.
    async fn send(&mut self, request: Request) -> Result<Option<InFlight>, QemuError> {
        let Request { command, arguments, fd, reply } = request;
        if reply.is_closed() {
            return Ok(None);
        }
        self.last_id += 1;
        let id = self.last_id;
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        let line = format!("{line}\n");
        timeout(COMMAND_TIMEOUT, write(self.writer.as_ref(), line.as_bytes(), fd.as_ref()))
            .await
            .map_err(|_| QemuError::Timeout("writing to the monitor"))?
            .map_err(QemuError::io("writing to the monitor"))?;
        Ok(Some(InFlight { id, command, reply }))
    }

    /// Hands out a message. Fails on one that is no QMP, after which nothing can be trusted.
    fn receive(
        &self,
        mut message: Value,
        in_flight: &mut Option<InFlight>,
    ) -> Result<(), QemuError> {
        if let Some(name) = message.get("event") {
            if name == "JOB_STATUS_CHANGE" {
                self.jobs.send_replace(());
            }
            if let Some(event) = Event::parse(&message)
                && remember(&self.waiting, event)
            {
                // It is not full, and without a receiver nobody wants to know.
                let _ = self.events.try_send(event);
            }
            return Ok(());
        }
        let id = message.get("id").and_then(Value::as_u64);
        let Some(InFlight { command, reply, .. }) = in_flight.take_if(|sent| id == Some(sent.id))
        else {
            return Err(QemuError::Monitor("an answer to no command".to_owned()));
        };
        let outcome = if let Some(value) = message.get_mut("return") {
            Ok(value.take())
        } else {
            let text = message.pointer("/error/desc").and_then(Value::as_str);
            let message = text.unwrap_or("no reason given").to_owned();
            Err(QemuError::Refused { command, message })
        };
        // Whoever gave up needs no answer.
        let _ = reply.send(outcome);
        Ok(())
    }
}

/// The messages from QEMU, one a line.
struct Lines {
    reader: BufReader<OwnedReadHalf>,
    /// What was read of the current one.
    line: Vec<u8>,
}

impl Lines {
    /// The next message. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Result<Value, QemuError> {
        let room = MAX_LINE - self.line.len();
        let mut bounded = (&mut self.reader).take(room as u64);
        let read = bounded.read_until(b'\n', &mut self.line).await;
        read.map_err(QemuError::io("reading from the monitor"))?;
        if self.line.last() != Some(&b'\n') {
            return Err(QemuError::Monitor("the connection ended".to_owned()));
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.map_err(|error| QemuError::Monitor(error.to_string()))
    }
}

/// Sends all of `bytes`, the descriptor with the first of them.
async fn write(stream: &UnixStream, mut bytes: &[u8], mut fd: Option<&OwnedFd>) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let fd = fd.map(AsFd::as_fd);
            if fd.is_some() {
                ancillary.push(SendAncillaryMessage::ScmRights(fd.as_slice()));
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
