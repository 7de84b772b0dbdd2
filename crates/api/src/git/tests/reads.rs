//! Contents, objects, branches, tags, commits, comparisons and archives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Api, Repo, assert_refused};

fn names(directory: &Value) -> Vec<&str> {
    let entries = directory["entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn files_and_directories_are_read_by_any_spelling_of_their_path() {
    let api = Api::start().await;
    let repo =
        api.with_files(json!({"README.md": "# Hi\n", "src/deep/a b.rs": "fn a() {}\n"})).await;

    let root = repo.got("/contents/").await;
    assert_eq!(
        (&root["type"], &root["name"], &root["path"]),
        (&json!("dir"), &json!(""), &json!(""))
    );
    assert_eq!(names(&root), ["README.md", "src"]);
    assert_eq!(
        root["entries"][0],
        json!({
            "type": "file",
            "name": "README.md",
            "path": "README.md",
            "sha": root["entries"][0]["sha"],
            "size": 5,
        })
    );
    assert_eq!(root["entries"][1]["entries"], json!([]), "only with recursive");
    assert_eq!(repo.got("/contents").await, root, "without the slash");
    let all = repo.got("/contents/?recursive=true").await;
    assert_eq!(all["entries"][1]["entries"][0]["entries"][0]["path"], "src/deep/a b.rs");

    let file = repo.got("/contents/src%2Fdeep%2Fa%20b.rs").await;
    assert_eq!(
        file,
        json!({
            "type": "file",
            "name": "a b.rs",
            "path": "src/deep/a b.rs",
            "sha": all["entries"][1]["entries"][0]["entries"][0]["sha"],
            "size": 10,
            "content": STANDARD.encode("fn a() {}\n"),
        })
    );
    for spelling in ["/contents/src/deep/a%20b.rs", "/contents//src/deep/a%20b.rs?rev=HEAD"] {
        assert_eq!(repo.got(spelling).await, file, "{spelling}");
    }
    assert_eq!(names(&repo.got("/contents/src%2Fdeep").await), ["a b.rs"]);
    assert_eq!(names(&repo.got("/contents/src/").await), ["deep"]);
}

#[tokio::test]
async fn a_file_is_read_at_a_branch_a_tag_a_commit_and_what_follows_from_them() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let first = repo.commit("main", "a", "1").await;
    let second = repo.commit("main", "a", "2").await;
    let (status, _) = repo.post("/git/refs/heads/feature%2Fone", json!({"sha": first})).await;
    assert_eq!(status, 200);
    for (rev, content) in [
        ("main", "2"),
        ("refs%2Fheads%2Fmain", "2"),
        ("HEAD", "2"),
        ("main~1", "1"),
        ("main%5E", "1"),
        ("feature%2Fone", "1"),
        ("feature/one", "1"),
        (first.as_str(), "1"),
        (&first[..7], "1"),
        (&second[..12], "2"),
    ] {
        let file = repo.got(&format!("/contents/a?rev={rev}")).await;
        assert_eq!(file["content"], STANDARD.encode(content), "{rev}");
    }
    for (rev, status, code) in [
        ("nowhere", 404, "REFERENCE_NOT_FOUND"),
        ("main~9", 400, "INVALID_REVISION"),
        ("", 400, "INVALID"),
        ("a..b", 400, "INVALID"),
        ("main:a", 400, "INVALID"),
        ("HEAD%40%7B1%7D", 400, "INVALID"),
        ("%00", 400, "INVALID"),
        ("-x", 400, "INVALID"),
        (&"a".repeat(2000), 400, "INVALID"),
    ] {
        let answer = repo.get(&format!("/contents/a?rev={rev}")).await;
        assert_refused(&answer, status, code, rev);
    }
    let answer = repo.get("/contents/b").await;
    assert_refused(&answer, 404, "PATH_NOT_FOUND", "a path");
    assert_eq!(answer.1["path"], "b");
    for bad in ["/contents/%", "/contents/%ff", "/contents/a?ref=main", "/contents/a?recursive=x"] {
        let (status, body) = repo.get(bad).await;
        assert_eq!((status, &body["code"]), (400, &json!("GIT_INVALID_REQUEST")), "{bad}: {body}");
    }
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let content: Vec<u8> = (0..3_000_001u32).map(|n| (n % 251) as u8).collect();
    let encoded = STANDARD.encode(&content);
    let file = json!({"path": "big", "content": encoded, "encoding": "base64"});
    let (status, answer) = repo.post("/commits", json!({"message": "m", "files": [file]})).await;
    assert_eq!(status, 200, "{answer}");
    let file = repo.got("/contents/big").await;
    assert_eq!((&file["size"], file["content"] == *encoded), (&json!(content.len()), true));
    let blob = repo.got(&format!("/git/blobs/{}", file["sha"].as_str().unwrap())).await;
    assert_eq!((&blob["encoding"], blob["content"] == *encoded), (&json!("base64"), true));
    assert_eq!((&blob["sha"], &blob["size"]), (&file["sha"], &json!(content.len())));
}

#[tokio::test]
async fn objects_are_read_by_their_ids_and_as_what_they_are() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1", "src/b": "22"})).await;
    let commit = repo.got("/git/commits").await["commits"][0].clone();
    let (commit_id, tree_id) =
        (commit["sha"].as_str().unwrap(), commit["tree"]["sha"].as_str().unwrap());
    assert_eq!(repo.got(&format!("/git/commits/{commit_id}")).await, commit);
    assert_eq!(repo.got(&format!("/git/commits/{}", &commit_id[..8])).await, commit);

    let tree = repo.got(&format!("/git/trees/{tree_id}")).await;
    let (blob, inner) = (&tree["tree"][0], &tree["tree"][1]);
    assert_eq!((&tree["sha"], &inner["type"]), (&json!(tree_id), &json!("tree")));
    assert_eq!(*blob, json!({"type": "blob", "path": "a", "sha": blob["sha"], "size": 1}));
    let blob_id = blob["sha"].as_str().unwrap();
    let blob = repo.got(&format!("/git/blobs/{blob_id}")).await;
    assert_eq!(blob["content"], STANDARD.encode("1"));

    let nothing = "0123456789012345678901234567890123456789";
    for (kind, of_another_kind, code) in [
        ("blobs", tree_id, "BLOB_NOT_FOUND"),
        ("trees", blob_id, "TREE_NOT_FOUND"),
        ("commits", tree_id, "COMMIT_NOT_FOUND"),
        ("tags", commit_id, "TAG_NOT_FOUND"),
    ] {
        for id in [of_another_kind, nothing] {
            let answer = repo.get(&format!("/git/{kind}/{id}")).await;
            assert_refused(&answer, 404, code, kind);
        }
        for bad in ["x", "zz23456789012345678901234567890123456789", "main", "%00", "a%2Fb"] {
            let answer = repo.get(&format!("/git/{kind}/{bad}")).await;
            assert_refused(&answer, 400, "INVALID_OBJECT_ID", bad);
        }
    }
}

#[tokio::test]
async fn branches_are_listed_found_and_made() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let tip = repo.commit("main", "a", "1").await;

    let odd = "feature%2F%C3%BCml%C3%A4ut%20x";
    let refused = repo.post(&format!("/git/refs/heads/{odd}"), json!({})).await;
    assert_refused(&refused, 400, "GIT_INVALID_REQUEST", "a space");
    let made = repo.post("/git/refs/heads/feature%2F%C3%BCml%C3%A4ut", json!({})).await;
    let expected = json!({"name": "refs/heads/feature/ümläut", "sha": tip});
    assert_eq!(made, (200, expected.clone()));
    assert_eq!(repo.got("/git/refs/heads/feature%2F%C3%BCml%C3%A4ut").await, expected);
    assert_eq!(repo.got("/git/refs/heads/feature/%C3%BCml%C3%A4ut").await, expected);
    let made = repo.post("/git/refs/heads/plain/slash", json!({"sha": &tip[..8]})).await;
    assert_eq!(made.1["name"], "refs/heads/plain/slash");
    let list = repo.got("/git/refs/heads/").await;
    assert_eq!(
        list["branches"],
        json!([
            {"name": "feature/ümläut", "commit": tip},
            {"name": "main", "commit": tip},
            {"name": "plain/slash", "commit": tip},
        ])
    );
    assert_eq!(repo.got("/git/refs/heads").await, list);

    let nothing = "0123456789012345678901234567890123456789";
    for (name, body, status, code) in [
        ("main", json!({}), 409, "BRANCH_ALREADY_EXISTS"),
        ("x", json!({"sha": nothing}), 404, "COMMIT_NOT_FOUND"),
        ("x", json!({"sha": "main"}), 400, "INVALID_OBJECT_ID"),
        ("a..b", json!({}), 400, "GIT_INVALID_REQUEST"),
        ("main%2Fbelow", json!({}), 400, "GIT_INVALID_REQUEST"),
        ("%00", json!({}), 400, "GIT_INVALID_REQUEST"),
        ("x.lock", json!({}), 400, "GIT_INVALID_REQUEST"),
        ("x", json!({"name": "y"}), 400, "GIT_INVALID_REQUEST"),
    ] {
        let answer = repo.post(&format!("/git/refs/heads/{name}"), body).await;
        assert_refused(&answer, status, code, name);
    }
    let missing = repo.get("/git/refs/heads/nowhere").await;
    assert_refused(&missing, 404, "BRANCH_NOT_FOUND", "a branch");
    assert_eq!(missing.1["branch"], "nowhere");
}

#[tokio::test]
async fn the_placeholder_of_the_sdk_is_told_what_to_do() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1"})).await;
    for body in [json!({}), Value::Null] {
        let answer = repo.post("/git/refs/heads/%7B*branch%7D", body).await;
        assert_refused(&answer, 400, "BRANCH_NAME_EMPTY", "the placeholder");
        assert!(answer.1["message"].as_str().unwrap().contains("git/refs/heads/<name>"));
    }
}

#[tokio::test]
async fn the_default_branch_can_be_changed_to_one_that_exists() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let put = async |branch: &str| {
        let body = json!({"defaultBranch": branch});
        api.ask("PUT", &repo.path("/default-branch"), body).await
    };
    assert_eq!(put("trunk").await, (200, json!({})), "an empty repository takes any");
    assert_eq!(repo.got("/default-branch").await, json!({"defaultBranch": "trunk"}));
    repo.commit("trunk", "a", "1").await;
    assert_refused(&put("nowhere").await, 404, "BRANCH_NOT_FOUND", "nowhere");
    assert_refused(&put("").await, 400, "BRANCH_NAME_EMPTY", "empty");
    repo.post("/git/refs/heads/other", json!({})).await;
    assert_eq!(put("other").await, (200, json!({})));
    assert_eq!(repo.got("/default-branch").await["defaultBranch"], "other");
}

#[tokio::test]
async fn commits_are_listed_by_every_selector() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(repo.commit("main", "a", &n.to_string()).await);
    }
    let shas = |list: &Value| -> Vec<String> {
        let commits = list["commits"].as_array().unwrap().iter();
        commits.map(|commit| commit["sha"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();

    let all = repo.got("/git/commits").await;
    assert_eq!(shas(&all), newest_first);
    assert_eq!(all["limit"], 50);
    assert_eq!((&all["count"], &all["total"], &all["offset"]), (&json!(6), &json!(6), &json!(0)));
    assert_eq!((&all["order"], &all["selector"]), (&json!("desc"), &Value::Null));
    assert_eq!(all["next_commit"], Value::Null);

    let page = repo.got("/git/commits?limit=2&offset=1&branch=main").await;
    assert_eq!(shas(&page), newest_first[1..3]);
    assert_eq!((&page["next_commit"], &page["total"]), (&json!(newest_first[3]), &json!(6)));
    assert_eq!(shas(&repo.got("/git/commits?order=asc&limit=2").await), ids[..2]);
    let quiet = repo.got("/git/commits?disableTotalCount=true").await;
    assert_eq!(quiet["total"], Value::Null);

    let since = repo.got(&format!("/git/commits?since={}", ids[3])).await;
    assert_eq!(shas(&since), newest_first[..3]);
    assert_eq!((&since["selector"], &since["offset"]), (&json!({"Since": ids[3]}), &Value::Null));
    let until = repo.got(&format!("/git/commits?until={}", ids[2])).await;
    assert_eq!(
        (shas(&until), &until["selector"]),
        (newest_first[3..].to_vec(), &json!({"Until": ids[2]}))
    );
    let range = repo.got(&format!("/git/commits?since={}&until={}", ids[1], ids[3])).await;
    assert_eq!(shas(&range), newest_first[2..5]);
    assert_eq!(range["selector"], json!({"Range": {"since": ids[1], "until": ids[3]}}));

    let alone = repo.commit("alone", "b", "1").await;
    let nothing = "0123456789012345678901234567890123456789";
    for (query, status, code) in [
        ("branch=nowhere".to_owned(), 404, "BRANCH_NOT_FOUND"),
        (format!("since={nothing}"), 404, "COMMIT_NOT_FOUND"),
        ("until=x".to_owned(), 400, "INVALID_OBJECT_ID"),
        (format!("since={alone}"), 400, "COMMIT_NOT_IN_BRANCH"),
        (format!("since={}&until={}", ids[3], ids[1]), 400, "INVALID_RANGE"),
        (format!("since={}&offset=1", ids[1]), 400, "OFFSET_WITH_SELECTOR"),
        ("limit=x".to_owned(), 400, "GIT_INVALID_REQUEST"),
        ("order=up".to_owned(), 400, "GIT_INVALID_REQUEST"),
        ("offset=-1".to_owned(), 400, "GIT_INVALID_REQUEST"),
    ] {
        let answer = repo.get(&format!("/git/commits?{query}")).await;
        assert_refused(&answer, status, code, &query);
    }
}

#[tokio::test]
async fn revisions_are_compared() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let base = repo.commit("main", "kept.txt", &"a line\n".repeat(20)).await;
    repo.post("/git/refs/heads/feature", json!({})).await;
    let files = json!([
        {"path": "kept.txt", "deleted": true},
        {"path": "moved.txt", "content": format!("{}more\n", "a line\n".repeat(20))},
        {"path": "new.txt", "content": "1\n2\n"},
    ]);
    repo.post("/commits", json!({"message": "m", "branch": "feature", "files": files})).await;

    let same = repo.got(&format!("/compare?base={base}&head=main")).await;
    assert_eq!((&same["status"], &same["files"]), (&json!("identical"), &json!([])));
    let ahead = repo.got("/compare?base=main&head=feature").await;
    assert_eq!(
        (&ahead["status"], &ahead["ahead_by"], &ahead["behind_by"]),
        (&json!("ahead"), &json!(1), &json!(0))
    );
    assert_eq!(ahead["total_commits"], 1);
    let moved = &ahead["files"][0];
    assert_eq!((&moved["status"], &moved["filename"]), (&json!("renamed"), &json!("moved.txt")));
    assert_eq!((&moved["previous_filename"], &moved["additions"]), (&json!("kept.txt"), &json!(1)));
    let new = &ahead["files"][1];
    assert_eq!(
        (&new["status"], &new["additions"], &new["changes"]),
        (&json!("added"), &json!(2), &json!(2))
    );
    let behind = repo.got("/compare?base=feature&head=main").await;
    assert_eq!((&behind["status"], &behind["behind_by"]), (&json!("behind"), &json!(1)));
    repo.commit("main", "other", "x").await;
    assert_eq!(repo.got("/compare?base=main&head=feature").await["status"], "diverged");

    for (query, status, code) in [
        ("base=main", 400, "GIT_INVALID_REQUEST"),
        ("base=main&head=nowhere", 404, "REFERENCE_NOT_FOUND"),
        ("base=main&head=a..b", 400, "INVALID"),
        ("base=main~50&head=main", 400, "INVALID_REVISION"),
        ("base=0123456789012345678901234567890123456789&head=main", 404, "COMMIT_NOT_FOUND"),
    ] {
        let answer = repo.get(&format!("/compare?{query}")).await;
        assert_refused(&answer, status, code, query);
    }
}

#[tokio::test]
async fn archives_are_streamed() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a.txt": "archived", "src/b": "2"})).await;
    let fetch = async |rest: &str| {
        api.server.send_with(&api.server.key, "GET", &repo.path(rest), b"").await
    };
    let (status, head, tar) = fetch("/tarball?rev=main").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/x-tar"), "{head}");
    assert!(head.contains(&format!("filename=\"{}.tar\"", repo.id)), "{head}");
    assert!(head.contains("x-freestyle-trace-id"), "{head}");
    // git puts the commit first; each header says so at this place.
    assert_eq!((&tar[257..262], tar.len() % 512), (&b"ustar"[..], 0));
    assert!(tar.windows(8).any(|at| at == b"archived"));
    let (status, head, zip) = fetch("/zip").await;
    assert_eq!((status, &zip[..4]), (200, &b"PK\x03\x04"[..]));
    assert!(head.contains("content-type: application/zip"), "{head}");
    for path in ["/tarball?rev=nowhere", "/zip?rev=nowhere"] {
        assert_refused(&repo.get(path).await, 404, "REFERENCE_NOT_FOUND", path);
    }
    assert_refused(&repo.get("/zip?rev=a..b").await, 400, "INVALID", "a range");
}

#[tokio::test]
async fn an_empty_repository_answers_every_call() {
    let api = Api::start().await;
    let repo: Repo<'_> = api.create(json!({})).await;
    assert_eq!(repo.got("/git/refs/heads/").await, json!({"branches": []}));
    assert_eq!(repo.got("/git/refs/tags/").await, json!({"tags": []}));
    assert_eq!(repo.got("/default-branch").await, json!({"defaultBranch": "main"}));
    let commits = repo.got("/git/commits").await;
    assert_eq!((&commits["commits"], &commits["total"]), (&json!([]), &json!(0)));
    for (path, status, code) in [
        ("/contents/", 404, "REFERENCE_NOT_FOUND"),
        ("/contents/a", 404, "REFERENCE_NOT_FOUND"),
        ("/contents/?rev=main", 404, "REFERENCE_NOT_FOUND"),
        ("/tarball", 404, "REFERENCE_NOT_FOUND"),
        ("/zip", 404, "REFERENCE_NOT_FOUND"),
        ("/git/refs/heads/main", 404, "BRANCH_NOT_FOUND"),
        ("/git/refs/tags/v1", 404, "REFERENCE_NOT_FOUND"),
        ("/git/commits?branch=main", 404, "BRANCH_NOT_FOUND"),
        ("/git/commits/0123456789", 404, "COMMIT_NOT_FOUND"),
        ("/git/blobs/0123456789012345678901234567890123456789", 404, "BLOB_NOT_FOUND"),
        ("/compare?base=main&head=main", 404, "REFERENCE_NOT_FOUND"),
        ("/search?query=x", 404, "REFERENCE_NOT_FOUND"),
        ("/search/files?query=x", 404, "REFERENCE_NOT_FOUND"),
        ("/search/commits?query=x", 404, "REFERENCE_NOT_FOUND"),
        ("/search/diffs?query=x", 404, "REFERENCE_NOT_FOUND"),
    ] {
        assert_refused(&repo.get(path).await, status, code, path);
    }
    let made = repo.post("/git/refs/heads/x", json!({})).await;
    assert_refused(&made, 404, "NO_DEFAULT_BRANCH", "a branch of nothing");
}
