//! All sessions of this guest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_guest_protocol::message::{self, Failure, PtyOpen, Reply};
use freestyle_guest_protocol::mux::{Channel, MAX_DATA};
use freestyle_guest_protocol::pty::{MAX_SESSIONS, PtyFailure, PtySize, SessionId};

use super::program::Program;
use super::session::{Seat, Session};
use super::viewer;
use crate::exec::Spawner;
use crate::stream::Stream;

/// How long a session is kept after its program has ended.
const RETENTION: Duration = Duration::from_secs(60);
/// How many sessions that are no longer kept are known by name.
const REMEMBERED: usize = MAX_SESSIONS;

/// The sessions, by name.
#[derive(Debug)]
pub(crate) struct Sessions {
    spawner: Arc<Spawner>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<SessionId, (u64, Arc<Session>)>,
    /// Names of those whose program is being started.
    starting: HashSet<SessionId>,
    /// Names of the last that were kept long enough.
    expired: VecDeque<SessionId>,
    /// The last number that a session was named by.
    named: u64,
    /// Sessions so far.
    counted: u64,
}

impl Table {
    /// Takes a name, the wanted one if there is one.
    fn reserve(&mut self, wanted: Option<SessionId>) -> Result<SessionId, PtyFailure> {
        if self.sessions.len() + self.starting.len() >= MAX_SESSIONS {
            return Err(PtyFailure::TooManySessions);
        }
        let id = match wanted {
            Some(id) if self.is_taken(&id) => return Err(PtyFailure::AlreadyExists),
            Some(id) => id,
            None => loop {
                self.named += 1;
                let id = SessionId::numbered(self.named);
                if !self.is_taken(&id) {
                    break id;
                }
            },
        };
        self.expired.retain(|expired| *expired != id);
        self.starting.insert(id.clone());
        Ok(id)
    }

    fn is_taken(&self, id: &SessionId) -> bool {
        self.sessions.contains_key(id) || self.starting.contains(id)
    }

    fn insert(&mut self, session: Arc<Session>) {
        self.starting.remove(&session.id);
        self.counted += 1;
        self.sessions.insert(session.id.clone(), (self.counted, session));
    }

    fn find(&self, id: &SessionId, user: Option<&str>) -> Result<Arc<Session>, PtyFailure> {
        match self.sessions.get(id) {
            Some((_, session)) if session.belongs_to(user) => Ok(session.clone()),
            Some(_) => Err(PtyFailure::OtherUser),
            None if self.expired.contains(id) => Err(PtyFailure::Expired),
            None => Err(PtyFailure::NotFound),
        }
    }

    /// `false` if the name is not this session's any more.
    fn remove(&mut self, session: &Arc<Session>) -> bool {
        let is_it = |(_, found): &(u64, Arc<Session>)| Arc::ptr_eq(found, session);
        self.sessions.get(&session.id).is_some_and(is_it)
            && self.sessions.remove(&session.id).is_some()
    }

    fn expire(&mut self, session: &Arc<Session>) {
        if self.remove(session) {
            self.expired.push_back(session.id.clone());
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if self.expired.len() > REMEMBERED {
            self.expired.pop_front();
        }
    }
}

impl Sessions {
    pub(crate) fn new(spawner: Arc<Spawner>) -> Self {
        Self { spawner, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // It is never left half-changed, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a session, whose first viewer the stream is.
    pub(crate) async fn open(self: Arc<Self>, open: PtyOpen, stream: Stream) {
        match self.start(&open).await {
            // Nothing was printed before it sat down: there is nothing to draw.
            Ok(seat) => viewer::attend((Vec::new(), seat), stream).await,
            Err(failure) => stream.reply(Reply::Failed(failure)).await,
        }
    }

    async fn start(self: &Arc<Self>, open: &PtyOpen) -> Result<Seat, Failure> {
        let id = self.table().reserve(open.session.clone()).map_err(Failure::Pty)?;
        let (program, child) = match Program::start(&self.spawner, open).await {
            Ok(started) => started,
            Err(failure) => {
                self.table().starting.remove(&id);
                return Err(failure);
            }
        };
        let (user, command) = (open.user.clone(), open.command.clone());
        let session = Arc::new(Session::new(id, user, command, open.size, program));
        self.table().insert(session.clone());
        // Before anything is read of what it prints: all of that is for this viewer.
        let (_, seat) = session.seat(open.size);
        let (sessions, driven) = (self.clone(), session);
        tokio::spawn(async move {
            driven.drive(child).await;
            // Nothing is left of one that is closed meanwhile.
            let kept = Arc::downgrade(&driven);
            drop(driven);
            tokio::time::sleep(RETENTION).await;
            if let Some(session) = kept.upgrade() {
                sessions.table().expire(&session);
            }
        });
        Ok(seat)
    }

    /// Makes the stream a viewer.
    pub(crate) async fn attach(
        self: Arc<Self>,
        id: SessionId,
        user: Option<String>,
        size: PtySize,
        stream: Stream,
    ) {
        let found = self.table().find(&id, user.as_deref());
        match found {
            Ok(session) => viewer::attend(session.seat(size), stream).await,
            Err(failure) => stream.reply(Reply::Failed(Failure::Pty(failure))).await,
        }
    }

    /// Sends a list, oldest first.
    pub(crate) async fn list(self: Arc<Self>, user: Option<String>, stream: Stream) {
        let mut found: Vec<_> = self.table().sessions.values().cloned().collect();
        found.retain(|(_, session)| session.belongs_to(user.as_deref()));
        found.sort_by_key(|(number, _)| *number);
        let list: Vec<u8> =
            found.iter().flat_map(|(_, session)| message::encode(&session.describe())).collect();
        for piece in list.chunks(MAX_DATA) {
            if stream.sender.send(Channel::Main, piece.to_vec()).await.is_err() {
                return;
            }
        }
        stream.reply(Reply::Done).await;
    }

    /// Kills the program, forgets the session and says how the program ended.
    pub(crate) async fn close(
        self: Arc<Self>,
        id: SessionId,
        user: Option<String>,
        stream: Stream,
    ) {
        let closed = {
            let mut table = self.table();
            let found = table.find(&id, user.as_deref());
            found.inspect(|session| _ = table.remove(session))
        };
        let reply = match closed {
            Ok(session) => {
                session.program.kill();
                Reply::Exited { status: session.ended().await.status }
            }
            Err(failure) => Reply::Failed(Failure::Pty(failure)),
        };
        stream.reply(reply).await;
    }

    /// Forgets those whose program has ended: they were another guest's.
    pub(crate) fn forget_ended(&self) {
        self.table().sessions.retain(|_, (_, session)| !session.has_ended());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, command: &str) -> PtyOpen {
        PtyOpen {
            session: Some(name.parse().unwrap()),
            user: None,
            command: Some(command.to_owned()),
            size: PtySize::new(80, 24).unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_kept_for_a_minute_after_its_end() {
        let sessions = Arc::new(Sessions::new(Arc::new(Spawner::new())));
        let id: SessionId = "short".parse().unwrap();
        sessions.start(&open("short", "exit 4")).await.unwrap().session.ended().await;
        let find = || sessions.table().find(&id, None).map(drop);
        tokio::time::sleep(RETENTION - Duration::from_secs(1)).await;
        assert_eq!(find(), Ok(()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(find(), Err(PtyFailure::Expired));
        assert!(sessions.table().sessions.is_empty());
        // Its name is free, and means the new one.
        sessions.start(&open("short", "exit 5")).await.unwrap().session.ended().await;
        assert_eq!(find(), Ok(()));
    }

    #[test]
    fn so_many_names_are_remembered() {
        let mut table = Table::default();
        for number in 0..REMEMBERED as u64 + 10 {
            table.expired.push_back(SessionId::numbered(number));
            table.forget_oldest();
        }
        assert_eq!(table.expired.len(), REMEMBERED);
        let find = |number| table.find(&SessionId::numbered(number), None).map(drop);
        assert_eq!(find(9), Err(PtyFailure::NotFound));
        assert_eq!(find(10), Err(PtyFailure::Expired));
    }
}
