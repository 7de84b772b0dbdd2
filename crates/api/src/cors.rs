//! Calls from web pages of other origins: a browser may operate a VM with an access token (the
//! documented client sessions), so every answer may be read by every page. That gives nothing away:
//! what opens something here is a header that a page must have been given, never a cookie or the
//! address of the client.
//!
//! The header of an API key is not among those that a page may send: a key belongs on a server.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use freestyle_client::wire::Empty;

/// What the SDK sends in access-token mode.
const REQUEST_HEADERS: &str = "content-type, user-agent, x-freestyle-identity-access-token, \
                               x-freestyle-sdk, x-freestyle-sdk-version, \
                               x-freestyle-vm-linux-user-id";
const RESPONSE_HEADERS: &str = "x-freestyle-trace-id";
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// Two hours, the longest that browsers remember it.
const MAX_AGE_SECONDS: &str = "7200";

/// Answers the question that a browser asks before a call, and lets pages read the answer of the
/// call itself.
pub(crate) async fn cors(request: Request, next: Next) -> Response {
    let asks_before = *request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks_before { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    response
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS),
    ];
    (headers, Json(Empty {})).into_response()
}
