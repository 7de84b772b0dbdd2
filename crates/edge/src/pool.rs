//! Connections to guests: made, used again, and bounded in number.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, error};

use crate::body::RequestBody;
use crate::limits::{BUFFER, MAX_HEAD};
use crate::routes::{Routes, Unavailable, Upstream};
use crate::workers::moved;

/// Connections to all targets at once.
const MAX_CONNECTIONS: usize = 8192;
/// Connections to one target at once. More requests wait for one.
const MAX_OF_TARGET: usize = 1024;
/// Connections to one target that each worker keeps for later.
const MAX_IDLE_OF_TARGET: usize = 64;
/// How long a connection is kept for later. Guests close theirs after about so long too.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// How long a request waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(30);
/// How long a target may take to be reachable: as long as a machine boots.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// The connections to all targets.
pub(crate) struct Pool<R: Routes> {
    routes: R,
    /// Where targets are connected to.
    home: Handle,
    workers: usize,
    places: Arc<Semaphore>,
    targets: Mutex<HashMap<R::Target, Arc<Connections>>>,
}

/// The connections to one target.
#[derive(Debug)]
struct Connections {
    places: Arc<Semaphore>,
    /// By the worker that a connection is with, whose requests alone use it.
    idle: Vec<Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: SendRequest<RequestBody>,
    ended: Ended,
    _place: OwnedSemaphorePermit,
}

/// Resolves when what is at the other end has ended.
pub(crate) type Ended = Shared<BoxFuture<'static, ()>>;

/// A connection that one request has for itself.
pub(crate) struct Lease {
    connection: Connection,
    is_reused: bool,
    worker: usize,
    siblings: Arc<Connections>,
    _turn: OwnedSemaphorePermit,
}

impl<R: Routes> Pool<R> {
    /// A pool for so many workers. What `routes` does is done where this is called.
    pub(crate) fn new(routes: R, workers: usize) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { routes, home: Handle::current(), workers, places, targets: Mutex::default() }
    }

    /// A connection to the target: one that this worker has, or else, or if `fresh`, a new one.
    pub(crate) async fn lease(
        &self,
        worker: usize,
        target: &R::Target,
        fresh: bool,
    ) -> Result<Lease, Unavailable> {
        let siblings = self.connections(target);
        let turn = timeout(TURN_LIMIT, siblings.places.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let message = "it is busy with as many requests as it may have at once";
            return Err(Unavailable::Later(message.to_owned()));
        };
        if !fresh && let Some(connection) = siblings.ready(worker).await {
            return Ok(Lease { connection, is_reused: true, worker, siblings, _turn: turn });
        }
        let place = self.place()?;
        let upstream = timeout(CONNECT_LIMIT, self.connect(target)).await.unwrap_or_else(|_| {
            let limit = CONNECT_LIMIT.as_secs();
            Err(Unavailable::TimedOut(format!("it could not be reached within {limit} s")))
        })?;
        let connection = open(upstream, place).await?;
        Ok(Lease { connection, is_reused: false, worker, siblings, _turn: turn })
    }

    /// Connects, which may start a machine: something that outlives the worker.
    async fn connect(&self, target: &R::Target) -> Result<Upstream, Unavailable> {
        let (routes, target) = (self.routes.clone(), target.clone());
        // Of one task, which ends when nobody waits for it any more.
        let mut tasks = JoinSet::new();
        tasks.spawn_on(async move { routes.connect(&target).await }, &self.home);
        let failed = || Unavailable::Later("the server failed; its log has the cause".to_owned());
        // Nothing but a panic, which is in the log.
        let Some(Ok(connected)) = tasks.join_next().await else { return Err(failed()) };
        let Upstream { stream, ended } = connected?;
        let stream = moved(stream, &Handle::current()).map_err(|error| {
            error!(%error, "a connection to a guest");
            failed()
        })?;
        Ok(Upstream { stream, ended })
    }

    /// Closes what nobody has used for a while.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        self.targets().retain(|_, connections| {
            let mut kept = 0;
            for mut idle in connections.idle() {
                idle.retain(|idle| idle.is_worth_keeping(now));
                kept += idle.len();
            }
            // Nobody else knows it, and nobody gets to know it meanwhile.
            Arc::strong_count(connections) > 1 || kept > 0
        });
    }

    fn connections(&self, target: &R::Target) -> Arc<Connections> {
        let mut targets = self.targets();
        if let Some(connections) = targets.get(target) {
            return connections.clone();
        }
        let new = || Arc::new(Connections::new(self.workers));
        targets.entry(target.clone()).or_insert_with(new).clone()
    }

    /// A place for one more connection.
    fn place(&self) -> Result<OwnedSemaphorePermit, Unavailable> {
        let take = || self.places.clone().try_acquire_owned().ok();
        take()
            .or_else(|| {
                // Those that only wait for a next request take places from those that have one.
                for connections in self.targets().values() {
                    connections.idle().for_each(|mut idle| idle.clear());
                }
                take()
            })
            .ok_or_else(|| Unavailable::Later("there are too many requests at once".to_owned()))
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<R::Target, Arc<Connections>>> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn new(workers: usize) -> Self {
        let idle = (0..workers).map(|_| Mutex::default()).collect();
        Self { places: Arc::new(Semaphore::new(MAX_OF_TARGET)), idle }
    }

    /// The connection that this worker used last and is still good.
    async fn ready(&self, worker: usize) -> Option<Connection> {
        loop {
            let mut idle = self.idle_of(worker).pop()?;
            // The end of the last answer was passed on just before its connection was given back.
            if idle.connection.sender.ready().await.is_ok() {
                return Some(idle.connection);
            }
        }
    }

    fn idle_of(&self, worker: usize) -> MutexGuard<'_, Vec<Idle>> {
        self.idle[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> impl Iterator<Item = MutexGuard<'_, Vec<Idle>>> {
        (0..self.idle.len()).map(|worker| self.idle_of(worker))
    }
}

impl Idle {
    fn is_worth_keeping(&self, now: Instant) -> bool {
        !self.connection.sender.is_closed() && now.duration_since(self.since) < MAX_IDLE
    }
}

impl Lease {
    /// Whether requests were sent on it before. The guest may be closing it at this moment.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(crate) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.connection.sender
    }

    pub(crate) fn ended(&self) -> Ended {
        self.connection.ended.clone()
    }

    /// Keeps the connection for the next request: this one is answered to its end.
    pub(crate) fn give_back(self) {
        let mut idle = self.siblings.idle_of(self.worker);
        if idle.len() < MAX_IDLE_OF_TARGET && !self.connection.sender.is_closed() {
            idle.push(Idle { connection: self.connection, since: Instant::now() });
        }
    }
}

/// Speaks HTTP/1.1 on a connection, for as long as there is somebody at each end.
async fn open(upstream: Upstream, place: OwnedSemaphorePermit) -> Result<Connection, Unavailable> {
    let Upstream { stream, ended } = upstream;
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let mut http = http1::Builder::new();
    http.max_header_size(MAX_HEAD).max_buf_size(BUFFER);
    let (sender, connection) = http
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Unavailable::Refused(error.to_string()))?;
    let ended = ended.shared();
    let end = ended.clone();
    tokio::spawn(async move {
        tokio::select! {
            served = connection.with_upgrades() => {
                if let Err(error) = served {
                    debug!(%error, "connection to a guest");
                }
            }
            () = end => {}
        }
    });
    Ok(Connection { sender, ended, _place: place })
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection).finish_non_exhaustive()
    }
}
