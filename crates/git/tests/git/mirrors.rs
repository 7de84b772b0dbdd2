//! Two repositories that are compared and moved towards each other, through real `git`.

use freestyle_git::{Moved, ObjectId, PushedRef, RefUpdate, Remote, Repository};

use crate::imports::Case;

fn update(name: &str, old: Option<ObjectId>, new: Option<ObjectId>) -> RefUpdate {
    RefUpdate { name: name.to_owned(), old, new }
}

/// What the source is at, as another repository sees it.
async fn mirrored(repository: &Repository, remote: &Remote, name: &str) -> Option<ObjectId> {
    let refs = repository.mirror(remote).await.unwrap();
    refs.into_iter().find_map(|(found, at)| (found == name).then_some(at))
}

fn id(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).unwrap()
}

async fn push_one(repository: &Repository, remote: &Remote, update: RefUpdate) -> PushedRef {
    repository.push(remote, vec![update]).await.unwrap().remove(0)
}

const MAIN: &str = "refs/heads/main";

#[tokio::test]
async fn what_a_remote_has_is_brought_out_of_sight() {
    let case = Case::new().await;
    let repository = case.server.create().await;

    let refs = repository.mirror(&case.remote).await.unwrap();

    let names: Vec<_> = refs.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["refs/heads/feature/x", MAIN, "refs/tags/light", "refs/tags/v1"];
    assert_eq!(names, expected);
    assert_eq!(repository.refs().await.unwrap(), []);
    let client = case.server.client("looker");
    let url = case.server.url(&repository);
    assert_eq!(client.git(&["ls-remote", &url]).await, "");
    let hidden = "refs/internal/remote/heads/main";
    assert!(client.try_git(&["fetch", &url, hidden]).await.status.code() != Some(0));
    assert!(repository.list_commits(revisions(hidden)).await.is_err());
    // What is gone there is gone here, and an empty one is no failure.
    case.writer.git(&["push", "-q", "origin", ":feature/x", ":light", ":v1"]).await;
    assert_eq!(repository.mirror(&case.remote).await.unwrap().len(), 1);
    let empty = case.server.create().await;
    let remote = Remote { url: case.server.url(&empty), ..case.remote.clone() };
    assert_eq!(repository.mirror(&remote).await.unwrap(), []);
    case.server.fsck(&repository).await;
}

fn revisions(branch: &str) -> freestyle_git::ListCommits {
    freestyle_git::ListCommits { branch: Some(branch.to_owned()), limit: 1, ..Default::default() }
}

#[tokio::test]
async fn refs_go_to_where_the_remote_has_them_and_only_from_where_they_were() {
    let case = Case::new().await;
    let repository = case.server.create().await;
    let main = mirrored(&repository, &case.remote, MAIN).await.unwrap();
    let tag = mirrored(&repository, &case.remote, "refs/tags/v1").await.unwrap();
    let feature = mirrored(&repository, &case.remote, "refs/heads/feature/x").await.unwrap();
    let moved = async |update: RefUpdate| repository.move_ref(&update).await.unwrap();

    assert_eq!(moved(update(MAIN, None, Some(main))).await, Moved::Done);
    assert_eq!(moved(update("refs/tags/v1", None, Some(tag))).await, Moved::Done);
    assert_eq!(moved(update(MAIN, None, Some(feature))).await, Moved::Stale);
    assert_eq!(moved(update(MAIN, Some(feature), Some(main))).await, Moved::Stale);
    let beside = moved(update("refs/heads/main/x", None, Some(main))).await;
    assert!(matches!(beside, Moved::Refused(_)), "{beside:?}");
    assert_eq!(repository.branch("main").await.unwrap().sha, main);
    assert_eq!(repository.tag("v1").await.unwrap().name, "v1");
    assert_eq!(moved(update(MAIN, Some(main), Some(feature))).await, Moved::Done);
    assert_eq!(moved(update(MAIN, Some(main), None)).await, Moved::Stale);
    assert_eq!(moved(update(MAIN, Some(feature), None)).await, Moved::Done);
    assert!(repository.branch("main").await.is_err());

    let known = repository.ancestry(vec![(main, feature), (feature, main)]).await.unwrap();
    assert_eq!((known[&(main, feature)], known[&(feature, main)]), (true, false));
    case.server.fsck(&repository).await;
}

#[tokio::test]
async fn a_push_moves_forward_makes_and_deletes_but_overwrites_nothing() {
    let case = Case::new().await;
    let repository = case.server.create().await;
    let (remote, there) = (&case.remote, &case.writer);
    let main = mirrored(&repository, remote, MAIN).await;
    let tag = mirrored(&repository, remote, "refs/tags/v1").await;
    repository.move_ref(&update(MAIN, None, main)).await.unwrap();
    let here = case.server.clone_of(&repository, "here").await;
    let ours = id(&here.commit("ours", "1").await);
    here.git(&["push", "-q", "origin", "main"]).await;

    let steps = vec![
        update(MAIN, main, Some(ours)),
        update("refs/heads/new/branch", None, Some(ours)),
        update("refs/tags/new", None, Some(ours)),
        update(
            "refs/heads/feature/x",
            mirrored(&repository, remote, "refs/heads/feature/x").await,
            None,
        ),
    ];
    for pushed in repository.push(remote, steps.clone()).await.unwrap() {
        assert_eq!(pushed.refusal, None, "{pushed:?}");
    }
    for step in &steps {
        assert_eq!(mirrored(&repository, remote, &step.name).await, step.new, "{}", step.name);
    }

    // Someone was faster there.
    there.git(&["checkout", "-q", "main"]).await;
    there.git(&["pull", "-q", "origin", "main"]).await;
    let theirs = id(&there.commit("theirs", "1").await);
    there.git(&["push", "-q", "origin", "main"]).await;
    let ours_too = id(&here.commit("ours", "2").await);
    here.git(&["push", "-q", "origin", "main"]).await;
    for refused in [
        update(MAIN, Some(ours), Some(ours_too)),
        update(MAIN, Some(ours), None),
        // Older ones, and tags, are not overwritten either.
        update(MAIN, Some(theirs), main),
        update("refs/tags/v1", tag, Some(ours)),
    ] {
        let pushed = push_one(&repository, remote, refused).await;
        assert!(pushed.is_stale && pushed.refusal.is_some(), "{pushed:?}");
    }
    assert_eq!(mirrored(&repository, remote, MAIN).await, Some(theirs));
    assert_eq!(mirrored(&repository, remote, "refs/tags/v1").await, tag);
    // Now that it is known what is there, too.
    let diverged = push_one(&repository, remote, update(MAIN, Some(theirs), Some(ours_too))).await;
    assert!(diverged.is_stale, "{diverged:?}");
    assert_eq!(mirrored(&repository, remote, MAIN).await, Some(theirs));
    // What the remote itself refuses is told in its words, and is not stale.
    let odd = push_one(&repository, remote, update("refs/heads/main/x", None, Some(ours))).await;
    assert!(!odd.is_stale && odd.refusal.is_some(), "{odd:?}");
    case.server.fsck(&repository).await;
}
