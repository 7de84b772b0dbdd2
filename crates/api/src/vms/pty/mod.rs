//! Terminal sessions (protocol section 9): programs that are looked at and typed on over a
//! WebSocket.
//!
//! Everything that can be refused is refused before the upgrade, as an ordinary answer: a client that
//! was let in and is then turned away comes back at once, for ever.

mod socket;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use freestyle_client::wire::{
    AttachPtyQuery, ClosePtySessionResponse, ErrorBody, ListPtySessionsResponse, OpenPtyQuery,
    PtySessionInfo,
};
use freestyle_store::{AccountId, VmId};
use freestyle_vm::{MAX_COMMAND, OpenPty, PtyInfo, PtySize, Terminal, VmService};

use crate::App;
use crate::authenticate::VmActor;
use crate::error::{ApiError, Code};
use crate::long_call;
use crate::path::{PtySessionPath, parse_session_id};
use crate::query::understood;
use crate::server::Connection;

const BAD: Code = Code::BadRequest;
/// The window of a client that names none.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Longest message that is taken from a client: what is pasted comes as one.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
const READ_BUFFER_BYTES: usize = 16 << 10;

/// Starts a program on a terminal and looks on, over a WebSocket. A suspended VM is woken, a stopped
/// one started.
///
/// The first message from the server is the text `{"type": "sessionInfo", "sessionId": "..."}`. Binary
/// messages are what the program prints and what is typed. Further texts from the client are
/// `{"type": "resize", "cols": 80, "rows": 24}` and `{"type": "signal", "signal": "SIGINT"}` or
/// `"SIGKILL"`; the last one from the server is `{"type": "exited", "exitCode": 0}`.
///
/// The session goes on when the socket is closed. Close codes: 1000 after `exited`; 1001 when the VM
/// is suspended or stopped, or the server ends: attach again; 1008 for a message that is none, and
/// when the right to use the VM has ended; 1011 when the client did not take what was printed.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}/pty",
    operation_id = "openPty",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        OpenPtyQuery,
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user; root where absent"),
    ),
    responses(
        (status = 101, description = "The WebSocket"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn open(
    actor: VmActor,
    State(app): State<App>,
    connection: Connection,
    query: Result<Query<OpenPtyQuery>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let query = understood(query, BAD)?;
    let open = decode_open(query, &actor)?;
    let upgrade = websocket(upgrade)?;
    let (vms, account, vm) = (app.vms.clone(), actor.account.clone(), actor.vm.clone());
    let asked = open.session.clone();
    let opened = long_call::to_completion(async move {
        let opened = vms.open_pty(&account, &vm, open).await;
        let terminal = opened.map_err(|error| ApiError::from_pty(error, &vm, asked.as_ref()))?;
        Ok(Opened::new(terminal, vms, account, vm))
    });
    let opened = actor.while_allowed(opened).await??;
    Ok(upgrade.on_upgrade(async move |mut socket| {
        if socket::announce(&mut socket, opened.terminal().session()).await {
            socket::serve(socket, opened.announced(), actor.lease, connection).await;
        }
    }))
}

/// Looks on at a session, over a WebSocket. A suspended VM is woken.
///
/// The first binary message draws the session's screen as it is, scrollback included, on a terminal
/// in any state; those after it go on from there. Everything else is as for a session that is opened,
/// except that there is no `sessionInfo`. The program's window is as large as the smallest of those
/// who look on.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}/pty/sessions/{session_id}",
    operation_id = "attachPty",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("session_id" = String, Path, description = "The session"),
        AttachPtyQuery,
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user who must own the session; any where absent"),
    ),
    responses(
        (status = 101, description = "The WebSocket"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn attach(
    actor: VmActor,
    PtySessionPath(session): PtySessionPath,
    State(app): State<App>,
    connection: Connection,
    query: Result<Query<AttachPtyQuery>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let query = understood(query, BAD)?;
    let size = decode_size(query.cols, query.rows)?;
    let upgrade = websocket(upgrade)?;
    let (user, vm) = (actor.user.as_ref(), &actor.vm);
    let attached = app.vms.attach_pty(&actor.account, vm, &session, user, size);
    let attached = actor.while_allowed(attached).await?;
    let terminal = attached.map_err(|error| ApiError::from_pty(error, vm, Some(&session)))?;
    Ok(upgrade.on_upgrade(move |socket: WebSocket| {
        socket::serve(socket, terminal, actor.lease, connection)
    }))
}

/// Lists the VM's terminal sessions, oldest first: all of them, or those of the Linux user. Those whose
/// program has ended are kept for a minute. A suspended VM is not woken.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}/pty/sessions",
    operation_id = "listPtySessions",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user whose sessions are meant; everybody's where absent"),
    ),
    responses(
        (status = 200, description = "The sessions", body = ListPtySessionsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(actor: VmActor, State(app): State<App>) -> Result<Response, ApiError> {
    Ok(long_call::answer(async move {
        let listed = app.vms.ptys(&actor.account, &actor.vm, actor.user.as_ref());
        let listed = actor.while_allowed(listed).await?;
        let listed = listed.map_err(|error| ApiError::from_pty(error, &actor.vm, None))?;
        Ok(ListPtySessionsResponse { sessions: listed.into_iter().map(encode).collect() })
    })
    .await)
}

/// Kills a session's program and forgets the session. A suspended VM is woken.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    delete,
    path = "/v1/vms/{vm_id}/pty/sessions/{session_id}",
    operation_id = "closePtySession",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("session_id" = String, Path, description = "The session"),
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user who must own the session; any where absent"),
    ),
    responses(
        (status = 200, description = "How the program ended", body = ClosePtySessionResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn close(
    actor: VmActor,
    PtySessionPath(session): PtySessionPath,
    State(app): State<App>,
) -> Result<Response, ApiError> {
    Ok(long_call::answer(async move {
        let (user, vm) = (actor.user.as_ref(), &actor.vm);
        let closed = app.vms.close_pty(&actor.account, vm, &session, user);
        let closed = actor.while_allowed(closed).await?;
        let status = closed.map_err(|error| ApiError::from_pty(error, vm, Some(&session)))?;
        Ok(ClosePtySessionResponse { session_id: session.into(), exit_code: Some(status) })
    })
    .await)
}

/// A session that nobody was told of yet. If nobody ever is, because the client has gone, it is closed
/// again.
struct Opened(Option<Unannounced>);

struct Unannounced {
    terminal: Terminal,
    vms: VmService,
    account: AccountId,
    vm: VmId,
}

impl Opened {
    fn new(terminal: Terminal, vms: VmService, account: AccountId, vm: VmId) -> Self {
        Self(Some(Unannounced { terminal, vms, account, vm }))
    }

    fn terminal(&self) -> &Terminal {
        &self.0.as_ref().expect("it was not announced yet").terminal
    }

    /// The client knows of it.
    fn announced(mut self) -> Terminal {
        self.0.take().expect("it is announced once").terminal
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(Unannounced { terminal, vms, account, vm }) = self.0.take() else { return };
        tokio::spawn(async move {
            let session = terminal.session();
            if let Err(error) = vms.close_pty(&account, &vm, session, None).await {
                tracing::warn!(%vm, %session, %error, "closing a session that nobody knows of");
            }
        });
    }
}

fn websocket(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, ApiError> {
    let upgrade = upgrade.map_err(|error| {
        let reason = error.body_text();
        ApiError::new(BAD, format!("this is an endpoint for a WebSocket: {reason}"))
    })?;
    Ok(upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES))
}

fn decode_open(query: OpenPtyQuery, actor: &VmActor) -> Result<OpenPty, ApiError> {
    let OpenPtyQuery { cols, rows, exec, session_id } = query;
    let command = exec.filter(|command| !command.is_empty());
    let bad = |reason: String| ApiError::new(BAD, format!("exec: {reason}"));
    if command.as_ref().is_some_and(|command| command.contains('\0')) {
        return Err(bad("it holds a NUL character".to_owned()));
    }
    if command.as_ref().is_some_and(|command| command.len() > MAX_COMMAND) {
        return Err(bad(format!(
            "it is longer than {MAX_COMMAND} bytes; write a file and run that"
        )));
    }
    Ok(OpenPty {
        session: session_id.as_deref().map(parse_session_id).transpose()?,
        user: actor.user.clone(),
        command,
        size: decode_size(cols, rows)?,
    })
}

fn decode_size(cols: Option<u16>, rows: Option<u16>) -> Result<PtySize, ApiError> {
    let (cols, rows) = (cols.unwrap_or(DEFAULT_SIZE.0), rows.unwrap_or(DEFAULT_SIZE.1));
    PtySize::new(cols, rows)
        .map_err(|error| ApiError::new(BAD, format!("cols={cols}, rows={rows}: {error}")))
}

fn encode(info: PtyInfo) -> PtySessionInfo {
    let PtyInfo { session, suspended } = info;
    PtySessionInfo {
        session_id: session.id.into(),
        running: session.exit.is_none() && !suspended,
        exit_code: session.exit.map(|exit| exit.status),
        exited_at_ms: session.exit.map(|exit| exit.at),
        cols: session.size.cols(),
        rows: session.size.rows(),
        exec: session.command,
        created_at_ms: session.created_at,
        attached_count: if suspended { 0 } else { session.viewers },
        user: session.user,
        suspended,
    }
}
