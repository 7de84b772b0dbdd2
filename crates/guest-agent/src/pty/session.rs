//! One session: a program, the screen that it has drawn, and who looks on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use freestyle_guest_protocol::message::Reply;
use freestyle_guest_protocol::pty::{PtyExit, PtySession, PtySize, SessionId, belongs_to};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::backlog::Backlog;
use super::program::Program;
use super::screen::Screen;
use crate::exec::exit_code;

/// Bytes taken from a program at once. The kernel gives out no more than 4 KiB.
const CHUNK: usize = 4096;
/// Most bytes that are taken from a program after its end; it can have printed no more.
const REST: usize = 1024 * 1024;

/// A session, and who it belongs to. Viewers and the table hold it; a task drives it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// As it was opened; absent where no user was named.
    user: Option<String>,
    command: Option<String>,
    created_at: u64,
    pub(super) program: Program,
    state: Mutex<State>,
    /// Told when a viewer has caught up, or has left.
    room: Arc<Notify>,
    exit: watch::Sender<Option<PtyExit>>,
}

#[derive(Debug)]
struct State {
    screen: Screen,
    size: PtySize,
    viewers: Vec<Viewer>,
    /// Viewers so far.
    counted: u64,
}

#[derive(Debug)]
struct Viewer {
    number: u64,
    size: PtySize,
    backlog: Arc<Backlog>,
}

impl State {
    /// Does something with the screen. Should the emulator panic, its screen is lost, and not the
    /// session.
    fn draw(&mut self, work: impl FnOnce(&mut Screen)) {
        if catch_unwind(AssertUnwindSafe(|| work(&mut self.screen))).is_err() {
            tracing::error!("a screen is lost");
            self.screen = Screen::new(self.size);
        }
    }

    /// Until when the program has to wait, unless a viewer catches up before. Gives up those who had
    /// their time.
    fn wait_until(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.viewers.retain(|viewer| {
            let is_late = viewer.backlog.deadline().is_some_and(|deadline| deadline <= now);
            if is_late {
                viewer.backlog.give_up();
            }
            !is_late
        });
        let deadlines = self.viewers.iter().map(|viewer| viewer.backlog.deadline());
        // One that is not behind is the least of all.
        deadlines.min().flatten()
    }
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        user: Option<String>,
        command: Option<String>,
        size: PtySize,
        program: Program,
    ) -> Self {
        let state = State { screen: Screen::new(size), size, viewers: Vec::new(), counted: 0 };
        Self {
            id,
            user,
            command,
            created_at: unix_millis(),
            program,
            state: Mutex::new(state),
            room: Arc::default(),
            exit: watch::channel(None).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is never left half-changed, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `user` may have it.
    pub(super) fn belongs_to(&self, user: Option<&str>) -> bool {
        belongs_to(self.user.as_deref(), user)
    }

    /// Takes what the program prints until it has ended, and reaps it.
    pub(super) async fn drive(&self, mut child: Child) {
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            let read = async {
                self.room().await;
                self.program.read(&mut chunk).await
            };
            let read = tokio::select! {
                biased;
                () = self.program.ended() => break,
                read = read => read,
            };
            match read {
                Ok(()) => self.show(&chunk),
                // Its terminal is hung up: it is about to end.
                Err(_) => break self.program.ended().await,
            }
            // A program that never stops printing must not keep this thread.
            tokio::task::consume_budget().await;
        }
        let mut rest = REST;
        while rest > 0 && self.program.read_rest(&mut chunk) {
            self.show(&chunk);
            rest = rest.saturating_sub(chunk.len());
        }
        let status = child.wait().map_or(-1, exit_code);
        self.exit.send_replace(Some(PtyExit { status, at: unix_millis() }));
        for viewer in &self.state().viewers {
            viewer.backlog.end(Reply::Exited { status });
        }
    }

    /// Waits while every viewer is behind.
    async fn room(&self) {
        loop {
            let Some(until) = self.state().wait_until() else { return };
            tokio::select! {
                () = self.room.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn show(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.draw(|screen| screen.feed(bytes));
        state.viewers.retain(|viewer| viewer.backlog.push(bytes));
    }

    /// Lets somebody look on: what they see first, and what comes after.
    pub(super) fn seat(self: &Arc<Self>, size: PtySize) -> (Vec<u8>, Seat) {
        let backlog = Arc::new(Backlog::new(self.room.clone()));
        let mut state = self.state();
        let number = state.counted;
        state.counted += 1;
        state.viewers.push(Viewer { number, size, backlog: backlog.clone() });
        self.adjust(&mut state);
        let mut drawn = Vec::new();
        state.draw(|screen| drawn = screen.render(size));
        // Under the same lock as the end is told to everyone else.
        if let Some(exit) = *self.exit.borrow() {
            backlog.end(Reply::Exited { status: exit.status });
        }
        drop(state);
        (drawn, Seat { session: self.clone(), number, backlog })
    }

    /// Makes the window the smallest of its viewers'; without viewers it stays as it is.
    fn adjust(&self, state: &mut State) {
        let sizes = state.viewers.iter().map(|viewer| viewer.size);
        let Some(size) = sizes.reduce(PtySize::min).filter(|size| *size != state.size) else {
            return;
        };
        state.size = size;
        state.draw(|screen| screen.resize(size));
        self.program.resize(size);
    }

    /// Waits until the program has ended; answers how.
    pub(super) async fn ended(&self) -> PtyExit {
        let mut exit = self.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        // The sender is in `self`.
        ended.unwrap_or(PtyExit { status: -1, at: 0 })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Itself, for a list.
    pub(super) fn describe(&self) -> PtySession {
        let state = self.state();
        PtySession {
            id: self.id.clone(),
            user: self.user.clone(),
            command: self.command.clone(),
            size: state.size,
            created_at: self.created_at,
            viewers: u32::try_from(state.viewers.len()).unwrap_or(u32::MAX),
            exit: *self.exit.borrow(),
        }
    }
}

/// A viewer's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Arc<Session>,
    number: u64,
    pub(super) backlog: Arc<Backlog>,
}

impl Seat {
    /// The viewer's window has another size.
    pub(super) fn resize(&self, size: PtySize) {
        let mut state = self.session.state();
        // It may have been given up meanwhile.
        if let Some(own) = state.viewers.iter_mut().find(|viewer| viewer.number == self.number) {
            own.size = size;
            self.session.adjust(&mut state);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.session.state();
        state.viewers.retain(|viewer| viewer.number != self.number);
        self.session.adjust(&mut state);
        drop(state);
        self.session.room.notify_one();
    }
}

fn unix_millis() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
