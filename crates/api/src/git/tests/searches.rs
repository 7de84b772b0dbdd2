//! The four searches.

use serde_json::{Value, json};

use super::{Api, Repo, assert_refused};

fn paths(found: &Value) -> Vec<&str> {
    let files = found["files"].as_array().unwrap().iter();
    files.map(|file| file["path"].as_str().unwrap()).collect()
}

async fn searched(api: &Api) -> Repo<'_> {
    api.with_files(json!({
        "src/main.ts": "import a;\n// TODO: one\nexport function main() {}\n// after\n",
        "src/main.test.ts": "// TODO: test\n",
        "docs/guide.md": "todo later, naïve TODO\n",
        "Makefile": "all:\n",
    }))
    .await
}

#[tokio::test]
async fn contents_are_searched_as_documented() {
    let api = Api::start().await;
    let repo = searched(&api).await;

    let found = repo
        .got("/search?query=TODO&ref=main&pathPattern=src/**/*.ts&excludePattern=**/*.test.ts")
        .await;
    assert_eq!((&found["totalFiles"], &found["totalMatches"]), (&json!(1), &json!(1)));
    assert_eq!(found["hasMore"], false);
    assert_eq!(
        found["files"][0],
        json!({
            "path": "src/main.ts",
            "extension": "ts",
            "size": 58,
            "matches": [{
                "lineNumber": 2,
                "line": "// TODO: one",
                "startColumn": 3,
                "endColumn": 7,
                "contextBefore": ["import a;"],
                "contextAfter": ["export function main() {}", "// after"],
            }],
        })
    );

    assert_eq!(repo.got("/search?query=todo").await["totalMatches"], 4);
    assert_eq!(repo.got("/search?query=todo&caseSensitive=true").await["totalMatches"], 1);
    assert_eq!(repo.got("/search?query=to&wholeWord=true").await["totalMatches"], 0);
    let regex = "/search?query=%5E(export%5Cs%2B)%3Ffunction%5Cs%2B%5Cw%2B&isRegex=true";
    assert_eq!(paths(&repo.got(regex).await), ["src/main.ts"]);
    assert_eq!(repo.got("/search?query=main()").await["totalMatches"], 1, "no regex unless said");
    // As JavaScript counts.
    let guide = repo.got("/search?query=TODO&caseSensitive=true&pathPattern=docs").await;
    assert_eq!(guide["files"][0]["matches"][0]["startColumn"], 18);
    assert_eq!(repo.got("/search?query=x&rev=main&ref=main").await["totalFiles"], 1);

    let pages = [
        repo.got("/search?query=todo&maxResults=2").await,
        repo.got("/search?query=todo&maxResults=2&offset=2").await,
        repo.got("/search?query=todo&maxResults=2&offset=4").await,
    ];
    assert_eq!(pages.each_ref().map(|page| page["hasMore"] == true), [true, false, false]);
    let all: Vec<_> = pages.iter().flat_map(paths).collect();
    assert_eq!(all, ["docs/guide.md", "src/main.test.ts", "src/main.ts"]);
}

#[tokio::test]
async fn names_are_searched_as_globs_texts_and_expressions() {
    let api = Api::start().await;
    let repo = searched(&api).await;
    for (query, found) in [
        ("query=main", vec!["src/main.test.ts", "src/main.ts"]),
        ("query=*.md", vec!["docs/guide.md"]),
        ("query=MAKE", vec!["Makefile"]),
        ("query=MAKE&caseSensitive=true", vec![]),
        ("query=src%2F**%2F*.ts&excludePattern=*.test.ts", vec!["src/main.ts"]),
        ("query=%5C.ts%24&isRegex=true&offset=1", vec!["src/main.ts"]),
        ("query=s&pathPattern=docs", vec!["docs/guide.md"]),
        ("query=main&maxResults=1&rev=main", vec!["src/main.test.ts"]),
    ] {
        assert_eq!(paths(&repo.got(&format!("/search/files?{query}")).await), found, "{query}");
    }
    let file = repo.got("/search/files?query=Makefile").await;
    assert_eq!(file["files"], json!([{"path": "Makefile", "extension": null, "size": 5}]));
}

#[tokio::test]
async fn messages_and_changes_are_searched() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let commit = async |message: &str, content: &str| {
        let author = json!({"name": "Ada", "email": "ada@example.com"});
        let files = json!([{"path": "a.rs", "content": content}]);
        let body = json!({"message": message, "files": files, "author": author});
        let (status, answer) = repo.post("/commits", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["commit"].clone()
    };
    let added = commit("Add\n\nThe details.", "old_call();\n").await;
    let fixed = commit("fix: replace", "new_call();\n").await;

    let found = repo.got("/search/commits?query=FIX&maxResults=10").await;
    assert_eq!((&found["totalCommits"], &found["hasMore"]), (&json!(1), &json!(false)));
    assert_eq!(
        found["commits"][0],
        json!({
            "sha": fixed["sha"],
            "message": "fix: replace",
            "fullMessage": "fix: replace\n",
            "authorName": "Ada",
            "authorEmail": "ada@example.com",
            "timestamp": fixed["committer"]["date"],
        })
    );
    let details = repo.got("/search/commits?query=%5Ethe&isRegex=true").await;
    assert_eq!(details["commits"][0]["sha"], added["sha"]);
    let exact = repo.got("/search/commits?query=%5Ethe&isRegex=true&caseSensitive=true").await;
    assert_eq!(exact["totalCommits"], 0);

    let found = repo.got("/search/diffs?query=old_call&maxResults=20").await;
    assert_eq!(found["totalCommits"], 2);
    let shas: Vec<_> = found["commits"].as_array().unwrap().iter().map(|c| &c["sha"]).collect();
    assert_eq!(shas, [&fixed["sha"], &added["sha"]]);
    let hunk = |addition: bool| {
        let found = json!({
            "line": "old_call();",
            "lineNumber": 1,
            "startColumn": 0,
            "endColumn": 8,
            "isAddition": addition,
        });
        json!([{"path": "a.rs", "matches": [found]}])
    };
    assert_eq!(found["commits"][0]["files"], hunk(false));
    assert_eq!(found["commits"][1]["files"], hunk(true));
    let none = repo.got("/search/diffs?query=old_call&pathPattern=*.ts").await;
    assert_eq!(none["totalCommits"], 0);
    let first = repo.got("/search/diffs?query=old_call&maxResults=1").await;
    assert_eq!((&first["hasMore"], first["commits"].as_array().unwrap().len()), (&json!(true), 1));
}

#[tokio::test]
async fn bad_searches_have_the_codes_of_their_kind() {
    let api = Api::start().await;
    let repo = searched(&api).await;
    let catastrophic = "(x%2Bx%2B)%2By";
    let huge = "%5Cw%7B1000%7D%7B1000%7D";
    for (path, code) in [
        ("/search", "EMPTY_QUERY"),
        ("/search?query=", "EMPTY_QUERY"),
        ("/search/files?query=", "FILENAME_EMPTY_QUERY"),
        ("/search/commits?query=", "COMMIT_EMPTY_QUERY"),
        ("/search/diffs?query=", "DIFF_EMPTY_QUERY"),
        ("/search?query=(&isRegex=true", "INVALID_REGEX"),
        ("/search?query=(a)%5C1&isRegex=true", "INVALID_REGEX"),
        (&format!("/search?query={huge}&isRegex=true"), "INVALID_REGEX"),
        (&format!("/search?query={}", "a".repeat(2000)), "INVALID_REGEX"),
        ("/search/files?query=(&isRegex=true", "FILENAME_INVALID_PATTERN"),
        ("/search/files?query=a%5B", "FILENAME_INVALID_PATTERN"),
        ("/search/commits?query=(&isRegex=true", "COMMIT_INVALID_REGEX"),
        ("/search/diffs?query=(&isRegex=true", "DIFF_INVALID_REGEX"),
        ("/search?query=x&pathPattern=a%5B", "INVALID_PATH_PATTERN"),
        ("/search?query=x&excludePattern=%7B", "INVALID_PATH_PATTERN"),
        ("/search/diffs?query=x&pathPattern=a%5B", "DIFF_INVALID_PATH_PATTERN"),
        ("/search?query=x&rev=main&ref=other", "GIT_INVALID_REQUEST"),
        ("/search?query=x&maxResults=many", "GIT_INVALID_REQUEST"),
        ("/search?query=x&offset=-1", "GIT_INVALID_REQUEST"),
        ("/search?query=x&isRegex=maybe", "GIT_INVALID_REQUEST"),
        ("/search/commits?query=x&pathPattern=a", "GIT_INVALID_REQUEST"),
        ("/search?query=x&rev=main~50", "INVALID_REVISION"),
    ] {
        let answer = repo.get(path).await;
        assert_refused(&answer, 400, code, path);
        if code.ends_with("REGEX") || code.ends_with("PATTERN") {
            assert!(answer.1["reason"].is_string(), "{path}");
        }
    }
    // Linear in the text, whatever the expression is.
    let evil = format!("/search?query={catastrophic}&isRegex=true");
    assert_eq!(repo.got(&evil).await["totalMatches"], 0);
    assert_eq!(
        repo.got("/search?query=TODO&maxResults=0").await["files"].as_array().unwrap().len(),
        1
    );
    assert_eq!(repo.got("/search?query=TODO&maxResults=5000").await["totalFiles"], 3);
}
