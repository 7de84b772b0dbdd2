//! The HTTPS client that speaks with an ACME authority: bounded in time and size, and attentive to
//! when it wants to be left alone.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};

use super::error::CertificateError;

const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer is a chain of certificates.
const MAX_ANSWER: usize = 1 << 20;
/// How long to leave it alone if it says so without saying how long, and at most.
const DEFAULT_PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The client. Clones are one.
#[derive(Clone)]
pub(super) struct AcmeClient {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    pause: Pause,
}

/// Until when the authority wants to be left alone.
#[derive(Debug, Clone, Default)]
struct Pause(Arc<Mutex<Option<Instant>>>);

impl AcmeClient {
    /// A client that trusts the authorities that this host trusts, and these, files in PEM.
    pub(super) async fn new(roots: &[PathBuf]) -> Result<Self, CertificateError> {
        let roots = roots.to_owned();
        let trusted = tokio::task::spawn_blocking(move || trusted(&roots)).await;
        let trusted =
            trusted.map_err(|error| CertificateError::Unusable(error.to_string())).flatten()?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, pause: Pause::default() })
    }

    /// How long the authority wants to be left alone from now on.
    pub(super) fn asked_to_wait(&self) -> Option<Duration> {
        let until = *self.pause.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

fn trusted(files: &[PathBuf]) -> Result<RootCertStore, CertificateError> {
    let mut trusted = RootCertStore::empty();
    // One that cannot be read is not trusted, and no harm otherwise.
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in files {
        let damaged = |reason: String| CertificateError::Damaged { path: file.clone(), reason };
        let certificates = CertificateDer::pem_file_iter(file);
        for certificate in certificates.map_err(|error| damaged(error.to_string()))? {
            let certificate = certificate.map_err(|error| damaged(error.to_string()))?;
            trusted.add(certificate).map_err(|error| damaged(error.to_string()))?;
        }
    }
    Ok(trusted)
}

impl Pause {
    fn note(&self, status: StatusCode, headers: &HeaderMap) {
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let seconds =
                headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let pause = seconds.map_or(DEFAULT_PAUSE, Duration::from_secs).min(MAX_PAUSE);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
        }
    }
}

impl HttpClient for AcmeClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (answer, pause) = (self.client.request(request), self.pause.clone());
        let exchange = async move {
            let (head, body) = answer.await.map_err(other)?.into_parts();
            pause.note(head.status, &head.headers);
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(Error::Other)?;
            let answer = Response::from_parts(head, Full::new(body.to_bytes()));
            Ok(BytesResponse::from(answer))
        };
        Box::pin(async move { timeout(REQUEST_LIMIT, exchange).await.map_err(other)? })
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
