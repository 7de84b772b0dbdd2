//! Syncs with a stand-in for GitHub whose repositories are served by real `git http-backend`, by a
//! server that is killed again and again.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use freestyle_git::{FileChange, Identity, NewCommit};
use freestyle_github::{GitHub, GitHubError};
use freestyle_outbound::Outbound;
use freestyle_repos::{Content, NewRepo, Repo, Repos};
use freestyle_store::{AccountId, GitHubSyncRecord, NewGitHubApp, Store};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const NAME: &str = "owner/name";
const PATIENCE: Duration = Duration::from_secs(120);

/// The side of GitHub: a folder with one bare repository.
#[derive(Clone)]
struct There {
    folder: PathBuf,
    url: String,
}

impl There {
    async fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let there = Self { folder, url };
        git(&there.folder, &["init", "-q", "--bare", "-b", "main", &format!("{NAME}.git")]);
        there.git(&["config", "http.receivepack", "true"]);
        let router = Router::new().fallback(answer).with_state(there.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        there
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.folder.join(format!("{NAME}.git")), arguments)
    }

    /// A commit of one new file on a branch, as someone pushes it there.
    fn commit(&self, branch: &str, file: &str) {
        let name = format!("refs/heads/{branch}");
        let parent = self.git(&["for-each-ref", "--format=%(objectname)", &name]);
        let blob = self.git(&["hash-object", "-w", "--stdin"]);
        let others = match parent.is_empty() {
            true => String::new(),
            false => self.git(&["ls-tree", &parent]) + "\n",
        };
        let entries = format!("{others}100644 blob {blob}\t{file}\n");
        let folder = self.folder.join(format!("{NAME}.git"));
        let tree = git_with(&folder, &["mktree"], &entries);
        let mut arguments = vec!["commit-tree", "-m", file, &tree];
        if !parent.is_empty() {
            arguments.extend(["-p", &parent]);
        }
        let commit = self.git(&arguments);
        // A sync may be faster: then it is made anew.
        let args = ["update-ref", &name, &commit, &parent];
        if !Command::new("git").arg("-C").arg(&folder).args(args).status().unwrap().success() {
            self.commit(branch, file);
        }
    }

    fn refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname)"])
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    git_with(folder, arguments, "")
}

fn git_with(folder: &Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut command = Command::new("git");
    let who = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
    command.arg("-C").arg(folder).args(who).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The calls that an app makes, and git.
async fn answer(State(there): State<There>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let json = |text: String| ([("content-type", "application/json")], text).into_response();
    match path.as_str() {
        "/repos/owner/name/installation" => json(r#"{"id": 7}"#.to_owned()),
        "/app/installations/7/access_tokens" => json(r#"{"token": "ghs_x"}"#.to_owned()),
        "/repos/owner/name" => json(format!(r#"{{"clone_url": "{}/git/{NAME}.git"}}"#, there.url)),
        _ => match path.strip_prefix("/git/") {
            Some(below) => backend(&there, below, request).await,
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

async fn backend(there: &There, below: &str, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    // The name and password are `x-access-token` and the token.
    if header("authorization") != "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX3g=" {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic")]).into_response();
    }
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &there.folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{below}"))
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", head.method.as_str())
        .env("REMOTE_USER", "app")
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let body: Bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut input = child.stdin.take().unwrap();
    tokio::spawn(async move { drop(input.write_all(&body).await) });
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => *response.status_mut() = value[..3].parse().unwrap(),
            _ => {
                let name: axum::http::HeaderName = name.parse().unwrap();
                response.headers_mut().insert(name, value.parse().unwrap());
            }
        }
    }
    response
}

/// Both sides, and the worker between them.
struct Test {
    dir: TempDir,
    store: Store,
    account: AccountId,
    github: GitHub,
    repo: Repo,
    there: There,
    running: JoinSet<()>,
}

async fn open(dir: &TempDir, store: &Store) -> (Repos, GitHub) {
    let outbound = Outbound::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let config = freestyle_repos::Config {
        root: dir.path().join("git"),
        git: "git".into(),
        limits: freestyle_git::Limits::default(),
        repositories_per_account: 100,
        outbound: outbound.clone(),
    };
    let repos = Repos::open(config, store.clone()).await.unwrap();
    (repos.clone(), GitHub::new(store.clone(), repos, outbound))
}

impl Test {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        let (repos, github) = open(&dir, &store).await;
        let new =
            NewRepo { name: None, public: false, default_branch: None, content: Content::Nothing };
        let repo = repos.create(&account, new).await.unwrap();
        std::fs::create_dir_all(dir.path().join("there/owner")).unwrap();
        let there = There::start(dir.path().join("there")).await;

        let key = dir.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        let app = NewGitHubApp {
            app_id: "1".to_owned(),
            private_key: std::fs::read_to_string(&key).unwrap(),
            webhook_secret: "secret".to_owned(),
            api_url: there.url.clone(),
        };
        github.set_app(&account, app).await.unwrap();
        github.enable(&account, repo.id(), &NAME.parse().unwrap()).await.unwrap();
        Self { dir, store, account, github, repo, there, running: JoinSet::new() }
    }

    fn run(&mut self) {
        let github = self.github.clone();
        self.running.spawn(async move { github.run().await });
    }

    /// The server is killed, with all that it has under way, and another takes its place.
    async fn restart(self) -> Self {
        let Self { dir, store, account, github, repo, there, mut running } = self;
        running.shutdown().await;
        let id = repo.id().clone();
        drop((github, repo));
        let (repos, github) = open(&dir, &store).await;
        let repo = repos.get(&account, &id).await.unwrap();
        Self { dir, store, account, github, repo, there, running }
    }

    async fn commit(&self, branch: &str, file: &str) {
        let file = FileChange {
            path: file.to_owned(),
            content: Some(file.into()),
            ..FileChange::default()
        };
        let commit = NewCommit {
            message: "here".to_owned(),
            files: vec![file],
            branch: Some(branch.to_owned()),
            author: Identity { name: "A".into(), email: "a@example.com".into() },
            expected_sha: None,
        };
        self.repo.create_commit(commit).await.unwrap();
    }

    /// Waits until there is no reason to sync any more.
    async fn settled(&self) -> GitHubSyncRecord {
        let settled = async {
            loop {
                let sync = self.github.sync_of(&self.account, self.repo.id()).await.unwrap();
                let sync = sync.unwrap();
                if !sync.is_wanted {
                    return sync;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap()
    }

    /// As after a webhook.
    async fn look(&self) {
        self.store.system().want_all_github_syncs().await.unwrap();
    }

    async fn refs(&self) -> String {
        let refs = self.repo.git().refs().await.unwrap();
        let lines = refs.iter().map(|tip| format!("{} {}", tip.name, tip.target));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn files_there(&self, branch: &str) -> Vec<String> {
        let listed = self.there.git(&["ls-tree", "--name-only", &format!("refs/heads/{branch}")]);
        listed.lines().map(str::to_owned).collect()
    }

    fn fsck(&self) {
        let id = self.repo.id().as_str();
        let path = self.dir.path().join("git").join(&id[..2]).join(format!("{id}.git"));
        assert_eq!(git(&path, &["fsck", "--full", "--strict", "--no-dangling"]), "");
        assert_eq!(self.there.git(&["fsck", "--full", "--strict", "--no-dangling"]), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_at_any_time_loses_and_repeats_nothing() {
    let mut test = Test::start().await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..12u64 {
        test.run();
        for side in ["here", "there"] {
            let file = format!("{side}-{n:02}");
            match side {
                "here" => test.commit("ours", &file).await,
                _ => test.there.commit("theirs", &file),
            }
            if side == "here" { ours.push(file) } else { theirs.push(file) }
        }
        test.there.git(&["tag", &format!("v{n}"), "refs/heads/theirs"]);
        test.look().await;
        // Anywhere in a sync, which takes some hundred milliseconds.
        sleep(Duration::from_millis(n * 47 % 400)).await;
        test = test.restart().await;
    }
    test.run();
    let sync = test.settled().await;

    assert_eq!((sync.conflicts, sync.error), (vec![], None));
    assert_eq!(test.refs().await, test.there.refs());
    assert_eq!(test.files_there("ours"), ours);
    assert_eq!(test.files_there("theirs"), theirs);
    let count = |branch: &str| test.there.git(&["rev-list", "--count", branch]);
    assert_eq!((count("ours"), count("theirs")), ("12".to_owned(), "12".to_owned()));
    test.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_write_to_one_branch_and_what_diverges_goes_on_when_it_is_merged() {
    let mut test = Test::start().await;
    test.commit("main", "begin").await;
    test.run();
    test.settled().await;
    for n in 0..4 {
        test.commit("main", &format!("here-{n}")).await;
        test.there.commit("main", &format!("there-{n}"));
        test.look().await;
        let sync = test.settled().await;
        if let [conflict] = &sync.conflicts[..] {
            assert_eq!(conflict.name, "refs/heads/main");
            // Someone merges, there.
            let here = conflict.here.clone().unwrap();
            assert_eq!(test.repo.git().branch("main").await.unwrap().sha.to_string(), here);
            let theirs = test.there.git(&["rev-parse", "refs/heads/main"]);
            assert_eq!(conflict.there.as_deref(), Some(&*theirs));
            git_merge(&test, &here, &theirs);
            test.look().await;
            test.settled().await;
        }
        assert_eq!(test.refs().await, test.there.refs());
    }
    assert_eq!(test.files_there("main").len(), 9);
    test.fsck();
}

/// Merges a commit of ours, which GitHub does not have, on GitHub's side.
fn git_merge(test: &Test, here: &str, theirs: &str) {
    let id = test.repo.id().as_str();
    let path = test.dir.path().join("git").join(&id[..2]).join(format!("{id}.git"));
    test.there.git(&["fetch", "-q", path.to_str().unwrap(), "refs/heads/main:refs/merge"]);
    let tree = |commit: &str| test.there.git(&["ls-tree", commit]);
    let mut entries: Vec<_> = tree(here).lines().map(str::to_owned).collect();
    entries.extend(tree(theirs).lines().map(str::to_owned));
    entries.sort();
    entries.dedup();
    let folder = test.there.folder.join(format!("{NAME}.git"));
    let merged = git_with(&folder, &["mktree"], &(entries.join("\n") + "\n"));
    let commit = test.there.git(&["commit-tree", "-m", "merge", "-p", theirs, "-p", here, &merged]);
    test.there.git(&["update-ref", "-d", "refs/merge"]);
    test.there.git(&["update-ref", "refs/heads/main", &commit, theirs]);
}

#[tokio::test]
async fn what_github_does_not_let_the_app_use_is_said() {
    let test = Test::start().await;
    let unknown = "owner/unknown".parse().unwrap();
    let refused = test.github.enable(&test.account, test.repo.id(), &unknown).await;
    assert!(matches!(refused, Err(GitHubError::NotInstalled(_))), "{refused:?}");
    let other = test.store.system().create_account("other").await.unwrap().id;
    let name = NAME.parse().unwrap();
    let refused = test.github.enable(&other, test.repo.id(), &name).await;
    assert!(matches!(refused, Err(GitHubError::Repos(_))), "{refused:?}");
    // What happens inside is told to no one.
    assert!(test.github.webhook("1", "sha256=00", Bytes::new()).await.is_err());
}
