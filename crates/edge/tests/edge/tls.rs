//! Names, certificates and protocols of TLS connections.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Server, TestEdge};

/// TLS with the edge, trusting its authority and nobody else.
pub(crate) async fn client(
    edge: &TestEdge,
    name: &str,
    protocols: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    connector(edge, protocols).connect(name, edge).await
}

struct Connector(TlsConnector);

fn connector(edge: &TestEdge, protocols: &[&[u8]]) -> Connector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&edge.ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Connector(TlsConnector::from(Arc::new(config)))
}

impl Connector {
    async fn connect(&self, name: &str, edge: &TestEdge) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        self.0.connect(name, TcpStream::connect(edge.https).await?).await
    }
}

#[tokio::test]
async fn a_host_that_may_have_a_certificate_gets_one_and_no_other() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    client(&edge, "app.test", &[]).await.unwrap();
    // Nothing leads there yet; the visitor is told so and not that something is wrong with TLS.
    assert!(edge.curl("https", "other.test/", &[]).await.contains("404 2"));
    for refused in ["secret.test", "example.com", "127.0.0.1"] {
        let error = client(&edge, refused, &[]).await.unwrap_err().to_string();
        assert!(error.contains("fatal alert"), "{refused}: {error}");
    }
}

#[tokio::test]
async fn a_request_for_another_host_than_the_one_tls_was_set_up_for_is_misdirected() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _app = edge.sites.map("app.test", server.address);
    let _other = edge.sites.map("other.test", server.address);
    for options in [&["--http1.1"][..], &["--http2"]] {
        let options = [options, &["--header", "Host: other.test"]].concat();
        let answer = edge.curl("https", "app.test/", &options).await;
        assert!(answer.contains("\n421 "), "{answer}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_best_protocol_that_both_speak_is_chosen() {
    let edge = TestEdge::start().await;
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = client(&edge, "app.test", offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    let error = client(&edge, "app.test", &[b"spdy/3"]).await.unwrap_err();
    assert!(error.to_string().contains("fatal alert"), "{error}");
}

#[tokio::test]
async fn a_session_is_resumed_for_its_own_host_only() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _app = edge.sites.map("app.test", server.address);
    let connector = connector(&edge, &[b"http/1.1"]);
    let visit = async |name: &str| {
        let mut stream = connector.connect(name, &edge).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stream.get_ref().1.handshake_kind().unwrap()
    };
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(visit("app.test").await, Full);
    assert_eq!(visit("app.test").await, Resumed);
    assert_eq!(visit("other.test").await, Full);
}
