//! A server for real `git` clients, and a way to run them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use freestyle_git::{
    BranchName, Config, GitError, GitProtocol, Limits, RefUpdate, Repositories, Repository,
    RepositoryId, Service, TransferRequest,
};
use futures_util::TryStreamExt;
use tempfile::TempDir;
use tokio::process::Command;

/// A directory of repositories, served over HTTP as the real server does, but without accounts.
pub(crate) struct Server {
    pub(crate) repositories: Repositories,
    path: PathBuf,
    _dir: Option<TempDir>,
    address: SocketAddr,
    updates: Arc<Mutex<Vec<RefUpdate>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    repositories: Repositories,
    updates: Arc<Mutex<Vec<RefUpdate>>>,
}

pub(crate) fn root(dir: &TempDir) -> PathBuf {
    dir.path().join("repos")
}

pub(crate) async fn open(dir: &TempDir, limits: Limits) -> Repositories {
    open_at(root(dir), limits).await
}

pub(crate) async fn open_at(root: PathBuf, limits: Limits) -> Repositories {
    let config = Config { root, git: "git".into(), limits };
    Repositories::open(config).await.unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        Self::start_in(dir.path().to_owned(), Some(dir), limits).await
    }

    /// Serves what is in a directory of someone else.
    pub(crate) async fn start_at(path: PathBuf) -> Self {
        Self::start_in(path, None, Limits::default()).await
    }

    async fn start_in(path: PathBuf, dir: Option<TempDir>, limits: Limits) -> Self {
        let repositories = open_at(path.join("repos"), limits).await;
        let updates = Arc::default();
        let shared = Shared { repositories: repositories.clone(), updates: Arc::clone(&updates) };
        let router = Router::new()
            .route("/{repository}/info/refs", get(advertise))
            .route("/{repository}/git-upload-pack", post(upload_pack))
            .route("/{repository}/git-receive-pack", post(receive_pack))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { repositories, path, _dir: dir, address, updates, task }
    }

    pub(crate) async fn create(&self) -> Repository {
        let branch = BranchName::parse("main").unwrap();
        self.repositories.create(&RepositoryId::random(), &branch).await.unwrap()
    }

    pub(crate) fn url(&self, repository: &Repository) -> String {
        format!("http://{}/{}", self.address, repository.id())
    }

    /// What pushes have changed since the last call.
    pub(crate) fn updates(&self) -> Vec<RefUpdate> {
        std::mem::take(&mut self.updates.lock().unwrap())
    }

    /// A folder for a client.
    pub(crate) fn client(&self, name: &str) -> Client {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Client { path }
    }

    /// The client's clone of an empty repository, or of one with content.
    pub(crate) async fn clone_of(&self, repository: &Repository, name: &str) -> Client {
        let client = self.client(name);
        client.git(&["clone", "-q", &self.url(repository), "."]).await;
        client
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path.join("repos")
    }

    /// Where the repository is on disk.
    pub(crate) fn path(&self, repository: &Repository) -> PathBuf {
        let id = repository.id().as_str();
        self.root().join(&id[..2]).join(format!("{id}.git"))
    }

    /// Git finds nothing wrong with what is stored.
    pub(crate) async fn fsck(&self, repository: &Repository) {
        let judge = Client { path: self.path(repository) };
        let report = judge.git(&["fsck", "--full", "--strict", "--no-dangling"]).await;
        assert_eq!(report, "");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A folder in which `git` runs with an environment of its own.
pub(crate) struct Client {
    pub(crate) path: PathBuf,
}

impl Client {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(["-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false"])
            .args(["-c", "gc.auto=0", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    pub(crate) async fn try_git(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Runs git and answers its standard output without the last line end.
    pub(crate) async fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs git, which must fail, and answers what it says.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments).await;
        assert!(!output.status.success(), "git {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a file, commits it and answers the commit.
    pub(crate) async fn commit(&self, path: &str, content: impl AsRef<[u8]>) -> String {
        self.write(path, content);
        self.git(&["add", "-A"]).await;
        self.git(&["commit", "-q", "-m", &format!("change {path}")]).await;
        self.head().await
    }

    pub(crate) async fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).await
    }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn repository(shared: &Shared, name: &str) -> Result<Repository, StatusCode> {
    let id = name.strip_suffix(".git").unwrap_or(name).parse();
    let id: RepositoryId = id.map_err(|_| StatusCode::NOT_FOUND)?;
    shared.repositories.get(&id).await.map_err(|error| status(&error))
}

fn status(error: &GitError) -> StatusCode {
    match error {
        GitError::RepositoryNotFound(_) => StatusCode::NOT_FOUND,
        GitError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        GitError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        GitError::InvalidRequest(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn protocol(headers: &HeaderMap) -> Option<GitProtocol> {
    headers.get("git-protocol").and_then(|value| GitProtocol::parse(value.to_str().ok()?))
}

fn transfer(headers: &HeaderMap, body: Body) -> TransferRequest {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let gzip = encoding.is_some_and(|encoding| encoding == "gzip" || encoding == "x-gzip");
    let body = body.into_data_stream().map_err(std::io::Error::other);
    TransferRequest::new(protocol(headers), gzip, body)
}

fn answer(kind: &str, output: freestyle_git::Output) -> Response<Body> {
    Response::builder()
        .header(header::CONTENT_TYPE, format!("application/x-{kind}"))
        .header(header::CACHE_CONTROL, "no-cache")
        .body(Body::from_stream(output))
        .unwrap()
}

async fn advertise(
    State(shared): State<Shared>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response<Body>, StatusCode> {
    let service = query.get("service").and_then(|service| Service::from_name(service));
    let service = service.ok_or(StatusCode::FORBIDDEN)?;
    let repository = repository(&shared, &name).await?;
    let output = repository.advertise(service, protocol(&headers)).await;
    let output = output.map_err(|error| status(&error))?;
    Ok(answer(&format!("{}-advertisement", service.name()), output))
}

async fn upload_pack(
    State(shared): State<Shared>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusCode> {
    let repository = repository(&shared, &name).await?;
    let output = repository.upload_pack(transfer(&headers, body)).await;
    Ok(answer("git-upload-pack-result", output.map_err(|error| status(&error))?))
}

async fn receive_pack(
    State(shared): State<Shared>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusCode> {
    let repository = repository(&shared, &name).await?;
    let push = repository.receive_pack(transfer(&headers, body)).await;
    let push = push.map_err(|error| status(&error))?;
    tokio::spawn(async move {
        if let Some(mut finished) = push.end.wait().await {
            shared.updates.lock().unwrap().append(&mut finished.updates);
            finished.acknowledge();
        }
    });
    Ok(answer("git-receive-pack-result", push.output))
}

/// A commit of some files on a branch, without anything special.
pub(crate) fn new_commit(branch: &str, files: &[(&str, &str)]) -> freestyle_git::NewCommit {
    let file = |(path, content): &(&str, &str)| freestyle_git::FileChange {
        path: (*path).to_owned(),
        content: Some((*content).into()),
        ..Default::default()
    };
    freestyle_git::NewCommit {
        message: "change".to_owned(),
        files: files.iter().map(file).collect(),
        branch: Some(branch.to_owned()),
        author: freestyle_git::Identity { name: "Ada".into(), email: "ada@example.com".into() },
        expected_sha: None,
    }
}

/// All bytes of an answer.
pub(crate) async fn collect(output: freestyle_git::Output) -> Vec<u8> {
    let chunks: Vec<bytes::Bytes> = output.try_collect().await.unwrap();
    chunks.concat()
}
