//! Telling those who rely on a right, for as long as a connection is open, that it may have ended.
//!
//! What ends one is anything here that revokes or deletes: an API key, a token, a grant, an identity,
//! a VM. Nobody is told what it was: whoever is woken asks again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::StoreError;
use crate::store::Store;

/// How often changes by other processes are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Wakes everyone who relies on a right. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Rights(Arc<watch::Sender<()>>);

impl Rights {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

/// A change that is about to end rights. Everyone is woken when it is dropped: after the commit, and
/// also when its caller gave up in the middle of it.
#[must_use]
pub(crate) struct Ending<'a>(&'a Rights);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(());
    }
}

impl Store {
    /// Sees a change after everything that may have ended a right, made through this store or any
    /// clone of it, and after every change that [`Store::watch_other_processes`] noticed.
    pub fn rights(&self) -> watch::Receiver<()> {
        self.rights.0.subscribe()
    }

    /// To be held while rights are ended, until the change is committed.
    pub(crate) fn ending_rights(&self) -> Ending<'_> {
        Ending(&self.rights)
    }

    /// Looks every second whether another process has changed the database (`freestyle admin key
    /// revoke`), as long as anyone relies on a right, and tells them. Never returns.
    pub async fn watch_other_processes(&self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            look.tick().await;
            if self.rights.0.is_closed() {
                continue;
            }
            let version = match self.version().await {
                Ok(version) => Some(version),
                Err(error) => {
                    tracing::error!(%error, "cannot look for changes of the metadata store");
                    None
                }
            };
            // What cannot be looked at counts as changed.
            if version.is_none() || version != seen {
                self.rights.0.send_replace(());
            }
            seen = version;
        }
    }

    /// Another number after every change, whoever made it. Only two answers of one connection can be
    /// compared, so this has a connection of its own.
    async fn version(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.watcher).await?)
    }
}
