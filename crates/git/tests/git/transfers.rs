//! Clone and fetch with real `git`.

use freestyle_git::{Limits, TransferRequest};

use crate::support::{Client, Server, noise};

/// A repository with some history, pushed by a client that is answered too.
async fn with_history(server: &Server, commits: usize) -> (freestyle_git::Repository, Client) {
    let repository = server.create().await;
    let client = server.clone_of(&repository, "writer").await;
    for n in 0..commits {
        client.commit(&format!("src/{}/file{n}.txt", n % 3), format!("{n}\n").repeat(50)).await;
    }
    client.git(&["tag", "-a", "v1", "-m", "first"]).await;
    client.git(&["push", "-q", "origin", "main", "v1"]).await;
    (repository, client)
}

#[tokio::test]
async fn a_clone_has_everything_in_every_protocol_version() {
    let server = Server::start().await;
    let (repository, writer) = with_history(&server, 8).await;
    let url = server.url(&repository);
    for version in ["0", "1", "2"] {
        let setting = format!("protocol.version={version}");
        let reader = server.client(&format!("reader{version}"));
        reader.git(&["-c", &setting, "clone", "-q", &url, "."]).await;
        assert_eq!(reader.head().await, writer.head().await);
        assert_eq!(reader.git(&["tag"]).await, "v1");
        reader.git(&["fsck", "--full", "--strict"]).await;
    }
    // The name with `.git` is the same repository.
    let reader = server.client("suffixed");
    reader.git(&["clone", "-q", &format!("{url}.git"), "."]).await;
    assert_eq!(reader.head().await, writer.head().await);
}

#[tokio::test]
async fn a_shallow_clone_can_be_deepened_and_made_whole() {
    let server = Server::start().await;
    let (repository, writer) = with_history(&server, 8).await;
    let reader = server.client("reader");
    reader.git(&["clone", "-q", "--depth", "2", &server.url(&repository), "."]).await;
    let count = ["rev-list", "--count", "HEAD"];
    assert_eq!(reader.git(&count).await, "2");
    reader.git(&["fetch", "-q", "--deepen", "3"]).await;
    assert_eq!(reader.git(&count).await, "5");
    reader.git(&["fetch", "-q", "--unshallow"]).await;
    assert_eq!(reader.git(&count).await, "8");
    assert_eq!(reader.head().await, writer.head().await);
}

#[tokio::test]
async fn a_partial_clone_fetches_blobs_when_they_are_needed() {
    let server = Server::start().await;
    let (repository, _) = with_history(&server, 8).await;
    let reader = server.client("reader");
    let url = server.url(&repository);
    reader.git(&["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "."]).await;
    let missing = reader.git(&["rev-list", "--objects", "--all", "--missing=print"]).await;
    assert_eq!(missing.lines().filter(|line| line.starts_with('?')).count(), 8);
    assert_eq!(reader.git(&["show", "HEAD:src/1/file7.txt"]).await, "7\n".repeat(50).trim_end());
}

#[tokio::test]
async fn a_fetch_brings_what_is_new_and_prunes_what_is_gone() {
    let server = Server::start().await;
    let (repository, writer) = with_history(&server, 3).await;
    let reader = server.clone_of(&repository, "reader").await;
    let new = writer.commit("new", "new").await;
    writer.git(&["push", "-q", "origin", "main", "main:refs/heads/other"]).await;
    reader.git(&["fetch", "-q"]).await;
    assert_eq!(
        reader.git(&["rev-parse", "origin/main", "origin/other"]).await,
        format!("{new}\n{new}")
    );
    writer.git(&["push", "-q", "origin", ":other"]).await;
    reader.git(&["fetch", "-q", "--prune"]).await;
    reader.refused(&["rev-parse", "--verify", "-q", "origin/other"]).await;
}

#[tokio::test]
async fn a_request_so_long_that_git_compresses_it_works() {
    let server = Server::start().await;
    let (repository, writer) = with_history(&server, 2).await;
    let reader = server.clone_of(&repository, "reader").await;
    // What is wanted takes 50 bytes for each branch; git compresses from 1024 on.
    let mut branches = vec!["push".to_owned(), "-q".to_owned(), "origin".to_owned()];
    for n in 0..40 {
        let commit = ["commit-tree", "-p", "HEAD", "-m", &n.to_string(), "HEAD^{tree}"];
        branches.push(format!("{}:refs/heads/branch{n}", writer.git(&commit).await));
    }
    writer.git(&branches.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut fetch = reader.command(&["fetch", "-q"]);
    fetch.env("GIT_TRACE_CURL", "1").env("GIT_TRACE_CURL_NO_DATA", "1");
    let output = fetch.output().await.unwrap();
    let trace = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{trace}");
    assert!(trace.to_lowercase().contains("content-encoding: gzip"), "{trace}");
    let fetched = reader.git(&["for-each-ref", "refs/remotes/origin/branch*"]).await;
    assert_eq!(fetched.lines().count(), 40);
}

#[tokio::test]
async fn cloning_an_empty_repository_says_so() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.client("a");
    let output = client.try_git(&["clone", &server.url(&repository), "."]).await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("empty repository"));
    assert_eq!(client.git(&["symbolic-ref", "HEAD"]).await, "refs/heads/main");
}

#[tokio::test]
async fn an_unknown_repository_or_service_is_refused() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.client("a");
    let unknown = server.url(&repository).replace(repository.id().as_str(), "unknown");
    let message = client.refused(&["ls-remote", &unknown]).await;
    assert!(message.contains("not found"), "{message}");
}

#[tokio::test]
async fn many_clones_at_once_take_turns() {
    let limits = Limits { packing_per_host: 1, transfers_per_repository: 3, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let writer = server.clone_of(&repository, "writer").await;
    writer.commit("large", noise(1, 8 << 20)).await;
    writer.git(&["push", "-q", "origin", "main"]).await;
    let clones: Vec<_> = (0..10).map(|n| server.client(&format!("reader{n}"))).collect();
    let url = server.url(&repository);
    let arguments = ["clone", "-q", &url, "."];
    let all = clones.iter().map(|client| client.git(&arguments));
    futures_util::future::join_all(all).await;
    for client in &clones {
        assert_eq!(client.head().await, writer.head().await);
    }
}

#[tokio::test]
async fn a_full_queue_is_said_to_be_busy() {
    let limits =
        Limits { transfers_per_repository: 1, queue_per_repository: 0, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let (repository, _) = with_history(&server, 1).await;
    // Holds the only place: a push that never says anything.
    let silent = TransferRequest::new(None, false, futures_util::stream::pending());
    let held = repository.receive_pack(silent).await.unwrap();
    let client = server.client("reader");
    let message = client.refused(&["ls-remote", &server.url(&repository)]).await;
    assert!(message.contains("503"), "{message}");
    drop(held);
}
