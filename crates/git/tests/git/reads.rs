//! What the API reads, compared with what git says.

use freestyle_git::{
    ArchiveFormat, BranchName, CompareStatus, Contents, DirectoryEntry, EntryKind, FileStatus,
    GitError, ListCommits, Order, Repository,
};

use crate::support::{Client, Server, collect, new_commit};

/// A history with a branch that was merged, tags, and a file of each kind.
async fn sample(server: &Server) -> (Repository, Client) {
    let repository = server.create().await;
    let client = server.clone_of(&repository, "writer").await;
    client.write("src/lib.rs", "fn one() {}\n");
    client.write("src/deep/down/data.bin", [0, 159, 146, 150]);
    std::os::unix::fs::symlink("README.md", client.path.join("link")).unwrap();
    client.commit("README.md", "# Hello\n").await;
    client.git(&["tag", "light"]).await;
    client.git(&["checkout", "-q", "-b", "side"]).await;
    client.commit("side.txt", "side\n").await;
    client.git(&["checkout", "-q", "main"]).await;
    client.commit("main.txt", "main\n").await;
    client.git(&["merge", "-q", "--no-ff", "-m", "merge side", "side"]).await;
    client.git(&["tag", "-a", "v1.0.0", "-m", "the first"]).await;
    client.commit("src/lib.rs", "fn one() {}\nfn two() {}\n").await;
    client.git(&["push", "-q", "origin", "main", "side", "--tags"]).await;
    (repository, client)
}

fn list() -> ListCommits {
    ListCommits { limit: 50, with_total: true, ..ListCommits::default() }
}

fn shas(commits: &[freestyle_git::Commit]) -> Vec<String> {
    commits.iter().map(|commit| commit.sha.to_string()).collect()
}

#[tokio::test]
async fn contents_of_files_and_directories() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let Contents::File { name, path, sha, content } =
        repository.contents("/src/lib.rs", "main", false).await.unwrap()
    else {
        panic!("a file")
    };
    assert_eq!((name.as_str(), path.as_str()), ("lib.rs", "src/lib.rs"));
    assert_eq!(*content, *b"fn one() {}\nfn two() {}\n");
    assert_eq!(sha.to_string(), client.git(&["rev-parse", "HEAD:src/lib.rs"]).await);
    let Contents::File { content, .. } =
        repository.contents("src/lib.rs", "main~1", false).await.unwrap()
    else {
        panic!("a file")
    };
    assert_eq!(*content, *b"fn one() {}\n");

    let Contents::Directory(flat) = repository.contents("", "HEAD", false).await.unwrap() else {
        panic!("a directory")
    };
    assert_eq!(flat.sha.to_string(), client.git(&["rev-parse", "HEAD^{tree}"]).await);
    let names = flat.entries.iter().map(|entry| match entry {
        DirectoryEntry::File { path, .. } => path.clone(),
        DirectoryEntry::Directory(directory) => {
            assert_eq!(directory.entries, []);
            format!("{}/", directory.path)
        }
    });
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["README.md", "link", "main.txt", "side.txt", "src/"]);

    let Contents::Directory(deep) = repository.contents("src", "HEAD", true).await.unwrap() else {
        panic!("a directory")
    };
    let DirectoryEntry::Directory(below) = &deep.entries[0] else { panic!("a directory") };
    let DirectoryEntry::Directory(down) = &below.entries[0] else { panic!("a directory") };
    assert!(matches!(&down.entries[0],
        DirectoryEntry::File { path, size: 4, .. } if path == "src/deep/down/data.bin"));

    for missing in ["nothing", "README.md/below", "src/../README.md"] {
        let refused = repository.contents(missing, "main", false).await;
        assert!(matches!(refused, Err(GitError::PathNotFound { .. })), "{missing}: {refused:?}");
    }
}

#[tokio::test]
async fn revisions_resolve_as_in_git() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let head = client.head().await;
    for revision in [
        "HEAD",
        "@",
        "main",
        "refs/heads/main",
        "heads/main",
        "side",
        "light",
        "v1.0.0",
        "v1.0.0^{}",
        "v1.0.0~1",
        "main^",
        "main~1^2",
        "main^^2~1",
        "main^{commit}",
        &head,
        &head[..9],
        "refs/tags/v1.0.0",
        "main^0",
    ] {
        let revision: &str = revision;
        let expected = client.git(&["rev-parse", &format!("{revision}^{{tree}}")]).await;
        match repository.contents("", revision, false).await.unwrap() {
            Contents::Directory(root) => assert_eq!(root.sha.to_string(), expected, "{revision}"),
            Contents::File { .. } => panic!("{revision}"),
        }
    }
    let error = |revision: &str| {
        let (repository, revision) = (repository.clone(), revision.to_owned());
        async move { repository.contents("", &revision, false).await.unwrap_err() }
    };
    for unknown in ["nope", "0000000000000000000000000000000000000001", "abcdef123", "refs/x"] {
        let refused = error(unknown).await;
        assert!(matches!(refused, GitError::ReferenceNotFound { .. }), "{unknown}: {refused:?}");
    }
    let blob = client.git(&["rev-parse", "HEAD:README.md"]).await;
    for invalid in ["main~99", "main^3", &blob] {
        let refused = error(invalid).await;
        assert!(matches!(refused, GitError::InvalidRevision { .. }), "{invalid}: {refused:?}");
    }
    for malformed in ["main..side", "HEAD:README.md", "main@{1}", "", "a b", "--all"] {
        let refused = error(malformed).await;
        assert!(
            matches!(refused, GitError::InvalidRevisionSyntax { .. }),
            "{malformed}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_prefix_of_several_objects_is_ambiguous() {
    let server = Server::start().await;
    let repository = server.create().await;
    // So many blobs that two of them begin with the same four digits.
    let contents: Vec<_> = (0..900).map(|n| (format!("f{n}"), format!("content {n}"))).collect();
    let files: Vec<_> = contents.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
    repository.create_commit(new_commit("main", &files)).await.unwrap();
    let judge = Client::at(&server.path(&repository));
    let ids = judge.git(&["ls-tree", "--object-only", "main"]).await;
    let mut seen = std::collections::HashSet::new();
    let shared = ids.lines().map(|id| &id[..4]).find(|prefix| !seen.insert(*prefix)).unwrap();
    let refused = repository.contents("", shared, false).await;
    assert!(matches!(refused, Err(GitError::Ambiguous { .. })), "{refused:?}");
}

#[tokio::test]
async fn commits_are_listed_as_git_lists_them() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let all = client.git(&["rev-list", "--date-order", "main"]).await;
    let all: Vec<_> = all.lines().map(str::to_owned).collect();

    let listed = repository.list_commits(list()).await.unwrap();
    let mut sorted = (shas(&listed.commits), all.clone());
    assert_eq!((sorted.0.first(), sorted.0.last()), (sorted.1.first(), sorted.1.last()));
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    assert_eq!((listed.total, listed.next_commit), (Some(all.len()), None));
    let all = shas(&listed.commits);

    // Oldest first is the same, the other way round; pages continue each other.
    let ascending = ListCommits { order: Order::Ascending, ..list() };
    let ascending = repository.list_commits(ascending).await.unwrap();
    assert!(shas(&ascending.commits).iter().rev().eq(&all));
    for order in [Order::Descending, Order::Ascending] {
        let mut paged = Vec::new();
        for offset in (0..all.len()).step_by(2) {
            let page = ListCommits { limit: 2, offset, order, ..list() };
            paged.extend(shas(&repository.list_commits(page).await.unwrap().commits));
        }
        if order == Order::Ascending {
            paged.reverse();
        }
        assert_eq!(paged, all);
    }

    // With `until`, pages are continued at the commit that comes next.
    let first = ListCommits { limit: 1, branch: Some("side".into()), ..list() };
    let first = repository.list_commits(first).await.unwrap();
    let until = first.next_commit.unwrap().to_string();
    let rest = ListCommits { until: Some(until.clone()), branch: Some("side".into()), ..list() };
    let rest = repository.list_commits(rest).await.unwrap();
    assert_eq!(shas(&rest.commits), [until]);

    let side = client.git(&["rev-parse", "side"]).await;
    let since = ListCommits { since: Some(side.clone()), ..list() };
    let since = shas(&repository.list_commits(since).await.unwrap().commits);
    let mut expected = client.git(&["rev-list", "main", &format!("^{side}^@")]).await;
    expected.push('\n');
    assert_eq!(since.len(), expected.lines().count());
    assert!(since.contains(&side) && since.iter().all(|sha| expected.contains(sha)));
}

#[tokio::test]
async fn every_selector_that_makes_no_sense_has_its_error() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let side = client.git(&["rev-parse", "side"]).await;
    let first_parent = client.git(&["rev-parse", "main~1^1"]).await;
    let head = client.head().await;
    let error = |request: ListCommits| {
        let repository = repository.clone();
        async move { repository.list_commits(request).await.unwrap_err() }
    };
    let refused = error(ListCommits { offset: 1, since: Some(side.clone()), ..list() }).await;
    assert!(matches!(refused, GitError::OffsetWithSelector));
    let refused = error(ListCommits { branch: Some("nope".into()), ..list() }).await;
    assert!(matches!(refused, GitError::BranchNotFound { .. }));
    let refused = error(ListCommits { since: Some("main".into()), ..list() }).await;
    assert!(matches!(refused, GitError::InvalidObjectId { .. }));
    let refused = error(ListCommits { until: Some("1".repeat(40)), ..list() }).await;
    assert!(matches!(refused, GitError::CommitNotFound { .. }));
    let outside = ListCommits { branch: Some("side".into()), until: Some(head), ..list() };
    assert!(matches!(error(outside).await, GitError::CommitNotInBranch { .. }));
    let range = ListCommits { since: Some(side), until: Some(first_parent), ..list() };
    assert!(matches!(error(range).await, GitError::InvalidRange { .. }));
}

#[tokio::test]
async fn single_objects_are_read_by_their_id() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let head = client.head().await;
    let commit = repository.commit(&head).await.unwrap();
    assert_eq!(commit.message, "change src/lib.rs\n");
    assert_eq!(
        (commit.author.name.as_str(), commit.author.email.as_str()),
        ("Ada", "ada@example.com")
    );
    let date = client.git(&["log", "-1", "--format=%aI"]).await.replace("+00:00", "Z");
    assert_eq!(commit.author.date.to_string(), date);
    assert_eq!(commit.parents.len(), 1);

    let tree = repository.tree(&commit.tree.to_string()).await.unwrap();
    assert_eq!(tree[0].name, "README.md");
    assert_eq!((tree[0].kind, tree[4].kind), (EntryKind::Blob(8), EntryKind::Tree));
    let blob = repository.blob(&tree[0].sha.to_string()).await.unwrap();
    assert_eq!(*blob.content, *b"# Hello\n");

    let wrong = tree[0].sha.to_string();
    assert!(matches!(repository.commit(&wrong).await, Err(GitError::CommitNotFound { .. })));
    assert!(matches!(repository.tree(&wrong).await, Err(GitError::TreeNotFound { .. })));
    assert!(matches!(repository.blob(&head).await, Err(GitError::BlobNotFound { .. })));
    assert!(matches!(repository.tag_object(&head).await, Err(GitError::TagNotFound { .. })));
    assert!(matches!(repository.blob("main").await, Err(GitError::InvalidObjectId { .. })));
}

#[tokio::test]
async fn branches_and_tags() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let names = |branches: Vec<freestyle_git::Branch>| -> Vec<_> {
        branches.into_iter().map(|branch| branch.name).collect()
    };
    assert_eq!(names(repository.branches().await.unwrap()), ["main", "side"]);

    let main = repository.branch("main").await.unwrap().sha;
    let new = BranchName::parse("feature/new").unwrap();
    assert_eq!(repository.create_branch(&new, None).await.unwrap().sha, main);
    let again = repository.create_branch(&new, None).await;
    assert!(matches!(again, Err(GitError::BranchExists { .. })));
    let side = client.git(&["rev-parse", "side"]).await;
    let from = BranchName::parse("from-commit").unwrap();
    let made = repository.create_branch(&from, Some(&side[..12])).await.unwrap();
    assert_eq!(made.sha.to_string(), side);
    let below = BranchName::parse("feature/new/below").unwrap();
    assert!(matches!(
        repository.create_branch(&below, None).await,
        Err(GitError::InvalidRequest(_))
    ));
    // Beside a packed ref too.
    Client::at(&server.path(&repository)).git(&["pack-refs", "--all"]).await;
    assert!(matches!(
        repository.create_branch(&below, None).await,
        Err(GitError::InvalidRequest(_))
    ));
    let above = BranchName::parse("feature").unwrap();
    assert!(matches!(
        repository.create_branch(&above, None).await,
        Err(GitError::InvalidRequest(_))
    ));
    assert_eq!(names(repository.branches().await.unwrap()).len(), 4);
    assert!(matches!(repository.branch("nope").await, Err(GitError::BranchNotFound { .. })));
    assert!(matches!(repository.branch("").await, Err(GitError::BranchNameEmpty)));
    assert!(matches!(BranchName::parse("{*branch}"), Err(GitError::InvalidRequest(_))));

    repository.set_default_branch(&from).await.unwrap();
    assert_eq!(repository.default_branch().await.unwrap(), from);
    assert!(client.git(&["ls-remote", "--symref", "origin", "HEAD"]).await.contains("from-commit"));
    let nope = BranchName::parse("nope").unwrap();
    assert!(matches!(
        repository.set_default_branch(&nope).await,
        Err(GitError::BranchNotFound { .. })
    ));

    let tags = repository.tags().await.unwrap();
    assert_eq!(tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>(), ["light", "v1.0.0"]);
    assert_eq!((tags[0].sha, tags[0].message.clone()), (tags[0].target, None));
    let tag = repository.tag("v1.0.0").await.unwrap();
    assert_eq!(tag.message.as_deref(), Some("the first\n"));
    assert_eq!(tag.sha.to_string(), client.git(&["rev-parse", "v1.0.0"]).await);
    assert_eq!(tag.target.to_string(), client.git(&["rev-parse", "v1.0.0^{}"]).await);
    assert_eq!(repository.tag_object(&tag.sha.to_string()).await.unwrap().target, tag.target);
    assert!(matches!(repository.tag("nope").await, Err(GitError::ReferenceNotFound { .. })));
    assert!(matches!(repository.tag("").await, Err(GitError::TagNameEmpty)));
    server.fsck(&repository).await;
}

#[tokio::test]
async fn comparisons_count_and_name_what_changed() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    client.git(&["checkout", "-q", "-b", "work"]).await;
    let long: String = (0..40).map(|n| format!("line {n}\n")).collect();
    client.commit("long.txt", &long).await;
    client.git(&["push", "-q", "origin", "work"]).await;
    let base = client.head().await;
    client.git(&["mv", "long.txt", "moved.txt"]).await;
    client.write("moved.txt", long.replace("line 7\n", "seven\n"));
    client.git(&["mv", "main.txt", "exact.txt"]).await;
    client.git(&["rm", "-q", "side.txt"]).await;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(client.path.join("README.md"), executable).unwrap();
    client.write("bin", [0, 1, 2]);
    client.commit("src/lib.rs", "fn two() {}\nfn three() {}\n").await;
    client.git(&["push", "-q", "origin", "work"]).await;

    let compared = repository.compare(&base, "work").await.unwrap();
    assert_eq!(
        (compared.status, compared.ahead_by, compared.behind_by),
        (CompareStatus::Ahead, 1, 0)
    );
    let renamed = |previous: &str| FileStatus::Renamed { previous: previous.to_owned() };
    let files: Vec<_> = compared
        .files
        .into_iter()
        .map(|file| (file.path, file.status, file.additions, file.deletions))
        .collect();
    assert_eq!(
        files,
        [
            ("README.md".to_owned(), FileStatus::Changed, 0, 0),
            ("bin".to_owned(), FileStatus::Added, 0, 0),
            ("exact.txt".to_owned(), renamed("main.txt"), 0, 0),
            ("moved.txt".to_owned(), renamed("long.txt"), 1, 1),
            ("side.txt".to_owned(), FileStatus::Removed, 0, 1),
            ("src/lib.rs".to_owned(), FileStatus::Modified, 1, 1),
        ]
    );
    let back = repository.compare("work", "main").await.unwrap();
    assert_eq!((back.status, back.behind_by, back.files.len()), (CompareStatus::Behind, 2, 0));
    let same = repository.compare("main", "main^0").await.unwrap();
    assert_eq!((same.status, same.files.len()), (CompareStatus::Identical, 0));
    let apart = repository.compare("main~1^2", "main~1^1").await.unwrap();
    assert_eq!((apart.status, apart.ahead_by, apart.behind_by), (CompareStatus::Diverged, 1, 1));
    assert_eq!(apart.files[0].path, "main.txt");
    let missing = repository.compare("main", &"1".repeat(40)).await;
    assert!(matches!(missing, Err(GitError::CommitNotFound { .. })));
}

#[tokio::test]
async fn archives_hold_the_files_of_a_revision() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let tar = collect(repository.archive("main~1", ArchiveFormat::Tar).await.unwrap()).await;
    let zip = collect(repository.archive("main", ArchiveFormat::Zip).await.unwrap()).await;
    let out = server.client("out");
    out.write("repo.tar", tar);
    let mut untar = std::process::Command::new("tar");
    untar.arg("-xf").arg("repo.tar").current_dir(&out.path);
    assert!(untar.status().unwrap().success());
    let read = |path: &str| std::fs::read(out.path.join(path)).unwrap();
    assert_eq!(read("src/lib.rs"), b"fn one() {}\n");
    assert_eq!(read("src/deep/down/data.bin"), [0, 159, 146, 150]);
    assert_eq!(std::fs::read_link(out.path.join("link")).unwrap().to_str(), Some("README.md"));
    client.git(&["archive", "--format=zip", "-o", "git.zip", "HEAD"]).await;
    assert!(zip == std::fs::read(client.path.join("git.zip")).unwrap());
    let missing = repository.archive("nope", ArchiveFormat::Tar).await;
    assert!(matches!(missing, Err(GitError::ReferenceNotFound { .. })));
}

#[tokio::test]
async fn an_empty_repository_answers_everything() {
    let server = Server::start().await;
    let repository = server.create().await;
    assert_eq!(repository.branches().await.unwrap(), []);
    assert_eq!(repository.tags().await.unwrap(), []);
    assert_eq!(repository.list_commits(list()).await.unwrap().commits, []);
    assert_eq!(repository.default_branch().await.unwrap().as_str(), "main");
    let contents = repository.contents("", "HEAD", false).await;
    assert!(matches!(contents, Err(GitError::ReferenceNotFound { .. })));
    let branch = BranchName::parse("new").unwrap();
    let made = repository.create_branch(&branch, None).await;
    assert!(matches!(made, Err(GitError::NoDefaultBranch)));
    repository.set_default_branch(&branch).await.unwrap();
    assert_eq!(repository.default_branch().await.unwrap(), branch);
    let archive = repository.archive("HEAD", ArchiveFormat::Zip).await;
    assert!(matches!(archive, Err(GitError::ReferenceNotFound { .. })));
}
