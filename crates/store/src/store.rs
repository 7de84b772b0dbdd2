//! Opening the database, its connections, and the two scopes of its queries.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Sqlite, Transaction};
use tokio::sync::watch;

use crate::error::StoreError;
use crate::ids::AccountId;
use crate::migrations;
use crate::rights::Rights;

/// Readers do not wait for the writer in WAL mode; each is one thread.
const READERS: u32 = 4;
/// How long a statement waits for another process (a backup, `sqlite3`) to release its lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The metadata of one server. Cheap to clone; all clones are one store.
///
/// There is one connection that writes, so write transactions queue in order and never fail
/// because of each other.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    /// One connection, which sees what others wrote and writes nothing itself.
    pub(crate) watcher: SqlitePool,
    pub(crate) rights: Rights,
    /// Changes whenever a delivery is added.
    pub(crate) queue: Arc<watch::Sender<()>>,
}

impl Store {
    /// Opens the database, making it (mode 0600) where there is none, and migrates it to the
    /// schema of this build.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        tokio::task::spawn_blocking(move || make_private_file(&file))
            .await
            .map_err(io::Error::other)
            .and_then(|made| made)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;

        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        // FULL, because in WAL mode NORMAL loses the last commits when the power goes.
        let write = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let writer = pool(1).connect_with(write).await?;
        migrations::run(&writer).await?;
        let read = options.read_only(true);
        let readers = pool(READERS).connect_with(read.clone()).await?;
        let watcher = pool(1).connect_lazy_with(read);
        let queue = Arc::new(watch::Sender::new(()));
        Ok(Self { writer, readers, watcher, rights: Rights::new(), queue })
    }

    /// Waits for running queries and closes the database. Needed for nothing but tidiness: a store
    /// that is dropped or killed has lost no write that was answered.
    pub async fn close(&self) {
        self.watcher.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    /// The queries of one account: they see and change nothing of another.
    pub fn account_scope<'a>(&'a self, account: &'a AccountId) -> AccountScope<'a> {
        AccountScope { store: self, account }
    }

    /// The queries of the server itself, across accounts. Never hand their answers to a caller
    /// without having authorised it.
    pub fn system(&self) -> SystemScope<'_> {
        SystemScope { store: self }
    }

    /// For queries that change nothing.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// For a change that is one statement.
    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// For a change that is several statements. Takes the write lock at once: a transaction that
    /// started by reading could no longer get it if another process wrote meanwhile.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// What one account may see and change; see [`Store::account_scope`].
#[derive(Debug, Clone, Copy)]
pub struct AccountScope<'a> {
    pub(crate) store: &'a Store,
    pub(crate) account: &'a AccountId,
}

/// What the server itself sees and changes, across accounts; see [`Store::system`].
#[derive(Debug, Clone, Copy)]
pub struct SystemScope<'a> {
    pub(crate) store: &'a Store,
}

/// Unix milliseconds.
pub(crate) fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn pool(connections: u32) -> SqlitePoolOptions {
    // A connection is a file and a thread of this process: it does not go stale, so neither
    // testing nor renewing it gains anything.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Makes the file before SQLite does, which would leave the mode to the umask. SQLite gives the
/// files it makes beside it (the write-ahead log) the same mode.
fn make_private_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        }
        // By path: opening and closing a database that this process has open would drop its locks.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
        }
        Err(error) => Err(error),
    }
}
