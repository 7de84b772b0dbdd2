//! Deliveries to a real HTTP server on the loopback, which the operator has allowed.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freestyle_git::{FileChange, Identity, NewCommit};
use freestyle_outbound::Outbound;
use freestyle_repos::{Content, NewRepo, NewTrigger, Repo, Repos};
use freestyle_store::{AccountId, DeliveryRecord, DeliveryState, Store, TriggerId};
use freestyle_webhooks::{Config, Webhooks};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const ISSUER: &str = "http://git.example.com";
/// For everything together: attempts are milliseconds apart.
const RETRY_TIME: Duration = Duration::from_millis(2000);
const PATIENCE: Duration = Duration::from_secs(60);

/// A service whose deliveries are made for as long as `running` has its task.
struct Test {
    dir: TempDir,
    store: Store,
    account: AccountId,
    repos: Repos,
    webhooks: Webhooks,
    running: JoinSet<()>,
}

impl Test {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        Self::open(dir, store, account, &["127.0.0.0/8"]).await
    }

    async fn open(dir: TempDir, store: Store, account: AccountId, allowed: &[&str]) -> Self {
        let outbound = Outbound::new(allowed.iter().map(|net| net.parse().unwrap()).collect());
        let config = freestyle_repos::Config {
            root: dir.path().join("git"),
            git: "git".into(),
            limits: freestyle_git::Limits::default(),
            repositories_per_account: 100,
            outbound: outbound.clone(),
        };
        let repos = Repos::open(config, store.clone()).await.unwrap();
        let keys = dir.path().join("keys.json");
        let config = Config { issuer: ISSUER.to_owned(), keys, retry_time: RETRY_TIME };
        let webhooks =
            Webhooks::open(config, store.clone(), repos.clone(), outbound).await.unwrap();
        let (runs, mut running) = (webhooks.clone(), JoinSet::new());
        running.spawn(async move { runs.run().await });
        Self { dir, store, account, repos, webhooks, running }
    }

    /// The server is killed and another takes its place.
    async fn restart(self, allowed: &[&str]) -> Self {
        let Self { dir, store, account, repos, webhooks, mut running } = self;
        running.shutdown().await;
        drop((repos, webhooks));
        Self::open(dir, store, account, allowed).await
    }

    async fn create(&self) -> Repo {
        let content = Content::Nothing;
        let new = NewRepo { name: None, public: false, default_branch: None, content };
        self.repos.create(&self.account, new).await.unwrap()
    }

    /// Waits until a delivery is finished, and answers it.
    async fn finished(&self, repo: &Repo, trigger: &TriggerId) -> DeliveryRecord {
        let look = async {
            loop {
                let newest = repo.deliveries(trigger, 1, 0).await.unwrap().remove(0);
                if newest.state != DeliveryState::Pending {
                    return newest;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap()
    }
}

/// An HTTP server that notes what it is sent and answers as the test says, each connection with the
/// next status; when they are used up, with 200.
struct Receiver {
    url: String,
    received: mpsc::UnboundedReceiver<Received>,
    statuses: mpsc::UnboundedSender<u16>,
}

#[derive(Debug)]
struct Received {
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Received {
    fn commit(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["commit"].as_str().unwrap().to_owned()
    }
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=y", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let (statuses, mut next) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                let status = next.try_recv().unwrap_or(200);
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\n\
                     Content-Length: 6\r\n\r\nignore"
                );
                if sender.send(request).is_err() {
                    return;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, received, statuses }
    }

    fn will_answer(&self, statuses: &[u16]) {
        for status in statuses {
            self.statuses.send(*status).unwrap();
        }
    }

    async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.unwrap().unwrap()
    }
}

async fn read(stream: &mut TcpStream) -> Received {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        if body.len() == headers["content-length"].parse::<usize>().unwrap() {
            return Received { path, headers, body: body.to_owned() };
        }
    }
}

async fn trigger(repo: &Repo, endpoint: &str, globs: &[&str]) -> TriggerId {
    let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let new = NewTrigger { branches: Vec::new(), globs, endpoint: endpoint.to_owned() };
    repo.create_trigger(new).await.unwrap().id
}

async fn commit(repo: &Repo, path: &str) -> String {
    let file =
        FileChange { path: path.to_owned(), content: Some(b"x".to_vec()), ..FileChange::default() };
    let new = NewCommit {
        message: "change".to_owned(),
        files: vec![file],
        branch: None,
        author: Identity { name: "Ada".to_owned(), email: "ada@example.com".to_owned() },
        expected_sha: None,
    };
    repo.create_commit(new).await.unwrap().sha.to_string()
}

/// Checks a token against the published keys and answers its claims.
fn verified(token: &str, jwks: &str) -> Value {
    let parts: Vec<_> = token.split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let public = decode(key["x"].as_str().unwrap());
    let message = format!("{}.{}", parts[0], parts[1]);
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public)
        .verify(message.as_bytes(), &decode(parts[2]))
        .unwrap();
    serde_json::from_slice(&decode(parts[1])).unwrap()
}

#[tokio::test]
async fn a_delivery_says_what_moved_and_proves_who_says_so() {
    let test = Test::start().await;
    let mut receiver = Receiver::start().await;
    let repo = test.create().await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    let head = commit(&repo, "a").await;

    let received = receiver.next().await;
    assert_eq!(received.path, "/hook?x=y");
    assert_eq!(received.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&received.body).unwrap();
    let repo_id = repo.id().as_str();
    let expected = json!({
        "event": "branchUpdate", "repoId": repo_id, "branch": "main", "commit": head,
    });
    assert_eq!(body, expected);

    let jwks = test.webhooks.jwks().await.unwrap();
    let claims = verified(&received.headers["x-freestyle-signature"], &jwks);
    let hash: String =
        Sha256::digest(&received.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(claims["body_sha256"], hash.as_str());
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(ISSUER), &json!(id.as_str())));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 300);

    let finished = test.finished(&repo, &id).await;
    assert_eq!(finished.state, DeliveryState::Delivered);
    assert_eq!(finished.attempts[0].status, Some(200));
    assert_eq!(received.headers["x-freestyle-delivery"], finished.id.as_str());
    assert_eq!(claims["jti"], finished.id.as_str());
}

#[tokio::test]
async fn what_fails_is_tried_again_and_nothing_overtakes_it() {
    let test = Test::start().await;
    let mut receiver = Receiver::start().await;
    receiver.will_answer(&[500, 404, 302, 200, 503]);
    let repo = test.create().await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    let (first, second) = (commit(&repo, "a").await, commit(&repo, "b").await);

    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(receiver.next().await.commit());
    }
    let expected = [&first, &first, &first, &first, &second, &second];
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    test.finished(&repo, &id).await;
    let log = repo.deliveries(&id, 10, 0).await.unwrap();
    let statuses = |at: usize| -> Vec<_> {
        log[at].attempts.iter().map(|attempt| attempt.status.unwrap()).collect()
    };
    assert_eq!((statuses(1), statuses(0)), (vec![500, 404, 302, 200], vec![503, 200]));
    let redirected = log[1].attempts[2].error.as_deref().unwrap();
    assert!(redirected.contains("no redirect is followed"), "{redirected}");
}

#[tokio::test]
async fn what_fails_for_too_long_is_given_up_and_can_be_delivered_again() {
    let test = Test::start().await;
    let mut receiver = Receiver::start().await;
    receiver.will_answer(&[500; 10]);
    let repo = test.create().await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    let first = commit(&repo, "a").await;
    let dead = test.finished(&repo, &id).await;
    assert_eq!(dead.state, DeliveryState::Dead);
    assert_eq!(dead.attempts.len(), 10);
    assert!(dead.failure.unwrap().contains("500"));
    // What comes after it is delivered.
    let second = commit(&repo, "b").await;
    assert_eq!(test.finished(&repo, &id).await.state, DeliveryState::Delivered);

    repo.redeliver(&id, &dead.id).await.unwrap();
    let again = test.finished(&repo, &id).await;
    assert_eq!((again.state, again.redelivery_of), (DeliveryState::Delivered, Some(dead.id)));
    let mut seen = Vec::new();
    for _ in 0..12 {
        seen.push(receiver.next().await.commit());
    }
    assert_eq!(seen[9..], [first.clone(), second, first]);
}

#[tokio::test]
async fn only_moves_that_changed_a_file_that_is_meant_are_delivered() {
    let test = Test::start().await;
    let mut receiver = Receiver::start().await;
    let repo = test.create().await;
    commit(&repo, "README.md").await;
    let id = trigger(&repo, &receiver.url, &["*.js"]).await;
    commit(&repo, "a.md").await;
    let meant = commit(&repo, "src/a.js").await;
    assert_eq!(receiver.next().await.commit(), meant);
    test.finished(&repo, &id).await;
    // What was not meant is not in the log either.
    assert_eq!(repo.deliveries(&id, 10, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_queued_is_delivered_by_the_next_server() {
    let mut test = Test::start().await;
    let mut receiver = Receiver::start().await;
    test.running.shutdown().await;
    let repo = test.create().await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    let head = commit(&repo, "a").await;
    let repo_id = repo.id().clone();
    drop(repo);
    let test = test.restart(&["127.0.0.0/8"]).await;
    assert_eq!(receiver.next().await.commit(), head);
    let repo = test.repos.get(&test.account, &repo_id).await.unwrap();
    assert_eq!(test.finished(&repo, &id).await.state, DeliveryState::Delivered);
}

#[tokio::test]
async fn an_endpoint_that_is_not_allowed_any_more_is_not_asked() {
    let mut test = Test::start().await;
    let mut receiver = Receiver::start().await;
    test.running.shutdown().await;
    let repo = test.create().await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    commit(&repo, "a").await;
    let repo_id = repo.id().clone();
    drop(repo);
    let test = test.restart(&[]).await;
    let repo = test.repos.get(&test.account, &repo_id).await.unwrap();
    let dead = test.finished(&repo, &id).await;
    assert_eq!((dead.state, dead.attempts[0].status), (DeliveryState::Dead, None));
    assert!(dead.failure.unwrap().contains("not at a public address"));
    assert!(receiver.received.try_recv().is_err());
}

#[tokio::test]
async fn an_endpoint_that_never_answers_holds_up_nobody_else() {
    let test = Test::start().await;
    // It accepts, by its backlog, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    let mut receiver = Receiver::start().await;
    let repo = test.create().await;
    trigger(&repo, &silent_url, &[]).await;
    let id = trigger(&repo, &receiver.url, &[]).await;
    let head = commit(&repo, "a").await;
    assert_eq!(receiver.next().await.commit(), head);
    assert_eq!(test.finished(&repo, &id).await.state, DeliveryState::Delivered);
}
