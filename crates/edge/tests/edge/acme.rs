//! Certificates from an ACME authority: `pebble`, and the DNS server that comes with it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use freestyle_edge::{Certificates, Limits};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::support::{Server, Sites, TestEdge, listener};
use crate::tls;

/// How long a certificate from it is good for, where that matters.
const SHORT: u64 = 9;

/// An authority that finds every host at this one, where the listeners are.
struct Authority {
    directory: String,
    /// The certificate of its own server.
    server: PathBuf,
    management: SocketAddr,
    folder: TempDir,
    programs: [Child; 2],
}

impl Authority {
    async fn start(http: Option<&TcpListener>, https: &TcpListener, seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(file("own.pem"), own.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(file("own.key"), key.serialize_pem()).unwrap();
        let [listen, management, dns] = [free_port().await, free_port().await, free_port().await];
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        // A port that nobody listens on.
        let http = match http {
            Some(http) => port(http),
            None => free_port().await.port(),
        };
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "{listen}", "managementListenAddress": "{management}",
                "certificate": "{}", "privateKey": "{}", "httpPort": {http}, "tlsPort": {},
                "domainBlocklist": ["blocked.test"], "certificateValidityPeriod": {seconds}
            }}}}"#,
            file("own.pem").display(),
            file("own.key").display(),
            port(https),
        );
        fs::write(file("config.json"), config).unwrap();
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        resolver.args(["-dns01", &dns.to_string(), "-management", "127.0.0.1:0"]);
        let resolver = begin(resolver, "Starting management server").await;
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(file("config.json")).args(["-dnsserver", &dns.to_string()]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        let pebble = begin(pebble, "ACME directory available").await;
        Self {
            directory: format!("https://{listen}/dir"),
            server: file("own.pem"),
            management,
            folder,
            programs: [resolver, pebble],
        }
    }

    /// Its root certificate, in a file.
    async fn root(&self) -> PathBuf {
        let file = self.folder.path().join("root.pem");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--insecure", "--noproxy", "*", "--output"]).arg(&file);
        curl.arg(format!("https://{}/roots/0", self.management));
        assert!(curl.status().await.unwrap().success());
        file
    }

    /// Ends it; its files stay.
    async fn end(&mut self) {
        for program in &mut self.programs {
            program.kill().await.unwrap();
        }
    }

    async fn certificates(&self, dir: &Path) -> Certificates {
        let roots = [self.server.clone()];
        Certificates::acme(dir, &self.directory, &roots).await.unwrap()
    }
}

async fn free_port() -> SocketAddr {
    listener().await.local_addr().unwrap()
}

/// Starts a program and waits until it says this.
async fn begin(mut program: Command, ready: &str) -> Child {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = tokio::select! {
            Ok(Some(line)) = stdout.next_line() => line,
            Ok(Some(line)) = stderr.next_line() => line,
            else => panic!("{program:?} ended"),
        };
        if line.contains(ready) {
            break;
        }
    }
    // Whoever reads no more is written to no more.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Ok(Some(_)) = stdout.next_line() => {}
                Ok(Some(_)) = stderr.next_line() => {}
                else => break,
            }
        }
    });
    child
}

#[tokio::test]
async fn a_host_gets_a_certificate_when_it_is_visited_and_keeps_it() {
    let (http, https) = (listener().await, listener().await);
    let mut authority = Authority::start(Some(&http), &https, 90 * 24 * 3600).await;
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let dir = folder.path().join("edge");
    let sites = Sites::default();
    let _running = sites.map("app.test", server.address);
    let certificates = authority.certificates(&dir).await;
    assert_eq!(certificates.ca_certificate(), None);
    let root = authority.root().await;
    let listeners = (Some(http), https);
    let edge =
        TestEdge::serve(sites.clone(), certificates, Limits::default(), listeners, root.clone());

    // Several at once have it ordered once.
    let visits = [(); 3].map(|()| edge.curl("https", "app.test/teapot", &[]));
    for answer in futures_util::future::join_all(visits).await {
        assert_eq!(answer, "short and stout\n418 2");
    }
    let stored = fs::read(dir.join("certificates/app.test.pem")).unwrap();

    // Who may have none is not ordered for.
    assert!(edge.curl("https", "secret.test/", &[]).await.contains("alert"));
    assert_eq!(fs::read_dir(dir.join("certificates")).unwrap().count(), 1);
    edge.end().await;

    // The authority is gone, the certificate is not.
    authority.end().await;
    let certificates = authority.certificates(&dir).await;
    let listeners = (Some(listener().await), listener().await);
    let edge = TestEdge::serve(sites, certificates, Limits::default(), listeners, root);
    assert_eq!(edge.curl("https", "app.test/teapot", &[]).await, "short and stout\n418 2");
    assert_eq!(fs::read(dir.join("certificates/app.test.pem")).unwrap(), stored);
}

#[tokio::test]
async fn an_order_that_was_refused_is_not_repeated_at_once() {
    let (http, https) = (listener().await, listener().await);
    let mut authority = Authority::start(Some(&http), &https, 3600).await;
    let folder = tempfile::tempdir().unwrap();
    let certificates = authority.certificates(folder.path()).await;
    let (listeners, root) = ((Some(http), https), authority.root().await);
    let edge = TestEdge::serve(Sites::default(), certificates, Limits::default(), listeners, root);
    let refused = edge.curl("https", "blocked.test/", &[]).await;
    assert!(refused.contains("alert"), "{refused}");
    // Without the authority an order would take its time; this is answered from memory.
    authority.end().await;
    let before = Instant::now();
    assert_eq!(edge.curl("https", "blocked.test/", &[]).await, refused);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn https_alone_is_enough_and_certificates_are_renewed() {
    let https = listener().await;
    let authority = Authority::start(None, &https, SHORT).await;
    let folder = tempfile::tempdir().unwrap();
    let certificates = authority.certificates(folder.path()).await;
    let (listeners, root) = ((None, https), authority.root().await);
    let edge = TestEdge::serve(Sites::default(), certificates, Limits::default(), listeners, root);
    let shown = async || {
        let stream = tls::client(&edge, "app.test", &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    let limit = Instant::now() + Duration::from_secs(4 * SHORT);
    while shown().await == first {
        assert!(Instant::now() < limit, "not renewed");
        tokio::task::yield_now().await;
    }
}
