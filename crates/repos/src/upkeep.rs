//! When repositories are kept fast: in the background, one after the other, those that changed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_git::{GitError, RepositoryId};
use tokio::sync::Notify;

use crate::ReposError;
use crate::service::{Repos, parse};

/// From a change until the repository is looked at: more changes often follow.
const PAUSE: Duration = Duration::from_secs(10);

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

impl Repos {
    /// Keeps repositories fast for as long as it runs: all of them once, then those that change.
    pub async fn keep_fast(self) {
        if let Err(error) = self.look_at_all().await {
            tracing::error!(%error, "cannot look through the repositories");
        }
        loop {
            self.shared.upkeep.has_changed.notified().await;
            tokio::time::sleep(PAUSE).await;
            let due = std::mem::take(&mut *self.shared.upkeep.changed());
            for repository in due {
                self.keep_up(&repository).await;
            }
        }
    }

    /// Marks every repository as changed, since it is not known what an earlier server left undone,
    /// and says which records and files do not belong together.
    async fn look_at_all(&self) -> Result<(), ReposError> {
        let recorded = self.shared.store.system().all_repositories().await?;
        let recorded: HashSet<_> = recorded.iter().map(parse).collect::<Result<_, _>>()?;
        let on_disk: HashSet<_> = self.shared.git.list().await?.into_iter().collect();
        // Created or deleted meanwhile, or of another database: nothing to be removed unasked.
        for unknown in on_disk.difference(&recorded) {
            tracing::warn!(repository = %unknown, "there are files of a repository without a record");
        }
        for lost in recorded.difference(&on_disk) {
            tracing::error!(repository = %lost, "the files of a repository are missing");
        }
        for repository in recorded.intersection(&on_disk) {
            self.shared.upkeep.has_changed(repository);
        }
        Ok(())
    }

    async fn keep_up(&self, repository: &RepositoryId) {
        let kept = async { self.shared.git.get(repository).await?.upkeep().await };
        match kept.await {
            Ok(true) => tracing::debug!(%repository, "a repository was repacked"),
            Ok(false) | Err(GitError::RepositoryNotFound(_)) => {}
            // Those who use it go first.
            Err(GitError::Busy) => self.shared.upkeep.has_changed(repository),
            Err(error) => tracing::warn!(%repository, %error, "the upkeep of a repository failed"),
        }
    }

    /// What git finds wrong with a repository, whosesoever it is; nothing, if it is whole. Reads all
    /// of it.
    pub async fn fsck(&self, repository: &RepositoryId) -> Result<Vec<String>, ReposError> {
        Ok(self.shared.git.get(repository).await?.fsck().await?)
    }
}
