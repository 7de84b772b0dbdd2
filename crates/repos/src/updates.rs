//! Refs that moved: each of them passes here, whoever moved it (a commit or branch of the API, a
//! push, a sync), and whoever must know of it is told here and nowhere else.
//!
//! # At least once
//!
//! A ref moves on disk, and what follows from it is recorded in the store. The server may be killed
//! between the two, so nothing may rely on [`Shared::record_updates`] having been called. What does
//! is built so:
//!
//! * Who moved the ref is told only when `record_updates` has returned. So only updates that nobody
//!   was told of can be missing.
//! * For each repository that is watched, the watcher keeps in the store where each ref was when it
//!   last recorded something of it, and changes that in the transaction in which it records what
//!   follows (`old` and `new` of an update are all it needs).
//! * Before the server answers anyone, it compares these with the refs on disk
//!   (`freestyle_git::Repository::refs`) and records every difference as if the ref had just moved.
//!
//! The watcher is `watch`, for triggers. A sync with GitHub keeps nothing of this: it compares both
//! sides, also when the server starts, and a moved ref is only a reason to do so soon.

use freestyle_git::{RefUpdate, RepositoryId};

use crate::service::Shared;
use crate::{ReposError, watch};

impl Shared {
    /// Records what follows from refs that have moved, durably. Runs in a task that does not end
    /// with the client.
    pub(crate) async fn record_updates(
        &self,
        repository: &RepositoryId,
        updates: &[RefUpdate],
    ) -> Result<(), ReposError> {
        if updates.is_empty() {
            return Ok(());
        }
        self.upkeep.has_changed(repository);
        self.watch.record(&self.store, repository, watch::moves(updates)).await?;
        Ok(self.store.system().want_github_sync(repository.as_str()).await?)
    }
}
