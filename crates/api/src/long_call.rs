//! Calls that may take minutes.
//!
//! Node's fetch gives up when no response headers arrive within 300 s, and the SDK then creates a
//! second VM (protocol section 2). So when a call has not answered after [`HEADERS_AFTER`], the
//! response starts: status 200, then JSON whitespace every [`WHITESPACE_EVERY`], then the body. A
//! failure that comes this late is the same error body inside a response with status 200; one of a
//! command that ran over its time also carries `statusCode: 124`, which is what the SDK's caller
//! looks at.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, stream};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{Instrument, Span};

use crate::error::{ApiError, Code};

pub(crate) const HEADERS_AFTER: Duration = Duration::from_secs(100);
const WHITESPACE_EVERY: Duration = Duration::from_secs(30);

type Call<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// Answers with what `call` returns, early headers included. The call is dropped when the client
/// goes away; wrap it in [`to_completion`] if it must not be.
pub(crate) async fn answer<T>(
    call: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Response
where
    T: Serialize + Send + 'static,
{
    // The span has to follow the call into the response body, which is polled outside of it.
    let caught = AssertUnwindSafe(call).catch_unwind();
    let caught = async move { caught.await.unwrap_or_else(|_| Err(panicked())) };
    let mut call: Call<T> = Box::pin(caught.instrument(Span::current()));
    match timeout(HEADERS_AFTER, &mut call).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => error.into_response(),
        Err(_) => late_answer(call),
    }
}

/// Runs a call that must not stop half-way, whatever becomes of the client.
pub(crate) async fn to_completion<T: Send + 'static>(
    call: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let task = tokio::spawn(call.instrument(Span::current()));
    task.await.unwrap_or_else(|_| Err(panicked()))
}

/// The panic's message was logged where it happened.
pub(crate) fn panicked() -> ApiError {
    ApiError::internal(Code::InternalError, &"a panic")
}

fn late_answer<T: Serialize + Send + 'static>(call: Call<T>) -> Response {
    let mut whitespace = interval(WHITESPACE_EVERY);
    whitespace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pieces = stream::unfold(Some((call, whitespace)), |state| async move {
        let (mut call, mut whitespace) = state?;
        tokio::select! {
            biased;
            result = &mut call => Some((Ok::<_, std::convert::Infallible>(late_body(result)), None)),
            _ = whitespace.tick() => Some((Ok(Bytes::from_static(b" ")), Some((call, whitespace)))),
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}

fn late_body<T: Serialize>(result: Result<T, ApiError>) -> Bytes {
    let encoded = match result {
        Ok(value) => serde_json::to_vec(&value),
        Err(error) if error.code() == Code::ExecTimedOut => {
            serde_json::to_vec(&error.with("statusCode", 124).into_body())
        }
        Err(error) => serde_json::to_vec(&error.into_body()),
    };
    encoded.expect("wire types have string keys and finite numbers").into()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// A call that takes its time; the clock of these tests jumps.
    async fn after(seconds: u64, result: Result<Value, ApiError>) -> Result<Value, ApiError> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_failure_has_its_own_status() {
        let response = answer(after(99, Err(ApiError::new(Code::VmStartTimeout, "slow")))).await;
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_sends_whitespace_until_its_json() {
        let response = answer(after(165, Ok(json!({"id": "x"})))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(text(response).await, r#"   {"id":"x"}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_timeout_looks_like_an_exit_status_to_the_sdk() {
        let error = ApiError::new(Code::ExecTimedOut, "over").with("stdout", "half");
        let body = text(answer(after(200, Err(error))).await).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], "EXEC_TIMED_OUT");
        assert_eq!(body["stdout"], "half");
        assert_eq!(body["statusCode"], 124);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_panic_still_ends_in_json() {
        let body = text(
            answer(async {
                after(200, Ok(Value::Null)).await?;
                panic!("on purpose");
                #[expect(unreachable_code, reason = "gives the block its type")]
                Ok(Value::Null)
            })
            .await,
        )
        .await;
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["code"], "INTERNAL_ERROR");
    }

    #[tokio::test]
    async fn a_call_that_must_end_outlives_its_caller() {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        let call = Box::pin(to_completion(async move {
            gone.await.expect("the test sends");
            done.send(()).expect("the test listens");
            Ok(())
        }));
        assert!(call.now_or_never().is_none());
        go.send(()).unwrap();
        ended.await.unwrap();
    }
}
