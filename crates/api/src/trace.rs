//! What every request gets: a trace id, a span, a log line, and JSON even when a handler panics.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use freestyle_client::wire::TRACE_ID_HEADER;
use futures_util::FutureExt;
use tracing::field::Empty;
use tracing::{Instrument, info, info_span};

use crate::long_call::panicked;

pub(crate) async fn trace(request: Request, next: Next) -> Response {
    let trace_id = new_trace_id();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    // The caller is told once its credential was checked.
    let span = info_span!("request", %trace_id, method = %request.method(), route, caller = Empty);
    let handled = async {
        let started = Instant::now();
        let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = handled.unwrap_or_else(|_| panicked().into_response());
        let status = response.status().as_u16();
        info!(status, latency_ms = started.elapsed().as_millis(), "answered");
        response
    };
    let mut response = handled.instrument(span).await;
    let trace_id = HeaderValue::try_from(trace_id).expect("hexadecimal digits are a header value");
    response.headers_mut().insert(TRACE_ID_HEADER, trace_id);
    response
}

/// 128 random bits in hexadecimal, the form of a W3C trace id.
fn new_trace_id() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn panics() -> StatusCode {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_with_a_trace_id() {
        let router = Router::new().route("/", get(panics)).layer(from_fn(trace));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[TRACE_ID_HEADER].len(), 32);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "INTERNAL_ERROR");
    }
}
