//! What the edge answers itself.

use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::body::AnswerBody;
use crate::host::HostName;
use crate::routes::Unavailable;

/// When to try again, in seconds.
const RETRY_SECONDS: u16 = 5;

/// An answer in plain words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    status: StatusCode,
    text: String,
}

impl Page {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// The host's own server is at fault.
    pub(crate) fn bad_gateway(host: &HostName, reason: &str) -> Self {
        Self::unreachable(host, &Unavailable::Refused(reason.to_owned()))
    }

    pub(crate) fn unreachable(host: &HostName, reason: &Unavailable) -> Self {
        let status = match reason {
            Unavailable::Refused(_) => StatusCode::BAD_GATEWAY,
            Unavailable::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
            Unavailable::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, format!("{host} cannot be reached: {reason}."))
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let Self { status, text } = self;
        let reason = status.canonical_reason().unwrap_or_default();
        let text = format!("{} {reason}\n\n{text}\n", status.as_u16());
        let mut response = Response::new(AnswerBody::text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::BAD_REQUEST {
            // Nobody knows what comes next on it. HTTP/2 does, and passes over the field.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }
}
