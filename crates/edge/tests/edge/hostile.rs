//! Visitors of ill will.

use std::time::Duration;

use freestyle_edge::Limits;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::support::{Raw, RawServer, Server, TestEdge};
use crate::tls;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the site heard after these bytes, and what the client was answered.
async fn sent(bytes: &str) -> (Vec<String>, String) {
    let edge = TestEdge::start().await;
    let site = RawServer::start(OK, true).await;
    let _running = edge.sites.map("a.test", site.address);
    let mut client = edge.raw().await;
    client.send(bytes).await;
    client.0.shutdown().await.unwrap();
    let answer = client.rest().await;
    (site.heard(), answer)
}

#[tokio::test]
async fn a_request_that_two_readers_may_understand_differently_is_refused() {
    const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0, 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x2c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\tfolded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nX\0: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nX: a\rContent-Length: 44\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
        "GET  /  HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/9.1\r\nHost: a.test\r\n\r\n",
    ] {
        let (heard, answer) = sent(&format!("{head}{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer:?}");
        assert_eq!(heard, [""; 0], "{head:?}");
    }
}

#[tokio::test]
async fn chunks_win_over_a_length_and_the_site_sees_only_one_of_them() {
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (heard, _) = sent(&format!("{head}3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n")).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    let heard = heard[0].to_lowercase();
    assert!(heard.contains("transfer-encoding: chunked\r\n"), "{heard}");
    assert!(!heard.contains("content-length") && !heard.contains("smuggled"), "{heard}");
    assert!(heard.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{heard}");
}

#[tokio::test]
async fn a_broken_chunk_ends_the_request_at_both_ends() {
    for chunk in ["z\r\n", "3\r\nabcX", "-1\r\n", "fffffffffffffffff\r\n", "3\nabc\n0\n\n"] {
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (heard, answer) =
            sent(&format!("{head}{chunk}\r\nGET /smuggled HTTP/1.1\r\n\r\n")).await;
        assert!(heard.iter().all(|bytes| !bytes.contains("smuggled")), "{chunk:?}: {heard:?}");
        assert!(heard.iter().all(|bytes| !bytes.ends_with("0\r\n\r\n")), "{chunk:?}: {heard:?}");
        assert!(!answer.contains("smuggled"), "{chunk:?}: {answer}");
    }
}

#[tokio::test]
async fn trailers_do_not_become_fields() {
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (heard, _) = sent(&format!("{head}0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")).await;
    assert!(!heard.concat().contains("10.0.0.1"), "{heard:?}");
}

#[tokio::test]
async fn requests_that_follow_each_other_are_answered_in_order() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("a.test", server.address);
    let mut client = edge.raw().await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.send(format!("{}{}{}", request("/1"), request("/2"), request("/3"))).await;
    for path in ["GET /1", "GET /2", "GET /3"] {
        client.until(path).await;
    }
}

#[tokio::test]
async fn a_head_may_not_be_endless() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("a.test", server.address);
    for (head, status) in [
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(80 << 10)), &["414", "431"][..]),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n", "a".repeat(80 << 10)), &["431"]),
        (format!("GET / HTTP/1.1\r\n{}", "X: 1\r\n".repeat(500)), &["431"]),
    ] {
        let mut client = edge.raw().await;
        // It may be refused, and closed, before all was sent.
        let request = format!("{head}Host: a.test\r\n\r\n");
        _ = client.0.write_all(request.as_bytes()).await;
        let answer = client.rest().await;
        let refused = status.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(refused || answer.is_empty(), "{answer}");
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn who_says_nothing_or_little_is_not_waited_for() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let edge = TestEdge::with(limits).await;
    let (mut silent, mut slow) = (edge.raw().await, edge.raw().await);
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    assert!(!silent.rest().await.contains("200"));
    assert!(!slow.rest().await.contains("200"));
}

#[tokio::test]
async fn one_source_cannot_take_every_place() {
    let limits = Limits { connections_of_source: 2, ..Limits::default() };
    let (edge, server) = (TestEdge::with(limits).await, Server::start().await);
    let _running = edge.sites.map("a.test", server.address);
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut here: Vec<Raw> = Vec::new();
    for _ in 0..2 {
        let mut client = edge.raw().await;
        client.send(request).await;
        client.until("200 OK").await;
        here.push(client);
    }
    assert_eq!(edge.raw().await.rest().await, "");
    // Somebody else is served.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Raw(socket.connect(edge.http).await.unwrap());
    other.send(request).await;
    other.until("200 OK").await;
}

/// Requests with a few bytes changed, put in or taken out. The same in every run.
fn mangled() -> impl Iterator<Item = Vec<u8>> {
    const REQUESTS: &[u8] = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello\
        POST /b HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const LIKELY: &[u8] = b"\r\n :\t,;0159\0aH\x7f\xff";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |limit: usize| {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    std::iter::from_fn(move || {
        let mut bytes = REQUESTS.to_vec();
        for _ in 0..=below(3) {
            let (at, byte) = (below(bytes.len()), LIKELY[below(LIKELY.len())]);
            match below(3) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        Some(bytes)
    })
}

#[tokio::test]
async fn no_request_reaches_a_site_in_a_form_that_could_be_read_in_two_ways() {
    // The site answers once: whoever came back to the same connection would wait.
    let last = OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let edge = TestEdge::start().await;
    let site = RawServer::start(&last, true).await;
    let _running = edge.sites.map("a.test", site.address);
    for bytes in mangled().take(400) {
        let mut client = edge.raw().await;
        // It may be refused, and closed, before all was sent.
        _ = client.0.write_all(&bytes).await;
        _ = client.0.shutdown().await;
        client.rest().await;
    }
    let heard = site.heard();
    assert!(heard.len() > 50, "{}", heard.len());
    for stream in heard {
        let Some((head, _)) = stream.split_once("\r\n\r\n") else { continue };
        let lines: Vec<String> = head.split("\r\n").map(str::to_lowercase).collect();
        let count = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{head:?}");
        assert!(lines.iter().all(|line| !line.starts_with([' ', '\t'])), "{head:?}");
        assert_eq!((count("host:"), count("x-forwarded-for: 127.0.0.1")), (1, 1), "{head:?}");
        assert!(count("content-length:") + count("transfer-encoding:") <= 1, "{head:?}");
    }
    assert!(edge.curl("http", "a.test/", &[]).await.contains("200 1.1"));
}

#[tokio::test]
async fn the_edge_is_no_way_to_other_places() {
    let edge = TestEdge::start().await;
    let site = RawServer::start(OK, true).await;
    let _running = edge.sites.map("a.test", site.address);
    let mut client = edge.raw().await;
    client.send("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n").await;
    client.until("HTTP/1.1 405").await;
    assert_eq!(site.heard(), [""; 0]);
}

#[tokio::test]
async fn a_client_that_is_there_and_takes_nothing_is_put_out() {
    const STALL: Duration = Duration::from_millis(300);
    let limits = Limits { download_stall: STALL, ..Limits::default() };
    let (edge, server) = (TestEdge::with(limits).await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let events = server.events();
    let stream = tls::client(&edge, "app.test", &[b"h2"]).await.unwrap();
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(64 << 10);
    let (mut requests, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
    // Which answers pings by itself.
    let connection = tokio::spawn(connection);
    let request = Request::get("https://app.test/events").body(Empty::<Bytes>::new()).unwrap();
    let mut answer = requests.send_request(request).await.unwrap().into_body();
    events.send(Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "small");
    // A guest that has nothing to say is not the client's fault.
    sleep(3 * STALL).await;
    assert!(!connection.is_finished());
    events.send(Bytes::from(vec![0; 4 << 20])).await.unwrap();
    timeout(Duration::from_secs(30), connection).await.expect("it is still there").unwrap().ok();
    drop(answer);
}
