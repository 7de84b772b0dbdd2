//! A git host with one account, and real `git` as its client.

use std::path::{Path, PathBuf};
use std::process::Output;

use freestyle_access::Access;
use freestyle_api::{GitHostState, git_host, serve};
use freestyle_outbound::Outbound;
use freestyle_repos::{Content, NewRepo, Repo, Repos};
use freestyle_store::{AccountId, ApiKey, IdentityId, RepositoryLevel, Store, TokenId};
use freestyle_webhooks::Webhooks;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

pub(crate) struct Host {
    pub(crate) store: Store,
    pub(crate) repos: Repos,
    pub(crate) account: AccountId,
    pub(crate) key: ApiKey,
    /// The API key's secret.
    pub(crate) secret: String,
    address: String,
    dir: TempDir,
}

/// An identity and its token.
pub(crate) struct User {
    pub(crate) id: IdentityId,
    pub(crate) token_id: TokenId,
    pub(crate) token: String,
}

impl Host {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        let (key, secret) = store.account_scope(&account).create_api_key("test").await.unwrap();
        let outbound = Outbound::new(Vec::new());
        let config = freestyle_repos::Config {
            root: dir.path().join("git"),
            git: "git".into(),
            limits: freestyle_git::Limits::default(),
            repositories_per_account: 100,
            outbound: outbound.clone(),
        };
        let repos = Repos::open(config, store.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = freestyle_webhooks::Config {
            issuer: format!("http://{address}"),
            keys: dir.path().join("keys.json"),
            retry_time: std::time::Duration::from_secs(60),
        };
        let webhooks =
            Webhooks::open(config, store.clone(), repos.clone(), outbound).await.unwrap();
        let access = Access::new(store.clone());
        let router = git_host(GitHostState { access, repos: repos.clone(), webhooks });
        tokio::spawn(serve(listener, router, std::future::pending()));
        let secret = secret.expose().to_owned();
        Self { store, repos, account, key, secret, address, dir }
    }

    pub(crate) async fn create(&self, public: bool) -> Repo {
        let content = Content::Nothing;
        let new = NewRepo { name: None, public, default_branch: None, content };
        self.repos.create(&self.account, new).await.unwrap()
    }

    /// A repository with a commit in it.
    pub(crate) async fn filled(&self, public: bool) -> Repo {
        let repo = self.create(public).await;
        let client = self.client("filler");
        client.git(&["clone", "-q", &self.url(&self.secret, &repo), "."]).await;
        client.commit("README.md", "hello\n").await;
        client.git(&["push", "-q", "origin", "main"]).await;
        std::fs::remove_dir_all(&client.path).unwrap();
        repo
    }

    pub(crate) async fn user(&self) -> User {
        let scope = self.store.account_scope(&self.account);
        let id = scope.create_identity().await.unwrap().id;
        let (token, secret) = scope.create_token(&id).await.unwrap();
        User { id, token_id: token.id, token: secret.expose().to_owned() }
    }

    pub(crate) async fn grant(&self, user: &User, repo: &Repo, level: RepositoryLevel) {
        let scope = self.store.account_scope(&self.account);
        scope.grant_git(&user.id, repo.id().as_str(), level, &self.key.id).await.unwrap();
    }

    /// The URL with a credential in it.
    pub(crate) fn url(&self, secret: &str, repo: &Repo) -> String {
        format!("http://x-access-token:{secret}@{}/{}", self.address, repo.id())
    }

    pub(crate) fn plain_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// An empty folder for a client.
    pub(crate) fn client(&self, name: &str) -> Client {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Client { path }
    }

    /// Sends a request as it is written here, but for the line ends, and answers all that comes
    /// back.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = request.replace('\n', "\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A `GET` with a header, none where it is empty.
    pub(crate) async fn get(&self, path: &str, header: &str) -> String {
        let header = if header.is_empty() { String::new() } else { format!("{header}\n") };
        self.raw(&format!("GET {path} HTTP/1.1\nHost: h\nConnection: close\n{header}\n")).await
    }
}

/// A folder in which `git` runs with an environment of its own.
pub(crate) struct Client {
    pub(crate) path: PathBuf,
}

impl Client {
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(["-c", "init.defaultBranch=main", "-c", "gc.auto=0"])
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null());
        command
    }

    async fn try_git(&self, arguments: &[&str]) -> Output {
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

    /// Writes a file, commits it and answers the commit.
    pub(crate) async fn commit(&self, path: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path.join(Path::new(path)), content).unwrap();
        self.git(&["add", "-A"]).await;
        self.git(&["commit", "-q", "-m", &format!("change {path}")]).await;
        self.git(&["rev-parse", "HEAD"]).await
    }
}
