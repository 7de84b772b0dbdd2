//! Which delivery is attempted when: the heads whose time has come, some at a time, of each account
//! only a few, so that one with slow endpoints keeps nobody waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freestyle_git::{PathPatterns, RepositoryId};
use freestyle_repos::ReposError;
use freestyle_store::{AccountId, DeliveryOutcome, DueDelivery, StoreError, TriggerId};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::Shared;
use crate::keys::now;
use crate::message::attempt;

/// Attempts at one time.
const MOST: usize = 64;
/// Attempts at one time for one account.
const MOST_PER_ACCOUNT: usize = 8;
/// Nothing is waited for longer without looking again: the clock may be set.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After the store failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the log is shortened, and to what.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const KEPT_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
const KEPT_PER_TRIGGER: u64 = 1000;

/// Attempts that are under way.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<(TriggerId, Result<(), StoreError>)>,
    of: HashMap<TriggerId, AccountId>,
}

impl UnderWay {
    fn has_room_for(&self, due: &DueDelivery) -> bool {
        let of_account = self.of.values().filter(|account| **account == due.account_id).count();
        self.of.len() < MOST
            && of_account < MOST_PER_ACCOUNT
            && !self.of.contains_key(&due.delivery.trigger_id)
    }
}

/// Delivers for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut queue = shared.store.queue();
    let mut prune = interval(PRUNE_EVERY);
    prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = UnderWay::default();
    loop {
        queue.mark_unchanged();
        let next = match start(&shared, &mut under_way).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "cannot read the queue of deliveries");
                Instant::now() + PAUSE_AFTER_FAILURE
            }
        };
        tokio::select! {
            // The store goes with this server.
            _ = queue.changed() => {}
            Some(ended) = under_way.tasks.join_next() => {
                let Ok((trigger, recorded)) = ended else {
                    // It panicked. All are forgotten rather than one for ever.
                    under_way = UnderWay::default();
                    continue;
                };
                under_way.of.remove(&trigger);
                if let Err(error) = recorded {
                    tracing::error!(%trigger, %error, "cannot record what came of a delivery");
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
            () = sleep_until(next) => {}
            _ = prune.tick() => shorten_log(&shared).await,
        }
    }
}

/// Starts what is due and has room. Answers when to look again at the latest.
async fn start(shared: &Arc<Shared>, under_way: &mut UnderWay) -> Result<Instant, StoreError> {
    let system = shared.store.system();
    // Enough that what is under way, or has no room, cannot hide what can be started.
    let due = system.due_deliveries(2 * MOST_PER_ACCOUNT as u64, 3 * MOST as u64).await?;
    for due in due.heads {
        if under_way.has_room_for(&due) {
            let trigger = due.delivery.trigger_id.clone();
            under_way.of.insert(trigger.clone(), due.account_id.clone());
            let shared = Arc::clone(shared);
            under_way.tasks.spawn(async move { (trigger, deliver(&shared, due).await) });
        }
    }
    let pause = match due.next_at {
        Some(at) => Duration::from_millis(at.cast_unsigned().saturating_sub(now())),
        None => LONGEST_PAUSE,
    };
    Ok(Instant::now() + pause.min(LONGEST_PAUSE))
}

async fn deliver(shared: &Shared, due: DueDelivery) -> Result<(), StoreError> {
    let system = shared.store.system();
    let delivery = &due.delivery;
    if delivery.attempts.is_empty() && !is_wanted(shared, &due).await {
        return system.forget_delivery(&delivery.id).await;
    }
    let attempt = attempt(shared, &due).await;
    let failed = u32::try_from(delivery.attempts.len() + 1).unwrap_or(u32::MAX);
    let outcome = match &attempt.error {
        None => DeliveryOutcome::Delivered,
        Some(error) => match shared.schedule.pause(failed, chance()) {
            Some(pause) => {
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                DeliveryOutcome::Retry(now().saturating_add(pause).cast_signed())
            }
            None => DeliveryOutcome::Dead(error.clone()),
        },
    };
    // The endpoint may be a secret and stays out of the log.
    tracing::info!(
        delivery = %delivery.id, trigger = %delivery.trigger_id, status = attempt.status,
        error = attempt.error, attempt = failed, "delivery"
    );
    system.record_attempt(delivery, attempt, &outcome).await
}

/// Whether a file changed that the trigger means. What cannot be found out is wanted.
async fn is_wanted(shared: &Shared, due: &DueDelivery) -> bool {
    let Some(globs) = &due.globs else { return true };
    has_changed(shared, due, globs).await.unwrap_or_else(|error| {
        tracing::warn!(delivery = %due.delivery.id, error, "cannot see which files changed");
        true
    })
}

async fn has_changed(shared: &Shared, due: &DueDelivery, globs: &[String]) -> Result<bool, String> {
    let id: RepositoryId = due.repository_id.parse().map_err(|_| "no repository id")?;
    let commit = |hex: &str| {
        freestyle_git::ObjectId::from_hex(hex.as_bytes()).map_err(|error| error.to_string())
    };
    let old = due.delivery.old_tip.as_deref().map(commit).transpose()?;
    let new = commit(&due.delivery.new_tip)?;
    let patterns = PathPatterns::parse(globs).map_err(|error| error.to_string())?;
    let repo = match shared.repos.get(&due.account_id, &id).await {
        Ok(repo) => repo,
        // Deleted meanwhile: there is nobody to be told any more.
        Err(ReposError::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    repo.git().has_changed(old, new, &patterns).await.map_err(|error| error.to_string())
}

async fn shorten_log(shared: &Shared) {
    let before = now().saturating_sub(KEPT_TIME.as_millis() as u64).cast_signed();
    match shared.store.system().prune_deliveries(before, KEPT_PER_TRIGGER).await {
        Ok(0) => {}
        Ok(pruned) => tracing::info!(pruned, "old deliveries were forgotten"),
        Err(error) => tracing::error!(%error, "cannot shorten the log of deliveries"),
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
