//! Commits made through the API, judged by git.

use freestyle_git::{Encoding, FileChange, GitError, Limits, NewCommit};

use crate::support::{Client, Server, new_commit};

fn delete(path: &str) -> FileChange {
    FileChange { path: path.to_owned(), deleted: true, ..FileChange::default() }
}

fn with(files: Vec<FileChange>) -> NewCommit {
    NewCommit { files, ..new_commit("main", &[]) }
}

#[tokio::test]
async fn a_commit_is_what_git_sees_and_clones() {
    let server = Server::start().await;
    let repository = server.create().await;
    let first = new_commit("main", &[("README.md", "hello\n"), ("src/deep/a.txt", "a")]);
    let first = repository.create_commit(first).await.unwrap();
    assert_eq!(first.update.old, None);
    assert!(first.commit.parents.is_empty());

    let mut second = with(vec![
        FileChange {
            path: "bin".into(),
            content: Some("AAEC/w==".into()),
            encoding: Encoding::Base64,
            ..FileChange::default()
        },
        delete("src/deep/a.txt"),
    ]);
    second.branch = None;
    second.expected_sha = Some(first.commit.sha.to_string());
    let second = repository.create_commit(second).await.unwrap();
    assert_eq!(second.update.name, "refs/heads/main");
    assert_eq!(
        (second.update.old, second.update.new),
        (Some(first.commit.sha), Some(second.commit.sha))
    );
    assert_eq!(second.commit.parents, [first.commit.sha]);

    let client = server.clone_of(&repository, "a").await;
    assert_eq!(client.head().await, second.commit.sha.to_string());
    assert_eq!(std::fs::read(client.path.join("bin")).unwrap(), [0, 1, 2, 255]);
    assert_eq!(client.git(&["ls-tree", "-r", "--name-only", "HEAD"]).await, "README.md\nbin");
    assert_eq!(
        client.git(&["log", "-1", "--format=%an <%ae>|%s|%cn"]).await,
        "Ada <ada@example.com>|change|Ada"
    );
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_branch_that_does_not_exist_is_made_as_a_root() {
    let server = Server::start().await;
    let repository = server.create().await;
    repository.create_commit(new_commit("main", &[("a", "1")])).await.unwrap();
    let made = repository.create_commit(new_commit("feature/x", &[("b", "1")])).await.unwrap();
    assert!(made.commit.parents.is_empty());
    let mut expecting = new_commit("other", &[("b", "1")]);
    expecting.expected_sha = Some(made.commit.sha.to_string());
    let refused = repository.create_commit(expecting).await;
    assert!(
        matches!(refused, Err(GitError::ConflictingParent { actual: None, .. })),
        "{refused:?}"
    );
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_wrong_parent_is_a_conflict_that_names_the_right_one() {
    let server = Server::start().await;
    let repository = server.create().await;
    let first = repository.create_commit(new_commit("main", &[("a", "1")])).await.unwrap();
    let second = repository.create_commit(new_commit("main", &[("a", "2")])).await.unwrap();
    let mut stale = new_commit("main", &[("a", "3")]);
    stale.expected_sha = Some(first.commit.sha.to_string());
    match repository.create_commit(stale).await {
        Err(GitError::ConflictingParent { expected, actual }) => {
            assert_eq!(expected, first.commit.sha.to_string());
            assert_eq!(actual, Some(second.commit.sha.to_string()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_writers_that_expect_the_same_parent_one_wins_and_those_that_do_not_all_do() {
    let server = Server::start().await;
    let repository = server.create().await;
    let base = repository.create_commit(new_commit("main", &[("a", "1")])).await.unwrap();
    let attempts = (0..8).map(|n| {
        let repository = repository.clone();
        let mut commit = new_commit("main", &[("a", &format!("mine {n}"))]);
        commit.expected_sha = Some(base.commit.sha.to_string());
        tokio::spawn(async move { repository.create_commit(commit).await })
    });
    let mut won = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(matches!(error, GitError::ConflictingParent { .. }), "{error}"),
        }
    }
    assert_eq!(won, 1);

    // And against pushes of the same branch.
    let client = server.clone_of(&repository, "a").await;
    let api = async {
        for n in 0..20 {
            let commit = new_commit("main", &[(&format!("api{n}"), "x")]);
            repository.create_commit(commit).await.unwrap();
        }
    };
    let pushes = async {
        for n in 0..5 {
            client.commit(&format!("push{n}"), "x").await;
            while !client.try_git(&["push", "-q", "origin", "main"]).await.status.success() {
                client.git(&["pull", "-q", "--rebase"]).await;
            }
        }
    };
    tokio::join!(api, pushes);
    client.git(&["pull", "-q", "--rebase"]).await;
    let files = client.git(&["ls-files"]).await;
    assert_eq!(files.lines().filter(|file| file.starts_with("api")).count(), 20);
    assert_eq!(files.lines().filter(|file| file.starts_with("push")).count(), 5);
    server.fsck(&repository).await;
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused_and_leave_nothing() {
    let server = Server::start().await;
    let repository = server.create().await;
    let base = new_commit("main", &[("dir/file", "1"), ("README.md", "1")]);
    let base = repository.create_commit(base).await.unwrap();
    let file = |path: &str| FileChange {
        path: path.to_owned(),
        content: Some("x".into()),
        ..FileChange::default()
    };
    let is_path: fn(&GitError) -> bool = |e| matches!(e, GitError::InvalidFilePath { .. });
    let is_change: fn(&GitError) -> bool = |e| matches!(e, GitError::InvalidFileChange { .. });
    let is_base64: fn(&GitError) -> bool = |e| matches!(e, GitError::InvalidBase64 { .. });
    let both = FileChange { deleted: true, ..file("a") };
    let bad_base64 =
        FileChange { encoding: Encoding::Base64, content: Some("?".into()), ..file("a") };
    let cases = [
        (vec![file("../a")], is_path),
        (vec![file(".git/config")], is_path),
        (vec![file("a\0b")], is_path),
        (vec![file("readme.md")], is_path),
        (vec![file("x/A"), file("x/a")], is_path),
        (vec![file("dir/file/below")], is_path),
        (vec![file("dir")], is_path),
        (vec![file("new"), file("new/below")], is_path),
        (vec![delete("missing")], is_change),
        (vec![delete("dir")], is_change),
        (vec![file("a"), file("a")], is_change),
        (vec![both], is_change),
        (vec![FileChange { path: "a".into(), ..FileChange::default() }], is_change),
        (vec![bad_base64], is_base64),
    ];
    for (files, is_expected) in cases {
        let refused = repository.create_commit(with(files.clone())).await.unwrap_err();
        assert!(is_expected(&refused), "{files:?}: {refused:?}");
    }
    let mut empty = with(vec![file("a")]);
    empty.message = " \n".into();
    assert!(matches!(repository.create_commit(empty).await, Err(GitError::InvalidRequest(_))));
    let mut injected = with(vec![file("a")]);
    injected.author.name = "Eve>\nparent x".into();
    assert!(matches!(repository.create_commit(injected).await, Err(GitError::InvalidRequest(_))));
    let mut branch = with(vec![file("a")]);
    branch.branch = Some("a..b".into());
    assert!(matches!(repository.create_commit(branch).await, Err(GitError::InvalidRequest(_))));
    assert_eq!(repository.branch("main").await.unwrap().sha, base.commit.sha);
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_file_can_take_the_place_of_a_directory_that_goes_and_the_reverse() {
    let server = Server::start().await;
    let repository = server.create().await;
    repository.create_commit(new_commit("main", &[("x/y", "1"), ("z", "1")])).await.unwrap();
    let mut swap = new_commit("main", &[("x", "file"), ("z/w", "below")]);
    swap.files.extend([delete("x/y"), delete("z")]);
    repository.create_commit(swap).await.unwrap();
    let judge = Client::at(&server.path(&repository));
    assert_eq!(judge.git(&["ls-tree", "-r", "--name-only", "main"]).await, "x\nz/w");
    let clear = with(vec![delete("x"), delete("z/w")]);
    repository.create_commit(clear).await.unwrap();
    assert_eq!(judge.git(&["ls-tree", "-r", "main"]).await, "");
    server.fsck(&repository).await;
}

#[tokio::test]
async fn the_mode_of_a_file_stays_and_a_link_becomes_a_file() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    client.write("run", "#!/bin/sh\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(client.path.join("run"), executable).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", client.path.join("link")).unwrap();
    client.commit("other", "").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    let change = new_commit("main", &[("run", "#!/bin/sh\ntrue\n"), ("link", "text")]);
    repository.create_commit(change).await.unwrap();
    let judge = Client::at(&server.path(&repository));
    let modes = judge.git(&["ls-tree", "--format=%(objectmode) %(path)", "main"]).await;
    assert_eq!(modes, "100644 link\n100644 other\n100755 run");
}

#[tokio::test]
async fn a_large_commit_is_one_pack() {
    let server = Server::start().await;
    let repository = server.create().await;
    let paths: Vec<_> = (0..3000).map(|n| format!("d{}/f{n}", n % 40)).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), path.as_str())).collect();
    repository.create_commit(new_commit("main", &files)).await.unwrap();
    let judge = Client::at(&server.path(&repository));
    let counts = judge.git(&["count-objects", "-v"]).await;
    assert!(counts.contains("count: 0\n") && counts.contains("packs: 1\n"), "{counts}");
    let client = server.clone_of(&repository, "a").await;
    assert_eq!(client.git(&["ls-files"]).await.lines().count(), 3000);
    repository.create_commit(new_commit("main", &[("d0/f0", "more")])).await.unwrap();
    server.fsck(&repository).await;
}

#[tokio::test]
async fn limits_are_kept() {
    let limits = Limits { commit_files: 2, commit_bytes: 100, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let many = new_commit("main", &[("a", ""), ("b", ""), ("c", "")]);
    assert!(matches!(repository.create_commit(many).await, Err(GitError::InvalidRequest(_))));
    let large = new_commit("main", &[("a", &"x".repeat(101))]);
    assert!(matches!(repository.create_commit(large).await, Err(GitError::TooLarge { .. })));
}
