//! `kill -9` of a server at work. What was acknowledged is there, and git finds nothing wrong.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use freestyle_git::{BranchName, Limits, Repositories, Repository, RepositoryId};
use tempfile::TempDir;

use crate::support::{Client, Server, new_commit, open, root};

/// Set in the processes that are killed: the directory they work in.
const DIRECTORY: &str = "FREESTYLE_GIT_CRASH_TEST";

/// This test program again, running one of the functions below that are no tests by themselves.
struct Victim {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(function: &str, directory: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", function, "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The rest of the next line that says `word`; none when the process has ended.
    fn next(&mut self, word: &str) -> Option<String> {
        let said = |line: std::io::Result<String>| {
            line.unwrap().split_once(word).map(|(_, rest)| rest.trim().to_owned())
        };
        self.lines.by_ref().find_map(said)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The only repository there is.
async fn only(repositories: &Repositories) -> Repository {
    let id = repositories.list().await.unwrap().remove(0);
    repositories.get(&id).await.unwrap()
}

async fn new_repository(dir: &TempDir) -> RepositoryId {
    let id = RepositoryId::random();
    let branch = BranchName::parse("main").unwrap();
    open(dir, Limits::default()).await.create(&id, &branch).await.unwrap();
    id
}

/// A process that makes commits and says which are made.
#[tokio::test]
async fn writer_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let repositories = crate::support::open_at(directory.into(), Limits::default()).await;
    let repository = only(&repositories).await;
    for n in 0u64.. {
        // Some of them loose, some as a pack.
        let extra = if n.is_multiple_of(3) { 20 } else { 1 };
        let paths: Vec<_> = (0..extra).map(|at| format!("{n}/{at}")).collect();
        let files: Vec<_> = paths.iter().map(|path| (path.as_str(), path.as_str())).collect();
        let made = repository.create_commit(new_commit("main", &files)).await.unwrap();
        println!("made {}", made.commit.sha);
    }
}

#[tokio::test]
async fn commits_that_were_acknowledged_survive_being_killed() {
    let dir = TempDir::new().unwrap();
    let id = new_repository(&dir).await;
    let judge = Client::at(&root(&dir).join(&id.as_str()[..2]).join(format!("{id}.git")));
    for round in 1..=4 {
        let mut writer = Victim::start("crashes::writer_process", &root(&dir));
        let mut last = String::new();
        for _ in 0..25 * round {
            last = writer.next("made ").unwrap();
        }
        writer.kill();
        while let Some(made) = writer.next("made ") {
            last = made;
        }
        // The branch is at the last commit that was acknowledged, or at the next.
        let commits = judge.git(&["rev-list", "--max-count=2", "main"]).await;
        assert!(commits.lines().any(|commit| commit == last), "{last} is not in {commits}");
        let report = judge.git(&["fsck", "--full", "--strict", "--no-dangling"]).await;
        assert_eq!(report, "");
    }
}

/// A process that serves, and says where.
#[tokio::test]
async fn server_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let server = Server::start_at(directory.into()).await;
    println!("serving {}", server.url(&only(&server.repositories).await));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn pushes_that_were_acknowledged_survive_being_killed() {
    let dir = TempDir::new().unwrap();
    let id = new_repository(&dir).await;
    let path = root(&dir).join(&id.as_str()[..2]).join(format!("{id}.git"));
    let judge = Client::at(&path);
    let client = Client::at(&dir.path().join("client"));
    std::fs::create_dir(&client.path).unwrap();
    client.git(&["init", "-q"]).await;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut server = Victim::start("crashes::server_process", dir.path());
        let url = server.next("serving ").unwrap();
        for n in 0..3 {
            client.commit(&format!("{round}/{n}"), "x").await;
            client.git(&["push", "-q", &url, "HEAD:main"]).await;
            acknowledged.push(client.head().await);
        }
        // One more, during which the server dies: at another moment in every round.
        client.commit(&format!("{round}/last"), crate::support::noise(round, 4 << 20)).await;
        let mut push = client.command(&["push", "-q", &url, "HEAD:main"]).spawn().unwrap();
        let begun = || match round {
            0 => true,
            1 => std::fs::read_dir(path.join("objects")).unwrap().count() > 2,
            2 => std::fs::read_dir(path.join("refs/heads")).unwrap().count() > 1,
            _ => false,
        };
        while !begun() && push.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        server.kill();
        if push.wait().await.unwrap().success() {
            acknowledged.push(client.head().await);
        }
        let last = acknowledged.last().unwrap();
        judge.git(&["merge-base", "--is-ancestor", last, "main"]).await;
        let report = judge.git(&["fsck", "--full", "--strict", "--no-dangling"]).await;
        assert_eq!(report, "");
    }
}
