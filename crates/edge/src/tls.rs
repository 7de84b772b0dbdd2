//! TLS with clients: which certificate to show, and which protocol comes next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::certificates::{CertificateError, Certificates};
use crate::host::HostName;
use crate::routes::Routes;

/// How long a client may take for each half of the handshake: to say what it wants, and to finish.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a client is made to wait for a certificate that has to be ordered first. Browsers wait
/// for a minute or longer.
const CERTIFICATE_LIMIT: Duration = Duration::from_secs(45);

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// A certificate authority that wants proof (RFC 8737).
const ACME: &[u8] = b"acme-tls/1";

/// Sets up TLS.
pub(crate) struct Tls {
    config: ServerConfig,
}

/// A connection that is set up.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The name that the client asked for.
    pub(crate) host: HostName,
    pub(crate) is_http_2: bool,
}

impl Tls {
    pub(crate) fn new() -> Result<Self, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown(None)));
        config.ticketer = ring::Ticketer::new()?;
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(Self { config })
    }

    /// Sets up TLS with a client; `None` if it is not to be, for a reason that is the client's.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        routes: &impl Routes,
        certificates: &Certificates,
    ) -> Option<Secured> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = match timeout(HANDSHAKE_LIMIT, hello).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => {
                debug!(%error, "TLS");
                return None;
            }
            Err(_) => return None,
        };
        let (host, wants_proof) = {
            let hello = hello.client_hello();
            let wants_proof =
                hello.alpn().is_some_and(|mut protocols| protocols.any(|name| name == ACME));
            (hello.server_name().and_then(HostName::parse), wants_proof)
        };
        let mut config = self.config.clone();
        let shown = match &host {
            Some(host) if wants_proof => {
                config.alpn_protocols = vec![ACME.to_vec()];
                certificates.proof_over_tls(host)
            }
            Some(host) => certificate(host, routes, certificates).await,
            None => None,
        };
        // Without one the client is told so, in TLS.
        config.cert_resolver = Arc::new(Shown(shown));
        let finish = timeout(HANDSHAKE_LIMIT, hello.into_stream(Arc::new(config)));
        let mut stream = match finish.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(%error, "TLS");
                return None;
            }
            Err(_) => return None,
        };
        if wants_proof {
            // It has seen what it wanted.
            _ = timeout(HANDSHAKE_LIMIT, stream.shutdown()).await;
            return None;
        }
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Some(Secured { stream, host: host?, is_http_2 })
    }
}

async fn certificate(
    host: &HostName,
    routes: &impl Routes,
    certificates: &Certificates,
) -> Option<Arc<CertifiedKey>> {
    if !routes.may_have_certificate(host).await {
        return None;
    }
    match timeout(CERTIFICATE_LIMIT, certificates.certificate(host)).await {
        Ok(Ok(certificate)) => Some(certificate),
        Ok(Err(error)) => {
            debug!(%host, %error, "no certificate");
            None
        }
        Err(_) => None,
    }
}

/// The certificate that was chosen for a connection.
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}
