//! Commits made through the API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Api, Repo, assert_refused};

async fn content(repo: &Repo<'_>, path: &str, rev: &str) -> Vec<u8> {
    let file = repo.got(&format!("/contents/{path}?rev={rev}")).await;
    STANDARD.decode(file["content"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_commit_writes_text_and_bytes_and_deletes() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"old": "1", "kept": "2"})).await;
    let parent = repo.got("/git/refs/heads/main").await["sha"].clone();
    let files = json!([
        {"path": "text", "content": "grüße\n"},
        {"path": "bytes", "content": STANDARD.encode(b"\x00\xff\n"), "encoding": "base64"},
        {"path": "old", "deleted": true},
        {"path": "new/deep/file", "content": "", "encoding": "utf8"},
    ]);
    let author = json!({"name": "Ada L", "email": "ada@example.com"});
    let body = json!({"message": "Change", "files": files, "author": author});

    let (status, answer) = repo.post("/commits", body).await;

    assert_eq!(status, 200, "{answer}");
    let commit = &answer["commit"];
    assert_eq!(commit["message"], "Change\n");
    assert_eq!(commit["parents"], json!([{"sha": parent}]));
    for who in ["author", "committer"] {
        assert_eq!(
            (&commit[who]["name"], &commit[who]["email"]),
            (&json!("Ada L"), &json!("ada@example.com"))
        );
        assert!(commit[who]["date"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(content(&repo, "text", "main").await, "grüße\n".as_bytes());
    assert_eq!(content(&repo, "bytes", "main").await, b"\x00\xff\n");
    assert_eq!(content(&repo, "new/deep/file", "main").await, b"");
    assert_eq!(content(&repo, "kept", "main").await, b"2");
    assert_refused(&repo.get("/contents/old").await, 404, "PATH_NOT_FOUND", "deleted");
    assert_eq!(repo.got("/git/refs/heads/main").await["sha"], commit["sha"]);
}

#[tokio::test]
async fn a_branch_that_is_not_there_is_made() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    // The first commit of an empty repository, on its default branch.
    let first = repo.post("/commits", json!({"message": "m", "files": []})).await;
    assert_eq!((first.0, &first.1["commit"]["parents"]), (200, &json!([])));
    assert_eq!(first.1["commit"]["author"]["name"], "Freestyle");
    let orphan = repo.commit("feature/ä", "a", "1").await;
    assert_eq!(repo.got("/git/refs/heads/feature%2F%C3%A4").await["sha"], orphan);
    assert_eq!(repo.got(&format!("/git/commits/{orphan}")).await["parents"], json!([]));
}

#[tokio::test]
async fn an_expected_parent_must_be_there() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let first = repo.commit("main", "a", "1").await;
    let second = repo.commit("main", "a", "2").await;
    let expecting = async |sha: &str, branch: &str| {
        let files = json!([{"path": "a", "content": "3"}]);
        let body = json!({"message": "m", "branch": branch, "files": files, "expectedSha": sha});
        repo.post("/commits", body).await
    };
    let refused = expecting(&first, "main").await;
    assert_refused(&refused, 409, "CONFLICTING_PARENT", "moved");
    assert_eq!((&refused.1["expected"], &refused.1["actual"]), (&json!(first), &json!(second)));
    let refused = expecting(&first, "nowhere").await;
    assert_refused(&refused, 409, "CONFLICTING_PARENT", "no branch");
    assert_eq!(refused.1["actual"], Value::Null);
    assert_refused(&expecting("main", "main").await, 400, "GIT_INVALID_REQUEST", "no id");
    assert_eq!(expecting(&second, "main").await.0, 200);
}

#[tokio::test]
async fn of_two_writers_who_expect_the_same_one_wins_and_others_both_land() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let tip = repo.commit("main", "a", "0").await;
    let write = async |path: &str, expected: Option<&str>| {
        let files = json!([{"path": path, "content": "x"}]);
        let body = json!({"message": "m", "files": files, "expectedSha": expected});
        repo.post("/commits", body).await
    };
    let (one, two) = tokio::join!(write("b", Some(&tip)), write("c", Some(&tip)));
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);

    let (one, two) = tokio::join!(write("d", None), write("e", None));
    assert_eq!([one.0, two.0], [200, 200]);
    assert_eq!(repo.got("/git/commits").await["total"], 4);
    for path in ["d", "e"] {
        assert_eq!(content(&repo, path, "main").await, b"x");
    }
}

#[tokio::test]
async fn a_commit_of_a_tree_that_is_there_belongs_to_no_branch() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1"})).await;
    let first = repo.got("/git/commits").await["commits"][0].clone();
    let (parent, tree) = (first["sha"].clone(), first["tree"]["sha"].clone());
    let author = json!({"name": "Ada", "email": "a@b.c", "date": "2024-02-29T18:04:56+05:30"});
    let body = json!({"message": "By hand", "tree": tree, "parents": [parent], "author": author});

    let (status, answer) = repo.post("/git/commits", body.clone()).await;

    assert_eq!(status, 200, "{answer}");
    let commit = &answer["commit"];
    assert_eq!((&commit["tree"]["sha"], &commit["parents"]), (&tree, &json!([{"sha": parent}])));
    assert_eq!(
        commit["author"],
        json!({"name": "Ada", "email": "a@b.c", "date": "2024-02-29T18:04:56+05:30"})
    );
    assert_eq!(commit["committer"], commit["author"]);
    assert_eq!(repo.got("/git/refs/heads/main").await["sha"], parent, "no branch moved");
    let branch = json!({"sha": commit["sha"]});
    assert_eq!(repo.post("/git/refs/heads/by-hand", branch).await.0, 200);
    assert_eq!(content(&repo, "a", "by-hand").await, b"1");

    let nothing = "0123456789012345678901234567890123456789";
    let with = |field: &str, value: Value| {
        let mut body = body.clone();
        body[field] = value;
        body
    };
    let dated = |date: &str| json!({"name": "A", "email": "a@b.c", "date": date});
    for (body, status, code) in [
        (with("tree", json!(nothing)), 404, "TREE_NOT_FOUND"),
        (with("tree", parent.clone()), 404, "TREE_NOT_FOUND"),
        (with("tree", json!("main")), 400, "INVALID_OBJECT_ID"),
        (with("parents", json!([nothing])), 404, "PARENT_NOT_FOUND"),
        (with("parents", json!([tree])), 404, "PARENT_NOT_FOUND"),
        (with("parents", json!(["x"])), 400, "INVALID_OBJECT_ID"),
        (with("parents", json!(vec![parent.clone(); 65])), 400, "GIT_INVALID_REQUEST"),
        (with("message", json!(" ")), 400, "GIT_INVALID_REQUEST"),
        (with("author", dated("yesterday")), 400, "GIT_INVALID_REQUEST"),
        (with("author", dated("2024-02-30T00:00:00Z")), 400, "GIT_INVALID_REQUEST"),
        (with("author", json!({"name": "A\nB", "email": "x"})), 400, "GIT_INVALID_REQUEST"),
        (with("committer", json!({"name": "", "email": "x"})), 400, "GIT_INVALID_REQUEST"),
    ] {
        let answer = repo.post("/git/commits", body.clone()).await;
        assert_refused(&answer, status, code, &body.to_string());
    }
}

#[tokio::test]
async fn a_commit_of_ten_thousand_files_is_one_call() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let files: Vec<_> = (0..10_000)
        .map(|n| json!({"path": format!("dir{}/file{n}", n % 100), "content": format!("{n}\n")}))
        .collect();
    let (status, answer) = repo.post("/commits", json!({"message": "m", "files": files})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(repo.got("/search/files?query=file&maxResults=1").await["totalFiles"], 10_000);
    assert_eq!(content(&repo, "dir42/file4242", "main").await, b"4242\n");
}
