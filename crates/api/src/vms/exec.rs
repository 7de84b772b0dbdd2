//! Running a command and waiting for it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{ErrorBody, ExecRequest, ExecResponse};
use freestyle_vm::{Exec, ExecOutput, LinuxUser};

use crate::App;
use crate::authenticate::VmActor;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::long_call;

const BAD: Code = Code::BadRequest;
/// A day.
const MAX_TIMEOUT_MS: u64 = 86_400_000;
/// Linux takes no longer argument (`MAX_ARG_STRLEN`, with its final NUL), and the shell gets the
/// command as one.
const MAX_COMMAND_BYTES: usize = 128 * 1024 - 1;

/// Runs a command in a shell and answers when it has ended. A suspended VM is woken, a stopped
/// one started.
///
/// A call that takes longer than 100 seconds answers status 200 and sends white space until the
/// body is there; a failure is then the error body with status 200, and that of a command that ran
/// over its time has `statusCode` 124. If the client goes away, the command is killed;
/// so it is when the right to run it ends, be it a key, a token or a grant that is revoked.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/exec-await",
    operation_id = "execAwait",
    tag = "vms",
    params(
        ("vm_id" = String, Path, description = "The VM"),
        ("X-Freestyle-Vm-Linux-User-Id" = Option<String>, Header, description = "Linux user; root where absent"),
    ),
    request_body = ExecRequest,
    responses(
        (status = 200, description = "What it printed and how it ended", body = ExecResponse),
        (status = "4XX", description = "Refused, or the command ran over its time", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn exec(
    actor: VmActor,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let exec = decode(body.json(BAD)?, actor.user.clone())?;
    Ok(long_call::answer(async move {
        let output = app.vms.exec(&actor.account, &actor.vm, exec);
        let output = actor.while_allowed(output).await?;
        output.map(encode).map_err(|error| ApiError::from_vm(error, BAD))
    })
    .await)
}

fn decode(request: ExecRequest, user: Option<LinuxUser>) -> Result<Exec, ApiError> {
    let ExecRequest { command, terminal, timeout_ms } = request;
    let bad = |message: String| ApiError::new(BAD, message);
    if terminal.is_some() {
        return Err(bad("terminal: terminals are not available in this version".into()));
    }
    if command.contains('\0') {
        return Err(bad("command: it holds a NUL character".into()));
    }
    if command.len() > MAX_COMMAND_BYTES {
        return Err(bad(format!(
            "command: it is longer than {MAX_COMMAND_BYTES} bytes; write a file and run that"
        )));
    }
    if timeout_ms.is_some_and(|timeout| !(1..=MAX_TIMEOUT_MS).contains(&timeout)) {
        return Err(bad(format!("timeoutMs: it must be between 1 and {MAX_TIMEOUT_MS}")));
    }
    Ok(Exec { command, user, timeout: timeout_ms.map(Duration::from_millis) })
}

fn encode(output: ExecOutput) -> ExecResponse {
    ExecResponse {
        stdout: Some(text(output.stdout)),
        stderr: Some(text(output.stderr)),
        status_code: Some(output.status),
    }
}

/// Bytes that are not UTF-8 are replaced; text is taken as it is, without a copy.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: ExecRequest) -> Result<Exec, ApiError> {
        decode(request, None)
    }

    #[test]
    fn what_the_sdk_sends_is_accepted() {
        let body = r#"{"command": "true", "terminal": null, "timeoutMs": null}"#;
        let exec = check(serde_json::from_str(body).unwrap()).unwrap();
        assert_eq!((exec.command.as_str(), exec.timeout), ("true", None));
    }

    #[test]
    fn bounds_are_exact() {
        let command = ExecRequest::new("true");
        let with_timeout = |timeout| ExecRequest { timeout_ms: Some(timeout), ..command.clone() };
        assert!(check(with_timeout(1)).is_ok());
        assert!(check(with_timeout(MAX_TIMEOUT_MS)).is_ok());
        assert!(check(with_timeout(0)).is_err());
        assert!(check(with_timeout(MAX_TIMEOUT_MS + 1)).is_err());
        assert!(check(ExecRequest::new("x".repeat(MAX_COMMAND_BYTES))).is_ok());
        assert!(check(ExecRequest::new("x".repeat(MAX_COMMAND_BYTES + 1))).is_err());
        assert!(check(ExecRequest::new("a\0b")).is_err());
        assert!(check(ExecRequest { terminal: Some("t".into()), ..command }).is_err());
    }

    #[test]
    fn output_that_is_no_text_is_made_text() {
        let output = ExecOutput { stdout: b"a\xffb".to_vec(), stderr: b"ok".to_vec(), status: 3 };
        let response = encode(output);
        assert_eq!(response.stdout.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(response.stderr.as_deref(), Some("ok"));
        assert_eq!(response.status_code, Some(3));
    }
}
