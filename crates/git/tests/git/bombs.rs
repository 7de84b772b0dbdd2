//! Repositories that were made to exhaust whoever reads them: little on disk, much in an answer.

use std::process::Stdio;
use std::time::Duration;

use freestyle_git::{Contents, GitError, Limits, ListCommits, Repository, Search};
use tokio::io::AsyncWriteExt;

use crate::support::{Client, Server};

/// A repository with what `git fast-import` makes of a text.
async fn imported(server: &Server, input: &str) -> Repository {
    let repository = server.create().await;
    let client = Client::at(&server.path(&repository));
    let mut import = client.command(&["fast-import", "--quiet"]);
    import.env("GIT_DIR", &client.path).stdin(Stdio::piped());
    let mut import = import.spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    assert!(import.wait().await.unwrap().success());
    repository
}

fn commit(message: &str, rest: &str) -> String {
    let who = "committer A <a@example.com> 1700000000 +0000";
    format!("commit refs/heads/main\n{who}\ndata {}\n{message}\n{rest}", message.len())
}

fn file(path: &str, content: &str) -> String {
    format!("M 100644 inline {path}\ndata {}\n{content}\n", content.len())
}

fn is_too_large<T>(answer: Result<T, GitError>) -> bool {
    matches!(answer, Err(GitError::TooLarge { .. }))
}

#[tokio::test]
async fn directories_within_each_other_end_somewhere() {
    let server = Server::start().await;
    // Far more than a stack has room for, one frame each.
    let path = format!("{}x", "d/".repeat(3000));
    let input = commit("flat", &file("a", "1")) + &commit("deep", &file(&path, "2"));
    let repository = imported(&server, &input).await;

    let Contents::Directory(_) = repository.contents("", "main", true).await.unwrap() else {
        panic!("a directory");
    };
    for refused in [
        repository.compare("main~1", "main").await.map(drop),
        repository.search_diffs(search("2")).await.map(drop),
    ] {
        assert!(matches!(refused, Err(GitError::InvalidRequest(_))), "{refused:?}");
    }
    let found = repository.search_files(search("x")).await.unwrap();
    assert_eq!(found.files[0].path, path);
}

#[tokio::test]
async fn long_messages_fill_no_list() {
    let server = Server::start().await;
    let message = "x".repeat(900 << 10);
    let input: String = (0..50).map(|_| commit(&message, "")).collect();
    let repository = imported(&server, &input).await;

    let list = |limit| ListCommits { limit, ..ListCommits::default() };
    assert_eq!(repository.list_commits(list(10)).await.unwrap().commits.len(), 10);
    assert!(is_too_large(repository.list_commits(list(500)).await));
    assert!(is_too_large(repository.search_commits(search("x")).await));
    let few = Search { max_results: 5, ..search("x") };
    assert_eq!(repository.search_commits(few).await.unwrap().commits.len(), 5);
}

#[tokio::test]
async fn a_commit_that_nobody_would_write_is_not_read() {
    let server = Server::start().await;
    let repository = imported(&server, &commit(&"x".repeat(3 << 20), "")).await;
    let tip = repository.branch("main").await.unwrap().sha.to_string();
    assert!(is_too_large(repository.commit(&tip).await));
    assert!(is_too_large(repository.contents("", "main", false).await));
}

#[tokio::test]
async fn matches_in_every_line_of_every_file_fill_no_answer() {
    // The test is about space, and runs without optimization.
    let read_time = Duration::from_secs(300);
    let server = Server::start_with(Limits { read_time, ..Limits::default() }).await;
    let content = format!("needle {}\n", "-".repeat(4000)).repeat(100);
    let files: String = (0..120).map(|n| file(&format!("f{n}"), &content)).collect();
    let repository = imported(&server, &commit("m", &files)).await;

    let found = repository.search_contents(search("needle")).await.unwrap();

    assert_eq!((found.total_files, found.total_matches), (120, 120 * 100));
    assert_eq!(found.files.len(), 100);
    let text = |found: &freestyle_git::ContentMatch| {
        let context = found.context_before.iter().chain(&found.context_after);
        found.line.len() + context.map(String::len).sum::<usize>()
    };
    let bytes: usize = found.files.iter().flat_map(|file| &file.matches).map(text).sum();
    assert!(bytes < 40 << 20, "{bytes}");
    assert!(found.files.iter().all(|file| !file.matches.is_empty()));

    let changed = repository.search_diffs(search("needle")).await.unwrap();
    let matches = changed.commits[0].files.iter().flat_map(|file| &file.matches);
    assert!(matches.map(|found| found.line.len()).sum::<usize>() < 40 << 20);
}

#[tokio::test]
async fn one_line_of_many_matches_is_counted_without_keeping_them() {
    let server = Server::start().await;
    let line = "x".repeat(4 << 20);
    let repository = imported(&server, &commit("m", &file("minified", &line))).await;
    let found = repository.search_contents(search("x")).await.unwrap();
    assert_eq!(found.total_matches, 4 << 20);
    assert!(found.files[0].matches.len() <= 1000);
}

#[tokio::test]
async fn very_many_names_fill_no_answer() {
    let server = Server::start().await;
    let repository = imported(&server, &commit("m", &file("a", "1"))).await;
    let sha = repository.branch("main").await.unwrap().sha;
    let name = "n".repeat(240);
    // Written as git packs them: making each of them would take minutes.
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for kind in ["heads", "tags"] {
        for n in 0..100_000 {
            packed.push_str(&format!("{sha} refs/{kind}/{name}{n:06}\n"));
        }
    }
    std::fs::write(server.path(&repository).join("packed-refs"), packed).unwrap();

    assert!(is_too_large(repository.branches().await));
    assert!(is_too_large(repository.tags().await));
    assert_eq!(repository.branch("main").await.unwrap().sha, sha);
}

fn search(query: &str) -> Search {
    Search { query: query.to_owned(), ..Search::default() }
}
