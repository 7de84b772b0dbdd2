//! The agent's loop: one connection after the other, each a table of streams.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use freestyle_guest_protocol::frame::{Frame, Kind};
use freestyle_guest_protocol::message::{
    self, DecodeError, Failure, Hello, LinkMessage, Reply, Request, Welcome,
};
use freestyle_guest_protocol::mux::{MAX_STREAMS, Outbound, Outbox, Streams, Violation, queues};
use freestyle_guest_protocol::wire::Wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::exec::{self, Spawner};
use crate::files;
use crate::identity::{self, Generation, Machine};
use crate::pty::Sessions;
use crate::stream::{Stream, reply_now};

/// How long an orderly shutdown may take before the machine is switched off.
const POWER_OFF_DEADLINE: Duration = Duration::from_secs(30);

/// Serves the host on `io` until that is closed. Commands that still run then go on.
///
/// Needs a tokio runtime with I/O and time, on which it spawns a task for each command.
pub async fn serve<S>(io: S, machine: Arc<dyn Machine>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let spawner = Arc::new(Spawner::new());
    let mut agent = Agent {
        wire: Wire::new(io),
        generation: machine.generation(),
        boot_id: machine.boot_id(),
        machine,
        hostname: None,
        sessions: Arc::new(Sessions::new(spawner.clone())),
        spawner,
    };
    // A host that is connected from before this process started must not wait for answers.
    let mut session = agent.without_connection();
    while let Some(frame) = agent.wire.next(&mut session.outbox).await? {
        if frame.kind == Kind::Link {
            if let Some(next) = agent.link_message(&frame.payload) {
                session = next;
            }
        } else if let Err(violation) = session.accept(&agent, frame) {
            tracing::warn!(%violation, "the host broke the protocol");
            session = agent.without_connection();
        }
    }
    Ok(())
}

struct Agent<S> {
    wire: Wire<S>,
    machine: Arc<dyn Machine>,
    generation: Option<Generation>,
    boot_id: String,
    /// What the last host called this guest.
    hostname: Option<String>,
    spawner: Arc<Spawner>,
    sessions: Arc<Sessions>,
}

/// One connection. Dropping it ends its streams; what they were about sees to itself.
struct Session {
    outbound: Outbound,
    outbox: Outbox,
    streams: Streams,
    /// The highest number a stream had, so that none comes twice. `None` before a `Hello`: streams
    /// are then somebody else's.
    last_stream: Option<u32>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Agent<S> {
    fn without_connection(&mut self) -> Session {
        self.begin(&LinkMessage::HelloWanted, None)
    }

    fn begin(&mut self, greeting: &LinkMessage, last_stream: Option<u32>) -> Session {
        self.wire.restart();
        let payload = message::encode_link(greeting);
        self.wire.send_first(&Frame { stream: 0, kind: Kind::Link, payload });
        let (outbound, outbox) = queues();
        Session { outbound, outbox, streams: Streams::default(), last_stream }
    }

    /// The connection that replaces the present one, if the message asks for that.
    fn link_message(&mut self, payload: &[u8]) -> Option<Session> {
        match message::decode_link(payload) {
            Ok(LinkMessage::Hello(hello)) => Some(self.welcome(&hello)),
            // The host learns this agent's version from any link message.
            Err(DecodeError::OtherVersion(_)) => Some(self.without_connection()),
            // Only agents say these; a loop in the transport must not become a conversation.
            Ok(LinkMessage::Welcome(_) | LinkMessage::HelloWanted)
            | Err(DecodeError::Malformed) => None,
        }
    }

    fn welcome(&mut self, hello: &Hello) -> Session {
        // On this thread on purpose: until it is done nothing else may be served.
        let problems = identity::assume(&*self.machine, &mut self.generation, hello);
        let hostname = &hello.identity.hostname;
        if self.hostname.replace(hostname.clone()).is_some_and(|before| before != *hostname) {
            // A child of another guest takes its terminals over, as long as they run.
            self.sessions.forget_ended();
        }
        let welcome = LinkMessage::Welcome(Welcome {
            epoch: hello.epoch,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            problems,
        });
        self.begin(&welcome, Some(0))
    }
}

impl Session {
    fn accept<S>(&mut self, agent: &Agent<S>, frame: Frame) -> Result<(), Violation> {
        let Some(last) = self.last_stream else {
            return Ok(());
        };
        match frame.kind {
            Kind::Open if frame.stream <= last => {
                return Err(Violation("a stream's number was used before"));
            }
            Kind::Open => {
                self.last_stream = Some(frame.stream);
                self.open(agent, &frame)?;
            }
            Kind::Link | Kind::Reply => return Err(Violation("a frame only an agent may send")),
            // A stream that has just ended may still be sent to.
            Kind::Data | Kind::SideData | Kind::End | Kind::Credit | Kind::Cancel => {
                self.streams.deliver(frame)?;
            }
        }
        Ok(())
    }

    fn open<S>(&mut self, agent: &Agent<S>, frame: &Frame) -> Result<(), Violation> {
        if self.streams.len() >= MAX_STREAMS {
            self.streams.forget_closed();
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(Violation("too many streams"));
        }
        let Ok(request) = message::decode(&frame.payload) else {
            reply_now(&self.outbound, frame.stream, Failure::Unsupported);
            return Ok(());
        };
        let (sender, receiver) = self.streams.open(frame.stream, &self.outbound, ());
        start(agent, request, Stream::new(sender, receiver));
        Ok(())
    }
}

fn start<S>(agent: &Agent<S>, request: Request, stream: Stream) {
    let machine = Arc::clone(&agent.machine);
    let sessions = Arc::clone(&agent.sessions);
    match request {
        Request::Exec(request) => {
            tokio::spawn(exec::run(Arc::clone(&agent.spawner), request, stream));
        }
        Request::ReadPath { user, path, max_bytes } => {
            files::start(user, stream, move |link| files::read_path(link, &path, max_bytes));
        }
        Request::WriteFile { user, path } => {
            files::start(user, stream, move |link| files::write_file(link, &path));
        }
        Request::PtyOpen(open) => {
            tokio::spawn(sessions.open(open, stream));
        }
        Request::PtyAttach { session, user, size } => {
            tokio::spawn(sessions.attach(session, user, size, stream));
        }
        Request::PtyList { user } => {
            tokio::spawn(sessions.list(user, stream));
        }
        Request::PtyClose { session, user } => {
            tokio::spawn(sessions.close(session, user, stream));
        }
        Request::Shutdown(_) => {
            tokio::spawn(shut_down(machine, stream));
        }
        Request::GrowRoot => {
            tokio::spawn(async move {
                let grown = spawn_blocking(move || machine.grow_root()).await;
                let reply = match grown.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                    Ok(()) => Reply::Done,
                    Err(error) => Reply::Failed(files::failure(&error)),
                };
                stream.reply(reply).await;
            });
        }
        Request::Ping => {
            tokio::spawn(stream.reply(Reply::Done));
        }
    }
}

/// Shuts down in order, and if that does not come to its end, anyway.
async fn shut_down(machine: Arc<dyn Machine>, stream: Stream) {
    let orderly = Arc::clone(&machine);
    let deadline = tokio::time::Instant::now() + POWER_OFF_DEADLINE;
    let begun =
        timeout(POWER_OFF_DEADLINE, spawn_blocking(move || orderly.begin_power_off())).await;
    stream.reply(Reply::Done).await;
    match begun {
        Ok(Ok(Ok(()))) => tokio::time::sleep_until(deadline).await,
        Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot shut down in order"),
        Ok(Err(_)) | Err(_) => tracing::warn!("cannot shut down in order"),
    }
    if let Ok(Err(error)) = spawn_blocking(move || machine.power_off_now()).await {
        tracing::error!(%error, "cannot power off");
    }
}
