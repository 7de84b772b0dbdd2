//! Repositories come into being whole, and go whole.

use freestyle_git::{BranchName, GitError, Limits, RepositoryId};
use tempfile::TempDir;

use crate::support::{Server, open, root};

#[tokio::test]
async fn a_new_repository_is_one_for_git_too() {
    let server = Server::start().await;
    let repository = server.create().await;
    server.fsck(&repository).await;
    let judge = crate::support::Client::at(&server.path(&repository));
    assert_eq!(judge.git(&["symbolic-ref", "HEAD"]).await, "refs/heads/main");
    assert_eq!(judge.git(&["rev-parse", "--is-bare-repository"]).await, "true");
    assert!(!server.path(&repository).join("hooks").exists());
    assert_eq!(server.repositories.list().await.unwrap(), [repository.id().clone()]);
}

#[tokio::test]
async fn of_many_who_create_the_same_repository_one_does() {
    let server = Server::start().await;
    let id = RepositoryId::random();
    let branch = BranchName::parse("main").unwrap();
    let attempts = (0..16).map(|_| {
        let (repositories, id, branch) = (server.repositories.clone(), id.clone(), branch.clone());
        tokio::spawn(async move { repositories.create(&id, &branch).await })
    });
    let mut made = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, GitError::RepositoryExists(_)), "{error}"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_deleted_repository_leaves_nothing_and_its_id_can_be_used_again() {
    let server = Server::start().await;
    let repository = server.create().await;
    let id = repository.id().clone();
    let client = server.clone_of(&repository, "a").await;
    client.commit("file", "content").await;
    client.git(&["push", "-q", "origin", "main"]).await;

    // Not followed: what it points to stays.
    let outside = server.client("outside");
    outside.write("kept", "");
    std::os::unix::fs::symlink(&outside.path, server.path(&repository).join("link")).unwrap();

    server.repositories.delete(&id).await.unwrap();
    assert!(!server.path(&repository).exists());
    assert!(outside.path.join("kept").exists());
    let again = server.repositories.delete(&id).await;
    assert!(matches!(again, Err(GitError::RepositoryNotFound(_))), "{again:?}");
    assert!(matches!(server.repositories.get(&id).await, Err(GitError::RepositoryNotFound(_))));
    let url = format!("{}/info/refs?service=git-upload-pack", server.url(&repository));
    client.refused(&["ls-remote", &url]).await;

    let branch = BranchName::parse("trunk").unwrap();
    server.repositories.create(&id, &branch).await.unwrap();
    server.fsck(&repository).await;
    assert_eq!(client.git(&["ls-remote", "origin"]).await, "");
}

#[tokio::test]
async fn what_a_crash_left_half_made_or_locked_is_gone_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let repositories = open(&dir, Limits::default()).await;
    let id = RepositoryId::random();
    repositories.create(&id, &BranchName::parse("main").unwrap()).await.unwrap();
    drop(repositories);

    let path = root(&dir).join(&id.as_str()[..2]).join(format!("{id}.git"));
    for lock in ["HEAD.lock", "refs/heads/main.lock", "packed-refs.lock"] {
        std::fs::write(path.join(lock), "").unwrap();
    }
    let incoming = path.join("objects/tmp_objdir-incoming-x");
    std::fs::create_dir(&incoming).unwrap();
    std::fs::write(path.join("objects/pack/tmp_pack_x"), "").unwrap();
    std::fs::write(path.join("objects/tmp_obj_x"), "").unwrap();
    let half_made = root(&dir).join(".new").join(RepositoryId::random().as_str());
    let half_deleted = root(&dir).join(".deleted").join(RepositoryId::random().as_str());
    std::fs::create_dir_all(half_made.join("objects")).unwrap();
    std::fs::create_dir_all(half_deleted.join("objects")).unwrap();

    let repositories = open(&dir, Limits::default()).await;
    repositories.get(&id).await.unwrap();
    assert!(!half_made.exists() && !half_deleted.exists() && !incoming.exists());
    for gone in [
        "HEAD.lock",
        "refs/heads/main.lock",
        "packed-refs.lock",
        "objects/pack/tmp_pack_x",
        "objects/tmp_obj_x",
    ] {
        assert!(!path.join(gone).exists(), "{gone}");
    }
}
