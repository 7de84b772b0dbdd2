//! Terminal sessions, seen from the host.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{
    AgentConnection, CallError, Limits, LinkError, RemoteStream, StreamEvent, refusal, violation,
};
use crate::message::{self, PtyOpen, Reply, Request};
use crate::mux::{Channel, Ended, MAX_DATA, Sender};
use crate::pty::{
    MAX_LIST, MAX_SCREEN, PtyControl, PtyEvent, PtyFailure, PtySession, PtySize, SessionId,
    decode_sessions,
};

impl AgentConnection {
    /// Starts a session and looks on.
    pub async fn pty_open(&self, open: PtyOpen) -> Result<PtyStream, CallError> {
        self.view(&Request::PtyOpen(open)).await
    }

    /// Looks on at a session that belongs to `user`, or to anyone where absent.
    pub async fn pty_attach(
        &self,
        session: &SessionId,
        user: Option<&str>,
        size: PtySize,
    ) -> Result<PtyStream, CallError> {
        let user = user.map(str::to_owned);
        self.view(&Request::PtyAttach { session: session.clone(), user, size }).await
    }

    /// The sessions of `user`, or all of them, oldest first.
    pub async fn pty_list(&self, user: Option<&str>) -> Result<Vec<PtySession>, CallError> {
        let request = Request::PtyList { user: user.map(str::to_owned) };
        let limits = Limits::start();
        let mut stream = limits.apply(self.open(&request)).await??;
        let mut list = Vec::new();
        loop {
            match limits.apply(stream.recv()).await?? {
                StreamEvent::Data(_, bytes) => {
                    if list.len() + bytes.len() > MAX_LIST {
                        return Err(violation("a list of sessions that is too long"));
                    }
                    list.extend_from_slice(&bytes);
                }
                StreamEvent::End => {}
                StreamEvent::Reply(Reply::Done) => {
                    let sessions = decode_sessions(&list);
                    return sessions.ok_or_else(|| violation("a list of sessions that is none"));
                }
                StreamEvent::Reply(reply) => return Err(refusal(reply, 0)),
            }
        }
    }

    /// Kills a session's program and forgets the session. Answers how the program ended.
    pub async fn pty_close(
        &self,
        session: &SessionId,
        user: Option<&str>,
    ) -> Result<i32, CallError> {
        let user = user.map(str::to_owned);
        let request = Request::PtyClose { session: session.clone(), user };
        let limits = Limits::start();
        let mut stream = limits.apply(self.open(&request)).await??;
        match limits.apply(stream.recv()).await?? {
            StreamEvent::Reply(Reply::Exited { status }) => Ok(status),
            StreamEvent::Reply(reply) => Err(refusal(reply, 0)),
            StreamEvent::Data(..) | StreamEvent::End => Err(violation("data nobody asked for")),
        }
    }

    /// Opens a viewer's stream and takes the screen from it.
    async fn view(&self, request: &Request) -> Result<PtyStream, CallError> {
        let viewers = Arc::clone(&self.shared.viewers);
        let slot = viewers.try_acquire_owned().map_err(|_| PtyFailure::TooManyViewers)?;
        let limits = Limits::start();
        let mut stream = self.open_in(slot, request)?;
        let attached = match limits.apply(stream.recv()).await?? {
            StreamEvent::Data(Channel::Side, event) => message::decode(&event),
            StreamEvent::Reply(reply) => return Err(refusal(reply, 0)),
            StreamEvent::Data(Channel::Main, _) | StreamEvent::End => {
                return Err(violation("a terminal that does not say which one it is"));
            }
        };
        let Ok(PtyEvent::Attached { session, screen_bytes }) = attached else {
            return Err(violation("a terminal that does not say which one it is"));
        };
        let expected = screen_bytes as usize;
        if expected > MAX_SCREEN {
            return Err(violation("a screen that is too large"));
        }
        let mut screen = Vec::new();
        while screen.len() < expected {
            match limits.apply(stream.recv()).await?? {
                StreamEvent::Data(Channel::Main, bytes)
                    if screen.len() + bytes.len() <= expected =>
                {
                    screen.extend_from_slice(&bytes);
                }
                // The program may go on printing while the screen is on its way.
                StreamEvent::Reply(Reply::ViewerTooSlow) => {
                    return Err(LinkError::TimedOut.into());
                }
                _ => return Err(violation("a screen of another size than was said")),
            }
        }
        Ok(PtyStream { session, screen, stream })
    }
}

/// What a viewer hears.
#[derive(Debug, PartialEq, Eq)]
pub enum PtyOutput {
    /// The program printed something.
    Bytes(Vec<u8>),
    /// The program has ended, and this is all that it printed. The last event.
    Exited(i32),
    /// The viewer did not take what the program printed, and was dropped. The last event.
    TooSlow,
}

/// How long what was typed may take to reach the program after the viewer has left.
const DETACH_LIMIT: Duration = Duration::from_secs(5);

/// A viewer of a session. Dropping it leaves at once, without what was typed last; the session
/// stays.
#[derive(Debug)]
pub struct PtyStream {
    session: SessionId,
    screen: Vec<u8>,
    stream: RemoteStream,
}

impl PtyStream {
    /// The session's name.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The bytes that draw the screen as it was when the viewer came, on a terminal in any state.
    /// Empty for a session that was just opened. What [`PtyStream::recv`] gives out follows on them.
    pub fn take_screen(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.screen)
    }

    /// How the viewer is heard.
    pub fn input(&self) -> PtyInput {
        PtyInput(self.stream.sender.clone())
    }

    /// Leaves once all that was typed has reached the program, or does not for a few seconds.
    pub async fn detach(mut self) {
        let left = async {
            self.stream.end().await.ok()?;
            // What the program still prints is for nobody.
            while let Ok(PtyOutput::Bytes(_)) = self.recv().await {}
            Some(())
        };
        // Without a link there is nothing to leave.
        let _ = timeout(DETACH_LIMIT, left).await;
    }

    /// The next event. Not taking them holds the program up for a while, and then loses the stream.
    /// Cancelling the future loses nothing.
    pub async fn recv(&mut self) -> Result<PtyOutput, LinkError> {
        match self.stream.recv().await? {
            StreamEvent::Data(Channel::Main, bytes) => Ok(PtyOutput::Bytes(bytes)),
            StreamEvent::Reply(Reply::Exited { status }) => Ok(PtyOutput::Exited(status)),
            StreamEvent::Reply(Reply::ViewerTooSlow) => Ok(PtyOutput::TooSlow),
            StreamEvent::Data(Channel::Side, _) | StreamEvent::End | StreamEvent::Reply(_) => {
                Err(LinkError::Violation("no word of a terminal"))
            }
        }
    }
}

/// The way from a viewer to the session. Fails once the stream has ended.
#[derive(Debug, Clone)]
pub struct PtyInput(Sender);

impl PtyInput {
    /// Types. Waits while the program does not read.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Ended> {
        for chunk in bytes.chunks(MAX_DATA) {
            self.0.send(Channel::Main, chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// Says that the viewer's window has another size.
    pub async fn resize(&self, size: PtySize) -> Result<(), Ended> {
        self.control(PtyControl::Resize(size)).await
    }

    /// Kills the program.
    pub async fn kill(&self) -> Result<(), Ended> {
        self.control(PtyControl::Kill).await
    }

    async fn control(&self, control: PtyControl) -> Result<(), Ended> {
        self.0.send(Channel::Side, message::encode(&control)).await
    }
}
