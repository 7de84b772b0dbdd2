//! The service with a real store and real repositories on disk.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use freestyle_git::{BranchName, FileChange, GitError, Identity, Limits, NewCommit, RepositoryId};
use freestyle_outbound::Outbound;
use freestyle_repos::{Config, Content, NewRepo, Repo, Repos, ReposError};
use freestyle_store::{AccountId, Store};
use tempfile::TempDir;

struct Test {
    store: Store,
    repos: Repos,
    account: AccountId,
    dir: TempDir,
}

async fn open(dir: &Path) -> (Store, Repos) {
    let store = Store::open(&dir.join("metadata")).await.unwrap();
    let config = Config {
        root: dir.join("git"),
        git: "git".into(),
        limits: Limits::default(),
        repositories_per_account: 1000,
        outbound: Outbound::new(Vec::new()),
    };
    (store.clone(), Repos::open(config, store).await.unwrap())
}

impl Test {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let (store, repos) = open(dir.path()).await;
        let account = store.system().create_account("owner").await.unwrap().id;
        Self { store, repos, account, dir }
    }

    async fn create(&self) -> Repo {
        self.repos.create(&self.account, new_repo(Content::Nothing)).await.unwrap()
    }

    /// Ids of the repositories with files.
    fn on_disk(&self) -> BTreeSet<String> {
        on_disk(self.dir.path())
    }
}

fn on_disk(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for shard in std::fs::read_dir(dir.join("git")).unwrap() {
        let shard = shard.unwrap();
        if !shard.file_type().unwrap().is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(shard.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // What is being made or deleted has a name without an ending.
            found.insert(name.strip_suffix(".git").unwrap_or(&name).to_owned());
        }
    }
    found
}

fn new_repo(content: Content) -> NewRepo {
    NewRepo { name: Some("web".into()), public: false, default_branch: None, content }
}

fn file(path: &str, content: &str) -> FileChange {
    FileChange { path: path.into(), content: Some(content.into()), ..FileChange::default() }
}

fn commit(path: &str, content: &str) -> NewCommit {
    NewCommit {
        message: "a change".into(),
        files: vec![file(path, content)],
        branch: None,
        author: author(),
        expected_sha: None,
    }
}

fn author() -> Identity {
    Identity { name: "A".into(), email: "a@example.com".into() }
}

fn is_not_found<T>(result: Result<T, ReposError>) -> bool {
    matches!(result, Err(ReposError::NotFound(_)))
}

#[tokio::test]
async fn a_repository_is_there_until_it_is_deleted() {
    let test = Test::start().await;
    let repo = test.create().await;
    let id = repo.id().clone();
    repo.create_commit(commit("a", "1")).await.unwrap();

    let found = test.repos.get(&test.account, &id).await.unwrap();
    assert_eq!((found.id(), found.record()), (&id, repo.record()));
    assert_eq!(found.git().branch("main").await.unwrap().name, "main");
    let page = test.repos.list(&test.account, None, 10, 0).await.unwrap();
    assert_eq!((page.repos.len(), page.total), (1, 1));

    test.repos.delete(&test.account, &id).await.unwrap();

    assert!(is_not_found(test.repos.get(&test.account, &id).await));
    assert!(is_not_found(test.repos.delete(&test.account, &id).await));
    assert_eq!(test.repos.list(&test.account, None, 10, 0).await.unwrap().total, 0);
    assert_eq!(test.on_disk(), BTreeSet::new());
    assert_eq!(test.store.system().unfinished_repositories().await.unwrap(), []);
    // Who still holds it finds that it is gone.
    let late = found.create_commit(commit("a", "2")).await;
    assert!(late.is_err());
}

#[tokio::test]
async fn a_foreign_repository_is_not_there() {
    let test = Test::start().await;
    let other = test.store.system().create_account("other").await.unwrap().id;
    let repo = test.create().await;
    let id = repo.id();

    assert!(is_not_found(test.repos.get(&other, id).await));
    assert!(is_not_found(test.repos.set_public(&other, id, true).await));
    assert!(is_not_found(test.repos.delete(&other, id).await));

    assert!(test.repos.set_public(&test.account, id, true).await.unwrap().public);
    assert!(is_not_found(test.repos.get(&other, id).await));
    assert!(is_not_found(test.repos.delete(&other, id).await));
    assert!(!test.repos.set_public(&test.account, id, false).await.unwrap().public);
}

#[tokio::test]
async fn a_repository_begins_with_files() {
    let test = Test::start().await;
    let files = vec![file("README.md", "# Hello\n"), file("src/a.rs", "fn a() {}\n")];
    let content = Content::Files { files, message: "Begin".into(), author: author() };
    let default_branch = BranchName::parse("trunk").ok();
    let new = NewRepo { default_branch, ..new_repo(content) };

    let repo = test.repos.create(&test.account, new).await.unwrap();

    let tip = repo.git().branch("trunk").await.unwrap().sha.to_string();
    let first = repo.git().commit(&tip).await.unwrap();
    assert_eq!((first.message.as_str(), first.parents.len()), ("Begin\n", 0));
    let contents = repo.git().contents("src/a.rs", "HEAD", false).await.unwrap();
    let freestyle_git::Contents::File { content, .. } = contents else { panic!("a file") };
    assert_eq!(*content, *b"fn a() {}\n");
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing() {
    let test = Test::start().await;
    let files = vec![file("a", "1"), file("../b", "2")];
    let content = Content::Files { files, message: "Begin".into(), author: author() };

    let refused = test.repos.create(&test.account, new_repo(content)).await;

    assert!(matches!(refused, Err(ReposError::Git(GitError::InvalidFilePath { .. }))));
    assert_eq!(test.on_disk(), BTreeSet::new());
    assert_eq!(test.store.system().unfinished_repositories().await.unwrap(), []);
    assert_eq!(test.repos.list(&test.account, None, 10, 0).await.unwrap().total, 0);
}

#[tokio::test]
async fn what_a_killed_server_left_halfway_is_removed_at_the_next_start() {
    let test = Test::start().await;
    let kept = test.create().await;
    let scope = test.store.account_scope(&test.account);
    // Killed before the files, between the files and the end, and during a deletion.
    let (first, second, third) =
        (RepositoryId::random(), RepositoryId::random(), test.create().await);
    scope.insert_repository(first.as_str(), None, false, 100).await.unwrap().unwrap();
    scope.insert_repository(second.as_str(), None, false, 100).await.unwrap().unwrap();
    let folder = |id: &RepositoryId| {
        test.dir.path().join("git").join(&id.as_str()[..2]).join(format!("{id}.git"))
    };
    std::fs::create_dir_all(folder(&second).join("objects")).unwrap();
    assert!(scope.begin_repository_delete(third.id().as_str()).await.unwrap());
    let id = kept.id().clone();
    let Test { store, repos, account, dir } = test;
    store.close().await;
    // Whoever has one of them has the directory locked.
    drop((repos, kept, third));

    let (store, repos) = open(dir.path()).await;

    assert_eq!(on_disk(dir.path()), BTreeSet::from([id.to_string()]));
    assert_eq!(store.system().unfinished_repositories().await.unwrap(), []);
    let page = repos.list(&account, None, 10, 0).await.unwrap();
    let ids: Vec<_> = page.repos.iter().map(|repo| repo.id().clone()).collect();
    assert_eq!(ids, [id]);
}

#[tokio::test]
async fn half_of_a_repository_is_none_and_stays_for_the_operator() {
    let test = Test::start().await;
    let lost = test.create().await.id().clone();
    let folder = |id: &RepositoryId| test.dir.path().join("git").join(&id.as_str()[..2]);
    std::fs::remove_dir_all(folder(&lost)).unwrap();
    // As of another database.
    let unknown = RepositoryId::random();
    std::fs::create_dir_all(folder(&unknown).join(format!("{unknown}.git"))).unwrap();
    let Test { store, repos, account, dir } = test;
    store.close().await;
    drop(repos);

    let (_store, repos) = open(dir.path()).await;

    assert!(is_not_found(repos.get(&account, &lost).await));
    assert!(is_not_found(repos.get(&account, &unknown).await));
    assert_eq!(on_disk(dir.path()), BTreeSet::from([unknown.to_string()]));
    // Its owner can get rid of what is left of it.
    repos.delete(&account, &lost).await.unwrap();
    assert!(is_not_found(repos.delete(&account, &lost).await));
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_half_repository() {
    let test = Test::start().await;
    for polls in 0..6 {
        let mut create = Box::pin(test.repos.create(&test.account, new_repo(Content::Nothing)));
        for _ in 0..polls {
            if tokio::time::timeout(std::time::Duration::ZERO, &mut create).await.is_ok() {
                break;
            }
        }
        drop(create);
    }
    // Once nothing is in progress, all are whole.
    while !test.store.system().unfinished_repositories().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let page = test.repos.list(&test.account, None, 100, 0).await.unwrap();
    let listed: BTreeSet<_> = page.repos.iter().map(|repo| repo.id().to_string()).collect();
    assert_eq!((listed.len() as u64, listed), (page.total, test.on_disk()));
}

#[tokio::test]
async fn an_account_is_told_when_it_has_as_many_as_it_may() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("metadata")).await.unwrap();
    let config = Config {
        root: dir.path().join("git"),
        git: "git".into(),
        limits: Limits::default(),
        repositories_per_account: 1,
        outbound: Outbound::new(Vec::new()),
    };
    let repos = Repos::open(config, store.clone()).await.unwrap();
    let account = store.system().create_account("owner").await.unwrap().id;
    let first = repos.create(&account, new_repo(Content::Nothing)).await.unwrap();
    let refused = repos.create(&account, new_repo(Content::Nothing)).await;
    assert!(matches!(refused, Err(ReposError::TooMany { limit: 1 })));
    repos.delete(&account, first.id()).await.unwrap();
    repos.create(&account, new_repo(Content::Nothing)).await.unwrap();
}

/// Tells a copy of this test program to be the server that is killed, and where it works.
const VICTIM: &str = "FREESTYLE_TEST_REPOS_VICTIM";

#[test]
fn every_answered_create_and_delete_survives_kill_9() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return create_and_delete_until_killed(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    // Of each repository that was ever answered, the last that was said of it.
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    // The tasks take turns, so the count decides what they are about when the end comes.
    for count in [20, 23, 26, 29, 32, 35] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "every_answered_create_and_delete_survives_kill_9", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut listen = |count| {
            // Other lines are the test runner's.
            let lines = lines.by_ref().map(Result::unwrap);
            let facts = lines.filter_map(|line| {
                let (word, id) = line.split_once(' ')?;
                matches!(word, "has" | "deleting" | "deleted")
                    .then(|| (id.to_owned(), word.to_owned()))
            });
            facts.take(count).collect::<Vec<_>>()
        };
        said.extend(listen(count));
        victim.kill().unwrap();
        said.extend(listen(usize::MAX));
        victim.wait().unwrap();

        assert_what_was_said_is_so(dir.path(), &mut said);
    }
    assert!(said.values().any(|word| word == "deleted"));
}

#[tokio::main]
async fn create_and_delete_until_killed(dir: &Path) {
    let (store, repos) = open(dir).await;
    let account = store.system().create_account("writer").await.unwrap().id;
    let say = |word: &str, id: &RepositoryId| {
        writeln!(std::io::stdout().lock(), "\n{word} {id}").unwrap();
    };
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (repos, account) = (repos.clone(), account.clone());
        tasks.spawn(async move {
            loop {
                let content = Content::Files {
                    files: vec![file("a", "1")],
                    message: "Begin".into(),
                    author: author(),
                };
                let repo = repos.create(&account, new_repo(content)).await.unwrap();
                say("has", repo.id());
                let other = repos.create(&account, new_repo(Content::Nothing)).await.unwrap();
                say("has", other.id());
                repo.create_commit(commit("b", "2")).await.unwrap();
                say("deleting", repo.id());
                repos.delete(&account, repo.id()).await.unwrap();
                say("deleted", repo.id());
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::main]
async fn assert_what_was_said_is_so(dir: &Path, said: &mut BTreeMap<String, String>) {
    let (store, repos) = open(dir).await;
    let mut there = BTreeSet::new();
    for record in store.system().all_repositories().await.unwrap() {
        let id: RepositoryId = record.id.parse().unwrap();
        repos.get(&record.account_id, &id).await.unwrap().git().branches().await.unwrap();
        there.insert(record.id);
    }
    assert_eq!(there, on_disk(dir), "each has both its halves");
    for (id, word) in &mut *said {
        match word.as_str() {
            "has" => assert!(there.contains(id), "{id} was made and is gone"),
            "deleted" => assert!(!there.contains(id), "{id} was deleted and is there"),
            // Either may be, but not both.
            _ => *word = if there.contains(id) { "has" } else { "deleted" }.to_owned(),
        }
    }
    store.close().await;
}
