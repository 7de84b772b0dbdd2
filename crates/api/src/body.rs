//! Reading request bodies: bounded in size and time each, and in memory together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Request};
use freestyle_vm::setup::MAX_FILES_BYTES;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{ApiError, Code, cut};
use crate::long_call::panicked;

/// Largest body of an ordinary request.
const MAX_JSON_BYTES: usize = 1024 * 1024;
/// Largest file that can be written, in bytes of content.
pub(crate) const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;
/// Such a file in base64, with room for the rest of the body.
const MAX_UPLOAD_BYTES: usize = MAX_FILE_BYTES / 3 * 4 + 64 * 1024;
/// Largest commit that can be made in one request, in bytes of content.
const MAX_COMMIT_BYTES: usize = 100 * 1024 * 1024;
/// What all bodies above `UNCOUNTED_BYTES` may hold at once; more of them wait. A body takes up to
/// three times its size while it is decoded.
const BUDGET_KIB: usize = 144 * 1024;
/// Bodies from this size on are decoded on a thread for blocking work.
const SLOW_TO_DECODE: usize = 1024 * 1024;
/// So small that counting would only make it wait for large ones.
const UNCOUNTED_BYTES: usize = 64 * 1024;
/// How much of a body that is too large is thrown away before the answer. A client that is still
/// sending would take a connection closed under it for a broken network and try again.
const MAX_DISCARDED_BYTES: usize = 192 * 1024 * 1024;

/// The limits of one kind of body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    bytes: usize,
    time: Duration,
    /// What to say besides to a client whose body is too large.
    advice: &'static str,
}

impl Limits {
    /// For a webhook of GitHub's, which sends no larger ones and does not wait longer.
    pub(crate) const GITHUB: Self =
        Self { bytes: 25 * 1024 * 1024, time: Duration::from_secs(10), advice: "" };
    /// For everything that holds no file.
    pub(crate) const JSON: Self =
        Self { bytes: MAX_JSON_BYTES, time: Duration::from_secs(60), advice: "" };
    /// For a spec, which may hold files.
    pub(crate) const SPEC: Self = Self {
        bytes: MAX_FILES_BYTES / 3 * 4 + MAX_JSON_BYTES,
        time: Duration::from_secs(600),
        advice: "; the files of a spec may have 16777216 bytes (16 MiB) together",
    };
    /// For a file in JSON.
    pub(crate) const UPLOAD: Self = Self {
        bytes: MAX_UPLOAD_BYTES,
        time: Duration::from_secs(600),
        advice: "; a file may have at most 67108864 bytes (64 MiB), sent as base64",
    };
    /// For the files of a commit in JSON.
    pub(crate) const COMMIT: Self = Self {
        bytes: MAX_COMMIT_BYTES / 3 * 4 + 2 * MAX_JSON_BYTES,
        time: Duration::from_secs(600),
        advice: "; the files of a commit may have 104857600 bytes (100 MiB) together, sent as \
                 base64; push larger ones with git",
    };
}

/// The memory that request bodies share.
#[derive(Debug)]
pub(crate) struct Bodies {
    budget_kib: Arc<Semaphore>,
}

/// A body, and its part of the memory for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self { budget_kib: Arc::new(Semaphore::new(BUDGET_KIB)) }
    }

    /// Reads a body whole. `bad` is the code for one that is too large, too slow or broken off.
    pub(crate) async fn receive(
        &self,
        request: Request<Body>,
        limits: Limits,
        bad: Code,
    ) -> Result<Received, ApiError> {
        let (head, body) = request.into_parts();
        let permit = self.reserve(&head.headers, limits.bytes).await;
        let bytes = timeout(limits.time, read(body, limits, bad)).await.map_err(|_| {
            let seconds = limits.time.as_secs();
            ApiError::new(bad, format!("the request body did not arrive within {seconds} s"))
        })??;
        Ok(Received { bytes, permit })
    }

    async fn reserve(&self, headers: &HeaderMap, limit: usize) -> Option<OwnedSemaphorePermit> {
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let bytes = announced.unwrap_or(limit).min(limit);
        if bytes <= UNCOUNTED_BYTES {
            return None;
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).expect("limits are far below 4 TiB");
        let permit = Arc::clone(&self.budget_kib).acquire_many_owned(kib).await;
        Some(permit.expect("the semaphore is never closed"))
    }
}

impl Received {
    /// As it came, for one that is signed. Its memory counts as used until the permit is dropped.
    pub(crate) fn raw(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.permit)
    }

    /// Decodes the body and gives its memory back.
    pub(crate) fn json<T: DeserializeOwned>(self, bad: Code) -> Result<T, ApiError> {
        decode(&self.bytes, bad)
    }

    /// Decodes the body; an empty one is the default.
    pub(crate) fn json_or_default<T>(self, bad: Code) -> Result<T, ApiError>
    where
        T: DeserializeOwned + Default,
    {
        if self.bytes.is_empty() { Ok(T::default()) } else { self.json(bad) }
    }

    /// Decodes a body that may be large, without holding other requests up. Its memory counts as
    /// used until the permit is dropped.
    pub(crate) async fn json_off_thread<T: DeserializeOwned + Send + 'static>(
        self,
        bad: Code,
    ) -> Result<(T, Option<OwnedSemaphorePermit>), ApiError> {
        if self.bytes.len() < SLOW_TO_DECODE {
            return self.json_with_permit(bad);
        }
        let decoded = tokio::task::spawn_blocking(move || self.json_with_permit(bad)).await;
        decoded.unwrap_or_else(|_| Err(panicked()))
    }

    /// Decodes the body. Its memory counts as used until the permit is dropped.
    pub(crate) fn json_with_permit<T: DeserializeOwned>(
        self,
        bad: Code,
    ) -> Result<(T, Option<OwnedSemaphorePermit>), ApiError> {
        Ok((decode(&self.bytes, bad)?, self.permit))
    }
}

async fn read(mut body: Body, limits: Limits, bad: Code) -> Result<Vec<u8>, ApiError> {
    let Limits { bytes: limit, time: _, advice } = limits;
    let mut bytes = Vec::new();
    let mut seen: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::new(bad, format!("the request body could not be read: {error}"))
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        seen = seen.saturating_add(chunk.len());
        if seen <= limit {
            bytes.extend_from_slice(&chunk);
        } else if seen <= MAX_DISCARDED_BYTES {
            bytes = Vec::new();
        } else {
            break;
        }
    }
    if seen > limit {
        let message = format!("the request body is larger than {limit} bytes{advice}");
        return Err(ApiError::new(bad, message));
    }
    Ok(bytes)
}

/// Says which field is wrong, which serde alone does not.
fn decode<T: DeserializeOwned>(bytes: &[u8], bad: Code) -> Result<T, ApiError> {
    // Serde takes a list for an object, its fields in order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::new(bad, "the request body is a list, not an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = match path.as_str() {
            "." | "?" => format!("the request body is not acceptable: {}", error.inner()),
            path => format!("the request body is not acceptable: {path}: {}", error.inner()),
        };
        // Serde quotes what it could not use, at full length.
        ApiError::new(bad, cut(&message, 400))
    })?;
    deserializer
        .end()
        .map_err(|_| ApiError::new(bad, "the request body goes on after its JSON value"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use freestyle_client::wire::{CreateVmRequest, StartVmRequest};
    use futures_util::FutureExt;

    use super::*;

    fn message(bytes: &[u8]) -> String {
        decode::<CreateVmRequest>(bytes, Code::BadRequest).unwrap_err().into_body().message
    }

    #[test]
    fn messages_name_the_field() {
        let message = message(br#"{"template": {"vcpuCount": "two"}}"#);
        assert!(message.contains("template.vcpuCount"), "{message}");
    }

    #[test]
    fn text_after_the_value_is_refused() {
        assert!(message(b"{} {}").contains("goes on"));
    }

    #[test]
    fn a_list_is_no_object() {
        assert!(message(b" []").contains("a list"));
        assert!(message(br#"["name"]"#).contains("a list"));
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        assert!(message(br#"{"name": "a", "name": "b"}"#).contains("duplicate field"));
    }

    #[test]
    fn long_quotes_are_cut() {
        let body = format!(r#"{{"vcpuCount": "{}"}}"#, "x".repeat(10_000));
        assert!(message(body.as_bytes()).len() < 500);
    }

    #[tokio::test]
    async fn no_body_is_the_default() {
        let bodies = Bodies::new();
        let received = bodies
            .receive(Request::new(Body::empty()), Limits::JSON, Code::BadRequest)
            .await
            .unwrap();
        assert_eq!(received.json_or_default(Code::BadRequest), Ok(StartVmRequest::default()));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_and_a_body_at_the_limit_is_not() {
        let limits = Limits { bytes: 1000, time: Duration::from_secs(5), advice: "" };
        let bodies = Bodies::new();
        let at =
            bodies.receive(Request::new(Body::from(vec![b' '; 1000])), limits, Code::BadRequest);
        assert_eq!(at.await.unwrap().bytes.len(), 1000);
        let over =
            bodies.receive(Request::new(Body::from(vec![b' '; 1001])), limits, Code::BadRequest);
        assert!(over.await.unwrap_err().into_body().message.contains("larger than 1000 bytes"));
    }

    #[test]
    fn the_advice_names_the_limit_of_a_file() {
        assert!(Limits::UPLOAD.advice.contains(&format!(" {MAX_FILE_BYTES} bytes")));
        assert!(Limits::COMMIT.advice.contains(&format!(" {MAX_COMMIT_BYTES} bytes")));
    }

    #[test]
    fn the_largest_body_fits_into_the_memory_of_all() {
        for limits in [Limits::JSON, Limits::SPEC, Limits::UPLOAD, Limits::COMMIT] {
            assert!(limits.bytes <= BUDGET_KIB * 1024);
            assert!(limits.bytes < MAX_DISCARDED_BYTES);
        }
    }

    #[tokio::test]
    async fn a_large_body_is_decoded_like_a_small_one() {
        for length in [10, SLOW_TO_DECODE] {
            let text = "x".repeat(length);
            let received = Received { bytes: serde_json::to_vec(&text).unwrap(), permit: None };
            let (decoded, _) = received.json_off_thread::<String>(Code::BadRequest).await.unwrap();
            assert_eq!(decoded, text);
        }
        let received = Received { bytes: vec![b'x'; SLOW_TO_DECODE], permit: None };
        let refused = received.json_off_thread::<String>(Code::GitInvalidRequest).await;
        assert_eq!(refused.unwrap_err().code(), Code::GitInvalidRequest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let endless =
            Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, axum::Error>>());
        let received =
            Bodies::new().receive(Request::new(endless), Limits::JSON, Code::FilesBadRequest).await;
        let error = received.unwrap_err();
        assert_eq!(error.code(), Code::FilesBadRequest);
        assert!(error.into_body().message.contains("within 60 s"));
    }

    #[tokio::test]
    async fn large_bodies_wait_for_each_other() {
        let bodies = Bodies::new();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, (MAX_UPLOAD_BYTES as u64).into());
        let first = bodies.reserve(&headers, MAX_UPLOAD_BYTES).await;
        assert!(first.is_some());
        {
            let second = bodies.reserve(&headers, MAX_UPLOAD_BYTES);
            tokio::pin!(second);
            assert!(second.as_mut().now_or_never().is_none());
            drop(first);
            assert!(second.await.is_some());
        }
        assert_eq!(bodies.budget_kib.available_permits(), BUDGET_KIB);
    }
}
