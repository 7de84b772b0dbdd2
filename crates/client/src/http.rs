//! One HTTP exchange: connect, send, read a bounded JSON answer, tell success from failure.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::http::request;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::error::{ApiFailure, ClientError};
use crate::wire::{ErrorBody, TRACE_ID_HEADER};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Above the largest file the server sends, in base64.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A pool of connections to one server, with the credential to show it.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base_url: Arc<str>,
    host: Arc<str>,
    authorization: HeaderValue,
}

impl Http {
    pub(crate) fn new(base_url: &str, api_key: &str) -> Result<Self, ClientError> {
        let uri = parse_base_url(base_url)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {api_key}"))
            .map_err(|_| ClientError::BadApiKey)?;
        authorization.set_sensitive(true);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnector::from((tcp, tls_config(uri.scheme_str() == Some("https"))?));
        Ok(Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            base_url: base_url.trim_end_matches('/').into(),
            host: uri.host().unwrap_or_default().trim_matches(['[', ']']).into(),
            authorization,
        })
    }

    /// The host of the server, an IPv6 address without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request and decodes its answer. `path` starts with `/` and is percent-encoded.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(method, path, header);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let response = self.send(request, body.unwrap_or_default()).await?;
        let answer = self.read(response).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| bad_answer(StatusCode::OK, error.to_string()))
    }

    /// Makes a connection a WebSocket (RFC 6455 section 4.1).
    pub(crate) async fn websocket(
        &self,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Upgraded, ClientError> {
        let key = generate_key();
        let mut request = self.request(Method::GET, path, header);
        request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        request = request.header(SEC_WEBSOCKET_VERSION, "13").header(SEC_WEBSOCKET_KEY, &key);
        let mut response = self.send(request, Bytes::new()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.read(response).await?;
            return Err(bad_answer(StatusCode::OK, "it is no WebSocket".to_owned()));
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
            let reason = "it accepts another WebSocket".to_owned();
            return Err(bad_answer(response.status(), reason));
        }
        hyper::upgrade::on(&mut response).await.map_err(|error| self.unreachable(&error))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(AUTHORIZATION, &self.authorization)
            .header(USER_AGENT, concat!("freestyle-client/", env!("CARGO_PKG_VERSION")));
        match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }

    async fn send(
        &self,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = request.body(Full::new(body)).map_err(|error| self.bad_url(&error))?;
        self.pool.request(request).await.map_err(|error| self.unreachable(&error))
    }

    fn bad_url(&self, error: &dyn Error) -> ClientError {
        ClientError::BadUrl { url: self.base_url.to_string(), reason: error.to_string() }
    }

    /// Reads the answer of a success whole; that of a failure is the error.
    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let status = response.status();
        let trace_id = response.headers().get(TRACE_ID_HEADER);
        let trace_id = trace_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| self.unreachable(error.as_ref()))?
            .to_bytes();
        // A failure that came late has the status of the response that was already under way, so
        // the body decides. No successful answer has these fields.
        if let Ok(failure) = serde_json::from_slice::<ErrorBody>(&body) {
            return Err(ClientError::Api(Box::new(ApiFailure::new(
                status.as_u16(),
                failure,
                trace_id,
            ))));
        }
        if status != StatusCode::OK {
            return Err(bad_answer(status, "it carries no error code".to_owned()));
        }
        Ok(body)
    }

    fn unreachable(&self, error: &dyn Error) -> ClientError {
        ClientError::Unreachable { url: self.base_url.to_string(), reason: chain(error) }
    }
}

fn bad_answer(status: StatusCode, reason: String) -> ClientError {
    ClientError::BadAnswer { status: status.as_u16(), reason }
}

/// Encodes a request body.
pub(crate) fn json<T: Serialize>(body: &T) -> Bytes {
    serde_json::to_vec(body).expect("wire types have string keys and finite numbers").into()
}

fn parse_base_url(text: &str) -> Result<Uri, ClientError> {
    let bad =
        |reason: &str| ClientError::BadUrl { url: text.to_owned(), reason: reason.to_owned() };
    let uri: Uri = text.parse().map_err(|_| bad("it cannot be parsed"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("it does not start with http:// or https://"));
    }
    if uri.query().is_some() {
        return Err(bad("it has a query"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("it has a user name"));
    }
    Ok(uri)
}

/// Plain HTTP does without the system's root certificates: a host may have none.
fn tls_config(with_roots: bool) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::RootCertificates(error.to_string()))?;
    let builder = if with_roots {
        builder
            .with_native_roots()
            .map_err(|error| ClientError::RootCertificates(error.to_string()))?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_checked_before_any_request() {
        for good in ["http://127.0.0.1:8080", "https://api.example.com/", "http://h/prefix/"] {
            assert!(parse_base_url(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:8080", "ftp://h", "http://", "http://h/?a=1", "http://u:p@h/"] {
            assert!(matches!(parse_base_url(bad), Err(ClientError::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn a_key_with_a_line_break_is_refused() {
        let http = Http::new("http://127.0.0.1", "key\r\nx: y");
        assert!(matches!(http, Err(ClientError::BadApiKey)));
    }
}
