//! `kill -9` of a server at work. What was acknowledged is there, and git finds nothing wrong.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use freestyle_git::{Limits, RepositoryId};
use tempfile::TempDir;

use crate::support::{Client, new_commit, open, root};

const DIRECTORY: &str = "FREESTYLE_GIT_CRASH_TEST";

/// Not a test by itself: the process that is killed. It makes commits and says which are made.
#[tokio::test]
async fn writer_process() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let config =
        freestyle_git::Config { root: path.into(), git: "git".into(), limits: Limits::default() };
    let repositories = freestyle_git::Repositories::open(config).await.unwrap();
    let id: RepositoryId = repositories.list().await.unwrap().remove(0);
    let repository = repositories.get(&id).await.unwrap();
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
async fn what_was_acknowledged_survives_being_killed() {
    let dir = TempDir::new().unwrap();
    let repositories = open(&dir, Limits::default()).await;
    let id = RepositoryId::random();
    let branch = freestyle_git::BranchName::parse("main").unwrap();
    repositories.create(&id, &branch).await.unwrap();
    drop(repositories);
    let judge = Client::at(&root(&dir).join(&id.as_str()[..2]).join(format!("{id}.git")));
    for round in 1..=5 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::writer_process", "--nocapture"])
            .env(DIRECTORY, root(&dir))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut made = |line: std::io::Result<String>| -> Option<String> {
            line.unwrap().split_once("made ").map(|(_, sha)| sha.to_owned())
        };
        let mut acknowledged: Vec<_> =
            lines.by_ref().filter_map(&mut made).take(20 * round).collect();
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged.extend(lines.filter_map(made));
        let last = acknowledged.last().unwrap();

        // The branch is at the last commit that was acknowledged, or at the next.
        let commits = judge.git(&["rev-list", "--max-count=2", "main"]).await;
        assert!(commits.lines().any(|commit| commit == last), "{last} is not in {commits}");
        let report = judge.git(&["fsck", "--full", "--strict", "--no-dangling"]).await;
        assert_eq!(report, "");
    }
}
