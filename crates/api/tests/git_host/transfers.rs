//! What people do with git.

use crate::support::{Client, Host};

/// A repository with some commits, and a clone of it that may push.
async fn with_history(host: &Host) -> (String, Client) {
    let repo = host.create(false).await;
    let url = host.url(&host.secret, &repo);
    let client = host.client("writer");
    client.git(&["clone", "-q", &url, "."]).await;
    for n in 0..6 {
        client.commit("file", format!("{n}\n").repeat(100)).await;
    }
    client.git(&["push", "-q", "origin", "main"]).await;
    (url, client)
}

#[tokio::test]
async fn a_clone_can_be_whole_shallow_partial_or_of_one_branch() {
    let host = Host::start().await;
    let (url, writer) = with_history(&host).await;
    writer.git(&["push", "-q", "origin", "main:refs/heads/other"]).await;
    let reader = host.client("reader");
    let count = async |name: &str, options: &[&str]| {
        reader.git(&[&["clone", "-q"], options, &[&url, name]].concat()).await;
        reader.git(&["-C", name, "rev-list", "--count", "HEAD"]).await
    };
    assert_eq!(count("whole", &[]).await, "6");
    assert_eq!(count("old", &["-c", "protocol.version=0"]).await, "6");
    assert_eq!(count("shallow", &["--depth", "2"]).await, "2");
    assert_eq!(count("partial", &["--filter=blob:none"]).await, "6");
    assert_eq!(count("single", &["--single-branch", "--branch", "other"]).await, "6");
    reader.git(&["-C", "shallow", "fetch", "-q", "--unshallow"]).await;
    assert_eq!(reader.git(&["-C", "shallow", "rev-list", "--count", "HEAD"]).await, "6");
    let old = reader.git(&["-C", "partial", "show", "HEAD~3:file"]).await;
    assert!(old.starts_with("2\n"), "{old}");
}

#[tokio::test]
async fn pushes_force_delete_and_are_atomic() {
    let host = Host::start().await;
    let (url, writer) = with_history(&host).await;
    writer.git(&["reset", "-q", "--hard", "HEAD~2"]).await;
    let other = writer.commit("other", "").await;
    let message = writer.refused(&["push", "origin", "main"]).await;
    assert!(message.contains("non-fast-forward"), "{message}");
    writer.git(&["push", "-q", "--force-with-lease", "origin", "main"]).await;
    assert!(writer.git(&["ls-remote", &url, "main"]).await.starts_with(&other));

    let both = ["main:refs/heads/fine", "main:refs/heads/main/sub"];
    writer.refused(&["push", "--atomic", "origin", both[0], both[1]]).await;
    assert_eq!(writer.git(&["ls-remote", &url, "fine"]).await, "");
    writer.git(&["tag", "-a", "v1", "-m", "x"]).await;
    writer.git(&["push", "-q", "--follow-tags", "origin", "main:refs/heads/fine"]).await;
    writer.git(&["push", "-q", "origin", ":fine"]).await;
    let refs = writer.git(&["ls-remote", "--refs", &url]).await;
    assert_eq!(refs.lines().count(), 2, "{refs}");
}

#[tokio::test]
async fn a_push_that_git_sends_in_pieces_arrives_whole() {
    let host = Host::start().await;
    let (url, writer) = with_history(&host).await;
    // Larger than git's buffer, so that it is sent chunked, after a small request that asks whether
    // the credential is good.
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let head = writer.commit("large", noise.take(6 << 20).collect::<Vec<_>>()).await;
    writer.git(&["-c", "http.postBuffer=65536", "push", "-q", "origin", "main"]).await;
    assert!(writer.git(&["ls-remote", &url, "main"]).await.starts_with(&head));
    let reader = host.client("reader");
    reader.git(&["clone", "-q", &url, "."]).await;
    assert_eq!(reader.git(&["rev-parse", "HEAD"]).await, head);
    reader.git(&["fsck", "--full", "--strict"]).await;
}

#[tokio::test]
async fn a_fetch_whose_request_git_compresses_is_understood() {
    let host = Host::start().await;
    let (url, writer) = with_history(&host).await;
    let reader = host.client("reader");
    reader.git(&["clone", "-q", &url, "."]).await;
    let mut push = vec!["push".to_owned(), "-q".to_owned(), "origin".to_owned()];
    for n in 0..40 {
        let commit = ["commit-tree", "-p", "HEAD", "-m", &n.to_string(), "HEAD^{tree}"];
        push.push(format!("{}:refs/heads/branch{n}", writer.git(&commit).await));
    }
    writer.git(&push.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut fetch = reader.command(&["fetch", "-q"]);
    fetch.env("GIT_TRACE_CURL", "1").env("GIT_TRACE_CURL_NO_DATA", "1");
    let output = fetch.output().await.unwrap();
    let trace = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(output.status.success() && trace.contains("content-encoding: gzip"), "{trace}");
    let fetched = reader.git(&["for-each-ref", "refs/remotes/origin/branch*"]).await;
    assert_eq!(fetched.lines().count(), 40);
}
