//! Upkeep makes no difference but in speed, whatever goes on meanwhile.

use freestyle_git::{BranchName, ListCommits, Repository};

use crate::support::{Client, Server, new_commit};

/// What everybody sees: refs, and all that they reach.
async fn everything(judge: &Client) -> String {
    let refs = judge.git(&["for-each-ref"]).await;
    refs + &judge.git(&["rev-list", "--objects", "--all"]).await
}

/// A repository of many small commits, pushes and branches.
async fn worn(server: &Server) -> (Repository, Client) {
    let repository = server.create().await;
    repository.create_commit(new_commit("main", &[("start", "")])).await.unwrap();
    let client = server.clone_of(&repository, "writer").await;
    for n in 0..18 {
        client.commit("pushed", format!("{n}")).await;
        client.git(&["push", "-q", "origin", "main"]).await;
    }
    for n in 0..40 {
        let content = n.to_string();
        let commit = new_commit("main", &[("made/by/api", content.as_str())]);
        repository.create_commit(commit).await.unwrap();
    }
    for n in 0..260 {
        let name = BranchName::parse(&format!("branch/{n}")).unwrap();
        repository.create_branch(&name, None).await.unwrap();
    }
    (repository, client)
}

#[tokio::test]
async fn a_repository_is_the_same_after_upkeep_and_smaller() {
    let server = Server::start().await;
    let (repository, client) = worn(&server).await;
    let judge = Client::at(&server.path(&repository));
    let before = everything(&judge).await;
    assert!(repository.upkeep().await.unwrap());
    assert_eq!(everything(&judge).await, before);
    let packs = judge.git(&["count-objects", "-v"]).await;
    assert!(packs.contains("packs: 1\n") && packs.contains("count: 0\n"), "{packs}");
    assert!(!server.path(&repository).join("refs/heads/main").exists());
    assert!(server.path(&repository).join("objects/info/commit-graph").exists());
    assert!(!repository.upkeep().await.unwrap());

    // Everything goes on as before.
    assert_eq!(repository.branches().await.unwrap().len(), 261);
    let all = ListCommits { limit: 100, with_total: true, ..ListCommits::default() };
    assert_eq!(repository.list_commits(all).await.unwrap().total, Some(59));
    let compared = repository.compare("main~30", "main").await.unwrap();
    assert_eq!((compared.ahead_by, compared.files.len()), (30, 1));
    repository.create_commit(new_commit("main", &[("after", "x")])).await.unwrap();
    client.git(&["pull", "-q"]).await;
    client.commit("pushed", "after").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    assert_eq!(repository.fsck().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_first_push_is_prepared_for_clones() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "writer").await;
    for n in 0..10_100 {
        client.write(&format!("{}/{n}", n % 100), n.to_string());
    }
    client.git(&["add", "-A"]).await;
    client.git(&["commit", "-q", "-m", "large"]).await;
    client.git(&["push", "-q", "origin", "HEAD:main"]).await;
    assert!(repository.upkeep().await.unwrap());
    let packs = server.path(&repository).join("objects/pack");
    let names = std::fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().ends_with(".bitmap")));
    assert!(!repository.upkeep().await.unwrap());
    server.fsck(&repository).await;
}

#[tokio::test]
async fn reads_and_commits_go_on_during_upkeep() {
    let server = Server::start().await;
    let (repository, _) = worn(&server).await;
    let upkeep = repository.upkeep();
    let work = async {
        for n in 0..60 {
            let content = n.to_string();
            let path = format!("during/{n}");
            repository.create_commit(new_commit("main", &[(&path, &content)])).await.unwrap();
            repository.contents(&path, "main", false).await.unwrap();
            repository.contents("pushed", "main~40", false).await.unwrap();
            assert_eq!(repository.branches().await.unwrap().len(), 261);
            repository.branch("branch/7").await.unwrap();
        }
    };
    let (done, ()) = tokio::join!(upkeep, work);
    assert!(done.unwrap());
    server.fsck(&repository).await;
}

#[tokio::test]
async fn fsck_says_what_is_broken() {
    let server = Server::start().await;
    let repository = server.create().await;
    let made = repository.create_commit(new_commit("main", &[("a", "1")])).await.unwrap();
    assert_eq!(repository.fsck().await.unwrap(), Vec::<String>::new());
    let tree = made.commit.tree.to_string();
    let object = server.path(&repository).join("objects").join(&tree[..2]).join(&tree[2..]);
    std::fs::remove_file(object).unwrap();
    let problems = repository.fsck().await.unwrap();
    assert!(problems.iter().any(|problem| problem.contains(&tree)), "{problems:?}");
}
