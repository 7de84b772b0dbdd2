//! Every endpoint with every kind of caller: who is let in, and what the others are told.
//!
//! The endpoints are those of the router itself; one that [`ENDPOINTS`] does not mention fails the
//! test. Callers who are refused announce a body that they never send: nothing of it may be waited
//! for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use freestyle_access::Access;
use freestyle_domains::Domains;
use freestyle_edge::Certificates;
use freestyle_git::RepositoryId;
use freestyle_github::GitHub;
use freestyle_image::Image;
use freestyle_outbound::Outbound;
use freestyle_qemu::AcceleratorChoice;
use freestyle_repos::{Content, NewRepo, Repos};
use freestyle_store::{
    AccountId, ApiKeyId, BuildId, DeliveryId, IdentityId, NewVm, Persistence, RepositoryLevel,
    Secret, Settled, Sizing, SnapshotId, Store, TokenId, TriggerId, VmId, VmSettings, VpcId,
};
use freestyle_vm::{LoginSecret, VmService};
use freestyle_vpc::VpcService;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{ApiState, all_routes, framed, router, serve};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Everybody, without a credential.
    Everybody,
    /// Whoever has a credential.
    Anyone,
    /// An account and none of its identities.
    Account,
    /// An account, and identities that were granted the VM of the path.
    VmViewer,
    /// As [`For::VmViewer`], as one of the Linux users that were granted.
    VmActor,
    /// An account, and identities that may read the repository of the path.
    RepoReader,
    /// An account, and identities that may write to the repository of the path.
    RepoWriter,
}

/// Every endpoint of the server: who may call it, method and path, and a body that it accepts. The
/// method of one that takes any and has nothing behind it is `ANY`.
const ENDPOINTS: &[(For, &str, &str)] = &[
    (For::Everybody, "GET /openapi.json", ""),
    (For::Anyone, "GET /auth/v1/whoami", ""),
    (For::Anyone, "GET /v1/ssh", ""),
    (For::VmViewer, "GET /v1/vms/{vm_id}", ""),
    (For::VmActor, "POST /v1/vms/{vm_id}/exec-await", r#"{"command": "true"}"#),
    (For::VmActor, "GET /v1/vms/{vm_id}/files/{filepath}", ""),
    (For::VmActor, "PUT /v1/vms/{vm_id}/files/{filepath}", r#"{"content": ""}"#),
    (For::VmActor, "GET /v1/vms/{vm_id}/pty", ""),
    (For::VmActor, "GET /v1/vms/{vm_id}/pty/sessions", ""),
    (For::VmActor, "GET /v1/vms/{vm_id}/pty/sessions/{session_id}", ""),
    (For::VmActor, "DELETE /v1/vms/{vm_id}/pty/sessions/{session_id}", ""),
    (For::VmActor, "GET /v1/vms/{vm_id}/files/", ""),
    (For::VmActor, "PUT /v1/vms/{vm_id}/files/", r#"{"content": ""}"#),
    (For::VmActor, "GET /v1/vms/{vm_id}/files//{*filepath}", ""),
    (For::VmActor, "PUT /v1/vms/{vm_id}/files//{*filepath}", r#"{"content": ""}"#),
    (For::VmActor, "GET /v1/vms/{vm_id}/files/{filepath}/{*rest}", ""),
    (For::VmActor, "PUT /v1/vms/{vm_id}/files/{filepath}/{*rest}", r#"{"content": ""}"#),
    (For::Account, "GET /v1/vms", ""),
    (For::Account, "POST /v1/vms", "{}"),
    (For::Account, "DELETE /v1/vms/{vm_id}", ""),
    (For::Account, "POST /v1/vms/{vm_id}/start", "{}"),
    (For::Account, "POST /v1/vms/{vm_id}/stop", ""),
    (For::Account, "POST /v1/vms/{vm_id}/suspend", ""),
    (For::Account, "POST /v1/vms/{vm_id}/kill", ""),
    (For::Account, "POST /v1/vms/{vm_id}/await", ""),
    (For::Account, "POST /v1/vms/{vm_id}/fork", "{}"),
    (For::Account, "POST /v1/vms/{id}/resize", "{}"),
    (For::Account, "POST /v1/vms/{vm_id}/optimize", ""),
    (For::Account, "POST /v1/vms/{vm_id}/snapshot", "{}"),
    (For::Account, "GET /v1/vms/{vm_id}/build", ""),
    (For::Account, "GET /v1/vms/builds/{build_id}", ""),
    (For::Account, "GET /v1/vms/builds/{build_id}/phases", ""),
    (For::Account, "GET /v1/vms/snapshots", ""),
    (For::Account, "POST /v1/vms/snapshots", "{}"),
    (For::Account, "GET /v1/vms/snapshots/{snapshot_id}", ""),
    (For::Account, "PATCH /v1/vms/snapshots/{snapshot_id}", r#"{"name": "x"}"#),
    (For::Account, "DELETE /v1/vms/snapshots/{snapshot_id}", ""),
    (For::Account, "GET /auth/v1/background-requests/{request_id}", ""),
    (For::Account, "GET /observability/v1/logs", ""),
    (For::Account, "GET /identity/v1/identities", ""),
    (For::Account, "POST /identity/v1/identities", ""),
    (For::Account, "DELETE /identity/v1/identities/{identity}", ""),
    (For::Account, "GET /identity/v1/identities/{identity}/tokens", ""),
    (For::Account, "POST /identity/v1/identities/{identity}/tokens", ""),
    (For::Account, "DELETE /identity/v1/identities/{identity}/tokens/{token}", ""),
    (For::Account, "GET /identity/v1/identities/{identity}/permissions/vm", ""),
    (For::Account, "GET /identity/v1/identities/{identity}/permissions/vm/{vm_id}", ""),
    (For::Account, "POST /identity/v1/identities/{identity}/permissions/vm/{vm_id}", "{}"),
    (For::Account, "PUT /identity/v1/identities/{identity}/permissions/vm/{vm_id}", "{}"),
    (For::Account, "DELETE /identity/v1/identities/{identity}/permissions/vm/{vm_id}", ""),
    (For::Account, "GET /identity/v1/identities/{identity}/permissions/git", ""),
    (For::Account, "GET /identity/v1/identities/{identity}/permissions/git/{repo}", ""),
    (For::Account, "POST /identity/v1/identities/{identity}/permissions/git/{repo}", READ),
    (For::Account, "PUT /identity/v1/identities/{identity}/permissions/git/{repo}", READ),
    (For::Account, "DELETE /identity/v1/identities/{identity}/permissions/git/{repo}", ""),
    (For::Account, "GET /git/v1/repo", ""),
    (For::Account, "POST /git/v1/repo", "{}"),
    (For::RepoReader, "GET /git/v1/repo/{repo}", ""),
    (For::Account, "DELETE /git/v1/repo/{repo}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo_id}/visibility", ""),
    (For::Account, "PUT /git/v1/repo/{repo_id}/visibility", r#"{"visibility": "private"}"#),
    (For::RepoReader, "GET /git/v1/repo/{repo_id}/default-branch", ""),
    (For::RepoWriter, "PUT /git/v1/repo/{repo_id}/default-branch", r#"{"defaultBranch": "x"}"#),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/heads/", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/heads", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/heads/{branch}", ""),
    (For::RepoWriter, "POST /git/v1/repo/{repo}/git/refs/heads/{branch}", "{}"),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/heads/{branch}/{*rest}", ""),
    (For::RepoWriter, "POST /git/v1/repo/{repo}/git/refs/heads/{branch}/{*rest}", "{}"),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/tags/", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/tags", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/tags/{tag}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/refs/tags/{tag}/{*rest}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/tags/{hash}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/blobs/{hash}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/trees/{hash}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/commits", ""),
    (For::RepoWriter, "POST /git/v1/repo/{repo}/git/commits", COMMIT_OBJECT),
    (For::RepoReader, "GET /git/v1/repo/{repo}/git/commits/{hash}", ""),
    (For::RepoWriter, "POST /git/v1/repo/{repo}/commits", r#"{"message": "m", "files": []}"#),
    (For::RepoReader, "GET /git/v1/repo/{repo}/contents/", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/contents", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/contents/{path}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/contents/{path}/", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/contents/{path}/{*rest}", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/tarball", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/zip", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/compare", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/search", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/search/files", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/search/commits", ""),
    (For::RepoReader, "GET /git/v1/repo/{repo}/search/diffs", ""),
    (For::Account, "GET /git/v1/repo/{repo_id}/github-sync", ""),
    (For::Account, "POST /git/v1/repo/{repo_id}/github-sync", r#"{"githubRepoName": "a/b"}"#),
    (For::Account, "DELETE /git/v1/repo/{repo_id}/github-sync", ""),
    (For::Account, "GET /git/v1/github/app", ""),
    (For::Account, "PUT /git/v1/github/app", "{}"),
    (For::Account, "DELETE /git/v1/github/app", ""),
    // Proved by a signature.
    (For::Everybody, "POST /git/v1/github/webhook", ""),
    (For::Account, "ANY /git/v1/repo/{repo}/repair", ""),
    (For::Account, "ANY /git/v1/repo/{repo}/repair/{job_id}", ""),
    (For::Anyone, "GET /git/v1/host", ""),
    (For::Account, "GET /git/v1/repo/{repo}/trigger", ""),
    (For::Account, "POST /git/v1/repo/{repo}/trigger", TRIGGER),
    (For::Account, "DELETE /git/v1/repo/{repo}/trigger/{trigger}", ""),
    (For::Account, "GET /git/v1/repo/{repo}/trigger/{trigger}/deliveries", ""),
    (For::Account, REDELIVER, ""),
    (For::Account, "GET /domains/v1/domains", ""),
    (For::Account, "GET /domains/v1/verifications", ""),
    (For::Account, "POST /domains/v1/verifications", r#"{"domain": "example.com"}"#),
    (For::Account, "PUT /domains/v1/verifications", r#"{"domain": "example.org"}"#),
    (For::Account, "DELETE /domains/v1/verifications", CANCEL),
    (For::Account, "GET /domains/v1/mappings", ""),
    (For::Account, "POST /domains/v1/mappings/{domain}", "{}"),
    (For::Account, "DELETE /domains/v1/mappings/{domain}", ""),
    (For::Account, "POST /domains/v1/certs/{domain}/wildcard", ""),
    (For::Account, "GET /dns/v1/records", ""),
    (For::Account, "POST /dns/v1/records", "{}"),
    (For::Account, "DELETE /dns/v1/records", ""),
    (For::Account, "GET /v1/vpcs", ""),
    (For::Account, "POST /v1/vpcs", r#"{"cidr": "10.9.0.0/16"}"#),
    (For::Account, "DELETE /v1/vpcs/{vpc_id}", ""),
    (For::Account, "POST /v1/vpcs/{vpc_id}/wireguard/ephemeral", "{}"),
    (For::Account, "DELETE /v1/vpcs/{vpc_id}/wireguard/ephemeral", SESSION),
    (For::Account, "POST /v1/vpcs/{vpc_id}/wireguard/peers", PEER),
    (For::Account, "ANY /v1/vms/{vm_id}/stats/stream", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/systemd/{action}", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/systemd/services/{service_id}", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/systemd/services/{service_id}/{view}", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/terminals", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/terminals/{terminal_id}/{view}", ""),
    (For::Account, "ANY /v1/vms/{vm_id}/watch-files", ""),
];
const TRIGGER: &str = r#"{"trigger": {"event": "push"},
    "action": {"action": "webhook", "endpoint": "http://hook.invalid/"}}"#;
const REDELIVER: &str =
    "POST /git/v1/repo/{repo}/trigger/{trigger}/deliveries/{delivery}/redeliver";
const READ: &str = r#"{"permission": "read"}"#;
const COMMIT_OBJECT: &str = r#"{"message": "m", "tree": "x", "parents": []}"#;

/// How the router prints what answers for every other path.
const THE_FALLBACKS: &[&str] = &["/", "/{*__private__axum_fallback}"];
const CANCEL: &str = r#"{"domain": "example.org", "verificationCode": "x"}"#;
const SESSION: &str = r#"{"sessionId": "wgs-abcdefghij0123456789"}"#;
const PEER: &str = r#"{"gatewayVmId": "abcdefghij0123456789", "clientPublicKey": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="}"#;

/// More than any answer takes that does not wait for a body.
const LIMIT: Duration = Duration::from_secs(60);

const UNAUTHORIZED: (u16, &str) = (401, "UNAUTHORIZED_ERROR");
const FOR_ACCOUNTS: (u16, &str) = (403, "FORBIDDEN");
const WRONG_USER: (u16, &str) = (403, "ACCESS_DENIED");
const READ_ONLY: (u16, &str) = (403, "REPOSITORY_ACCESS_DENIED");

/// A server with two accounts on it, and an identity of the first. A caller is the headers it sends.
struct World {
    address: SocketAddr,
    store: Store,
    repos: Repos,
    account: AccountId,
    key: ApiKeyId,
    owner: String,
    stranger: String,
    identity: IdentityId,
    /// Presents a token of the identity.
    token: String,
    /// Revoked ones, malformed ones, several at once, none at all.
    nobodies: Vec<(&'static str, String)>,
    vms: VmService,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    _dir: TempDir,
}

/// What stands in the paths of one endpoint's requests.
struct Things {
    vm: VmId,
    identity: IdentityId,
    token: TokenId,
    repository: RepositoryId,
    vpc: VpcId,
}

enum Body<'a> {
    /// Its length is told and nothing is sent.
    Announced,
    Sent(&'a str),
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}\r\n")
}

fn access_token(secret: &str) -> String {
    format!("X-Freestyle-Identity-Access-Token: {secret}\r\n")
}

impl World {
    async fn start() -> Self {
        // Short: the VM service keeps sockets in it.
        let dir = tempfile::Builder::new().prefix("fs-").tempdir().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let access = Access::new(store.clone());
        let vms = VmService::take_over(config(&dir), store.clone()).await.unwrap();
        let vpn = freestyle_vpc::Config { vpn: None };
        let vpcs = VpcService::open(vpn, store.clone(), vms.network()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let outbound = Outbound::new(Vec::new());
        let repos = freestyle_repos::Config {
            root: dir.path().join("git"),
            git: "git".into(),
            limits: freestyle_git::Limits::default(),
            repositories_per_account: 1000,
            outbound: outbound.clone(),
        };
        let repos = Repos::open(repos, store.clone()).await.unwrap();
        let github = GitHub::new(store.clone(), repos.clone(), outbound);
        let domains = Domains::new(store.clone(), freestyle_domains::Config::default());
        let certificates = Certificates::local(dir.path()).await.unwrap();
        let state = ApiState {
            vms: vms.clone(),
            vpcs,
            repos: repos.clone(),
            github,
            git_url: "http://git.example.com".into(),
            store: store.clone(),
            access,
            domains,
            certificates,
            ssh: None,
        };
        let router = router(state);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(serve(listener, router, async {
            // Dropping the sender stops the server too.
            _ = stopped.await;
        }));

        let account = store.system().create_account("owner").await.unwrap().id;
        let other = store.system().create_account("stranger").await.unwrap().id;
        let scope = store.account_scope(&account);
        let (key, owner) = scope.create_api_key("in use").await.unwrap();
        let (_, stranger) = store.account_scope(&other).create_api_key("in use").await.unwrap();
        let identity = scope.create_identity().await.unwrap().id;
        let (_, token) = scope.create_token(&identity).await.unwrap();

        let (revoked_key, old_key) = scope.create_api_key("revoked").await.unwrap();
        assert!(scope.revoke_api_key(&revoked_key.id).await.unwrap());
        let (revoked_token, old_token) = scope.create_token(&identity).await.unwrap();
        scope.revoke_token(&identity, &revoked_token.id).await.unwrap();
        let deleted = scope.create_identity().await.unwrap().id;
        let (_, orphan) = scope.create_token(&deleted).await.unwrap();
        scope.delete_identity(&deleted).await.unwrap();
        let as_key = |secret: &Secret| bearer(secret.expose());
        let as_token = |secret: &Secret| access_token(secret.expose());
        let made_up = "A".repeat(43);
        let nobodies = vec![
            ("no credential", String::new()),
            ("another scheme", "Authorization: Basic eDp5\r\n".to_owned()),
            ("a malformed key", bearer("fs_x")),
            ("a wrong key", bearer(&format!("fs_{made_up}"))),
            ("a revoked key", as_key(&old_key)),
            ("a token as a key", as_key(&token)),
            ("two keys", as_key(&owner) + &as_key(&owner)),
            ("a malformed token", access_token("fsi_")),
            ("a wrong token", access_token(&format!("fsi_{made_up}"))),
            ("a revoked token", as_token(&old_token)),
            ("a token of a deleted identity", as_token(&orphan)),
            ("a key as a token", as_token(&owner)),
            ("two tokens", as_token(&token) + &as_token(&token)),
            ("a key and a token", as_key(&owner) + &as_token(&token)),
        ];
        Self {
            address,
            owner: as_key(&owner),
            stranger: as_key(&stranger),
            token: as_token(&token),
            key: key.id,
            account,
            identity,
            nobodies,
            store,
            repos,
            vms,
            stop,
            running,
            _dir: dir,
        }
    }

    /// Gives back what the VM service has of the host.
    async fn end(self) {
        drop(self.stop);
        self.running.await.unwrap();
        self.vms.shut_down().await;
    }

    /// Things of the first account that no endpoint has touched yet.
    async fn things(&self) -> Things {
        let scope = self.store.account_scope(&self.account);
        let vm = NewVm {
            id: VmId::random(),
            sizing: Sizing { vcpus: 1, memory_mib: 512, disk_mib: 4096 },
            image: "image".to_owned(),
            origin: None,
        };
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
            nic: None,
        };
        let (_, create) = scope.insert_vm(&vm, &settings, "create").await.unwrap();
        let stopped = Settled::Stopped { last_exit: "shut down" };
        self.store.system().finish_operation(&create.id, stopped).await.unwrap();
        let identity = scope.create_identity().await.unwrap().id;
        let (token, _) = scope.create_token(&identity).await.unwrap();
        let repository =
            NewRepo { name: None, public: false, default_branch: None, content: Content::Nothing };
        let repository = self.repos.create(&self.account, repository).await.unwrap();
        let vpc = scope.create_vpc(None, "10.9.0.0/16".parse().unwrap()).await.unwrap().id;
        let repository = repository.id().clone();
        Things { vm: vm.id, identity, token: token.id, repository, vpc }
    }

    /// Lets the identity use the VM as these Linux users.
    async fn grant(&self, vm: &VmId, users: Option<&[&str]>) {
        let scope = self.store.account_scope(&self.account);
        if scope.vm_grant(&self.identity, vm).await.unwrap().is_some() {
            scope.revoke_vm_grant(&self.identity, vm).await.unwrap();
        }
        let users: Option<Vec<String>> =
            users.map(|users| users.iter().map(|&user| user.to_owned()).collect());
        scope.grant_vm(&self.identity, vm, users.as_deref(), &self.key).await.unwrap();
    }

    /// Lets the identity read the repository, or write to it.
    async fn grant_repository(&self, repository: &RepositoryId, level: RepositoryLevel) {
        let (scope, repository) = (self.store.account_scope(&self.account), repository.as_str());
        if scope.git_grant(&self.identity, repository).await.unwrap().is_some() {
            scope.revoke_git_grant(&self.identity, repository).await.unwrap();
        }
        scope.grant_git(&self.identity, repository, level, &self.key).await.unwrap();
    }

    async fn ask(&self, endpoint: &str, path: &str, headers: &str, body: Body<'_>) -> Answer {
        let method = match method(endpoint) {
            "ANY" => "POST",
            method => method,
        };
        let (length, body) = match body {
            Body::Announced => (1_000_000, ""),
            Body::Sent(body) => (body.len(), body),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let answered = timeout(LIMIT, exchange).await;
        let answered = answered.unwrap_or_else(|_| panic!("{endpoint} waits for a body"));
        let (head, body) = answered.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: serde_json::from_str(body).unwrap() }
    }
}

impl Answer {
    fn is(&self, (status, code): (u16, &str)) -> bool {
        self.status == status && self.body["code"] == code && self.body["error"] == code
    }

    /// Not refused for who is calling; whether the call then succeeds is another matter.
    fn is_let_in(&self) -> bool {
        let code = self.body["code"].as_str().unwrap_or_default();
        !matches!(self.status, 401 | 403)
            && !["VM_NOT_FOUND", "REPOSITORY_NOT_FOUND"].contains(&code)
    }

    /// The answer without the names of these things.
    fn about(&self, things: &Things) -> (u16, String) {
        let Things { vm, identity, token, repository, vpc } = things;
        let names =
            [vm.as_str(), identity.as_str(), token.as_str(), repository.as_str(), vpc.as_str()];
        let body = self.body.to_string();
        (self.status, names.iter().fold(body, |body, name| body.replace(name, "...")))
    }
}

fn method(endpoint: &str) -> &str {
    endpoint.split_once(' ').unwrap().0
}

fn template(endpoint: &str) -> &str {
    endpoint.split_once(' ').unwrap().1
}

/// The path of an endpoint with things in it.
fn path(endpoint: &str, things: &Things) -> String {
    template(endpoint)
        .replace("{vm_id}", things.vm.as_str())
        .replace("{id}", things.vm.as_str())
        .replace("{vpc_id}", things.vpc.as_str())
        .replace("{identity}", things.identity.as_str())
        .replace("{token}", things.token.as_str())
        .replace("{repo}", things.repository.as_str())
        .replace("{repo_id}", things.repository.as_str())
        .replace("{path}", "src%2Fa")
        .replace("{branch}", "feature%2Fx")
        .replace("{tag}", "v1")
        .replace("{hash}", "0123456789012345678901234567890123456789")
        .replace("{job_id}", "x")
        .replace("{trigger}", TriggerId::random().as_str())
        .replace("{delivery}", DeliveryId::random().as_str())
        .replace("{snapshot_id}", SnapshotId::random().as_str())
        .replace("{build_id}", BuildId::random().as_str())
        // A domain that one may not map is answered like a caller who is refused.
        .replace("{domain}", "localhost")
        .replace("{request_id}", "ri-abcdefghij0123456789")
        .replace("{filepath}", "%2Fetc%2Fhostname")
        .replace("{*filepath}", "etc/hostname")
        .replace("{*rest}", "hostname")
        .replace("{action}", "services")
        .replace("{view}", "logs")
        .replace("{service_id}", "x")
        .replace("{session_id}", "x")
        .replace("{terminal_id}", "x")
}

/// Of a VM service that has no base image and makes no VM.
fn config(dir: &TempDir) -> freestyle_vm::Config {
    freestyle_vm::Config {
        data_dir: dir.path().to_owned(),
        cache_dir: dir.path().join("cache"),
        qemu: "qemu-system-x86_64".into(),
        accelerator: AcceleratorChoice::Auto,
        pool_size: 0,
        disk_budget: None,
        resolvers: Vec::new(),
        image: Image {
            hash: "none".to_owned(),
            rootfs: "/nonexistent".into(),
            kernel: "/nonexistent".into(),
            initrd: "/nonexistent".into(),
            disk_mib: 4096,
        },
        login_secret: LoginSecret::new([7; 32]),
    }
}

/// Method and path of what is documented, and the paths of everything else. The router tells its
/// paths nowhere but in what it prints for debugging.
fn endpoints_of_the_router() -> (BTreeSet<String>, BTreeSet<String>) {
    let document: Value = serde_json::from_str(&crate::document()).unwrap();
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let printed = format!("{:?}", framed(all_routes()));
    let strings = printed.split('"').skip(1).step_by(2);
    let is_path = |text: &&str| text.starts_with('/') && !THE_FALLBACKS.contains(text);
    let mut others: BTreeSet<String> = strings.filter(is_path).map(str::to_owned).collect();
    let paths: BTreeSet<&str> = documented.iter().map(|endpoint| template(endpoint)).collect();
    for path in paths {
        assert!(others.remove(path), "{path} is not in what the router prints: {printed}");
    }
    (documented, others)
}

#[test]
fn every_endpoint_says_who_may_call_it() {
    let (documented, others) = endpoints_of_the_router();
    let said: BTreeSet<String> = ENDPOINTS.iter().map(|(_, it, _)| (*it).to_owned()).collect();
    assert_eq!(said.len(), ENDPOINTS.len(), "none is there twice");
    for endpoint in &documented {
        assert!(said.contains(endpoint), "who may call {endpoint}? ENDPOINTS does not say");
    }
    for path in &others {
        let is_said = said.iter().any(|endpoint| template(endpoint) == path);
        assert!(is_said, "who may call {path}? ENDPOINTS does not say");
    }
    for endpoint in &said {
        let exists = documented.contains(endpoint) || others.contains(template(endpoint));
        assert!(exists, "there is no {endpoint}");
    }
}

#[tokio::test]
async fn every_endpoint_lets_in_whom_it_says_and_nobody_else() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for &(who, endpoint, body) in ENDPOINTS {
        let things = world.things().await;
        let path = path(endpoint, &things);
        let mut check = |is_right: bool, caller: &str, answer: &Answer| {
            if !is_right {
                wrong.push(format!("{endpoint}, {caller}: {answer:?}"));
            }
        };

        for (caller, headers) in &world.nobodies {
            let answer = world.ask(endpoint, &path, headers, Body::Announced).await;
            let is_right = match who {
                For::Everybody => answer.is_let_in(),
                _ => answer.is(UNAUTHORIZED),
            };
            check(is_right, caller, &answer);
        }

        let answer = world.ask(endpoint, &path, &world.token, Body::Announced).await;
        let is_right = match who {
            For::Everybody | For::Anyone => answer.is_let_in(),
            For::Account => answer.is(FOR_ACCOUNTS),
            For::VmViewer | For::VmActor => {
                answer.is((404, "VM_NOT_FOUND")) && answer.body["vmId"] == things.vm.as_str()
            }
            For::RepoReader | For::RepoWriter => {
                answer.is((404, "REPOSITORY_NOT_FOUND"))
                    && answer.body["repoId"] == things.repository.as_str()
            }
        };
        check(is_right, "a token without a grant", &answer);

        for (users, named, is_allowed) in [
            (None, None, true),
            (None, Some("alice"), true),
            (Some(&["alice"][..]), Some("alice"), true),
            (Some(&["alice"][..]), Some("bob"), false),
            (Some(&["alice"][..]), None, false),
            (Some(&["root"][..]), None, true),
        ] {
            world.grant(&things.vm, users).await;
            let user = named.map(|user| format!("X-Freestyle-Vm-Linux-User-Id: {user}\r\n"));
            let headers = world.token.clone() + &user.unwrap_or_default();
            let refusal = match who {
                For::Everybody | For::Anyone | For::VmViewer => None,
                For::Account => Some(FOR_ACCOUNTS),
                For::VmActor => (!is_allowed).then_some(WRONG_USER),
                For::RepoReader | For::RepoWriter => Some((404, "REPOSITORY_NOT_FOUND")),
            };
            // Who is let in sends one that is refused, so that nothing is done.
            let body = if refusal.is_some() { Body::Announced } else { Body::Sent("[]") };
            let answer = world.ask(endpoint, &path, &headers, body).await;
            let is_right = match refusal {
                Some(refusal) => answer.is(refusal),
                None => answer.is_let_in(),
            };
            check(is_right, &format!("a token granted {users:?}, as {named:?}"), &answer);
        }

        for level in [RepositoryLevel::Read, RepositoryLevel::Write] {
            world.grant_repository(&things.repository, level).await;
            let refusal = match (who, level) {
                (For::Account, _) => Some(FOR_ACCOUNTS),
                (For::RepoWriter, RepositoryLevel::Read) => Some(READ_ONLY),
                (For::RepoReader | For::RepoWriter, _) => None,
                // The grant is no concern of theirs.
                _ => break,
            };
            let body = if refusal.is_some() { Body::Announced } else { Body::Sent("[]") };
            let answer = world.ask(endpoint, &path, &world.token, body).await;
            let is_right = match refusal {
                Some(refusal) => answer.is(refusal),
                None => answer.is_let_in(),
            };
            check(is_right, &format!("a token granted {level:?}"), &answer);
        }

        // What is another's is answered like what never was.
        let names = [
            things.vm.as_str(),
            things.identity.as_str(),
            things.repository.as_str(),
            things.vpc.as_str(),
        ];
        if names.iter().any(|name| path.contains(name)) {
            let never = Things {
                vm: VmId::random(),
                identity: IdentityId::random(),
                token: TokenId::random(),
                repository: RepositoryId::random(),
                vpc: VpcId::random(),
            };
            let unknown = self::path(endpoint, &never);
            let foreign = world.ask(endpoint, &path, &world.stranger, Body::Sent(body)).await;
            let missing = world.ask(endpoint, &unknown, &world.stranger, Body::Sent(body)).await;
            let is_right = foreign.about(&things) == missing.about(&never)
                && (foreign.status == 404 || method(endpoint) == "ANY");
            check(is_right, "another account's key", &foreign);
        }

        let answer = world.ask(endpoint, &path, &world.owner, Body::Sent("[]")).await;
        check(answer.is_let_in(), "the account's key", &answer);
    }
    world.end().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
