//! The host's side of the link. Everything that comes from the guest is hostile until proven
//! otherwise: bounded, parsed strictly, and waited for no longer than a limit.

mod pty;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::frame::{Frame, Kind, MAX_PAYLOAD};
use crate::message::{
    self, DecodeError, Entropy, ExecRequest, Failure, Hello, Identity, LinkMessage, MAX_DIR_BYTES,
    PowerOff, Reply, Request, Welcome,
};
use crate::mux::{
    Channel, Event, MAX_DATA, MAX_REQUESTS, Outbound, Outbox, Receiver, Sender, Streams, Violation,
    queues,
};
use crate::pty::{MAX_VIEWERS, PtyFailure};
use crate::wire::Wire;

pub use self::pty::{PtyInput, PtyOutput, PtyStream};

/// How long the guest may take beyond a command's own timeout to report it.
const EXEC_GRACE: Duration = Duration::from_secs(5);
/// How long a transfer may make no progress, and how long a request without data may take.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long a transfer may take in all.
const TRANSFER_LIMIT: Duration = Duration::from_secs(600);
/// A welcome that took longer answers a greeting whose time is no longer the time.
const FRESH: Duration = Duration::from_millis(250);
/// An agent that is starting asks for the greeting once or twice.
const MAX_HELLOS: u32 = 16;
/// Longest reason taken from a guest.
const MAX_REASON: usize = 1000;

/// Why the link to a guest does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The transport was closed.
    #[error("the connection to the guest was closed")]
    Closed,
    /// The transport failed.
    #[error("the connection to the guest failed: {0}")]
    Io(String),
    /// The guest broke the protocol.
    #[error("the guest broke the protocol: {0}")]
    Violation(&'static str),
    /// The agent is of another version.
    #[error(
        "the guest's agent speaks protocol version {agent}, this host {}",
        message::PROTOCOL_VERSION
    )]
    Version {
        /// What the agent speaks.
        agent: u16,
    },
    /// The agent started anew and knows nothing of this connection.
    #[error("the guest's agent was restarted")]
    AgentRestarted,
    /// The guest did not answer in time. The connection may still work.
    #[error("the guest did not answer in time")]
    TimedOut,
}

impl From<Violation> for LinkError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation.0)
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A peer that closes with something unread resets the connection.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no such Linux user in the guest.
    #[error("there is no such Linux user")]
    UnknownUser,
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// The file is larger than was asked for.
    #[error("the file has {size} bytes, more than {limit}")]
    TooLarge {
        /// Bytes in the file, or seen so far where the file does not say.
        size: u64,
        /// What was asked for.
        limit: u64,
    },
    /// The guest refused, with a reason in plain words.
    #[error("{0}")]
    Refused(String),
    /// A terminal session cannot be had.
    #[error(transparent)]
    Pty(#[from] PtyFailure),
    /// The request does not fit a message.
    #[error("the request is longer than {MAX_PAYLOAD} bytes")]
    RequestTooLong,
    /// The link does not work.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Bytes of standard output, all that arrived.
    pub stdout: Vec<u8>,
    /// Bytes of standard error, all that arrived.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub end: ExecEnd,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    /// By itself: its exit code, or 128 + the signal's number.
    Exited(i32),
    /// It ran over its time; its process group was killed.
    TimedOut,
    /// It printed more than `max_output`; its process group was killed.
    OutputTooLarge,
}

/// A path in a guest, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOrDir {
    /// The content of a file.
    File(Vec<u8>),
    /// The entries of a directory, sorted by name.
    Dir(Vec<DirEntry>),
}

pub use message::DirEntryMessage as DirEntry;

#[derive(Debug)]
struct Shared {
    /// `None` once the link is down.
    open: Mutex<Option<Open>>,
    /// One permit per request, until the guest has replied to it.
    slots: Arc<Semaphore>,
    /// The same for viewers.
    viewers: Arc<Semaphore>,
    /// Why the link is down.
    down: watch::Sender<Option<LinkError>>,
}

#[derive(Debug)]
struct Open {
    streams: Streams<OwnedSemaphorePermit>,
    last: u32,
}

impl Shared {
    fn with_open<T>(&self, use_it: impl FnOnce(&mut Open) -> T) -> Option<T> {
        // Nothing in these sections panics halfway: the state behind a poisoned lock is sound.
        self.open.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(use_it)
    }

    fn reason(&self) -> LinkError {
        self.down.borrow().clone().unwrap_or(LinkError::Closed)
    }

    fn close(&self, reason: LinkError) {
        self.down.send_replace(Some(reason));
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A connection to the agent of one guest. All clones are one connection; it is closed when the
/// last of them and of the streams opened on it is dropped.
#[derive(Debug, Clone)]
pub struct AgentConnection {
    shared: Arc<Shared>,
    outbound: Outbound,
}

impl AgentConnection {
    /// Greets the agent and waits for its answer, which for a guest that boots takes as long as
    /// the boot: the caller sets the limit, by dropping the future.
    ///
    /// Needs a tokio runtime, on which it spawns the task that owns the transport.
    pub async fn connect<S>(transport: S, identity: Identity) -> Result<(Self, Welcome), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut wire = Wire::new(transport);
        let (outbound, mut outbox) = queues();
        let welcome = greet(&mut wire, &mut outbox, identity).await?;
        let shared = Arc::new(Shared {
            open: Mutex::new(Some(Open { streams: Streams::default(), last: 0 })),
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
            viewers: Arc::new(Semaphore::new(MAX_VIEWERS)),
            down: watch::channel(None).0,
        });
        let task_shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Err(reason) = carry(&mut wire, &mut outbox, &task_shared).await;
            tracing::debug!(%reason, "the link to the guest went down");
            task_shared.close(reason);
        });
        Ok((Self { shared, outbound }, welcome))
    }

    /// Waits until the link is down; says why.
    pub async fn closed(&self) -> LinkError {
        let mut down = self.shared.down.subscribe();
        // The sender is in `shared`, which `self` holds.
        let _ = down.wait_for(Option::is_some).await;
        self.shared.reason()
    }

    /// Whether the link is down now.
    pub fn is_closed(&self) -> bool {
        self.shared.down.borrow().is_some()
    }

    /// Opens a stream for a request. The calls below do this and the rest; use it for what they
    /// do not do. Waits while [`MAX_REQUESTS`] are open.
    pub async fn open(&self, request: &Request) -> Result<RemoteStream, CallError> {
        let slots = Arc::clone(&self.shared.slots);
        let slot = slots.acquire_owned().await.map_err(|_| LinkError::Closed)?;
        self.open_in(slot, request)
    }

    fn open_in(
        &self,
        slot: OwnedSemaphorePermit,
        request: &Request,
    ) -> Result<RemoteStream, CallError> {
        let payload = message::encode(request);
        if payload.len() > MAX_PAYLOAD {
            return Err(CallError::RequestTooLong);
        }
        let opened = self.shared.with_open(|open| {
            let stream = open.last.checked_add(1).ok_or(LinkError::Closed)?;
            open.last = stream;
            let halves = open.streams.open(stream, &self.outbound, slot);
            // Queued under the lock, so that requests go out in the order of their numbers.
            self.outbound.control(Frame { stream, kind: Kind::Open, payload });
            Ok::<_, LinkError>(halves)
        });
        let (sender, receiver) = opened.ok_or_else(|| self.shared.reason())??;
        Ok(RemoteStream { sender, receiver, shared: Arc::clone(&self.shared), replied: false })
    }

    /// Runs a command and collects its output. Dropping the future kills the command's process
    /// group. With a timeout this returns in time whatever the guest does.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecOutcome, CallError> {
        let deadline = request
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout.checked_add(EXEC_GRACE)?));
        let limit = request.max_output;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let run = async {
            let mut stream = self.open(&Request::Exec(request)).await?;
            loop {
                match stream.recv().await? {
                    StreamEvent::Data(channel, bytes) => {
                        let kept = match channel {
                            Channel::Main => &mut stdout,
                            Channel::Side => &mut stderr,
                        };
                        if (kept.len() + bytes.len()) as u64 > limit {
                            return Ok(ExecEnd::OutputTooLarge);
                        }
                        kept.extend_from_slice(&bytes);
                    }
                    StreamEvent::End => {}
                    StreamEvent::Reply(Reply::Exited { status }) => {
                        return Ok(ExecEnd::Exited(status));
                    }
                    StreamEvent::Reply(Reply::TimedOut) => return Ok(ExecEnd::TimedOut),
                    StreamEvent::Reply(Reply::OutputTooLarge) => {
                        return Ok(ExecEnd::OutputTooLarge);
                    }
                    StreamEvent::Reply(reply) => return Err(refusal(reply, 0)),
                }
            }
        };
        let end = match deadline {
            None => run.await?,
            Some(deadline) => match timeout_at(deadline, run).await {
                Ok(end) => end?,
                Err(_) => ExecEnd::TimedOut,
            },
        };
        Ok(ExecOutcome { stdout, stderr, end })
    }

    /// Reads a file of at most `max_bytes`, or lists a directory, with the permissions of `user`
    /// (root where absent).
    pub async fn read_path(
        &self,
        user: Option<&str>,
        path: &str,
        max_bytes: u64,
    ) -> Result<FileOrDir, CallError> {
        let request =
            Request::ReadPath { user: user.map(str::to_owned), path: path.to_owned(), max_bytes };
        let limits = Limits::start();
        let mut stream = limits.apply(self.open(&request)).await??;
        let most = max_bytes.max(MAX_DIR_BYTES as u64);
        let mut content = Vec::new();
        loop {
            match limits.apply(stream.recv()).await?? {
                StreamEvent::Data(_, bytes) => {
                    if (content.len() + bytes.len()) as u64 > most {
                        return Err(violation("more data than was asked for"));
                    }
                    content.extend_from_slice(&bytes);
                }
                StreamEvent::End => {}
                StreamEvent::Reply(Reply::File) if content.len() as u64 > max_bytes => {
                    return Err(violation("more data than was asked for"));
                }
                StreamEvent::Reply(Reply::File) => return Ok(FileOrDir::File(content)),
                StreamEvent::Reply(Reply::Directory) => {
                    let entries = message::decode_entries(&content);
                    return entries
                        .map(FileOrDir::Dir)
                        .ok_or_else(|| violation("a listing that is none"));
                }
                StreamEvent::Reply(reply) => return Err(refusal(reply, max_bytes)),
            }
        }
    }

    /// Writes a file with the permissions of `user` (root where absent), who owns what is made. A
    /// call that fails halfway may leave part of the content behind.
    pub async fn write_file(
        &self,
        user: Option<&str>,
        path: &str,
        content: &[u8],
    ) -> Result<(), CallError> {
        let request = Request::WriteFile { user: user.map(str::to_owned), path: path.to_owned() };
        let limits = Limits::start();
        let stream = limits.apply(self.open(&request)).await??;
        for bytes in content.chunks(MAX_DATA) {
            // A guest that refuses replies early; the reply says why.
            if limits.apply(stream.send(bytes.to_vec())).await?.is_err() {
                break;
            }
        }
        let _ = limits.apply(stream.end()).await?;
        stream.expect_done(limits).await
    }

    /// Asks the guest to shut down in order; returns when it has begun. Wait for its process to
    /// end, and have a limit for that: the guest may do as it likes.
    pub async fn shutdown(&self, how: PowerOff) -> Result<(), CallError> {
        self.simple(&Request::Shutdown(how)).await
    }

    /// Grows the root filesystem to its device.
    pub async fn grow_root(&self) -> Result<(), CallError> {
        self.simple(&Request::GrowRoot).await
    }

    /// Waits for a sign of life.
    pub async fn ping(&self) -> Result<(), CallError> {
        self.simple(&Request::Ping).await
    }

    async fn simple(&self, request: &Request) -> Result<(), CallError> {
        let limits = Limits::start();
        let stream = limits.apply(self.open(request)).await??;
        stream.expect_done(limits).await
    }
}

/// What arrives on a [`RemoteStream`].
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Bytes from the guest.
    Data(Channel, Vec<u8>),
    /// The guest sends no more.
    End,
    /// The last event.
    Reply(Reply),
}

/// A request in progress. Dropping it before the reply cancels it.
#[derive(Debug)]
pub struct RemoteStream {
    sender: Sender,
    receiver: Receiver,
    shared: Arc<Shared>,
    replied: bool,
}

impl RemoteStream {
    /// The next event. Taking one gives the guest credit to send more; leaving them holds up this
    /// stream and no other. Cancelling the future loses nothing.
    pub async fn recv(&mut self) -> Result<StreamEvent, LinkError> {
        match self.receiver.recv().await {
            Some(Event::Data(channel, bytes)) => Ok(StreamEvent::Data(channel, bytes)),
            Some(Event::End) => Ok(StreamEvent::End),
            Some(Event::Reply(payload)) => {
                self.replied = true;
                let reply = message::decode(&payload)
                    .map_err(|_| LinkError::Violation("a reply could not be decoded"))?;
                Ok(StreamEvent::Reply(reply))
            }
            Some(Event::Cancel) | None => {
                self.replied = true;
                Err(self.shared.reason())
            }
        }
    }

    /// Sends up to [`MAX_DATA`] bytes once the guest has room for them. Fails when the stream has
    /// ended; [`RemoteStream::recv`] says how.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), crate::mux::Ended> {
        self.sender.send(Channel::Main, bytes).await
    }

    /// As [`RemoteStream::send`], on the side channel.
    pub async fn send_side(&self, bytes: Vec<u8>) -> Result<(), crate::mux::Ended> {
        self.sender.send(Channel::Side, bytes).await
    }

    /// Says that no more data comes from the host.
    pub async fn end(&self) -> Result<(), crate::mux::Ended> {
        self.sender.end().await
    }

    async fn expect_done(mut self, limits: Limits) -> Result<(), CallError> {
        match limits.apply(self.recv()).await?? {
            StreamEvent::Reply(Reply::Done) => Ok(()),
            StreamEvent::Reply(reply) => Err(refusal(reply, 0)),
            StreamEvent::Data(..) | StreamEvent::End => Err(violation("data nobody asked for")),
        }
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        if !self.replied {
            let stream = self.sender.stream();
            self.sender.outbound().control(Frame {
                stream,
                kind: Kind::Cancel,
                payload: Vec::new(),
            });
        }
    }
}

/// The limits of one call: each wait, and all of them together.
struct Limits {
    end: Instant,
}

impl Limits {
    fn start() -> Self {
        Self { end: Instant::now() + TRANSFER_LIMIT }
    }

    async fn apply<T>(&self, wait: impl Future<Output = T>) -> Result<T, LinkError> {
        let limit = self.end.min(Instant::now() + STALL_LIMIT);
        timeout_at(limit, wait).await.map_err(|_| LinkError::TimedOut)
    }
}

fn violation(what: &'static str) -> CallError {
    CallError::Link(LinkError::Violation(what))
}

/// The error in a reply that is not the one hoped for.
fn refusal(reply: Reply, limit: u64) -> CallError {
    match reply {
        Reply::Failed(Failure::UnknownUser) => CallError::UnknownUser,
        Reply::Failed(Failure::NotFound) => CallError::NotFound,
        Reply::Failed(Failure::TooLarge { size }) => CallError::TooLarge { size, limit },
        Reply::Failed(Failure::Refused(mut reason)) => {
            reason.truncate(reason.floor_char_boundary(MAX_REASON));
            CallError::Refused(reason)
        }
        Reply::Failed(Failure::Pty(failure)) => CallError::Pty(failure),
        Reply::Failed(Failure::Unsupported) => {
            CallError::Refused("the guest's agent does not know this request".to_owned())
        }
        Reply::Done
        | Reply::Exited { .. }
        | Reply::TimedOut
        | Reply::OutputTooLarge
        | Reply::File
        | Reply::Directory
        | Reply::ViewerTooSlow => violation("a reply to something else"),
    }
}

/// Says hello until the agent says welcome.
async fn greet<S>(
    wire: &mut Wire<S>,
    outbox: &mut Outbox,
    identity: Identity,
) -> Result<Welcome, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut random = [[0u8; 32]; 2];
    let mut epoch = [0u8; 16];
    getrandom::fill(random.as_flattened_mut())
        .and_then(|()| getrandom::fill(&mut epoch))
        .expect("the operating system has a random source");
    let entropy = Entropy::new(random);
    let mut first_welcome = None;
    for _ in 0..MAX_HELLOS {
        // An agent that asks again may have started long after the last greeting: each has the
        // time of its own sending.
        let hello = Hello {
            epoch,
            identity: identity.clone(),
            unix_nanos: unix_nanos(),
            entropy: entropy.clone(),
        };
        let payload = message::encode_link(&LinkMessage::Hello(hello));
        if payload.len() > MAX_PAYLOAD {
            return Err(LinkError::Violation("the hostname is too long"));
        }
        wire.send_first(&Frame { stream: 0, kind: Kind::Link, payload });
        let sent = Instant::now();
        loop {
            // Until its welcome the guest may still be sending what an earlier connection asked
            // for, broken off anywhere.
            let frame = wire.next(outbox).await?.ok_or(LinkError::Closed)?;
            if frame.kind != Kind::Link {
                continue;
            }
            match message::decode_link(&frame.payload) {
                Ok(LinkMessage::Welcome(welcome)) if welcome.epoch == epoch => {
                    // A greeting can lie in the port while the guest boots or is restored. Once
                    // more, then; a guest that is slow both times is as right as it gets.
                    if first_welcome.is_none() && sent.elapsed() > FRESH {
                        first_welcome = Some(welcome);
                        break;
                    }
                    return Ok(first_welcome.unwrap_or(welcome));
                }
                Ok(LinkMessage::HelloWanted) => break,
                Ok(_) | Err(DecodeError::Malformed) => {}
                Err(DecodeError::OtherVersion(agent)) => return Err(LinkError::Version { agent }),
            }
        }
    }
    Err(LinkError::Violation("the agent does not take the greeting"))
}

fn unix_nanos() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// Carries frames between the wire and the streams until the link is down.
async fn carry<S>(
    wire: &mut Wire<S>,
    outbox: &mut Outbox,
    shared: &Shared,
) -> Result<std::convert::Infallible, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let dropped_before = wire.dropped();
    loop {
        let frame = wire.next(outbox).await?.ok_or(LinkError::Closed)?;
        if wire.dropped() != dropped_before {
            return Err(LinkError::Violation("a damaged frame"));
        }
        let known = match frame.kind {
            Kind::Link => {
                accept_link(&frame.payload)?;
                continue;
            }
            Kind::Open | Kind::Cancel => {
                return Err(LinkError::Violation("a frame only a host may send"));
            }
            Kind::Data | Kind::SideData | Kind::End | Kind::Credit | Kind::Reply => {
                shared.with_open(|open| open.streams.deliver(frame)).unwrap_or(Ok(false))?
            }
        };
        if !known {
            return Err(LinkError::Violation("a frame for a stream that is not open"));
        }
    }
}

/// Link messages after the welcome.
fn accept_link(payload: &[u8]) -> Result<(), LinkError> {
    match message::decode_link(payload) {
        // The answer to a greeting that was repeated.
        Ok(LinkMessage::Welcome(_)) => Ok(()),
        Ok(LinkMessage::HelloWanted) => Err(LinkError::AgentRestarted),
        Ok(LinkMessage::Hello(_)) => Err(LinkError::Violation("a greeting from the guest")),
        Err(DecodeError::OtherVersion(agent)) => Err(LinkError::Version { agent }),
        Err(DecodeError::Malformed) => Err(LinkError::Violation("a malformed link message")),
    }
}
