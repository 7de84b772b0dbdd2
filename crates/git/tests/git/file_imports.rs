//! Repositories that begin with the files of one commit of another.

use freestyle_git::{GitError, Identity, ListCommits, RemoteError, RemoteFiles, Repository};

use crate::imports::Case;

fn files(revision: Option<&str>, dir: Option<&str>) -> RemoteFiles {
    RemoteFiles {
        revision: revision.map(str::to_owned),
        dir: dir.map(str::to_owned),
        message: "Begin".to_owned(),
        author: Identity { name: "Ada".to_owned(), email: "ada@example.com".to_owned() },
    }
}

/// A source with a directory in it, too.
async fn case() -> Case {
    let case = Case::new().await;
    case.writer.git(&["checkout", "-q", "main"]).await;
    case.writer.commit("dir/sub/a", "1").await;
    case.writer.commit("dir/b", "2").await;
    case.writer.git(&["push", "-q", "origin", "main"]).await;
    case
}

async fn import(case: &Case, wanted: RemoteFiles) -> Result<Repository, RemoteError> {
    let repository = case.server.create().await;
    repository.import_files(&case.remote, wanted).await?;
    case.server.fsck(&repository).await;
    Ok(repository)
}

/// Every file of a repository, as another clone has it.
async fn cloned(case: &Case, repository: &Repository, name: &str) -> String {
    let client = case.server.clone_of(repository, name).await;
    client.git(&["ls-files"]).await
}

#[tokio::test]
async fn the_files_of_a_commit_come_in_one_without_its_history() {
    let case = case().await;

    let repository = import(&case, files(None, None)).await.unwrap();

    assert_eq!(cloned(&case, &repository, "all").await, "dir/b\ndir/sub/a\nfile");
    let listed = repository.list_commits(ListCommits { limit: 9, ..Default::default() }).await;
    let commits = listed.unwrap().commits;
    assert_eq!((commits.len(), commits[0].parents.len()), (1, 0));
    assert_eq!((&*commits[0].message, &*commits[0].author.name), ("Begin\n", "Ada"));
    let names: Vec<_> = repository.refs().await.unwrap().into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["refs/heads/main"]);
    let folder = case.server.path(&repository);
    assert!(!folder.join("shallow").exists() && !folder.join("refs/internal").exists());
    // It can be pushed to and kept up like any other.
    let client = case.server.clone_of(&repository, "writer2").await;
    client.commit("more", "").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    repository.upkeep().await.unwrap();
    case.server.fsck(&repository).await;
}

#[tokio::test]
async fn any_revision_and_any_directory_of_it_can_be_taken() {
    let case = case().await;
    let commit = case.writer.git(&["rev-parse", "main~1"]).await;
    for (revision, dir, expected) in [
        (Some("feature/x"), None, "feature\nfile"),
        (Some("v1"), None, "file"),
        (Some("light"), None, "feature\nfile"),
        (Some(commit.as_str()), Some("dir"), "sub/a"),
        (None, Some("/dir/./sub/"), "a"),
        (Some("main"), Some(""), "dir/b\ndir/sub/a\nfile"),
    ] {
        let repository = import(&case, files(revision, dir)).await.unwrap();
        let refs = repository.refs().await.unwrap();
        assert_eq!(refs.len(), 1, "{revision:?}: nothing of the source but its files: {refs:?}");
        let name = format!("{}", repository.id());
        assert_eq!(cloned(&case, &repository, &name).await, expected, "{revision:?} {dir:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let case = case().await;
    for dir in ["nowhere", "file", "dir/b", "dir/..", "../dir"] {
        let refused = import(&case, files(None, Some(dir))).await;
        assert!(
            matches!(&refused, Err(RemoteError::NoSuchDirectory { dir: named, .. }) if named == dir),
            "{dir}: {refused:?}"
        );
    }
    let refused = import(&case, files(Some("nothing"), None)).await;
    assert!(matches!(refused, Err(RemoteError::NoSuchRevision { .. })), "{refused:?}");
    let bad = RemoteFiles { message: " ".to_owned(), ..files(None, None) };
    let refused = import(&case, bad).await;
    assert!(matches!(refused, Err(RemoteError::Git(GitError::InvalidRequest(_)))), "{refused:?}");
}
