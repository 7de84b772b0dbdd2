//! `git` behind the proxy.

use std::process::Output;

use freestyle_outbound::{OutboundError, Proxy, ProxyLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{Server, in_own_network, ok, outbound};

const LIMITS: ProxyLimits = ProxyLimits { bytes: 1 << 20, connections: 4 };

async fn ls_remote(proxy: &Proxy, url: &str) -> Output {
    Command::new("git")
        .args(["-c", &format!("http.proxy={}", proxy.url()), "ls-remote", url])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", "/nonexistent")
        .output()
        .await
        .unwrap()
}

/// What a server without git's own protocol says of its refs.
fn refs() -> String {
    ok(&format!("{}\trefs/heads/main\n", "a".repeat(40)))
}

#[test]
fn git_reaches_a_public_server_by_name_and_no_other() {
    in_own_network(async |names| {
        let server = Server::start(refs()).await;
        names.set("public.test", &[&[[11, 0, 0, 1]]]);
        names.set("private.test", &[&[[127, 0, 0, 1]]]);
        let outbound = outbound(&[]);

        let proxy = outbound.proxy(LIMITS).await.unwrap();
        let output = ls_remote(&proxy, &format!("http://public.test:{}/r", server.port)).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.ends_with("refs/heads/main\n"), "{output:?}");
        assert_eq!(proxy.failure(), None);

        let before = server.connections();
        for other in ["private.test", "127.0.0.1", "localhost", "[::1]", "12.0.0.1"] {
            let proxy = outbound.proxy(LIMITS).await.unwrap();
            let output = ls_remote(&proxy, &format!("http://{other}:{}/r", server.port)).await;
            assert!(!output.status.success());
            let failure = proxy.failure();
            assert!(matches!(failure, Some(OutboundError::Refused { .. })), "{other} {failure:?}");
        }
        assert_eq!(server.connections(), before);
    });
}

#[test]
fn a_redirect_to_a_private_address_leads_nowhere() {
    in_own_network(async |_| {
        let inner = Server::start(refs()).await;
        let redirect = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{}/r/info/refs\r\n\
             Content-Length: 0\r\n\r\n",
            inner.port
        );
        let server = Server::start(redirect).await;
        let proxy = outbound(&[]).proxy(LIMITS).await.unwrap();
        let output = ls_remote(&proxy, &format!("http://11.0.0.1:{}/r", server.port)).await;
        assert!(!output.status.success());
        assert!(matches!(proxy.failure(), Some(OutboundError::Refused { .. })));
        assert_eq!((server.connections(), inner.connections()), (1, 0));
    });
}

#[test]
fn more_than_the_limit_is_not_received() {
    in_own_network(async |_| {
        let server = Server::start(ok(&"x".repeat(3 << 20))).await;
        let proxy = outbound(&[]).proxy(LIMITS).await.unwrap();
        let output = ls_remote(&proxy, &format!("http://11.0.0.1:{}/r", server.port)).await;
        assert!(!output.status.success());
        assert_eq!(proxy.failure(), Some(OutboundError::TooLarge { limit: 1 << 20 }));
    });
}

#[test]
fn a_proxy_serves_its_own_client_only_and_ends_with_its_connections() {
    in_own_network(async |_| {
        let server = Server::start(ok("")).await;
        let proxy = outbound(&[]).proxy(LIMITS).await.unwrap();
        let url = proxy.url().to_owned();
        let (before, address) = url.rsplit_once('@').unwrap();
        let password = before.rsplit_once(':').unwrap().1;

        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(b"\x05\x01\x02\x01\x06import\x05wrong").await.unwrap();
        let mut answered = Vec::new();
        stranger.read_to_end(&mut answered).await.unwrap();
        assert_eq!(answered, [5, 2, 1, 1]);

        let mut client = TcpStream::connect(address).await.unwrap();
        let login = [&b"\x05\x01\x02\x01\x06import\x20"[..], password.as_bytes()].concat();
        let port = server.port.to_be_bytes();
        let request = [&b"\x05\x01\x00\x01\x0b\x00\x00\x01"[..], &port].concat();
        client.write_all(&[login, request].concat()).await.unwrap();
        let mut answered = [0; 14];
        client.read_exact(&mut answered).await.unwrap();
        assert_eq!(answered[4..6], [5, 0]);

        drop(proxy);
        // Cut off, gently or not.
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(TcpStream::connect(address).await.is_err());
    });
}
