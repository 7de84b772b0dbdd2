//! Repositories as a whole.

use serde_json::{Value, json};

use super::{Api, assert_refused};

#[tokio::test]
async fn a_repository_is_made_shown_listed_and_deleted() {
    let api = Api::start().await;
    let repo = api.create(json!({"name": "web", "public": false})).await;

    let shown = repo.got("").await;
    let account = api.server.account.as_str();
    assert_eq!((&shown["id"], &shown["name"]), (&json!(repo.id), &json!("web")));
    assert_eq!((&shown["accountId"], &shown["visibility"]), (&json!(account), &json!("private")));
    assert_eq!(shown["defaultBranch"], "main");
    assert!(shown["createdAt"].as_str().unwrap().ends_with('Z'));

    let first = repo.commit("main", "a", "1").await;
    let (_, list) = api.ask("GET", "/git/v1/repo", Value::Null).await;
    let item = &list["repositories"][0];
    assert_eq!((&list["total"], &list["offset"]), (&json!(1), &json!(0)));
    assert_eq!((&item["repoId"], &item["id"]), (&json!(repo.id), &json!(repo.id)));
    let main = json!({"default": true, "name": "main", "target": first});
    assert_eq!(item["branches"], json!({"main": main}));
    assert_eq!((&item["tags"], &item["defaultBranch"]), (&json!({}), &json!("main")));

    assert_eq!(api.ask("DELETE", &repo.path(""), Value::Null).await, (200, json!({})));
    for _ in 0..2 {
        let gone = api.ask("DELETE", &repo.path(""), Value::Null).await;
        assert_refused(&gone, 404, "REPOSITORY_NOT_FOUND", "deleted");
        assert_eq!(gone.1["repoId"], repo.id);
    }
    assert_refused(&repo.get("/contents/").await, 404, "REPOSITORY_NOT_FOUND", "deleted");
    let (_, list) = api.ask("GET", "/git/v1/repo", Value::Null).await;
    assert_eq!(list, json!({"repositories": [], "total": 0, "offset": 0}));
}

#[tokio::test]
async fn a_list_is_in_pages() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for n in 0..12 {
        made.push(api.create(json!({"name": format!("repo {n}")})).await.id);
    }
    let ids = async |query: &str| -> Vec<String> {
        let (status, list) = api.ask("GET", &format!("/git/v1/repo{query}"), Value::Null).await;
        assert_eq!(status, 200, "{list}");
        let items = list["repositories"].as_array().unwrap();
        items.iter().map(|item| item["repoId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("").await.len(), 10, "as the SDK expects");
    let mut all = [ids("?limit=5").await, ids("?limit=7&offset=5").await].concat();
    all.sort();
    made.sort();
    assert_eq!(all, made);
    assert_eq!(ids("?limit=1000").await.len(), 12);
    assert_eq!(ids("?limit=0").await.len(), 0);
    assert_eq!(ids("?offset=99").await.len(), 0);
    assert_eq!(ids("?search=repo%201").await.len(), 3, "1, 10 and 11");
    for bad in ["?limit=-1", "?limit=x", "?offset=1.5", "?cursor=1", "?limit=99999999999999999999"]
    {
        let answer = api.ask("GET", &format!("/git/v1/repo{bad}"), Value::Null).await;
        assert_refused(&answer, 400, "GIT_INVALID_REQUEST", bad);
    }
}

#[tokio::test]
async fn visibility_can_be_changed() {
    let api = Api::start().await;
    let repo = api.create(json!({"public": true})).await;
    assert_eq!(repo.got("/visibility").await, json!({"visibility": "public"}));
    let path = repo.path("/visibility");
    let put = api.ask("PUT", &path, json!({"visibility": "private"})).await;
    assert_eq!(put, (200, json!({})));
    assert_eq!(repo.got("/visibility").await, json!({"visibility": "private"}));
    for bad in [json!({}), json!({"visibility": "secret"}), json!({"visibility": null})] {
        let answer = api.ask("PUT", &path, bad.clone()).await;
        assert_refused(&answer, 400, "GIT_INVALID_REQUEST", &bad.to_string());
    }
}

/// Every call on a repository, with a body that would be accepted.
fn calls() -> Vec<(&'static str, &'static str, Value, bool)> {
    let sha = "0123456789012345678901234567890123456789";
    let files = json!([{"path": "b", "content": "2"}]);
    let object = json!({"message": "m", "tree": sha, "parents": []});
    vec![
        ("GET", "", Value::Null, true),
        ("DELETE", "", Value::Null, false),
        ("GET", "/visibility", Value::Null, true),
        ("PUT", "/visibility", json!({"visibility": "public"}), false),
        ("GET", "/default-branch", Value::Null, true),
        ("PUT", "/default-branch", json!({"defaultBranch": "main"}), false),
        ("GET", "/contents/", Value::Null, true),
        ("GET", "/contents/a", Value::Null, true),
        ("GET", "/git/refs/heads/", Value::Null, true),
        ("GET", "/git/refs/heads/main", Value::Null, true),
        ("POST", "/git/refs/heads/new", json!({}), false),
        ("GET", "/git/refs/tags/", Value::Null, true),
        ("GET", "/git/commits", Value::Null, true),
        ("POST", "/git/commits", object, false),
        ("POST", "/commits", json!({"message": "m", "files": files}), false),
        ("GET", "/compare?base=main&head=main", Value::Null, true),
        ("GET", "/search?query=x", Value::Null, true),
        ("GET", "/search/files?query=x", Value::Null, true),
        ("GET", "/search/commits?query=x", Value::Null, true),
        ("GET", "/search/diffs?query=x", Value::Null, true),
    ]
}

#[tokio::test]
async fn a_foreign_repository_is_answered_like_none() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1"})).await;
    let stranger = api.stranger().await;
    let nowhere = "01234567-0123-4123-8123-0123456789ab";
    for (method, rest, body, _) in calls() {
        let path = repo.path(rest);
        let foreign = api.ask_as(&stranger, method, &path, body.clone()).await;
        assert_refused(&foreign, 404, "REPOSITORY_NOT_FOUND", &path);
        let missing = path.replace(&repo.id, nowhere);
        let (status, body) = api.ask_as(&stranger, method, &missing, body).await;
        let text = body.to_string().replace(nowhere, &repo.id);
        assert_eq!((status, text), (foreign.0, foreign.1.to_string()), "nothing tells them apart");
    }
    assert_eq!(repo.got("/contents/").await["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_public_repository_can_be_read_by_everybody_and_changed_by_its_owner() {
    let api = Api::start().await;
    let repo = api.with_files(json!({"a": "1"})).await;
    let stranger = api.stranger().await;
    api.ask("PUT", &repo.path("/visibility"), json!({"visibility": "public"})).await;
    for (method, rest, body, is_read) in calls() {
        let path = repo.path(rest);
        let answer = api.ask_as(&stranger, method, &path, body).await;
        match (is_read, rest) {
            (true, _) => assert_eq!(answer.0, 200, "{path}: {}", answer.1),
            // Who owns nothing of the name is told no more than anyone.
            (false, "" | "/visibility") => {
                assert_refused(&answer, 404, "REPOSITORY_NOT_FOUND", &path);
            }
            (false, _) => assert_refused(&answer, 403, "REPOSITORY_ACCESS_DENIED", &path),
        }
    }
    let (_, list) = api.ask_as(&stranger, "GET", "/git/v1/repo", Value::Null).await;
    assert_eq!(list["total"], 0);
}

#[tokio::test]
async fn what_is_no_id_is_no_repository() {
    let api = Api::start().await;
    let upper = "01234567-0123-4123-8123-0123456789AB";
    let long = "x".repeat(3000);
    for bad in ["x", "..", "%2e%2e", "%00", "%", "%zz", "a%2Fb", upper, &long, "%F0%9F%98%80"] {
        let answer = api.ask("GET", &format!("/git/v1/repo/{bad}/contents/"), Value::Null).await;
        assert_refused(&answer, 404, "REPOSITORY_NOT_FOUND", bad);
        assert!(answer.1["repoId"].as_str().unwrap().len() < 200);
    }
}

#[tokio::test]
async fn a_repository_begins_with_files_on_its_default_branch() {
    let api = Api::start().await;
    let import = json!({
        "type": "files",
        "files": {"README.md": "# Hello\n", "src/naïve café.rs": "fn a() {}\n"},
        "commitMessage": "Begin",
        "authorName": "Ada",
    });
    let repo = api.create(json!({"defaultBranch": "trunk", "import": import})).await;
    let listed = repo.got("/git/commits").await;
    assert_eq!((&listed["count"], &listed["total"]), (&json!(1), &json!(1)));
    let commit = &listed["commits"][0];
    assert_eq!((&commit["message"], &commit["author"]["name"]), (&json!("Begin\n"), &json!("Ada")));
    assert_eq!(commit["parents"], json!([]));
    let file = repo.got("/contents/src%2Fna%C3%AFve%20caf%C3%A9.rs?rev=trunk").await;
    assert_eq!((&file["type"], &file["size"]), (&json!("file"), &json!(10)));
    let files = repo.got("/search/files?query=*.md").await;
    assert_eq!(files["files"][0]["path"], "README.md");
}

#[tokio::test]
async fn what_a_create_may_not_hold_is_refused_and_leaves_nothing() {
    let api = Api::start().await;
    let files = |path: &str| json!({"import": {"type": "files", "files": {path: "x"}, "commitMessage": "m"}});
    let tar = json!({"type": "tar", "url": "https://example.com/x.tar", "commitMessage": "m"});
    let source = json!({"url": "https://example.com/x.git"});
    for (body, code) in [
        (json!([]), "GIT_INVALID_REQUEST"),
        (json!({"name": 1}), "GIT_INVALID_REQUEST"),
        (json!({"name": ""}), "GIT_INVALID_REQUEST"),
        (json!({"name": "a\nb"}), "GIT_INVALID_REQUEST"),
        (json!({"name": "x".repeat(300)}), "GIT_INVALID_REQUEST"),
        (json!({"nmae": "x"}), "GIT_INVALID_REQUEST"),
        (json!({"public": "yes"}), "GIT_INVALID_REQUEST"),
        (json!({"defaultBranch": ""}), "BRANCH_NAME_EMPTY"),
        (json!({"defaultBranch": "a..b"}), "GIT_INVALID_REQUEST"),
        (json!({"defaultBranch": "HEAD"}), "GIT_INVALID_REQUEST"),
        (json!({"defaultBranch": "-x"}), "GIT_INVALID_REQUEST"),
        (json!({"import": {"type": "svn"}}), "GIT_INVALID_REQUEST"),
        (json!({"import": {"type": "files", "files": {}}}), "GIT_INVALID_REQUEST"),
        (json!({"import": tar, "source": source}), "SOURCE_IMPORT_CONFLICT"),
        (json!({"source": {}}), "GIT_INVALID_REQUEST"),
        (json!({"source": {"url": "ssh://git@example.com/x"}}), "GIT_INVALID_REQUEST"),
        (json!({"source": {"url": "http://127.0.0.1/x"}}), "GIT_INVALID_REQUEST"),
        (json!({"source": {"url": "http://x.invalid/x"}}), "SOURCE_NOT_FOUND"),
        (json!({"source": {"url": "http://x.invalid/x", "depth": 0}}), "GIT_INVALID_REQUEST"),
        (files(".git/config"), "INVALID_FILE_PATH"),
        (files("../x"), "INVALID_FILE_PATH"),
        (files("a\u{0}b"), "INVALID_FILE_PATH"),
        (files(""), "INVALID_FILE_PATH"),
    ] {
        let answer = api.ask("POST", "/git/v1/repo", body.clone()).await;
        assert_refused(&answer, 400, code, &body.to_string());
    }
    let (_, list) = api.ask("GET", "/git/v1/repo", Value::Null).await;
    assert_eq!(list["total"], 0);
    assert_eq!(api.server.store.system().unfinished_repositories().await.unwrap(), []);
}
