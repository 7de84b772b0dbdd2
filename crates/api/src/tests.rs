//! The API over real connections, as far as it needs no VM: with the store as it is, and the routes
//! that work without the VM service. Who may call what is in [`matrix`], with all of them.

mod matrix;

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRef, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use freestyle_access::Access;
use freestyle_client::wire::{ExecRequest, TRACE_ID_HEADER};
use freestyle_client::{Client, ClientError};
use freestyle_github::GitHub;
use freestyle_outbound::Outbound;
use freestyle_repos::Repos;
use freestyle_store::{AccountId, BuildEnd, BuildId, BuildPhase, BuildPhaseId, NewBuild, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::authenticate::Account;
use crate::background::{self, Background, Progress};
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::server::Connection;
use crate::{all_routes, auth, builds, framed, git, not_available, serve};

#[derive(Clone)]
struct TestState {
    store: Store,
    repos: Repos,
    github: GitHub,
    access: Access,
    git_url: git::GitUrl,
    bodies: std::sync::Arc<Bodies>,
    background: Background,
}

impl FromRef<TestState> for Store {
    fn from_ref(state: &TestState) -> Self {
        state.store.clone()
    }
}

impl FromRef<TestState> for Repos {
    fn from_ref(state: &TestState) -> Self {
        state.repos.clone()
    }
}

impl FromRef<TestState> for GitHub {
    fn from_ref(state: &TestState) -> Self {
        state.github.clone()
    }
}

impl FromRef<TestState> for git::GitUrl {
    fn from_ref(state: &TestState) -> Self {
        state.git_url.clone()
    }
}

impl FromRef<TestState> for std::sync::Arc<Bodies> {
    fn from_ref(state: &TestState) -> Self {
        state.bodies.clone()
    }
}

impl FromRef<TestState> for Access {
    fn from_ref(state: &TestState) -> Self {
        state.access.clone()
    }
}

impl FromRef<TestState> for Background {
    fn from_ref(state: &TestState) -> Self {
        state.background.clone()
    }
}

pub(crate) struct Server {
    url: String,
    address: std::net::SocketAddr,
    pub(crate) store: Store,
    pub(crate) account: AccountId,
    pub(crate) key: String,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    pub(crate) dir: TempDir,
}

/// Reads a command like `exec-await` does, and says it back.
async fn echo(
    Account(_): Account,
    State(state): State<TestState>,
    request: Request,
) -> Result<Json<ExecRequest>, ApiError> {
    let body = state.bodies.receive(request, Limits::JSON, Code::CreateVmBadRequest).await?;
    Ok(Json(body.json(Code::CreateVmBadRequest)?))
}

/// Takes until it was told its result by the peer that its body names, in the background if it is asked to.
async fn slow(
    Account(account): Account,
    State(state): State<TestState>,
    request: Request,
) -> Result<Response, ApiError> {
    const BAD: Code = Code::CreateVmBadRequest;
    let after = background::answer_after(request.headers(), BAD)?;
    let body = state.bodies.receive(request, Limits::JSON, BAD).await?;
    let request: ExecRequest = body.json(BAD)?;
    let call = async move |progress: Progress| {
        progress.report("waiting");
        let mut go = TcpStream::connect(request.command).await.unwrap();
        let mut answer = String::new();
        go.read_to_string(&mut answer).await.unwrap();
        Ok(json!({"id": answer}))
    };
    Ok(state.background.answer(&account, after, call).await)
}

/// Says back what it hears, until the server ends.
async fn socket(upgrade: WebSocketUpgrade, connection: Connection) -> Response {
    upgrade.on_upgrade(async move |mut socket: WebSocket| {
        let echo = async {
            while let Some(Ok(message @ Message::Text(_))) = socket.recv().await {
                socket.send(message).await.unwrap();
            }
        };
        tokio::select! {
            () = echo => {}
            () = connection.closing() => {}
        }
        socket.send(Message::Close(None)).await.unwrap();
    })
}

async fn panics(_: Account) -> Json<Value> {
    panic!("on purpose")
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("metadata")).await.unwrap();
        let repos = freestyle_repos::Config {
            root: dir.path().join("git"),
            git: "git".into(),
            limits: freestyle_git::Limits::default(),
            repositories_per_account: 1000,
            outbound: Outbound::new(Vec::new()),
        };
        let repos = Repos::open(repos, store.clone()).await.unwrap();
        let github = GitHub::new(store.clone(), repos.clone(), Outbound::new(Vec::new()));
        let account = store.system().create_account("test").await.unwrap().id;
        let (_, secret) = store.account_scope(&account).create_api_key("test").await.unwrap();
        let documented = auth::routes::<TestState>();
        let documented = documented.merge(background::routes()).merge(builds::routes());
        let documented = documented.merge(git::routes());
        let (routes, _) = documented.split_for_parts();
        let routes: Router<TestState> = routes
            .merge(background::log_routes())
            .merge(git::courtesy_routes())
            .merge(not_available::routes())
            .route("/test/echo", post(echo))
            .route("/test/panic", post(panics))
            .route("/test/socket", get(socket))
            .route("/test/slow", post(slow));
        let state = TestState {
            store: store.clone(),
            repos,
            github,
            access: Access::new(store.clone()),
            git_url: git::GitUrl("http://git.example.com".into()),
            bodies: Bodies::new().into(),
            background: Background::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(serve(listener, framed(routes).with_state(state), async {
            // Dropping the sender stops the server too.
            _ = stopped.await;
        }));
        Self {
            url: format!("http://{address}"),
            address,
            store,
            account,
            key: secret.expose().to_owned(),
            stop: Some(stop),
            running,
            dir,
        }
    }

    fn client(&self, key: &str) -> Client {
        Client::new(&self.url, key).unwrap()
    }

    /// One exchange in plain text: status, head and body.
    async fn exchange(&self, request: &[u8]) -> (u16, String, Value) {
        let (status, head, body) = self.exchange_bytes(request).await;
        (status, head, serde_json::from_slice(&body).unwrap())
    }

    /// The same, whatever the body is.
    async fn exchange_bytes(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let (_, read) = tokio::join!(write.write_all(request), read.read_to_end(&mut answer));
        read.unwrap();
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = (head.to_lowercase(), &answer[end + 4..]);
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { dechunked(body) } else { body.to_vec() };
        (status, head, body)
    }

    /// A request with this server's key and a body.
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, String, Value) {
        let (status, head, body) = self.send_with(&self.key, method, path, body).await;
        (status, head, serde_json::from_slice(&body).unwrap())
    }

    /// A request with a key and a body, whatever the answer is.
    pub(crate) async fn send_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> (u16, String, Vec<u8>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n",
            body.len(),
        );
        self.exchange_bytes(&[head.as_bytes(), body].concat()).await
    }
}

/// The parts of a chunked body, which must be complete.
fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|at| at == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let part = &body[end + 2..];
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&part[..length]);
        body = &part[length + 2..];
    }
}

fn code(error: ClientError) -> String {
    error.code().unwrap_or_else(|| panic!("no code: {error}")).to_owned()
}

#[test]
fn all_routes_go_together() {
    // Routes that conflict panic here.
    drop(framed(all_routes()));
}

#[tokio::test]
async fn a_key_opens_its_own_account() {
    let server = Server::start().await;
    let who = server.client(&server.key).whoami().await.unwrap();
    assert_eq!(who.account_id, server.account.as_str());
    assert_eq!(who.identity_id, None);
}

#[tokio::test]
async fn a_key_that_is_unknown_or_revoked_opens_nothing() {
    let server = Server::start().await;
    for key in ["", "fs_x", "fs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let error = server.client(key).whoami().await.unwrap_err();
        assert_eq!(code(error), "UNAUTHORIZED_ERROR", "{key}");
    }
    let scope = server.store.account_scope(&server.account);
    let key = scope.list_api_keys().await.unwrap().remove(0);
    assert!(scope.revoke_api_key(&key.id).await.unwrap());
    let error = server.client(&server.key).whoami().await.unwrap_err();
    assert_eq!(code(error), "UNAUTHORIZED_ERROR");
}

#[tokio::test]
async fn a_token_tells_whose_it_is_until_it_is_revoked() {
    let server = Server::start().await;
    let scope = server.store.account_scope(&server.account);
    let identity = scope.create_identity().await.unwrap().id;
    let (token, secret) = scope.create_token(&identity).await.unwrap();
    let request = format!(
        "GET /auth/v1/whoami HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
         X-Freestyle-Identity-Access-Token: {}\r\n\r\n",
        secret.expose(),
    );
    let (status, _, who) = server.exchange(request.as_bytes()).await;
    let expected = json!({"accountId": server.account.as_str(), "identityId": identity.as_str()});
    assert_eq!((status, who), (200, expected));

    scope.revoke_token(&identity, &token.id).await.unwrap();
    let (status, _, body) = server.exchange(request.as_bytes()).await;
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHORIZED_ERROR")));
}

#[tokio::test]
async fn a_refusal_says_which_route_and_why() {
    let server = Server::start().await;
    let request = "GET /auth/v1/whoami HTTP/1.1\r\nHost: t\r\nConnection: close\r\n";
    for (headers, reason) in [
        ("", "no Authorization"),
        ("X-Freestyle-Identity-Access-Token: a\r\nAuthorization: Bearer b\r\n", "both"),
        ("Authorization: Basic eDp5\r\n", "not Bearer"),
        ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", "more than one"),
        ("X-Freestyle-Identity-Access-Token: t\r\n", "access token is unknown"),
    ] {
        let (status, head, body) =
            server.exchange(format!("{request}{headers}\r\n").as_bytes()).await;
        assert_eq!(status, 401);
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert_eq!(body["code"], "UNAUTHORIZED_ERROR");
        assert_eq!(body["error"], body["code"]);
        assert_eq!(body["route"], "GET /auth/v1/whoami");
        assert!(body["reason"].as_str().unwrap().contains(reason), "{body}");
    }
}

#[tokio::test]
async fn credentials_are_checked_before_the_body_arrives() {
    let server = Server::start().await;
    let head = "POST /test/echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
                Content-Length: 1000000\r\n\r\n";
    let answer = timeout(Duration::from_secs(10), server.exchange(head.as_bytes())).await;
    let (status, _, body) = answer.expect("the server does not wait for the body");
    assert_eq!((status, &body["code"]), (401, &json!("UNAUTHORIZED_ERROR")));
}

#[tokio::test]
async fn what_is_not_there_is_json_with_a_code_and_a_trace_id() {
    let server = Server::start().await;
    for (method, path, status, expected) in [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/git/v1/repos", 404, "NOT_FOUND"),
        ("POST", "/git/v1/repo/x/repair", 400, "BAD_REQUEST"),
        ("DELETE", "/auth/v1/whoami", 405, "BAD_REQUEST"),
        ("GET", "/v1/vms/abcdefghij0123456789/terminals", 400, "BAD_REQUEST"),
        ("GET", "/v1/vms/abcdefghij0123456789/systemd/services/x/logs", 400, "BAD_REQUEST"),
        ("GET", "/v1/vms/builds/bld-abcdefghij0123456789", 404, "BUILD_NOT_FOUND"),
        ("GET", "/v1/vms/builds/x/phases", 404, "BUILD_NOT_FOUND"),
        ("GET", "/v1/vms/abcdefghij0123456789/build", 404, "BUILD_NOT_FOUND_FOR_VM"),
        ("GET", "/auth/v1/background-requests/ri-abcdefghij0123456789", 404, "NOT_FOUND"),
        ("GET", "/auth/v1/background-requests/%", 404, "NOT_FOUND"),
        ("GET", "/observability/v1/logs?requestId=x", 404, "NOT_FOUND"),
        ("GET", "/observability/v1/logs", 400, "BAD_REQUEST"),
        ("GET", "/observability/v1/logs?vmId=x", 400, "BAD_REQUEST"),
        ("POST", "/test/panic", 500, "INTERNAL_ERROR"),
    ] {
        let (got, head, body) = server.send(method, path, b"").await;
        assert_eq!((got, &body["code"]), (status, &json!(expected)), "{method} {path}");
        assert!(head.contains(&format!("{TRACE_ID_HEADER}: ")), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
    }
}

#[tokio::test]
async fn bodies_are_refused_with_the_code_of_their_family() {
    let server = Server::start().await;
    let large = format!(r#"{{"command": "{}"}}"#, "x".repeat(3 * 1024 * 1024));
    for body in [
        "",
        "nonsense",
        "null",
        "[]",
        r#"{"command": 1}"#,
        r#"{"command": "x"} y"#,
        "\u{0}",
        &large,
    ] {
        let (status, _, answer) = server.send("POST", "/test/echo", body.as_bytes()).await;
        let start: String = body.chars().take(20).collect();
        assert_eq!((status, &answer["code"]), (400, &json!("CREATE_VM_BAD_REQUEST")), "{start}");
    }
    let (status, _, answer) =
        server.send("POST", "/test/echo", br#"{"command": "true", "timeoutMs": null}"#).await;
    assert_eq!((status, &answer["command"]), (200, &json!("true")));
}

#[tokio::test]
async fn the_client_reports_what_the_server_said() {
    let server = Server::start().await;
    let error = server.client(&server.key).delete_vm("builds/x").await.unwrap_err();
    let ClientError::Api(failure) = error else { panic!("{error}") };
    assert_eq!((failure.status, failure.code.as_str()), (404, "NOT_FOUND"));
    assert!(failure.message.contains("DELETE /v1/vms/builds%2Fx"), "{}", failure.message);
    assert_eq!(failure.trace_id.map(|id| id.len()), Some(32));
}

/// The whole of protocol section 4, as the SDK goes through it.
#[tokio::test]
async fn a_call_in_the_background_is_asked_about_until_it_has_a_result() {
    let server = Server::start().await;
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let body = json!({"command": peer.local_addr().unwrap().to_string()}).to_string();
    let request = format!(
        "POST /test/slow HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Length: {}\r\n\
         x-freestyle-background-after-secs: 0\r\n\r\n{body}",
        server.key,
        body.len(),
    );
    let (status, head, accepted) = server.exchange(request.as_bytes()).await;
    assert_eq!(status, 202);
    let id = accepted["requestId"].as_str().unwrap();
    assert!(head.contains(&format!("x-freestyle-background-request-id: {id}")), "{head}");

    let (mut call, _) = peer.accept().await.unwrap();
    let (logs, result) = (
        format!("/observability/v1/logs?requestId={id}"),
        format!("/auth/v1/background-requests/{id}"),
    );
    let (status, _, told) = server.send("GET", &logs, b"").await;
    assert_eq!((status, &told["logs"][0]["message"]), (200, &json!("waiting")));
    let (status, _, running) = server.send("GET", &result, b"").await;
    assert_eq!((status, running), (202, accepted.clone()));

    call.write_all(b"made").await.unwrap();
    drop(call);
    let ended = async {
        loop {
            let (status, _, body) = server.send("GET", &result, b"").await;
            if status != 202 {
                return (status, body);
            }
        }
    };
    let ended = timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(ended, (200, json!({"id": "made"})));
    let (status, _, again) = server.send("GET", &result, b"").await;
    assert_eq!((status, again), ended);
}

/// What a browser sends and looks for when a page of another origin uses the SDK with an access token.
#[tokio::test]
async fn a_web_page_may_call_with_an_access_token_and_read_the_answer() {
    let server = Server::start().await;
    let (status, head, _) = server
        .exchange(
            b"OPTIONS /v1/vms/abcdefghij0123456789/exec-await HTTP/1.1\r\nHost: t\r\n\
              Connection: close\r\nOrigin: https://app.example\r\n\
              Access-Control-Request-Method: POST\r\n\
              Access-Control-Request-Headers: x-freestyle-identity-access-token\r\n\r\n",
        )
        .await;
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: *\r\n"), "{head}");
    assert!(head.contains("access-control-allow-methods: get, post, put"), "{head}");
    let allowed = head.lines().find(|line| line.starts_with("access-control-allow-headers: "));
    let allowed = allowed.unwrap();
    for header in [
        "content-type",
        "x-freestyle-identity-access-token",
        "x-freestyle-sdk",
        "x-freestyle-sdk-version",
        "x-freestyle-vm-linux-user-id",
    ] {
        assert!(allowed.contains(header), "{allowed}");
    }
    assert!(!allowed.contains("authorization"), "an API key belongs on a server");

    let call = "HTTP/1.1\r\nHost: t\r\nConnection: close\r\nOrigin: https://app.example\r\n\r\n";
    for (request, status) in [("GET /auth/v1/whoami", 401), ("GET /nowhere", 404)] {
        let (got, head, _) = server.exchange(format!("{request} {call}").as_bytes()).await;
        assert_eq!(got, status);
        assert!(head.contains("access-control-allow-origin: *\r\n"), "{head}");
        assert!(head.contains("access-control-expose-headers: x-freestyle-trace-id"), "{head}");
        assert!(!head.contains("access-control-allow-credentials"), "{head}");
    }
    // Asked without a page behind it, it is a method like any other.
    let (status, _, _) =
        server.exchange(format!("OPTIONS /auth/v1/whoami {call}").as_bytes()).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn the_document_needs_no_credential() {
    let server = Server::start().await;
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let (status, _, body) = server.exchange(request).await;
    assert_eq!(status, 200);
    assert_eq!(body, serde_json::from_str::<Value>(&crate::document()).unwrap());
}

#[tokio::test]
async fn a_server_that_is_stopped_refuses_connections_and_ends() {
    let mut server = Server::start().await;
    let client = server.client(&server.key);
    client.whoami().await.unwrap();
    drop(server.stop.take());
    (&mut server.running).await.unwrap();
    let error = client.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_socket_goes_on_until_the_server_ends_and_does_not_hold_it_up() {
    const HELLO: &[u8] = b"\x81\x02hi";
    const CLOSE: &[u8] = b"\x88\x00";
    let mut server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head =
        b"GET /test/socket HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());

    // A client masks what it sends.
    stream.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let mut echo = [0; HELLO.len()];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, HELLO);

    drop(server.stop.take());
    let mut last = Vec::new();
    stream.read_to_end(&mut last).await.unwrap();
    assert_eq!(last, CLOSE);
    (&mut server.running).await.unwrap();
}

#[tokio::test]
async fn a_build_is_shown_to_its_account_as_it_comes_along() {
    let server = Server::start().await;
    let store = &server.store;
    let vm: freestyle_store::VmId = "abcdefghij0123456789".parse().unwrap();
    let new = NewBuild {
        id: BuildId::random(),
        snapshot_id: None,
        vm_id: Some(vm.clone()),
        content: Some("hash".to_owned()),
        planned_phases: vec!["users".to_owned(), "systemd".to_owned()],
    };
    let path = format!("/v1/vms/builds/{}", new.id);
    store.account_scope(&server.account).insert_build(&new).await.unwrap();
    let phase = BuildPhase {
        id: BuildPhaseId::random(),
        name: "users".to_owned(),
        snapshot_id: None,
        started_at: 1_000,
    };
    store.system().update_build(&new.id, std::slice::from_ref(&phase)).await.unwrap();

    let (status, _, build) = server.send("GET", &path, b"").await;
    assert_eq!((status, &build["state"]), (200, &json!("running")), "{build}");
    assert_eq!(build["plannedPhases"], json!(["users", "systemd"]));
    assert_eq!(build["templateHash"], "hash");
    assert_eq!(build["finishedAt"], Value::Null);
    let (_, _, phases) = server.send("GET", &format!("{path}/phases"), b"").await;
    let first = json!({
        "phaseId": phase.id.as_str(),
        "buildId": new.id.as_str(),
        "name": "users",
        "snapshotId": null,
        "startedAt": "1970-01-01T00:00:01.000Z",
    });
    assert_eq!(phases, json!({"phases": [first]}));

    let failed = BuildEnd::Failed { error: "no such user" };
    store.system().finish_build(&new.id, failed).await.unwrap();
    let (_, _, build) = server.send("GET", &format!("/v1/vms/{vm}/build"), b"").await;
    assert_eq!(build["buildId"], new.id.as_str());
    assert_eq!(
        (&build["state"], &build["failureReason"]),
        (&json!("failed"), &json!("no such user")),
    );
    assert!(build["finishedAt"].is_string());

    let other = store.system().create_account("other").await.unwrap().id;
    let foreign = NewBuild { id: BuildId::random(), vm_id: None, ..new };
    store.account_scope(&other).insert_build(&foreign).await.unwrap();
    let (status, _, error) =
        server.send("GET", &format!("/v1/vms/builds/{}", foreign.id), b"").await;
    assert_eq!((status, &error["code"]), (404, &json!("BUILD_NOT_FOUND")));
    assert_eq!(error["buildId"], foreign.id.as_str());
}
