//! What users, and those who are none, send.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Api, assert_refused};

#[tokio::test]
async fn paths_that_mean_something_else_are_refused() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"Readme": "1", "dir/file": "2"})).await;
    let long = "a".repeat(300);
    let deep = "a/".repeat(300) + "a";
    for path in [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../../b",
        "a\0b",
        "a\nb",
        "a\u{7f}b",
        ".git",
        ".git/config",
        ".GIT/hooks/post-receive",
        "a/.git/x",
        "git~1/config",
        ".git./x",
        ".g\u{200c}it/x",
        "README",
        "DIR/other",
        "Readme/below",
        &long,
        &deep,
    ] {
        let files = json!([{"path": path, "content": "x"}]);
        let answer = repo.post("/commits", json!({"message": "m", "files": files})).await;
        assert_refused(&answer, 400, "INVALID_FILE_PATH", path);
        assert!(answer.1["path"].is_string(), "{path}");
    }
    assert_eq!(repo.got("/git/commits").await["total"], 1, "nothing was written");
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1", "dir/b": "2"})).await;
    let files = |file: Value| json!({"message": "m", "files": [file]});
    for (body, code) in [
        (files(json!({"path": "x"})), "INVALID_FILE_CHANGE"),
        (files(json!({"path": "x", "content": "1", "deleted": true})), "INVALID_FILE_CHANGE"),
        (files(json!({"path": "x", "deleted": false})), "INVALID_FILE_CHANGE"),
        (files(json!({"path": "nowhere", "deleted": true})), "INVALID_FILE_CHANGE"),
        (files(json!({"path": "dir", "deleted": true})), "INVALID_FILE_CHANGE"),
        (
            files(json!({"path": "x", "content": "?", "encoding": "base64"})),
            "INVALID_BASE64_CONTENT",
        ),
        (
            files(json!({"path": "x", "content": "YQ", "encoding": "base64"})),
            "INVALID_BASE64_CONTENT",
        ),
        (files(json!({"path": "x", "content": "1", "encoding": "latin1"})), "GIT_INVALID_REQUEST"),
        (files(json!({"path": "x", "content": 1})), "GIT_INVALID_REQUEST"),
        (files(json!({"path": "x", "content": "1", "mode": "120000"})), "GIT_INVALID_REQUEST"),
        (files(json!({"content": "1"})), "GIT_INVALID_REQUEST"),
        (json!({"message": "", "files": []}), "GIT_INVALID_REQUEST"),
        (json!({"message": "a\0b", "files": []}), "GIT_INVALID_REQUEST"),
        (json!({"message": "x".repeat(100_000), "files": []}), "GIT_INVALID_REQUEST"),
        (json!({"files": []}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m"}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m", "files": {}}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m", "files": [], "force": true}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m", "files": [], "branch": ""}), "BRANCH_NAME_EMPTY"),
        (json!({"message": "m", "files": [], "branch": "a b"}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m", "files": [], "branch": "main/x"}), "GIT_INVALID_REQUEST"),
        (json!({"message": "m", "files": [], "author": {"name": "A"}}), "GIT_INVALID_REQUEST"),
        (
            json!({"message": "m", "files": [], "author": {"name": "<", "email": "e"}}),
            "GIT_INVALID_REQUEST",
        ),
        (json!(null), "GIT_INVALID_REQUEST"),
        (json!([]), "GIT_INVALID_REQUEST"),
    ] {
        let answer = repo.post("/commits", body.clone()).await;
        assert_refused(&answer, 400, code, &body.to_string().chars().take(100).collect::<String>());
    }
    let twice = json!([{"path": "x", "content": "1"}, {"path": "x", "content": "2"}]);
    let answer = repo.post("/commits", json!({"message": "m", "files": twice})).await;
    assert_refused(&answer, 400, "INVALID_FILE_CHANGE", "twice");
    assert_eq!(repo.got("/git/commits").await["total"], 1, "nothing was written");
}

#[tokio::test]
async fn what_is_too_large_is_refused_in_words() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let many: Vec<_> = (0..20_001).map(|n| json!({"path": n.to_string(), "content": ""})).collect();
    let answer = repo.post("/commits", json!({"message": "m", "files": many})).await;
    assert_refused(&answer, 400, "GIT_INVALID_REQUEST", "too many files");
    assert!(answer.1["message"].as_str().unwrap().contains("20000 files"), "{}", answer.1);

    let content = "x".repeat(142 << 20);
    let answer = repo
        .post("/commits", json!({"message": "m", "files": [{"path": "x", "content": content}]}));
    let answer = answer.await;
    assert_refused(&answer, 400, "GIT_INVALID_REQUEST", "too large");
    assert!(answer.1["message"].as_str().unwrap().contains("100 MiB"), "{}", answer.1);
    assert_eq!(repo.got("/git/refs/heads/").await["branches"], json!([]));
}

#[tokio::test]
async fn what_a_push_brought_is_content_and_nothing_else() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"plain": "text"})).await;
    // A link out of the repository, a link into itself and a submodule, as only git can make them.
    let git = |arguments: &[&str], input: &str| api.git(&repo.id, arguments, input);
    let link = git(&["hash-object", "-w", "--stdin"], "/etc/passwd");
    let tip = git(&["rev-parse", "main"], "");
    let blob = git(&["rev-parse", "main:plain"], "");
    let entries = format!(
        "120000 blob {link}\tlink\n160000 commit {tip}\tmodule\n100755 blob {blob}\trun\n100644 blob {blob}\tplain\n",
    );
    let tree = git(&["mktree"], &entries);
    let commit = git(&["commit-tree", "-m", "odd", "-p", "main", &tree], "");
    git(&["update-ref", "refs/heads/main", &commit], "");

    let root = repo.got("/contents/").await;
    let names: Vec<_> =
        root["entries"].as_array().unwrap().iter().map(|e| e["name"].clone()).collect();
    assert_eq!(names, ["link", "plain", "run"], "a submodule has nothing to show");
    let file = repo.got("/contents/link").await;
    assert_eq!(STANDARD.decode(file["content"].as_str().unwrap()).unwrap(), b"/etc/passwd");
    assert_refused(&repo.get("/contents/link/x").await, 404, "PATH_NOT_FOUND", "through a link");
    assert_refused(&repo.get("/contents/module").await, 404, "CONTENT_NOT_FOUND", "a submodule");
    assert_refused(&repo.get("/contents/module/x").await, 404, "PATH_NOT_FOUND", "below one");
    let found = repo.got("/search?query=passwd").await;
    assert_eq!(found["totalFiles"], 0, "a link is no file to search");
    let files = json!([{"path": "link", "content": "now a file"}, {"path": "run", "content": "2"}]);
    let (status, answer) = repo.post("/commits", json!({"message": "m", "files": files})).await;
    assert_eq!(status, 200, "{answer}");
    let modes = git(&["ls-tree", "main"], "");
    assert!(modes.contains("100644 blob") && !modes.contains("120000"), "{modes}");
    assert!(modes.contains("100755 blob") && modes.contains("160000 commit"), "{modes}");
}

#[tokio::test]
async fn an_ambiguous_prefix_is_told_apart_from_one_that_is_nothing() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    // Of so many commits, two begin with the same four digits.
    let ids = api.git(&repo.id, &["fast-import", "--quiet"], &many_commits(1500));
    assert_eq!(ids, "");
    let ids = api.git(&repo.id, &["rev-list", "main"], "");
    let mut prefixes: Vec<_> = ids.lines().map(|id| &id[..4]).collect();
    prefixes.sort_unstable();
    let twice = prefixes.windows(2).find(|pair| pair[0] == pair[1]).expect("a birthday")[0];
    for path in [format!("/contents/?rev={twice}"), format!("/search?query=x&rev={twice}")] {
        let answer = repo.get(&path).await;
        assert_refused(&answer, 400, "AMBIGUOUS", &path);
        assert_eq!(answer.1["rev"], twice);
    }
}

/// The input of `git fast-import`.
fn many_commits(count: usize) -> String {
    let commit = |n| format!("commit refs/heads/main\ncommitter A <a@b.c> {n} +0000\ndata 1\nx\n");
    (0..count).map(commit).collect()
}

#[tokio::test]
async fn tags_are_listed_and_found_with_and_without_an_object() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1"})).await;
    let tip = repo.got("/git/refs/heads/main").await["sha"].clone();
    api.git(&repo.id, &["tag", "light/weight", "main"], "");
    api.git(&repo.id, &["tag", "-m", "The first", "v1.0.0", "main"], "");

    let list = repo.got("/git/refs/tags/").await;
    assert_eq!(repo.got("/git/refs/tags").await, list);
    let (light, full) = (&list["tags"][0], &list["tags"][1]);
    assert_eq!(
        *light,
        json!({
            "name": "light/weight", "tagger": null, "message": null, "target": {"sha": tip}, "sha": tip,
        })
    );
    assert_eq!((&full["name"], &full["target"]["sha"]), (&json!("v1.0.0"), &tip));
    assert_eq!((&full["message"], &full["tagger"]["name"]), (&json!("The first\n"), &json!("A")));
    assert_eq!(repo.got("/git/refs/tags/light%2Fweight").await, *light);
    assert_eq!(repo.got("/git/refs/tags/light/weight").await, *light);
    assert_eq!(repo.got("/git/refs/tags/v1.0.0").await, *full);
    assert_eq!(repo.got(&format!("/git/tags/{}", full["sha"].as_str().unwrap())).await, *full);
    assert_eq!(repo.got("/contents/a?rev=v1.0.0").await["name"], "a");
    let missing = repo.get("/git/refs/tags/v2").await;
    assert_refused(&missing, 404, "REFERENCE_NOT_FOUND", "a tag");
    assert_eq!(missing.1["reference"], "refs/tags/v2");
    let (_, listed) = api.ask("GET", "/git/v1/repo", Value::Null).await;
    let tags = &listed["repositories"][0]["tags"];
    assert_eq!(tags["light/weight"]["target"], tip);
    assert_eq!(tags["v1.0.0"]["target"], full["sha"]);
}
