//! What passes through, in which form, and what is said when nothing does.

use std::time::Duration;

use bytes::Bytes;
use freestyle_edge::Limits;
use tokio::io::AsyncWriteExt;

use crate::support::{RawServer, Server, TestEdge, listener};

#[tokio::test]
async fn a_request_reaches_its_site_by_every_protocol() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    for (scheme, options, version) in [
        ("http", &["--http1.1"][..], "1.1"),
        ("https", &["--http1.1"], "1.1"),
        ("https", &["--http2"], "2"),
    ] {
        let port = if scheme == "https" { edge.https.port() } else { edge.http.port() };
        let answer = edge.curl(scheme, "App.test/a%2Fb?c=d", options).await;
        let expected = format!(
            "GET /a%2Fb?c=d\naccept: */*\nhost: app.test:{port}\nuser-agent: curl/.*\n\
             x-forwarded-for: 127.0.0.1\nx-forwarded-host: app.test:{port}\n\
             x-forwarded-proto: {scheme}\n200 {version}"
        );
        let answer = answer.replace("App.test", "app.test");
        let (before, after) = expected.split_once(".*").unwrap();
        assert!(answer.starts_with(before) && answer.ends_with(after), "{answer}");
    }
}

#[tokio::test]
async fn status_and_fields_of_the_answer_are_the_sites() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let answer = edge.curl("https", "app.test/teapot", &["--include"]).await;
    assert!(answer.starts_with("HTTP/2 418"), "{answer}");
    assert!(answer.contains("x-lid: on\r\n"), "{answer}");
    let head = edge.curl("https", "app.test/teapot", &["--head"]).await;
    assert!(head.contains("content-length: 15\r\n"), "{head}");
}

#[tokio::test]
async fn a_large_upload_passes_whole() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let upload = format!("@{}", file.path().display());
    for options in [
        &["--http2"][..],
        &["--http1.1"],
        &["--http1.1", "--header", "Transfer-Encoding: chunked"],
        // The server is asked first.
        &["--http1.1", "--header", "Expect: 100-continue"],
    ] {
        let options = [&["--data-binary", &upload], options].concat();
        let answer = edge.curl("https", "app.test/length", &options).await;
        assert!(answer.starts_with("67108864\n200"), "{options:?}: {answer}");
    }
}

#[tokio::test]
async fn bodies_pass_as_they_are_written_in_both_directions() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let mut client = edge.raw().await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for word in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{word}\r\n", word.len())).await;
        client.until(word).await;
    }
    client.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let events = server.events();
    let mut client = edge.raw().await;
    client.send("GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        events.send(Bytes::from_static(event.as_bytes())).await.unwrap();
        client.until(event).await;
    }
    // Who leaves is noticed at the other end.
    drop(client);
    events.closed().await;
}

#[tokio::test]
async fn connections_are_used_again_and_end_with_their_site() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let running = edge.sites.map("app.test", server.address);
    // Of requests by one connection: others may be with other workers.
    let mut client = edge.raw().await;
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        client.until("x-forwarded-proto: http").await;
        client
            .send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nxyz")
            .await;
        client.until("\r\n\r\n3").await;
    }
    assert_eq!(server.connections(), 1);
    // The site is suspended and woken: its old connections say nothing any more.
    drop(running);
    let _running = edge.sites.map("app.test", server.address);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    client.until("x-forwarded-proto: http").await;
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_its_site_closed_meanwhile_is_replaced() {
    let edge = TestEdge::start().await;
    let listener = listener().await;
    let _running = edge.sites.map("app.test", listener.local_addr().unwrap());
    let site = tokio::spawn(async move {
        for turn in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = crate::support::Raw(stream);
            stream.until("\r\n\r\n").await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{turn}");
            stream.send(answer).await;
            // It stays open until a second request is there, and closes without an answer.
            stream.until("\r\n\r\n").await;
            stream.0.shutdown().await.unwrap();
        }
    });
    let mut client = edge.raw().await;
    for turn in 1..=3 {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        client.until(&format!("\r\n\r\n{turn}")).await;
    }
    // What is not known to be harmless is not sent twice.
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\n\r\nx").await;
    client.until("HTTP/1.1 502").await;
    site.abort();
}

#[tokio::test]
async fn what_goes_wrong_is_said_plainly() {
    let limits = Limits { answer: Duration::from_millis(200), ..Limits::default() };
    let (edge, server) = (TestEdge::with(limits).await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let closed = listener().await.local_addr().unwrap();
    let _closed = edge.sites.map("closed.test", closed);
    let garbage = RawServer::start("SSH-2.0-OpenSSH_9.2p1\r\n\r\n", false).await;
    let _garbage = edge.sites.map("garbage.test", garbage.address);
    let silent = RawServer::start("", false).await;
    let _silent = edge.sites.map("silent.test", silent.address);
    let invalid = RawServer::start("HTTP/1.1 200 OK\r\nBad Field: x\r\n\r\n", false).await;
    let _invalid = edge.sites.map("invalid.test", invalid.address);
    let torn = RawServer::start("HTTP/1.1 101 Switching Protocols\r\n\r\n", false).await;
    let _torn = edge.sites.map("uninvited.test", torn.address);
    for (target, status, words) in [
        ("nobody.test/", "404", "Nothing is mapped to nobody.test"),
        ("closed.test/", "502", "refused"),
        ("garbage.test/", "502", "not HTTP/1.1"),
        ("invalid.test/", "502", "not HTTP/1.1"),
        ("silent.test/", "502", "before it had answered"),
        ("uninvited.test/", "502", "nobody asked for"),
        ("later.test/", "503", "it is being moved"),
        ("app.test/never", "504", "in time"),
    ] {
        let answer = edge.curl("https", target, &["--include"]).await;
        assert!(answer.starts_with(&format!("HTTP/2 {status}")), "{answer}");
        assert!(answer.contains(words), "{target}: {answer}");
        assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
        assert_eq!(answer.contains("retry-after"), status == "503", "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_is_told_so() {
    let limits = Limits { upload_stall: Duration::from_millis(200), ..Limits::default() };
    let (edge, server) = (TestEdge::with(limits).await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let mut client = edge.raw().await;
    client.send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 9\r\n\r\nhalf").await;
    client.until("HTTP/1.1 408").await;
}

#[tokio::test]
async fn an_edge_that_ends_lets_requests_finish() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let events = server.events();
    let mut client = edge.raw().await;
    client.send("GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    events.send(Bytes::from_static(b"first")).await.unwrap();
    client.until("first").await;
    let ended = tokio::spawn(edge.end());
    events.send(Bytes::from_static(b"last")).await.unwrap();
    drop(events);
    client.until("last").await;
    client.rest().await;
    ended.await.unwrap();
}
