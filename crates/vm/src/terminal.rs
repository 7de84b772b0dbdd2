//! Terminal sessions as callers see them (protocol section 9). A session lives in its guest's memory
//! and so goes wherever that goes: to sleep, and to the children of a fork.

use freestyle_guest_protocol::mux::Ended;
use freestyle_guest_protocol::{PtyInput, PtyOutput, PtyStream};
use tokio::sync::watch;

pub use freestyle_guest_protocol::pty::{
    InvalidPtySize, InvalidSessionId, MAX_COMMAND, MAX_SESSIONS, MAX_VIEWERS, PtyExit, PtyFailure,
    PtySession, PtySize, SessionId,
};

use crate::model::LinuxUser;

/// A session to start.
#[derive(Debug, Clone)]
pub struct OpenPty {
    /// Its name; the guest chooses one where absent.
    pub session: Option<SessionId>,
    /// Who owns it and runs its program; root where absent.
    pub user: Option<LinuxUser>,
    /// Given to `sh -c`, of at most [`MAX_COMMAND`] bytes; the user's login shell where absent.
    pub command: Option<String>,
    /// How large the window is.
    pub size: PtySize,
}

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PtyInfo {
    /// What the guest says of it.
    pub session: PtySession,
    /// The VM is suspended, and the session with it.
    pub suspended: bool,
}

/// What a terminal says.
#[derive(Debug, PartialEq, Eq)]
pub enum TerminalEvent {
    /// The program printed something.
    Output(Vec<u8>),
    /// The program has ended, and this is all that it printed. The last event.
    Exited(i32),
    /// Its output was not taken in time: attach again. The last event.
    TooSlow,
    /// The VM is being suspended or its run has ended. The last event.
    Evicted,
}

/// A session that is looked at. Dropping it leaves at once; the session stays.
#[derive(Debug)]
pub struct Terminal {
    stream: PtyStream,
    /// Changes when everybody has to leave.
    evictions: watch::Receiver<u64>,
}

impl Terminal {
    pub(crate) fn new(stream: PtyStream, evictions: watch::Receiver<u64>) -> Self {
        Self { stream, evictions }
    }

    /// The session's name.
    pub fn session(&self) -> &SessionId {
        self.stream.session()
    }

    /// The bytes that draw the screen as it was, on a terminal in any state; empty for a session
    /// that was just started. What [`Terminal::next`] gives out follows on them.
    pub fn take_screen(&mut self) -> Vec<u8> {
        self.stream.take_screen()
    }

    /// How the session is typed on.
    pub fn keyboard(&self) -> Keyboard {
        Keyboard(self.stream.input())
    }

    /// Waits for what comes next. Not taking it holds the program up for a while, and then loses the
    /// terminal. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> TerminalEvent {
        tokio::select! {
            biased;
            // Without a sender the run is over.
            _ = self.evictions.changed() => TerminalEvent::Evicted,
            output = self.stream.recv() => match output {
                Ok(PtyOutput::Bytes(bytes)) => TerminalEvent::Output(bytes),
                Ok(PtyOutput::Exited(status)) => TerminalEvent::Exited(status),
                Ok(PtyOutput::TooSlow) => TerminalEvent::TooSlow,
                Err(_) => TerminalEvent::Evicted,
            },
        }
    }

    /// Leaves once all that was typed has reached the program, or does not for a few seconds.
    pub async fn detach(self) {
        self.stream.detach().await;
    }
}

/// The way from a viewer to the session. It fails once the terminal has ended, which is told by
/// [`Terminal::next`].
#[derive(Debug, Clone)]
pub struct Keyboard(PtyInput);

impl Keyboard {
    /// Types. Waits while the program does not read.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), Ended> {
        self.0.write(bytes).await
    }

    /// Says that the window has another size.
    pub async fn resize(&self, size: PtySize) -> Result<(), Ended> {
        self.0.resize(size).await
    }

    /// Kills the program.
    pub async fn kill(&self) -> Result<(), Ended> {
        self.0.kill().await
    }
}
