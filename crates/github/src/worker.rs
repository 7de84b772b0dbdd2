//! Which repository is synced when: those that someone wants synced, some at a time, each by one at a
//! time; and all of them now and then, for what nobody told us.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freestyle_store::{AccountId, DueGitHubSync, GitHubSyncEnd, StoreError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::sync::Progress;
use crate::{GitHub, GitHubError};

/// Syncs at one time.
const MOST: usize = 4;
/// The same of one account, so that none waits for the slow server of another.
const MOST_OF_ACCOUNT: usize = 2;
/// Syncs that are looked at to find those to start.
const LOOKED_AT: u64 = 1000;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Webhooks get lost.
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// After a sync that failed: twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// After one during which something moved.
const FIRST_REPETITION: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(3600);

/// The repository that was synced, and whether that could be recorded.
type Ended = (String, Result<(), StoreError>);

/// Repositories that are being synced, and whose they are.
type UnderWay = HashMap<String, AccountId>;

/// Syncs for ever.
pub(crate) async fn run(github: Arc<GitHub>) {
    let mut queue = github.store.queue();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let mut under_way = UnderWay::new();
    loop {
        queue.mark_unchanged();
        let next = match start(&github, &mut tasks, &mut under_way).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "cannot read which repositories are to be synced");
                Instant::now() + PAUSE_AFTER_FAILURE
            }
        };
        tokio::select! {
            _ = queue.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok((repository, recorded)) => {
                    under_way.remove(&repository);
                    if let Err(error) = recorded {
                        tracing::error!(repository, %error, "cannot record a sync");
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
                // Syncs are in tasks of their own, so that this does not happen.
                Err(error) => tracing::error!(%error, "a sync is lost until the next start"),
            },
            () = sleep_until(next) => {}
            // The first tick is the start: what happened before is not known.
            _ = look.tick() => {
                if let Err(error) = github.store.system().want_all_github_syncs().await {
                    tracing::error!(%error, "cannot have all repositories synced");
                }
            }
        }
    }
}

/// Starts what there is room for, and answers when to look again.
async fn start(
    github: &Arc<GitHub>,
    tasks: &mut JoinSet<Ended>,
    under_way: &mut UnderWay,
) -> Result<Instant, StoreError> {
    let system = github.store.system();
    for due in system.due_github_syncs(2 * MOST_OF_ACCOUNT as u64, LOOKED_AT).await? {
        let of_account = under_way.values().filter(|account| **account == due.account_id).count();
        let is_room = under_way.len() < MOST && of_account < MOST_OF_ACCOUNT;
        if is_room && !under_way.contains_key(&due.repository_id) {
            under_way.insert(due.repository_id.clone(), due.account_id.clone());
            let github = Arc::clone(github);
            tasks.spawn(async move { (due.repository_id.clone(), one(github, due).await) });
        }
    }
    let pause = match system.next_github_sync_at().await? {
        Some(at) => Duration::from_millis(at.saturating_sub(now_ms()).max(0).cast_unsigned()),
        None => LONGEST_PAUSE,
    };
    Ok(Instant::now() + pause.min(LONGEST_PAUSE))
}

/// One sync, whatever comes of it, and what is recorded of it.
async fn one(github: Arc<GitHub>, due: DueGitHubSync) -> Result<(), StoreError> {
    let store = github.store.clone();
    // One that panics takes nothing with it. It ends with the set.
    let mut alone = JoinSet::new();
    let asked = due.clone();
    alone.spawn(async move {
        let mut progress = Progress::default();
        let synced = github.sync(&asked, &mut progress).await;
        (progress, synced)
    });
    let (progress, synced) = match alone.join_next().await {
        Some(Ok(ended)) => ended,
        _ => (Progress::default(), Err(GitHubError::Internal("a sync panicked".to_owned()))),
    };
    let pause = |first: Duration| {
        let pause = first.saturating_mul(1 << due.failures.min(20)).min(LAST_RETRY);
        now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(0))
    };
    let (error, retry_at) = match &synced {
        Ok(()) => (None, progress.is_stale.then(|| pause(FIRST_REPETITION))),
        Err(error) => {
            tracing::warn!(repository = due.repository_id, %error, "a sync failed");
            (Some(error.told()), Some(pause(FIRST_RETRY)))
        }
    };
    let end = GitHubSyncEnd { error, retry_at, ..progress.end };
    tracing::info!(
        repository = due.repository_id,
        conflicts = end.conflicts.len(),
        is_over = end.retry_at.is_none(),
        "synced with GitHub"
    );
    store.system().finish_github_sync(&due, &end).await
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
