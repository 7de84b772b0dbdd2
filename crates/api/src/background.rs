//! Calls that go on after their answer (protocol section 4).
//!
//! A client that sends [`BACKGROUND_AFTER_HEADER`] does not want to wait longer than that: a call
//! that is still going on then answers status 202 with a request id, under which the client finds
//! the result and, until then, what the call reports of its [`Progress`].
//!
//! Kept in memory: after a restart of the server an id is unknown, which ends the client's polling.
//! Calls that an account has in the background are bounded in number; one more stays in the
//! foreground, where the client waits for it as it would without the header. A result is kept for
//! [`KEPT_FOR`], unless newer ones need its place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use freestyle_access::Access;
use freestyle_client::wire::{
    BACKGROUND_AFTER_HEADER, BACKGROUND_REQUEST_HEADER, BackgroundRequest, ErrorBody, LogLine,
    LogsResponse,
};
use freestyle_store::{AccountId, VmId};
use freestyle_vm::Observer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::error::{ApiError, Code, cut};
use crate::long_call::{self, to_completion};
use crate::path::RequestPath;
use crate::timestamp::rfc3339;

const MAX_CALLS_PER_ACCOUNT: usize = 64;
/// How long a result waits to be fetched.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(3600);
/// What the log of one call may hold; older lines make room.
const MAX_LOG_BYTES: usize = 64 * 1024;
const MAX_LINE_CHARS: usize = 1000;
/// What a line takes besides its text.
const LINE_OVERHEAD: usize = 64;

type Outcome = Result<Value, ApiError>;

/// The calls of all accounts that went to the background. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Background {
    calls: Arc<Mutex<HashMap<AccountId, VecDeque<Call>>>>,
}

#[derive(Clone)]
struct Call {
    id: String,
    progress: Progress,
    ended: watch::Receiver<Option<Ended>>,
}

#[derive(Clone)]
struct Ended {
    at: Instant,
    outcome: Outcome,
}

impl Call {
    fn ended_at(&self) -> Option<Instant> {
        self.ended.borrow().as_ref().map(|ended| ended.at)
    }

    fn has_expired(&self) -> bool {
        self.ended_at().is_some_and(|at| at.elapsed() >= KEPT_FOR)
    }
}

/// When to answer at the latest, if the client says so in a header; `bad` is the code for a
/// malformed one.
pub(crate) fn answer_after(headers: &HeaderMap, bad: Code) -> Result<Option<Duration>, ApiError> {
    let Some(header) = headers.get(BACKGROUND_AFTER_HEADER) else { return Ok(None) };
    let seconds = header.to_str().ok().and_then(|seconds| seconds.parse::<u32>().ok());
    let seconds = seconds.ok_or_else(|| {
        ApiError::new(bad, format!("{BACKGROUND_AFTER_HEADER}: it is not a number of seconds"))
    })?;
    // Later than this the answer of a call in the foreground would have begun.
    Ok(Some(Duration::from_secs(seconds.into()).min(long_call::HEADERS_AFTER)))
}

impl Background {
    /// Answers with what `call` returns, or with status 202 if it has not returned `after` that
    /// time. The call goes on whatever becomes of the client.
    pub(crate) async fn answer<T, F>(
        &self,
        account: &AccountId,
        after: Option<Duration>,
        call: impl FnOnce(Progress) -> F,
    ) -> Response
    where
        T: Serialize + Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let progress = Progress::default();
        let call = to_completion(call(progress.clone()));
        let Some(after) = after else { return long_call::answer(call).await };

        let (end, ended) = watch::channel(None);
        let running = async move {
            let outcome = call.await.map(|reply| {
                serde_json::to_value(reply).expect("wire types have string keys and finite numbers")
            });
            end.send_replace(Some(Ended { at: Instant::now(), outcome }));
        };
        tokio::spawn(running.instrument(Span::current()));
        if timeout(after, outcome(ended.clone())).await.is_err() {
            let id = new_request_id();
            if self.keep(account, Call { id: id.clone(), progress, ended: ended.clone() }) {
                return accepted(id);
            }
        }
        long_call::answer(outcome(ended)).await
    }

    /// Remembers a call, unless its account has as many as it may.
    fn keep(&self, account: &AccountId, call: Call) -> bool {
        let mut all = self.calls();
        all.retain(|_, calls| {
            calls.retain(|call| !call.has_expired());
            !calls.is_empty()
        });
        let calls = all.entry(account.clone()).or_default();
        if calls.len() == MAX_CALLS_PER_ACCOUNT {
            let ended = calls.iter().enumerate();
            let ended = ended.filter_map(|(index, call)| Some((call.ended_at()?, index)));
            let Some((_, oldest)) = ended.min() else { return false };
            calls.remove(oldest);
        }
        calls.push_back(call);
        true
    }

    fn find(&self, account: &AccountId, id: &str) -> Result<Call, ApiError> {
        let all = self.calls();
        let mut calls = all.get(account).into_iter().flatten();
        let found = calls.find(|call| call.id == id && !call.has_expired()).cloned();
        found.ok_or_else(|| {
            let id = cut(id, 100);
            ApiError::new(
                Code::NotFound,
                format!(
                    "there is no background request {id:?}; its result may have been given up \
                     after an hour or by a restart of the server"
                ),
            )
        })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<AccountId, VecDeque<Call>>> {
        // Nothing that may panic happens while it is held.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a call.
async fn outcome(mut ended: watch::Receiver<Option<Ended>>) -> Outcome {
    match ended.wait_for(Option::is_some).await {
        Ok(ended) => ended.clone().map_or_else(|| Err(long_call::panicked()), |it| it.outcome),
        // Its task is gone and has said nothing.
        Err(_) => Err(long_call::panicked()),
    }
}

/// `ri-` and 20 characters of `[a-z0-9]` (protocol section 5), which are a VM's id.
fn new_request_id() -> String {
    format!("ri-{}", VmId::random())
}

fn accepted(request_id: String) -> Response {
    let header = [(BACKGROUND_REQUEST_HEADER, request_id.clone())];
    let body = BackgroundRequest { request_id, status: "running".to_owned() };
    (StatusCode::ACCEPTED, header, Json(body)).into_response()
}

/// Where a call tells what it is at, line by line. Cheap to clone; all clones are one log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// Unix milliseconds and text.
    lines: VecDeque<(i64, String)>,
    bytes: usize,
    last: i64,
}

impl Progress {
    /// Adds a line; of a long one, the beginning.
    pub(crate) fn report(&self, message: &str) {
        self.log().add(now_ms(), cut(message, MAX_LINE_CHARS));
    }

    /// The log as the VM service writes to it.
    pub(crate) fn observer(&self) -> Observer {
        let progress = self.clone();
        Arc::new(move |message| progress.report(message))
    }

    fn lines(&self) -> Vec<LogLine> {
        let log = self.log();
        let lines = log.lines.iter();
        lines
            .map(|(at, message)| LogLine { timestamp: rfc3339(*at), message: message.clone() })
            .collect()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn add(&mut self, now: i64, message: String) {
        // The SDK takes a line with the same time and text for one that it has shown already.
        self.last = now.max(self.last + 1);
        self.bytes += message.len() + LINE_OVERHEAD;
        self.lines.push_back((self.last, message));
        while self.bytes > MAX_LOG_BYTES {
            let Some((_, oldest)) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len() + LINE_OVERHEAD;
        }
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Background: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(result))
}

/// What the SDK reads while it waits. Not documented: the contract has no such path.
pub(crate) fn log_routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Background: FromRef<S>,
{
    Router::new().route("/observability/v1/logs", get(logs))
}

/// Answers what the original call would have answered, once it has ended.
#[utoipa::path(
    get,
    path = "/auth/v1/background-requests/{request_id}",
    operation_id = "getBackgroundRequest",
    tag = "auth",
    params(("request_id" = String, Path, description = "As the answer with status 202 says")),
    responses(
        (status = 200, description = "What the call answered", body = Value),
        (status = 202, description = "It goes on", body = BackgroundRequest),
        (status = "4XX", description = "Refused, or the call was", body = ErrorBody),
        (status = "5XX", description = "The call failed", body = ErrorBody),
    )
)]
async fn result(
    Account(account): Account,
    RequestPath(id): RequestPath,
    State(background): State<Background>,
) -> Result<Response, ApiError> {
    let call = background.find(&account, &id)?;
    let ended = call.ended.borrow().clone();
    match ended {
        Some(ended) => ended.outcome.map(|reply| Json(reply).into_response()),
        None => Ok(accepted(call.id)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogsQuery {
    request_id: String,
}

async fn logs(
    Account(account): Account,
    State(background): State<Background>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Json<LogsResponse>, ApiError> {
    let Query(query) = query.map_err(|error| {
        let message =
            format!("only the logs of a background request are kept: {}", error.body_text());
        ApiError::new(Code::BadRequest, cut(&message, 400))
    })?;
    let call = background.find(&account, &query.request_id)?;
    Ok(Json(LogsResponse { logs: call.progress.lines() }))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(5));

    async fn parts(response: Response) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Sends a call to the background. It ends with what is sent to it.
    async fn in_background(
        background: &Background,
        account: &AccountId,
    ) -> (String, oneshot::Sender<Outcome>) {
        let (end, ended) = oneshot::channel();
        let call = |_| async move { ended.await.expect("the test ends it") };
        let response = background.answer(account, SOON, call).await;
        let header = response.headers()[BACKGROUND_REQUEST_HEADER].to_str().unwrap().to_owned();
        let (status, body) = parts(response).await;
        assert_eq!(status, 202);
        assert_eq!(body, json!({"requestId": header, "status": "running"}));
        (header, end)
    }

    async fn result_of(background: &Background, account: &AccountId, id: &str) -> (u16, Value) {
        let account = Account(account.clone());
        let answer = result(account, RequestPath(id.to_owned()), State(background.clone())).await;
        parts(answer.into_response()).await
    }

    /// Until the call's task has said how it ended.
    async fn until_ended(background: &Background, account: &AccountId, id: &str) {
        let call = background.find(account, id).unwrap();
        let _ = outcome(call.ended).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_quick_enough_answers_itself() {
        let (background, account) = (Background::default(), AccountId::random());
        for after in [None, SOON] {
            let call = |_| async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Ok(json!({"id": "x"}))
            };
            let answer = parts(background.answer(&account, after, call).await).await;
            assert_eq!(answer, (200, json!({"id": "x"})));
        }
        assert!(background.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_found_under_its_id_until_its_result_is_old() {
        let (background, account) = (Background::default(), AccountId::random());
        let (id, end) = in_background(&background, &account).await;
        assert!(id.strip_prefix("ri-").is_some_and(|id| id.parse::<VmId>().is_ok()), "{id}");
        let running = json!({"requestId": id, "status": "running"});
        tokio::time::advance(KEPT_FOR * 2).await;
        assert_eq!(result_of(&background, &account, &id).await, (202, running));

        end.send(Ok(json!({"snapshotId": "y"}))).unwrap();
        until_ended(&background, &account, &id).await;
        for _ in 0..2 {
            let result = result_of(&background, &account, &id).await;
            assert_eq!(result, (200, json!({"snapshotId": "y"})));
        }
        tokio::time::advance(KEPT_FOR).await;
        let (status, body) = result_of(&background, &account, &id).await;
        assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_or_a_panic_in_the_background_is_told() {
        let (background, account) = (Background::default(), AccountId::random());
        let (id, end) = in_background(&background, &account).await;
        end.send(Err(ApiError::new(Code::NoCapacity, "full"))).unwrap();
        until_ended(&background, &account, &id).await;
        let (status, body) = result_of(&background, &account, &id).await;
        assert_eq!((status, &body["code"]), (503, &json!("NO_LOCAL_STORAGE_CAPACITY")));

        let (id, end) = in_background(&background, &account).await;
        drop(end);
        until_ended(&background, &account, &id).await;
        let (status, body) = result_of(&background, &account, &id).await;
        assert_eq!((status, &body["code"]), (500, &json!("INTERNAL_ERROR")));
    }

    #[tokio::test(start_paused = true)]
    async fn another_account_does_not_find_it() {
        let (background, account) = (Background::default(), AccountId::random());
        let (id, _end) = in_background(&background, &account).await;
        let (status, body) = result_of(&background, &AccountId::random(), &id).await;
        assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_has_too_many_waits_as_without_the_header() {
        let (background, account) = (Background::default(), AccountId::random());
        let mut running = Vec::new();
        for _ in 0..MAX_CALLS_PER_ACCOUNT {
            running.push(in_background(&background, &account).await);
        }
        let slow = |_| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(json!("done"))
        };
        let answer = parts(background.answer(&account, SOON, slow).await).await;
        assert_eq!(answer, (200, json!("done")));
        in_background(&background, &AccountId::random()).await;

        // The oldest result makes room, and nothing that still runs.
        let (id, end) = running.remove(7);
        end.send(Ok(Value::Null)).unwrap();
        until_ended(&background, &account, &id).await;
        in_background(&background, &account).await;
        assert!(background.find(&account, &id).is_err());
        for (id, _) in &running {
            assert!(background.find(&account, id).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_when_its_client_goes_away() {
        let (background, account) = (Background::default(), AccountId::random());
        let (end, ended) = oneshot::channel();
        let (done, seen) = oneshot::channel();
        let call = |_| async {
            ended.await.expect("the test ends it");
            done.send(()).expect("the test listens");
            Ok(())
        };
        let waiting = background.answer(&account, SOON, call);
        assert!(timeout(Duration::from_secs(1), waiting).await.is_err());
        end.send(()).unwrap();
        seen.await.unwrap();
    }

    #[test]
    fn the_header_is_a_number_of_seconds() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            let header = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            headers.insert(BACKGROUND_AFTER_HEADER, header);
            answer_after(&headers, Code::CreateVmBadRequest)
        };
        assert_eq!(answer_after(&HeaderMap::new(), Code::BadRequest), Ok(None));
        assert_eq!(after("5"), Ok(SOON));
        assert_eq!(after("0"), Ok(Some(Duration::ZERO)));
        assert_eq!(after("4294967295"), Ok(Some(long_call::HEADERS_AFTER)));
        for bad in ["", "-1", "5s", "5.5", "4294967296", "\u{e9}"] {
            assert_eq!(after(bad).unwrap_err().code(), Code::CreateVmBadRequest, "{bad:?}");
        }
    }

    #[test]
    fn a_log_keeps_its_last_lines_and_no_two_of_them_look_alike() {
        let progress = Progress::default();
        for _ in 0..2 {
            progress.report("the same");
        }
        let lines = progress.lines();
        assert_eq!(lines.len(), 2);
        assert_ne!(lines[0].timestamp, lines[1].timestamp);

        for number in 0..10_000 {
            progress.report(&format!("{number} {}", "x".repeat(2000)));
        }
        let lines = progress.lines();
        assert!(lines.last().unwrap().message.starts_with("9999 "));
        assert!(lines.iter().map(|line| line.message.len()).sum::<usize>() <= MAX_LOG_BYTES);
        assert!(lines.is_sorted_by(|a, b| a.timestamp < b.timestamp));
    }
}
