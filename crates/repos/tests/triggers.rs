//! Triggers: what is queued for them when branches move, whoever moves them, and whatever happens to
//! the server meanwhile.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::path::PathBuf;
use std::process::Command;

use freestyle_git::{BranchName, GitError, Identity, Limits, NewCommit};
use freestyle_outbound::{Outbound, OutboundError};
use freestyle_repos::{Config, Content, NewRepo, NewTrigger, Repo, Repos, ReposError};
use freestyle_store::{AccountId, DeliveryRecord, Store, StoreError, TriggerId};
use tempfile::TempDir;

/// A service with an account. Nothing is delivered: the queue can be looked at.
struct Test {
    dir: TempDir,
    store: Store,
    account: AccountId,
    repos: Repos,
}

impl Test {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        let repos = open(&dir, &store, &[]).await;
        Self { dir, store, account, repos }
    }

    /// The server ends, something happens to its repositories, and it starts again.
    async fn while_down(self, happens: impl FnOnce()) -> Self {
        let Self { dir, store, account, repos } = self;
        drop(repos);
        happens();
        let repos = open(&dir, &store, &[]).await;
        Self { dir, store, account, repos }
    }

    async fn create(&self) -> Repo {
        let content = Content::Nothing;
        let new = NewRepo { name: None, public: false, default_branch: None, content };
        self.repos.create(&self.account, new).await.unwrap()
    }

    fn path(&self, repo: &Repo) -> PathBuf {
        let id = repo.id().as_str();
        self.dir.path().join("git").join(&id[..2]).join(format!("{id}.git"))
    }
}

async fn open(dir: &TempDir, store: &Store, allowed: &[&str]) -> Repos {
    let config = Config {
        root: dir.path().join("git"),
        git: "git".into(),
        limits: Limits::default(),
        repositories_per_account: 100,
        outbound: Outbound::new(allowed.iter().map(|net| net.parse().unwrap()).collect()),
    };
    Repos::open(config, store.clone()).await.unwrap()
}

fn trigger(branches: &[&str], globs: &[&str]) -> NewTrigger {
    let list = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    let endpoint = "https://hook.invalid/x".to_owned();
    NewTrigger { branches: list(branches), globs: list(globs), endpoint }
}

async fn commit(repo: &Repo, branch: &str) -> String {
    let new = NewCommit {
        message: "change".to_owned(),
        files: Vec::new(),
        branch: Some(branch.to_owned()),
        author: Identity { name: "Ada".to_owned(), email: "ada@example.com".to_owned() },
        expected_sha: None,
    };
    repo.create_commit(new).await.unwrap().sha.to_string()
}

/// What is queued for a trigger, oldest first.
async fn queued(repo: &Repo, trigger: &TriggerId) -> Vec<DeliveryRecord> {
    let mut log = repo.deliveries(trigger, 1000, 0).await.unwrap();
    log.reverse();
    log
}

async fn queued_tips(repo: &Repo, trigger: &TriggerId) -> Vec<(String, String)> {
    let queued = queued(repo, trigger).await.into_iter();
    queued.map(|delivery| (delivery.branch, delivery.new_tip)).collect()
}

fn git(directory: &PathBuf, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("--git-dir").arg(directory).args(arguments).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn every_move_of_a_branch_that_is_meant_is_queued() {
    let test = Test::start().await;
    let repo = test.create().await;
    commit(&repo, "main").await;
    let all = repo.create_trigger(trigger(&[], &[])).await.unwrap().id;
    let some = repo.create_trigger(trigger(&["main", "release/*"], &[])).await.unwrap().id;

    let main = commit(&repo, "main").await;
    let release = BranchName::parse("release/1").unwrap();
    repo.create_branch(&release, None).await.unwrap();
    let other = commit(&repo, "other").await;
    let pair = |branch: &str, tip: &String| (branch.to_owned(), tip.clone());
    let (main, release, other) =
        (pair("main", &main), pair("release/1", &main), pair("other", &other));
    assert_eq!(queued_tips(&repo, &all).await, [main.clone(), release.clone(), other]);
    assert_eq!(queued_tips(&repo, &some).await, [main, release]);

    repo.delete_trigger(&all).await.unwrap();
    let gone = repo.deliveries(&all, 10, 0).await;
    assert!(matches!(gone, Err(ReposError::Store(StoreError::NoSuchTrigger(_)))), "{gone:?}");
    commit(&repo, "main").await;
    assert_eq!(queued_tips(&repo, &some).await.len(), 3);
}

#[tokio::test]
async fn what_is_queued_is_in_the_order_in_which_the_branch_moved() {
    let test = Test::start().await;
    let repo = test.create().await;
    let id = repo.create_trigger(trigger(&[], &[])).await.unwrap().id;
    let mut commits = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let repo = repo.clone();
        commits.spawn(async move { commit(&repo, "main").await });
    }
    assert_eq!(commits.join_all().await.len(), 24);
    let moves: Vec<_> =
        queued(&repo, &id).await.into_iter().map(|one| (one.old_tip, one.new_tip)).collect();
    let history = git(&test.path(&repo), &["rev-list", "--reverse", "main"]);
    let history: Vec<_> = history.lines().map(str::to_owned).collect();
    assert_eq!(moves.iter().map(|(_, new)| new.clone()).collect::<Vec<_>>(), history);
    let olds: Vec<_> = moves.iter().skip(1).map(|(old, _)| old.clone().unwrap()).collect();
    assert_eq!(olds, history[..23]);
}

#[tokio::test]
async fn what_moved_while_nobody_could_record_it_is_queued_at_the_next_start() {
    let test = Test::start().await;
    let repo = test.create().await;
    let first = commit(&repo, "main").await;
    commit(&repo, "gone").await;
    let id = repo.create_trigger(trigger(&["main", "new"], &[])).await.unwrap().id;
    let second = commit(&repo, "main").await;
    let (path, account, repo_id) = (test.path(&repo), test.account.clone(), repo.id().clone());
    drop(repo);

    // As a push does whose server is killed before it can record anything.
    let test = test
        .while_down(|| {
            git(&path, &["update-ref", "refs/heads/main", &first]);
            git(&path, &["update-ref", "refs/heads/new", &second]);
            git(&path, &["update-ref", "-d", "refs/heads/gone"]);
        })
        .await;
    let repo = test.repos.get(&account, &repo_id).await.unwrap();
    let moves = queued(&repo, &id).await;
    let moves: Vec<_> = moves
        .iter()
        .map(|one| (one.branch.as_str(), one.old_tip.as_deref(), one.new_tip.as_str()))
        .collect();
    assert_eq!(
        moves,
        [
            ("main", Some(first.as_str()), second.as_str()),
            ("main", Some(second.as_str()), first.as_str()),
            ("new", None, second.as_str()),
        ]
    );
    drop(repo);
    let test = test.while_down(|| {}).await;
    let repo = test.repos.get(&account, &repo_id).await.unwrap();
    assert_eq!(queued(&repo, &id).await.len(), 3);
}

#[tokio::test]
async fn a_move_that_follows_one_that_was_never_recorded_is_queued_all_the_same() {
    let test = Test::start().await;
    let repo = test.create().await;
    let first = commit(&repo, "main").await;
    let id = repo.create_trigger(trigger(&[], &[])).await.unwrap().id;
    // Moved by nobody that the server knows of.
    git(&test.path(&repo), &["update-ref", "-d", "refs/heads/main", &first]);
    let second = commit(&repo, "main").await;
    assert_eq!(queued_tips(&repo, &id).await, [("main".to_owned(), second)]);
}

#[tokio::test]
async fn an_endpoint_must_be_a_url_at_a_public_address() {
    let test = Test::start().await;
    let repo = test.create().await;
    let create = async |endpoint: &str| {
        let endpoint = endpoint.to_owned();
        repo.create_trigger(NewTrigger { endpoint, ..trigger(&[], &[]) }).await
    };
    for refused in ["http://127.0.0.1:80/", "http://localhost/", "http://169.254.169.254/latest"] {
        let answer = create(refused).await;
        let is_refused = matches!(answer, Err(ReposError::Endpoint(OutboundError::Refused { .. })));
        assert!(is_refused, "{refused}: {answer:?}");
    }
    for invalid in ["", "hook", "ftp://example.com/", "https://user:secret@example.com/"] {
        let answer = create(invalid).await;
        let is_invalid = matches!(answer, Err(ReposError::Endpoint(OutboundError::InvalidUrl(_))));
        assert!(is_invalid, "{invalid}: {answer:?}");
    }
    for accepted in ["https://1.1.1.1/hook", "http://does-not-exist.invalid:8080/hook"] {
        create(accepted).await.unwrap();
    }

    let repos = {
        drop(test.repos);
        let id = repo.id().clone();
        drop(repo);
        (open(&test.dir, &test.store, &["127.0.0.0/8"]).await, id)
    };
    let repo = repos.0.get(&test.account, &repos.1).await.unwrap();
    let endpoint = "http://127.0.0.1:9/".to_owned();
    repo.create_trigger(NewTrigger { endpoint, ..trigger(&[], &[]) }).await.unwrap();
}

#[tokio::test]
async fn patterns_are_checked_when_the_trigger_is_made() {
    let test = Test::start().await;
    let repo = test.create().await;
    for bad in [trigger(&["a["], &[]), trigger(&[""], &[]), trigger(&[], &["{x"])] {
        let answer = repo.create_trigger(bad).await;
        let is_refused = matches!(
            answer,
            Err(ReposError::Git(GitError::InvalidRequest(_) | GitError::InvalidPattern { .. }))
        );
        assert!(is_refused, "{answer:?}");
    }
    let many = vec!["x"; 101];
    assert!(repo.create_trigger(trigger(&many, &[])).await.is_err());
    assert_eq!(repo.triggers().await.unwrap(), []);
}

#[tokio::test]
async fn a_source_at_a_private_address_is_refused_and_nothing_is_left() {
    let test = Test::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let content = Content::Source {
        url: url.parse().unwrap(),
        revision: None,
        depth: None,
        all_branches: false,
    };
    let new = NewRepo { name: None, public: false, default_branch: None, content };
    let refused = test.repos.create(&test.account, new).await.err().unwrap();
    let is_refused =
        matches!(&refused, ReposError::Source { cause: OutboundError::Refused { .. }, .. });
    assert!(is_refused, "{refused}");
    // Nobody knocked.
    let knock = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
    assert!(knock.is_err());
    assert_eq!(test.repos.list(&test.account, None, 10, 0).await.unwrap().total, 0);
}
