//! WebSockets and other protocols that a connection goes on with.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::{RawServer, Server, TestEdge, listener};
use crate::tls::client;

/// A server that repeats what it hears.
async fn echo() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_websocket_carries_messages_both_ways_with_and_without_tls() {
    let edge = TestEdge::start().await;
    let (address, server) = echo().await;
    let _running = edge.sites.map("app.test", address);

    let plain = TcpStream::connect(edge.http).await.unwrap();
    let (mut plain, _) = client_async("ws://app.test/chat", plain).await.unwrap();
    let secured = client(&edge, "app.test", &[b"http/1.1"]).await.unwrap();
    let (mut secured, _) = client_async("wss://app.test/chat", secured).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20]), Message::text("")] {
        plain.send(message.clone()).await.unwrap();
        assert_eq!(plain.next().await.unwrap().unwrap(), message);
        secured.send(message.clone()).await.unwrap();
        assert_eq!(secured.next().await.unwrap().unwrap(), message);
    }
    plain.close(None).await.unwrap();
    while plain.next().await.is_some_and(|message| message.is_ok()) {}
    server.abort();
}

#[tokio::test]
async fn a_websocket_ends_with_its_site_and_with_the_edge() {
    let edge = TestEdge::start().await;
    let (address, server) = echo().await;
    let running = edge.sites.map("app.test", address);
    let connect = async || {
        let stream = TcpStream::connect(edge.http).await.unwrap();
        let (mut socket, _) = client_async("ws://app.test/", stream).await.unwrap();
        socket.send(Message::text("x")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket
    };
    let mut first = connect().await;
    drop(running);
    assert!(first.next().await.is_none_or(|end| end.is_err()));

    let _running = edge.sites.map("app.test", address);
    let mut second = connect().await;
    edge.end().await;
    assert!(second.next().await.is_none_or(|end| end.is_err()));
    server.abort();
}

#[tokio::test]
async fn a_site_that_knows_no_websockets_answers_as_usual() {
    let (edge, server) = (TestEdge::start().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let mut client = edge.raw().await;
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let answer = client.until("x-forwarded-proto: http").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\nupgrade: websocket"), "{answer}");
    }
}

#[tokio::test]
async fn http_2_in_clear_is_not_let_past_the_edge() {
    let edge = TestEdge::start().await;
    let site = RawServer::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true).await;
    let _running = edge.sites.map("app.test", site.address);
    let mut client = edge.raw().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        )
        .await;
    client.until("HTTP/1.1 200").await;
    let heard = site.heard().concat().to_lowercase();
    assert!(!heard.contains("upgrade") && !heard.contains("h2c"), "{heard}");
    assert!(!heard.contains("http2-settings"), "{heard}");
}
