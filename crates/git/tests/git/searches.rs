//! Searches, compared with `git grep` and `git log`.

use std::time::Duration;

use freestyle_git::{GitError, Limits, Repository, Search, SearchKind};

use crate::support::{Client, Server, noise};

async fn sample(server: &Server) -> (Repository, Client) {
    let repository = server.create().await;
    let client = server.clone_of(&repository, "writer").await;
    for n in 0..40 {
        let todo = if n % 4 == 0 { "// TODO: later\n" } else { "" };
        let text = format!("export function f{n}() {{\n{todo}  return {n};\n}}\n");
        client.write(&format!("src/m{}/f{n}.ts", n % 5), text);
    }
    client.write("src/f.test.ts", "// todo in a test\n");
    client.write("docs/latin1.txt", b"caf\xe9 TODO\n");
    client.write("docs/crlf.txt", "first\r\na TODO here\r\nlast\r\n");
    client.write("bin/data", [&b"TODO\0"[..], &noise(1, 1000)].concat());
    std::os::unix::fs::symlink("TODO", client.path.join("link")).unwrap();
    client.commit("README.md", "Read me, TODOs and a mastodon TODO TODO\n").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    (repository, client)
}

fn search(query: &str) -> Search {
    Search { query: query.to_owned(), ..Search::default() }
}

#[tokio::test]
async fn content_search_finds_what_git_grep_finds() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let cases = [
        (search("todo"), vec!["-F", "-i", "todo"]),
        (Search { case_sensitive: true, ..search("TODO") }, vec!["-F", "TODO"]),
        (
            Search { whole_word: true, case_sensitive: true, ..search("TODO") },
            vec!["-F", "-w", "TODO"],
        ),
        (
            Search {
                is_regex: true,
                case_sensitive: true,
                ..search(r"^export\s+function f[0-9]\(")
            },
            vec!["-P", r"^export\s+function f[0-9]\("],
        ),
        (
            Search { is_regex: true, ..search(r"return (3|4)\d?;$") },
            vec!["-P", "-i", r"return (3|4)\d?;$"],
        ),
    ];
    for (request, arguments) in cases {
        let found = repository.search_contents(request.clone()).await.unwrap();
        let mut lines = Vec::new();
        for file in &found.files {
            for found in &file.matches {
                lines.push(format!("main:{}:{}:{}", file.path, found.line_number, found.line));
            }
        }
        lines.dedup();
        let mut grep = vec!["grep", "-I", "-n"];
        grep.extend(arguments);
        grep.push("main");
        let expected = client.git(&grep).await.replace('\r', "").replace('\u{fffd}', "é");
        let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
        expected.retain(|line| !line.starts_with("main:link:"));
        assert_eq!(lines, expected, "{request:?}");
        assert_eq!(found.total_files, found.files.len());
        assert!(!found.has_more);
    }
}

#[tokio::test]
async fn a_match_has_its_columns_and_context() {
    let server = Server::start().await;
    let (repository, _) = sample(&server).await;
    let request = Search { path_pattern: Some("docs/crlf.txt".into()), ..search("todo") };
    let found = repository.search_contents(request).await.unwrap();
    let found = &found.files[0].matches[0];
    assert_eq!((found.line_number, found.start_column, found.end_column), (2, 2, 6));
    assert_eq!(found.line, "a TODO here");
    assert_eq!(
        (found.context_before.as_slice(), found.context_after.as_slice()),
        (&["first".to_owned()][..], &["last".to_owned()][..])
    );
    let request = Search { path_pattern: Some("latin1.txt".into()), ..search("é todo") };
    let found = repository.search_contents(request).await.unwrap();
    assert_eq!(
        (found.files[0].matches[0].start_column, found.files[0].extension.as_deref()),
        (3, Some("txt"))
    );
    let request =
        Search { path_pattern: Some("README.md".into()), whole_word: true, ..search("todo") };
    let found = repository.search_contents(request).await.unwrap();
    assert_eq!((found.total_files, found.total_matches), (1, 2));
}

#[tokio::test]
async fn paths_are_filtered_and_results_come_in_pages() {
    let server = Server::start().await;
    let (repository, _) = sample(&server).await;
    let typescript = Search {
        path_pattern: Some("src/**/*.ts".into()),
        exclude_pattern: Some("**/*.test.ts".into()),
        ..search("TODO")
    };
    let all = repository.search_contents(typescript.clone()).await.unwrap();
    assert_eq!((all.total_files, all.total_matches), (10, 10));
    let mut paged = Vec::new();
    for offset in (0..).step_by(3) {
        let page = Search { offset, max_results: 3, ..typescript.clone() };
        let page = repository.search_contents(page).await.unwrap();
        assert_eq!(page.total_files, 10);
        paged.extend(page.files);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(paged, all.files);
    let nothing = Search { offset: 50, ..typescript };
    let nothing = repository.search_contents(nothing).await.unwrap();
    assert!(nothing.files.is_empty() && !nothing.has_more);
}

#[tokio::test]
async fn filenames_are_found_by_text_glob_and_regex() {
    let server = Server::start().await;
    let (repository, _) = sample(&server).await;
    let paths = |request: Search| {
        let repository = repository.clone();
        async move {
            let found = repository.search_files(request).await.unwrap();
            found.files.into_iter().map(|file| file.path).collect::<Vec<_>>()
        }
    };
    assert_eq!(paths(search("readme")).await, ["README.md"]);
    assert_eq!(paths(search("*.TXT")).await, ["docs/crlf.txt", "docs/latin1.txt"]);
    let regex = Search { is_regex: true, ..search(r"m0/f3?5\.ts$") };
    assert_eq!(paths(regex).await, ["src/m0/f35.ts", "src/m0/f5.ts"]);
    let page = Search { max_results: 2, ..search("src/**") };
    let page = repository.search_files(page).await.unwrap();
    assert_eq!((page.total_files, page.has_more, page.files.len()), (41, true, 2));
    assert!(page.files[0].size > 0 && page.files[0].extension.as_deref() == Some("ts"));
    let missing = Search { revision: Some("nope".into()), ..search("a") };
    let missing = repository.search_files(missing).await;
    assert!(matches!(missing, Err(GitError::ReferenceNotFound { .. })));
}

#[tokio::test]
async fn commits_are_found_by_message_and_by_what_they_changed() {
    let server = Server::start().await;
    let (repository, client) = sample(&server).await;
    let first = client.head().await;
    client.commit("app.js", "keep\ndeprecatedMethod();\n").await;
    let added = client.head().await;
    client.commit("other.js", "nothing\n").await;
    client.commit("app.js", "keep\nnewMethod();\n").await;
    let removed = client.head().await;
    client.git(&["push", "-q", "origin", "main"]).await;

    let found = repository.search_commits(search("CHANGE app")).await.unwrap();
    let shas: Vec<_> = found.commits.iter().map(|found| found.commit.sha.to_string()).collect();
    assert_eq!(shas, [removed.clone(), added.clone()]);
    assert_eq!(found.commits[0].summary, "change app.js");
    let page = Search { max_results: 1, offset: 1, ..search("change") };
    let page = repository.search_commits(page).await.unwrap();
    assert_eq!((page.total_commits, page.has_more, page.commits.len()), (4, true, 1));

    let found = repository.search_diffs(search("deprecatedmethod")).await.unwrap();
    let lines: Vec<_> = found
        .commits
        .iter()
        .map(|commit| {
            let found = &commit.files[0].matches[0];
            (
                commit.commit.sha.to_string(),
                found.is_addition,
                found.line_number,
                found.start_column,
            )
        })
        .collect();
    assert_eq!(lines, [(removed, false, 2, 0), (added, true, 2, 0)]);
    assert_eq!((found.total_commits, found.has_more), (2, false));
    let root = Search { path_pattern: Some("docs".into()), ..search("todo") };
    let root = repository.search_diffs(root).await.unwrap();
    assert_eq!(root.commits[0].commit.sha.to_string(), first);
    assert_eq!(root.commits[0].files.len(), 2);
    let page = Search { max_results: 1, ..search("method") };
    assert!(repository.search_diffs(page).await.unwrap().has_more);
}

#[tokio::test]
async fn bad_queries_have_the_error_of_their_search() {
    let server = Server::start().await;
    let (repository, _) = sample(&server).await;
    let bad = Search { is_regex: true, ..search("(") };
    let glob = Search { path_pattern: Some("[".into()), ..search("a") };
    assert!(matches!(
        repository.search_contents(search("")).await,
        Err(GitError::EmptyQuery(SearchKind::Contents))
    ));
    assert!(matches!(
        repository.search_files(search("")).await,
        Err(GitError::EmptyQuery(SearchKind::Filenames))
    ));
    assert!(matches!(
        repository.search_commits(bad.clone()).await,
        Err(GitError::InvalidRegex { kind: SearchKind::Commits, .. })
    ));
    assert!(matches!(
        repository.search_diffs(bad).await,
        Err(GitError::InvalidRegex { kind: SearchKind::Diffs, .. })
    ));
    assert!(matches!(
        repository.search_diffs(glob.clone()).await,
        Err(GitError::InvalidPattern { kind: SearchKind::Diffs, .. })
    ));
    assert!(matches!(repository.search_contents(glob).await, Err(GitError::InvalidPattern { .. })));
}

#[tokio::test]
async fn a_search_has_a_deadline() {
    let limits = Limits { read_time: Duration::ZERO, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    client.commit("a", "a").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    let refused = repository.search_contents(search("a")).await;
    assert!(matches!(refused, Err(GitError::TimedOut)), "{refused:?}");
}

/// Takes time exponential in the length of the line where expressions are matched by backtracking.
#[tokio::test]
async fn an_evil_expression_takes_no_longer_than_others() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    client.commit("a", format!("{}!\n", "a".repeat(200_000))).await;
    client.git(&["push", "-q", "origin", "main"]).await;
    let evil = Search { is_regex: true, ..search(r"^(a+)+$") };
    let found = repository.search_contents(evil).await.unwrap();
    assert_eq!(found.total_files, 0);
}
