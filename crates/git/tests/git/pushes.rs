//! Push with real `git`, and what the server knows of it afterwards.

use std::time::Duration;

use freestyle_git::{Limits, ObjectId, RefUpdate};

use crate::support::{Server, noise};

fn update(name: &str, old: Option<&str>, new: Option<&str>) -> RefUpdate {
    let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).unwrap();
    RefUpdate { name: name.to_owned(), old: old.map(id), new: new.map(id) }
}

#[tokio::test]
async fn every_update_of_a_push_is_known_exactly() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let first = client.commit("a", "1").await;
    client.git(&["push", "-q", "origin", "main", "main:refs/heads/side"]).await;
    assert_eq!(
        server.updates(),
        [
            update("refs/heads/main", None, Some(&first)),
            update("refs/heads/side", None, Some(&first)),
        ]
    );

    let second = client.commit("a", "2").await;
    client.git(&["tag", "v1"]).await;
    client.git(&["push", "-q", "origin", "main", "v1", ":side"]).await;
    assert_eq!(
        server.updates(),
        [
            update("refs/heads/main", Some(&first), Some(&second)),
            update("refs/heads/side", Some(&first), None),
            update("refs/tags/v1", None, Some(&second)),
        ]
    );
    client.git(&["push", "-q", "origin", "main"]).await;
    assert_eq!(server.updates(), []);
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_push_that_would_lose_commits_needs_force() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let first = client.commit("a", "1").await;
    let second = client.commit("a", "2").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    server.updates();
    client.git(&["reset", "-q", "--hard", &first]).await;
    let other = client.commit("b", "1").await;
    let message = client.refused(&["push", "origin", "main"]).await;
    assert!(message.contains("non-fast-forward"), "{message}");
    assert_eq!(server.updates(), []);
    client.git(&["push", "-q", "--force", "origin", "main"]).await;
    assert_eq!(server.updates(), [update("refs/heads/main", Some(&second), Some(&other))]);
}

#[tokio::test]
async fn of_a_push_only_what_was_accepted_is_reported_and_an_atomic_one_is_all_or_nothing() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let first = client.commit("a", "1").await;
    client.git(&["push", "-q", "origin", "main", "main:refs/heads/dir"]).await;
    server.updates();

    // `dir/sub` cannot exist beside `dir`.
    let both = ["main:refs/heads/fine", "main:refs/heads/dir/sub"];
    client.refused(&["push", "--atomic", "origin", both[0], both[1]]).await;
    assert_eq!(server.updates(), []);
    assert_eq!(client.git(&["ls-remote", "origin", "refs/heads/fine"]).await, "");

    client.refused(&["push", "origin", both[0], both[1]]).await;
    assert_eq!(server.updates(), [update("refs/heads/fine", None, Some(&first))]);
}

#[tokio::test]
async fn a_large_push_streams_and_one_over_the_limit_leaves_nothing() {
    let limits = Limits { push_bytes: 8 << 20, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let head = client.commit("large", noise(1, 6 << 20)).await;
    client.git(&["push", "-q", "origin", "main"]).await;
    assert_eq!(server.updates(), [update("refs/heads/main", None, Some(&head))]);

    client.commit("larger", noise(2, 10 << 20)).await;
    let message = client.refused(&["push", "origin", "main"]).await;
    assert!(message.contains("maximum allowed size"), "{message}");
    assert_eq!(server.updates(), []);
    // Far over it, the connection is cut.
    client.commit("huge", noise(3, 24 << 20)).await;
    client.refused(&["push", "origin", "main"]).await;
    assert_eq!(server.updates(), []);
    assert_eq!(
        client.git(&["ls-remote", "origin", "main"]).await,
        format!("{head}\trefs/heads/main")
    );
    server.fsck(&repository).await;
    let left: Vec<_> = std::fs::read_dir(server.path(&repository).join("objects"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("tmp_"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn a_full_repository_takes_no_more() {
    let limits = Limits { repository_bytes: 8 << 20, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    client.commit("a", noise(1, 6 << 20)).await;
    client.git(&["push", "-q", "origin", "main"]).await;
    client.commit("b", noise(2, 6 << 20)).await;
    client.refused(&["push", "-q", "origin", "main"]).await;
    server.fsck(&repository).await;
}

#[tokio::test]
async fn malformed_objects_are_refused() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let blob = {
        client.commit("a", "1").await;
        client.git(&["rev-parse", "HEAD:a"]).await
    };
    // A tree with an entry that would escape a work tree.
    client.write("entry", format!("100644 blob {blob}\t..\n"));
    let input = std::fs::File::open(client.path.join("entry")).unwrap();
    let mut mktree = client.command(&["mktree"]);
    let output = mktree.stdin(input).output().await.unwrap();
    let tree = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let commit = client.git(&["commit-tree", "-m", "evil", &tree]).await;
    let message = client.refused(&["push", "origin", &format!("{commit}:refs/heads/evil")]).await;
    assert!(message.contains("hasDotdot"), "{message}");
    assert_eq!(server.updates(), []);
    assert_eq!(client.git(&["ls-remote", "origin"]).await, "");
}

#[tokio::test]
async fn no_hook_ever_runs() {
    let server = Server::start().await;
    let repository = server.create().await;
    let hooks = server.path(&repository).join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    for hook in ["pre-receive", "update", "post-receive", "reference-transaction"] {
        let path = hooks.join(hook);
        std::fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, permissions).unwrap();
    }
    let client = server.clone_of(&repository, "a").await;
    client.commit("a", "1").await;
    client.git(&["push", "-q", "origin", "main"]).await;
}

#[tokio::test]
async fn internal_refs_are_neither_shown_nor_taken() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let head = client.commit("a", "1").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    let judge = crate::support::Client::at(&server.path(&repository));
    judge.git(&["update-ref", "refs/internal/kept", &head]).await;
    let refs = client.git(&["ls-remote", "origin"]).await;
    assert!(!refs.contains("internal"), "{refs}");
    client.refused(&["push", "origin", "main:refs/internal/mine"]).await;
}

#[tokio::test]
async fn of_two_pushes_to_one_branch_one_wins() {
    let server = Server::start().await;
    let repository = server.create().await;
    let base = server.clone_of(&repository, "base").await;
    base.commit("base", "").await;
    base.git(&["push", "-q", "origin", "main"]).await;
    server.updates();
    let mut clients = Vec::new();
    for n in 0..6 {
        let client = server.clone_of(&repository, &format!("client{n}")).await;
        client.commit(&format!("file{n}"), "").await;
        clients.push(client);
    }
    let pushes = clients.iter().map(|client| client.try_git(&["push", "-q", "origin", "main"]));
    let results = futures_util::future::join_all(pushes).await;
    assert_eq!(results.iter().filter(|output| output.status.success()).count(), 1);
    assert_eq!(server.updates().len(), 1);
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_push_from_a_client_that_dies_changes_nothing() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    client.commit("large", noise(5, 16 << 20)).await;
    let mut push = client.command(&["push", "-q", "origin", "main"]);
    push.kill_on_drop(true);
    push.process_group(0);
    let mut push = push.spawn().unwrap();
    // Once there is a temporary directory, the push is under way.
    let objects = server.path(&repository).join("objects");
    let incoming = || {
        let entries = std::fs::read_dir(&objects).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.as_encoded_bytes().starts_with(b"tmp_objdir")).count()
    };
    while incoming() == 0 && push.try_wait().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    // The process that sends is a child of the one started here.
    let group = rustix::process::Pid::from_raw(push.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    push.wait().await.unwrap();
    let gone = async {
        while incoming() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(server.updates(), []);
    server.fsck(&repository).await;
    client.git(&["push", "-q", "origin", "main"]).await;
    server.fsck(&repository).await;
}
