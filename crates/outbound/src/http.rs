//! One HTTP exchange with a server of a user's choice: bounded in time and size, no redirect
//! followed, and the connection not kept.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::{Outbound, OutboundError, WebUrl};

/// What is sent, and what it may cost.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// Usually `POST`.
    pub method: Method,
    /// Where to. Its credentials go along as `Authorization: Basic`, unless `headers` has that.
    pub url: &'a WebUrl,
    /// Besides `Host`, `User-Agent` and what HTTP itself needs.
    pub headers: HeaderMap,
    /// Empty for none.
    pub body: Bytes,
    /// From resolving the name to the last byte of the answer.
    pub time: Duration,
    /// Bytes of the answer's body that are kept. More are not read.
    pub most: usize,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Received {
    /// Redirects, too, are just a status.
    pub status: StatusCode,
    /// As received; at most what fits into a connection's buffer.
    pub headers: HeaderMap,
    /// The beginning of the body.
    pub body: Bytes,
    /// The body is longer than what is kept.
    pub is_cut: bool,
}

impl Outbound {
    /// Sends one request and receives its answer.
    pub async fn exchange(&self, exchange: Exchange<'_>) -> Result<Received, OutboundError> {
        let (host, time) = (exchange.url.host().to_owned(), exchange.time);
        let done = tokio::time::timeout(time, self.run(exchange)).await;
        done.unwrap_or(Err(OutboundError::TimedOut { host, time }))
    }

    async fn run(&self, exchange: Exchange<'_>) -> Result<Received, OutboundError> {
        let Exchange { method, url, headers, body, most, .. } = exchange;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            url.path_and_query().parse().map_err(|_| OutboundError::InvalidUrl("a bad path"))?;
        *request.headers_mut() = headers;
        let internal = |_| OutboundError::Internal("a header cannot be sent".to_owned());
        let own = request.headers_mut();
        own.insert(HOST, url.authority().try_into().map_err(internal)?);
        own.insert(USER_AGENT, hyper::header::HeaderValue::from_static("freestyle"));
        own.insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
        if let Some(credentials) = url.credentials()
            && !own.contains_key(AUTHORIZATION)
        {
            own.insert(AUTHORIZATION, credentials.basic().try_into().map_err(internal)?);
        }

        let stream = self.connect(url.host(), url.port()).await?;
        if !url.is_https() {
            return send(url, stream, request, most).await;
        }
        let tls = |reason: String| OutboundError::Tls { host: url.host().to_owned(), reason };
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|_| tls("no certificate has such a name".to_owned()))?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await;
        send(url, stream.map_err(|error| tls(error.to_string()))?, request, most).await
    }
}

async fn send<S>(
    url: &WebUrl,
    stream: S,
    request: Request<Full<Bytes>>,
    most: usize,
) -> Result<Received, OutboundError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let bad = |error: hyper::Error| OutboundError::BadAnswer {
        host: url.host().to_owned(),
        reason: error.to_string(),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(bad)?;
    // The connection does its work only while it is polled, and ends with this exchange.
    tokio::pin!(connection);
    let receive = async {
        let response = sender.send_request(request).await.map_err(bad)?;
        read(response, most).await.map_err(bad)
    };
    tokio::pin!(receive);
    let mut is_open = true;
    loop {
        tokio::select! {
            received = &mut receive => return received,
            // Its failure is told by the exchange, too.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read(response: Response<Incoming>, most: usize) -> Result<Received, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let mut kept = Vec::new();
    let mut is_cut = false;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = most - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(Received { status: head.status, headers: head.headers, body: kept.into(), is_cut })
}
