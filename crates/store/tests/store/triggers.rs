//! Triggers, the branches that are watched for them, and the queue of deliveries.

use std::collections::BTreeMap;

use freestyle_store::{
    Account, Attempt, BranchMove, DeliveryOutcome, DeliveryState, MAX_TRIGGERS, NewTrigger, Store,
    StoreError, TriggerId, TriggerRecord,
};

use crate::TestStore;

const REPOSITORY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
const HOOK: NewTrigger<'static> =
    NewTrigger { branches: None, globs: None, endpoint: "https://example.com/hook" };

async fn repository(store: &Store, account: &Account, id: &str) {
    let scope = store.account_scope(&account.id);
    scope.insert_repository(id, None, false, 10).await.unwrap().unwrap();
    assert!(store.system().finish_repository(id).await.unwrap());
}

/// A store with a repository and a trigger in it.
async fn watched() -> (TestStore, Account, TriggerRecord) {
    let test = TestStore::open().await;
    let account = test.account().await;
    repository(&test.store, &account, REPOSITORY).await;
    let trigger = insert(&test, &account, &[("main", "1")]).await;
    (test, account, trigger)
}

async fn insert(test: &TestStore, account: &Account, tips: &[(&str, &str)]) -> TriggerRecord {
    let scope = test.store.account_scope(&account.id);
    scope.insert_trigger(REPOSITORY, HOOK, &branches(tips)).await.unwrap()
}

fn branches(tips: &[(&str, &str)]) -> BTreeMap<String, String> {
    tips.iter().map(|(name, tip)| (name.to_string(), tip.to_string())).collect()
}

fn moved(branch: &str, old: &str, new: &str, trigger: &TriggerId) -> BranchMove {
    let tip = |tip: &str| (!tip.is_empty()).then(|| tip.to_owned());
    let (branch, old, new) = (branch.to_owned(), tip(old), tip(new));
    BranchMove { branch, old, new, triggers: vec![trigger.clone()] }
}

async fn record(test: &TestStore, moves: Vec<BranchMove>) -> Vec<BranchMove> {
    test.store.system().record_branch_moves(REPOSITORY, moves, false).await.unwrap()
}

fn attempt() -> Attempt {
    Attempt { at: 1, took: 2, status: Some(500), error: Some("it answered 500".to_owned()) }
}

#[tokio::test]
async fn triggers_are_their_repositorys_and_its_accounts() {
    let (test, account, trigger) = watched().await;
    let other = test.account().await;
    let (mine, theirs) =
        (test.store.account_scope(&account.id), test.store.account_scope(&other.id));
    let patterns = ["main".to_owned(), "x/*".to_owned()];
    let new = NewTrigger { branches: Some(&patterns), globs: None, endpoint: "http://h/" };
    let second = mine.insert_trigger(REPOSITORY, new, &branches(&[])).await.unwrap();
    assert_eq!(second.branches.as_deref(), Some(&patterns[..]));
    assert_eq!(mine.triggers(REPOSITORY).await.unwrap(), [trigger.clone(), second.clone()]);

    assert_eq!(theirs.triggers(REPOSITORY).await.unwrap(), []);
    let refused = theirs.insert_trigger(REPOSITORY, HOOK, &branches(&[])).await;
    assert!(matches!(refused, Err(StoreError::NoSuchRepository(_))), "{refused:?}");
    let refused = theirs.delete_trigger(REPOSITORY, &trigger.id).await;
    assert!(matches!(refused, Err(StoreError::NoSuchRepository(_))), "{refused:?}");
    let refused = theirs.deliveries(REPOSITORY, &trigger.id, 10, 0).await;
    assert!(matches!(refused, Err(StoreError::NoSuchTrigger(_))), "{refused:?}");

    mine.delete_trigger(REPOSITORY, &trigger.id).await.unwrap();
    let again = mine.delete_trigger(REPOSITORY, &trigger.id).await;
    assert!(matches!(again, Err(StoreError::NoSuchTrigger(_))), "{again:?}");
    assert_eq!(mine.triggers(REPOSITORY).await.unwrap(), [second]);
}

#[tokio::test]
async fn a_repository_has_so_many_triggers_and_no_more() {
    let (test, account, _) = watched().await;
    for _ in 1..MAX_TRIGGERS {
        insert(&test, &account, &[]).await;
    }
    let scope = test.store.account_scope(&account.id);
    let refused = scope.insert_trigger(REPOSITORY, HOOK, &branches(&[])).await;
    assert!(matches!(refused, Err(StoreError::LimitReached { limit: MAX_TRIGGERS })));
}

#[tokio::test]
async fn branches_are_remembered_for_as_long_as_someone_watches() {
    let (test, account, first) = watched().await;
    let system = test.store.system();
    let recorded = async || system.recorded_branches(REPOSITORY).await.unwrap();
    assert_eq!(recorded().await, branches(&[("main", "1")]));
    assert_eq!(system.watched_repositories().await.unwrap()[0].id, REPOSITORY);

    // A second trigger begins nothing anew: what moved meanwhile is still to be recorded.
    let second = insert(&test, &account, &[("main", "9")]).await;
    assert_eq!(recorded().await, branches(&[("main", "1")]));
    let moves = vec![
        moved("main", "1", "2", &first.id),
        moved("new", "", "3", &first.id),
        moved("gone", "", "4", &first.id),
        moved("gone", "4", "", &first.id),
    ];
    assert_eq!(record(&test, moves).await, []);
    assert_eq!(recorded().await, branches(&[("main", "2"), ("new", "3")]));

    let scope = test.store.account_scope(&account.id);
    scope.delete_trigger(REPOSITORY, &first.id).await.unwrap();
    assert_eq!(recorded().await.len(), 2);
    scope.delete_trigger(REPOSITORY, &second.id).await.unwrap();
    assert_eq!(recorded().await.len(), 0);
    assert_eq!(system.watched_repositories().await.unwrap(), []);
}

#[tokio::test]
async fn a_move_waits_for_the_one_before_it() {
    let (test, account, trigger) = watched().await;
    let late = moved("main", "2", "3", &trigger.id);
    assert_eq!(record(&test, vec![late.clone()]).await, std::slice::from_ref(&late));
    assert_eq!(record(&test, vec![moved("main", "1", "2", &trigger.id)]).await, []);
    assert_eq!(record(&test, vec![late]).await, []);
    let scope = test.store.account_scope(&account.id);
    let log = scope.deliveries(REPOSITORY, &trigger.id, 10, 0).await.unwrap();
    let tips: Vec<_> = log.iter().map(|delivery| delivery.new_tip.as_str()).collect();
    assert_eq!(tips, ["3", "2"]);

    // Unless nobody waits any more.
    let stray = vec![moved("main", "7", "8", &trigger.id)];
    let left = test.store.system().record_branch_moves(REPOSITORY, stray, true).await.unwrap();
    assert_eq!(left, []);
    let recorded = test.store.system().recorded_branches(REPOSITORY).await.unwrap();
    assert_eq!(recorded, branches(&[("main", "8")]));
}

#[tokio::test]
async fn of_each_trigger_only_the_first_delivery_is_due() {
    let (test, account, first) = watched().await;
    let second = insert(&test, &account, &[]).await;
    let system = test.store.system();
    let mut both = moved("main", "1", "2", &first.id);
    both.triggers.push(second.id.clone());
    record(&test, vec![both, moved("main", "2", "3", &first.id)]).await;

    let due = async || {
        let due = system.due_deliveries(10, 10).await.unwrap().heads;
        let mut due: Vec<_> = due
            .into_iter()
            .map(|due| (due.delivery.trigger_id.clone(), due.delivery.new_tip.clone(), due))
            .collect();
        due.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        due
    };
    let of = |due: &[(TriggerId, String, freestyle_store::DueDelivery)], trigger: &TriggerId| {
        due.iter().find(|(id, ..)| id == trigger).map(|(_, tip, due)| (tip.clone(), due.clone()))
    };
    let now = due().await;
    assert_eq!(now.len(), 2);
    let (tip, head) = of(&now, &first.id).unwrap();
    assert_eq!((tip.as_str(), head.endpoint.as_str()), ("2", HOOK.endpoint));
    assert_eq!((head.account_id, head.repository_id.as_str()), (account.id.clone(), REPOSITORY));

    // One that is retried later holds back the next of its trigger, and no other.
    let later = now_ms() + 3_600_000;
    system.record_attempt(&head.delivery, attempt(), &DeliveryOutcome::Retry(later)).await.unwrap();
    assert_eq!(of(&due().await, &first.id), None);
    assert!(of(&due().await, &second.id).is_some());
    assert_eq!(system.due_deliveries(1, 1).await.unwrap().next_at, Some(later));

    let outcome = DeliveryOutcome::Dead("enough".to_owned());
    let scope = test.store.account_scope(&account.id);
    let log = scope.deliveries(REPOSITORY, &first.id, 10, 0).await.unwrap();
    system.record_attempt(&log[1], attempt(), &outcome).await.unwrap();
    let (tip, head) = of(&due().await, &first.id).unwrap();
    assert_eq!(tip, "3");
    system.record_attempt(&head.delivery, attempt(), &DeliveryOutcome::Delivered).await.unwrap();
    assert_eq!(of(&due().await, &first.id), None);

    let log = scope.deliveries(REPOSITORY, &first.id, 10, 0).await.unwrap();
    assert_eq!((log[0].state, log[1].state), (DeliveryState::Delivered, DeliveryState::Dead));
    assert_eq!((log[1].attempts.len(), log[1].failure.as_deref()), (2, Some("enough")));
    assert!(log.iter().all(|delivery| delivery.finished_at.is_some()));
}

#[tokio::test]
async fn of_each_account_only_some_deliveries_are_due() {
    let (test, account, _) = watched().await;
    for _ in 0..4 {
        let trigger = insert(&test, &account, &[]).await;
        let all = vec![moved("x", "", "1", &trigger.id)];
        test.store.system().record_branch_moves(REPOSITORY, all, true).await.unwrap();
    }
    let other = test.account().await;
    const THEIRS: &str = "7ba7b810-9dad-41d1-80b4-00c04fd430c8";
    repository(&test.store, &other, THEIRS).await;
    let scope = test.store.account_scope(&other.id);
    let trigger = scope.insert_trigger(THEIRS, HOOK, &branches(&[])).await.unwrap();
    let moves = vec![moved("x", "", "1", &trigger.id)];
    test.store.system().record_branch_moves(THEIRS, moves, true).await.unwrap();

    let due = test.store.system().due_deliveries(2, 10).await.unwrap().heads;
    let of = |id| due.iter().filter(|due| due.account_id == id).count();
    assert_eq!((of(account.id), of(other.id)), (2, 1));
}

#[tokio::test]
async fn a_delivery_can_be_made_again_after_those_that_wait() {
    let (test, account, trigger) = watched().await;
    let scope = test.store.account_scope(&account.id);
    let system = test.store.system();
    record(&test, vec![moved("main", "1", "2", &trigger.id)]).await;
    let first = scope.deliveries(REPOSITORY, &trigger.id, 1, 0).await.unwrap().remove(0);
    system.record_attempt(&first, attempt(), &DeliveryOutcome::Delivered).await.unwrap();
    record(&test, vec![moved("main", "2", "3", &trigger.id)]).await;

    let mut queue = test.store.queue();
    queue.mark_unchanged();
    let again = scope.redeliver(REPOSITORY, &trigger.id, &first.id).await.unwrap();
    assert!(queue.has_changed().unwrap());
    assert_eq!((again.new_tip.as_str(), again.redelivery_of), ("2", Some(first.id)));
    let due = system.due_deliveries(10, 10).await.unwrap().heads;
    assert_eq!(due[0].delivery.new_tip, "3");

    let unknown = freestyle_store::DeliveryId::random();
    let refused = scope.redeliver(REPOSITORY, &trigger.id, &unknown).await;
    assert!(matches!(refused, Err(StoreError::NoSuchDelivery(_))), "{refused:?}");
}

#[tokio::test]
async fn the_log_is_shortened_by_age_and_number_and_never_by_what_waits() {
    let (test, account, trigger) = watched().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    for tip in 2..=6 {
        let (old, new) = ((tip - 1).to_string(), tip.to_string());
        record(&test, vec![moved("main", &old, &new, &trigger.id)]).await;
        if tip < 6 {
            let head = system.due_deliveries(1, 1).await.unwrap().heads.remove(0).delivery;
            let outcome = DeliveryOutcome::Delivered;
            system.record_attempt(&head, attempt(), &outcome).await.unwrap();
        }
    }
    let tips = async || {
        let log = scope.deliveries(REPOSITORY, &trigger.id, 10, 0).await.unwrap();
        log.into_iter().map(|delivery| delivery.new_tip).collect::<Vec<_>>().concat()
    };
    assert_eq!(system.prune_deliveries(0, 2).await.unwrap(), 2);
    assert_eq!(tips().await, "654");
    assert_eq!(system.prune_deliveries(now_ms() + 1, 10).await.unwrap(), 2);
    assert_eq!(tips().await, "6");
}

#[tokio::test]
async fn a_queue_that_is_full_gives_up_what_comes_on_top() {
    let (test, account, trigger) = watched().await;
    for tip in 0..1001 {
        let moves = vec![moved("main", "", &tip.to_string(), &trigger.id)];
        test.store.system().record_branch_moves(REPOSITORY, moves, true).await.unwrap();
    }
    let scope = test.store.account_scope(&account.id);
    let newest = scope.deliveries(REPOSITORY, &trigger.id, 2, 0).await.unwrap();
    assert_eq!((newest[0].state, newest[1].state), (DeliveryState::Dead, DeliveryState::Pending));
    assert!(newest[0].failure.as_ref().unwrap().contains("1000"));
}

#[tokio::test]
async fn deliveries_go_with_their_trigger_and_triggers_with_their_repository() {
    let (test, account, trigger) = watched().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    record(&test, vec![moved("main", "1", "2", &trigger.id)]).await;
    // Nothing is delivered any more once the repository is being deleted.
    assert!(scope.begin_repository_delete(REPOSITORY).await.unwrap());
    assert_eq!(system.due_deliveries(10, 10).await.unwrap().heads, []);
    system.remove_repository(REPOSITORY).await.unwrap();
    assert_eq!(system.triggers_of(REPOSITORY).await.unwrap(), []);
    assert_eq!(system.recorded_branches(REPOSITORY).await.unwrap().len(), 0);
    // A move of a trigger that is gone meanwhile is passed over.
    repository(&test.store, &account, REPOSITORY).await;
    let moves = vec![moved("main", "", "2", &trigger.id)];
    assert_eq!(record(&test, moves).await, []);
}

#[tokio::test]
async fn what_waits_survives_a_restart() {
    let (test, _, trigger) = watched().await;
    record(&test, vec![moved("main", "1", "2", &trigger.id)]).await;
    let test = test.reopened().await;
    let due = test.store.system().due_deliveries(10, 10).await.unwrap().heads;
    assert_eq!(due[0].delivery.new_tip, "2");
    assert_eq!(due[0].delivery.old_tip.as_deref(), Some("1"));
}

fn now_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since_epoch.unwrap().as_millis()).unwrap()
}
