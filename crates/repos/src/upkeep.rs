//! When repositories are kept fast: in the background, one after the other, those that changed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use freestyle_git::RepositoryId;
use tokio::sync::Notify;

/// Repositories that changed since they were looked at.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    changed: Mutex<HashSet<RepositoryId>>,
    has_changed: Notify,
}

impl Upkeep {
    /// Has a repository looked at before long.
    pub(crate) fn has_changed(&self, repository: &RepositoryId) {
        self.changed().insert(repository.clone());
        self.has_changed.notify_one();
    }

    fn changed(&self) -> MutexGuard<'_, HashSet<RepositoryId>> {
        // A set of names is never left half-changed.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
