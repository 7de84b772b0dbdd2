//! What follows from branches that moved, for repositories that have triggers.
//!
//! # In order
//!
//! Two pushes to one branch move it one after the other, and may arrive here the other way round.
//! Whoever is told last would then be told of the older commit. So a move is recorded only when its
//! branch was recorded where the move begins; one that comes too early waits for the other, which is
//! on its way. It waits not for ever: the other may have failed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use freestyle_git::{BranchPatterns, RefUpdate, RepositoryId};
use freestyle_store::{BranchMove, Store, StoreError, TriggerRecord};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::{Instant, timeout_at};

const HEADS: &str = "refs/heads/";
/// How long a move waits for one that comes before it.
const ORDER_TIME: Duration = Duration::from_secs(5);
/// Repositories share this many turns.
const TURNS: usize = 64;

/// Who may record something of which repository. What is recorded is in the store.
#[derive(Debug)]
pub(crate) struct Watch {
    turns: [Mutex<()>; TURNS],
    hasher: RandomState,
    has_recorded: Notify,
}

impl Default for Watch {
    fn default() -> Self {
        let turns = std::array::from_fn(|_| Mutex::default());
        Self { turns, hasher: RandomState::new(), has_recorded: Notify::new() }
    }
}

impl Watch {
    /// Keeps others from recording something of a repository, and from beginning to watch it.
    pub(crate) async fn turn(&self, repository: &RepositoryId) -> MutexGuard<'_, ()> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(repository.as_str().as_bytes());
        let at = hasher.finish() % TURNS as u64;
        self.turns[usize::try_from(at).unwrap_or(0)].lock().await
    }

    /// Records moves of refs, durably and in the order in which they happened. Costs one small read
    /// for a repository that nobody watches.
    pub(crate) async fn record(
        &self,
        store: &Store,
        repository: &RepositoryId,
        moves: Vec<BranchMove>,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + ORDER_TIME;
        let mut left = moves;
        loop {
            let is_late = Instant::now() >= deadline;
            let changed = self.has_recorded.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let _turn = self.turn(repository).await;
                let triggers = store.system().triggers_of(repository.as_str()).await?;
                if triggers.is_empty() || left.is_empty() {
                    return Ok(());
                }
                address(&mut left, &triggers);
                let system = store.system();
                left = system.record_branch_moves(repository.as_str(), left, is_late).await?;
            }
            self.has_recorded.notify_waiters();
            if left.is_empty() {
                return Ok(());
            }
            let _ = timeout_at(deadline, changed).await;
        }
    }
}

/// Those of them that are moves of branches.
pub(crate) fn moves(updates: &[RefUpdate]) -> Vec<BranchMove> {
    let moves = updates.iter().filter_map(|update| {
        let branch = update.name.strip_prefix(HEADS)?.to_owned();
        let (old, new) = (update.old.map(|id| id.to_string()), update.new.map(|id| id.to_string()));
        Some(BranchMove { branch, old, new, triggers: Vec::new() })
    });
    moves.collect()
}

/// Finds who is to be told of each move. What their patterns of files say is found out later, where
/// nobody waits for it.
fn address(moves: &mut [BranchMove], triggers: &[TriggerRecord]) {
    for moved in moves.iter_mut() {
        moved.triggers.clear();
    }
    for trigger in triggers {
        let patterns = trigger.branches.as_deref().map(BranchPatterns::parse).transpose();
        let patterns = patterns.unwrap_or_else(|error| {
            // They were checked when the trigger was made. One message too many is better.
            tracing::warn!(trigger = %trigger.id, %error, "its patterns are ignored");
            None
        });
        for moved in moves.iter_mut() {
            if patterns.as_ref().is_none_or(|patterns| patterns.matches(&moved.branch)) {
                moved.triggers.push(trigger.id.clone());
            }
        }
    }
}

/// What must have moved since something was last recorded of these branches.
pub(crate) fn differences(
    recorded: &BTreeMap<String, String>,
    actual: &BTreeMap<String, String>,
) -> Vec<BranchMove> {
    let mut names: Vec<_> = recorded.keys().chain(actual.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let moves = names.into_iter().filter_map(|name| {
        let (old, new) = (recorded.get(name).cloned(), actual.get(name).cloned());
        let moved = BranchMove { branch: name.clone(), old, new, triggers: Vec::new() };
        (moved.old != moved.new).then_some(moved)
    });
    moves.collect()
}
