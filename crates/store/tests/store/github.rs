//! GitHub Apps of accounts, and the queue of syncs.

use freestyle_store::{
    Account, DueGitHubSync, GitHubConflict, GitHubSyncEnd, GitHubSyncRecord, NewGitHubApp, Store,
    StoreError,
};

use crate::TestStore;

const REPOSITORY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

async fn repository(store: &Store, account: &Account, id: &str) {
    let scope = store.account_scope(&account.id);
    scope.insert_repository(id, None, false, 10).await.unwrap().unwrap();
    assert!(store.system().finish_repository(id).await.unwrap());
}

fn app(secret: &str) -> NewGitHubApp {
    NewGitHubApp {
        app_id: "12".to_owned(),
        private_key: "PEM".to_owned(),
        webhook_secret: secret.to_owned(),
        api_url: "https://api.github.com".to_owned(),
    }
}

/// A store with a repository that is synced with `owner/name`.
async fn synced() -> (TestStore, Account) {
    let test = TestStore::open().await;
    let account = test.account().await;
    repository(&test.store, &account, REPOSITORY).await;
    let scope = test.store.account_scope(&account.id);
    assert!(scope.enable_github_sync(REPOSITORY, "owner/name").await.unwrap());
    (test, account)
}

async fn due(test: &TestStore) -> Vec<DueGitHubSync> {
    test.store.system().due_github_syncs(10, 100).await.unwrap()
}

async fn finish(test: &TestStore, due: &DueGitHubSync, end: &GitHubSyncEnd) {
    test.store.system().finish_github_sync(due, end).await.unwrap();
}

async fn record(test: &TestStore, account: &Account) -> GitHubSyncRecord {
    test.store.account_scope(&account.id).github_sync(REPOSITORY).await.unwrap().unwrap()
}

fn agreed(name: &str, at: Option<&str>) -> GitHubSyncEnd {
    let mut end = GitHubSyncEnd::default();
    end.agree(name, at);
    end
}

#[tokio::test]
async fn an_app_is_its_accounts_and_shows_no_secret() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let mine = test.store.account_scope(&account.id);
    mine.set_github_app(&app("first")).await.unwrap();
    mine.set_github_app(&app("second")).await.unwrap();
    assert_eq!(mine.github_app().await.unwrap().unwrap().app_id, "12");
    assert_eq!(test.store.account_scope(&other.id).github_app().await.unwrap(), None);
    assert!(!test.store.account_scope(&other.id).delete_github_app().await.unwrap());

    let system = test.store.system();
    let secrets = system.github_apps_with_id("12").await.unwrap();
    let [only] = &secrets[..] else { panic!("{secrets:?}") };
    assert_eq!((&only.account_id, &*only.webhook_secret), (&account.id, "second"));
    assert!(!format!("{only:?} {:?}", app("second")).contains("second"));
    assert!(system.github_apps_with_id("1").await.unwrap().is_empty());

    assert!(mine.delete_github_app().await.unwrap());
    assert!(system.github_app_of(&account.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sync_belongs_to_a_repository_of_the_account_and_goes_with_it() {
    let (test, account) = synced().await;
    let (other, mine) = (test.account().await, test.store.account_scope(&account.id));
    let foreign = test.store.account_scope(&other.id);
    assert_eq!(foreign.github_sync(REPOSITORY).await.unwrap(), None);
    let refused = foreign.enable_github_sync(REPOSITORY, "a/b").await;
    assert!(matches!(refused, Err(StoreError::NoSuchRepository(_))), "{refused:?}");
    assert!(foreign.disable_github_sync(REPOSITORY).await.is_err());
    foreign.want_github_sync_with("owner/name").await.unwrap();

    // One repository at GitHub is one here, but another account may have its own.
    let second = "6ba7b811-9dad-41d1-80b4-00c04fd430c8";
    repository(&test.store, &account, second).await;
    assert!(!mine.enable_github_sync(second, "Owner/Name").await.unwrap());
    let third = "6ba7b812-9dad-41d1-80b4-00c04fd430c8";
    repository(&test.store, &other, third).await;
    assert!(foreign.enable_github_sync(third, "owner/name").await.unwrap());
    assert_eq!(due(&test).await.len(), 2);

    mine.disable_github_sync(REPOSITORY).await.unwrap();
    assert_eq!(mine.github_sync(REPOSITORY).await.unwrap(), None);
    assert!(mine.enable_github_sync(second, "Owner/Name").await.unwrap());
}

#[tokio::test]
async fn a_sync_is_due_until_it_has_met_all_that_was_wanted() {
    let (test, account) = synced().await;
    let system = test.store.system();
    assert!(record(&test, &account).await.is_wanted);
    let first = due(&test).await.remove(0);

    // Something moves while it is under way.
    system.want_github_sync(REPOSITORY).await.unwrap();
    finish(&test, &first, &agreed("refs/heads/main", Some("aa"))).await;
    let second = due(&test).await.remove(0);
    finish(&test, &second, &GitHubSyncEnd::default()).await;
    assert_eq!(due(&test).await, []);
    assert!(!record(&test, &account).await.is_wanted);
    assert_eq!(system.github_base(REPOSITORY).await.unwrap()["refs/heads/main"], "aa");

    test.store.account_scope(&account.id).want_github_sync_with("OWNER/name").await.unwrap();
    let third = due(&test).await.remove(0);
    finish(&test, &third, &agreed("refs/heads/main", None)).await;
    assert_eq!(system.github_base(REPOSITORY).await.unwrap().len(), 0);
    system.want_all_github_syncs().await.unwrap();
    assert_eq!(due(&test).await.len(), 1);
}

#[tokio::test]
async fn what_failed_is_tried_again_later_and_keeps_what_was_done() {
    let (test, account) = synced().await;
    let system = test.store.system();
    let later = i64::MAX / 2;
    let conflict = GitHubConflict {
        name: "refs/heads/x".to_owned(),
        here: None,
        there: Some("bb".to_owned()),
        reason: "why".to_owned(),
    };
    let conflicts = GitHubSyncEnd { conflicts: vec![conflict], ..GitHubSyncEnd::default() };
    finish(&test, &due(&test).await[0], &conflicts).await;
    system.want_github_sync(REPOSITORY).await.unwrap();
    let failed = GitHubSyncEnd {
        error: Some("GitHub is away".to_owned()),
        retry_at: Some(later),
        ..agreed("refs/heads/main", Some("aa"))
    };
    finish(&test, &due(&test).await[0], &failed).await;

    let now = record(&test, &account).await;
    assert_eq!((now.error.as_deref(), now.is_wanted), (Some("GitHub is away"), true));
    assert_eq!(now.conflicts.len(), 1);
    assert_eq!(system.github_base(REPOSITORY).await.unwrap().len(), 1);
    assert_eq!(due(&test).await, []);
    assert_eq!(system.next_github_sync_at().await.unwrap(), Some(later));
    // GitHub's word, or another app, is a reason to try at once.
    let scope = test.store.account_scope(&account.id);
    scope.want_github_sync_with("owner/name").await.unwrap();
    let again = due(&test).await.remove(0);
    assert_eq!(again.failures, 1);
    finish(&test, &again, &failed).await;
    assert_eq!(due(&test).await, []);
    scope.set_github_app(&app("new")).await.unwrap();
    let again = due(&test).await.remove(0);
    finish(&test, &again, &GitHubSyncEnd::default()).await;
    let now = record(&test, &account).await;
    assert_eq!((now.error, now.conflicts.len(), now.is_wanted), (None, 0, false));
}

#[tokio::test]
async fn the_end_of_a_sync_that_is_none_any_more_changes_nothing() {
    let (test, account) = synced().await;
    let (system, scope) = (test.store.system(), test.store.account_scope(&account.id));
    let old = due(&test).await.remove(0);
    finish(&test, &old, &agreed("refs/heads/main", Some("aa"))).await;
    system.want_github_sync(REPOSITORY).await.unwrap();
    let old = due(&test).await.remove(0);

    // With another repository: nothing of what was equal is known of that.
    assert!(scope.enable_github_sync(REPOSITORY, "owner/other").await.unwrap());
    assert_eq!(system.github_base(REPOSITORY).await.unwrap().len(), 0);
    finish(&test, &old, &agreed("refs/heads/main", Some("bb"))).await;
    assert_eq!(system.github_base(REPOSITORY).await.unwrap().len(), 0);
    assert!(record(&test, &account).await.is_wanted);

    // Ended and begun anew.
    scope.disable_github_sync(REPOSITORY).await.unwrap();
    assert!(scope.enable_github_sync(REPOSITORY, "owner/name").await.unwrap());
    finish(&test, &old, &agreed("refs/heads/main", Some("bb"))).await;
    assert_eq!(due(&test).await.len(), 1);
}

#[tokio::test]
async fn the_syncs_of_one_account_leave_room_for_those_of_others() {
    let test = TestStore::open().await;
    let (busy, other) = (test.account().await, test.account().await);
    for n in 0..9 {
        let id = format!("6ba7b81{n}-9dad-41d1-80b4-00c04fd430c8");
        let account = if n == 8 { &other } else { &busy };
        repository(&test.store, account, &id).await;
        let scope = test.store.account_scope(&account.id);
        assert!(scope.enable_github_sync(&id, &format!("owner/{n}")).await.unwrap());
    }
    let due = test.store.system().due_github_syncs(2, 100).await.unwrap();
    let of = |account: &Account| due.iter().filter(|due| due.account_id == account.id).count();
    assert_eq!((of(&busy), of(&other)), (2, 1));
}
