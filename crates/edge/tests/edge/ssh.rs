//! SSH by the HTTPS listener.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, TestEdge};
use crate::tls;

#[tokio::test]
async fn a_client_that_speaks_ssh_is_handed_over_with_every_byte() {
    let (edge, mut handed_over) = TestEdge::with_ssh().await;
    let mut client = TcpStream::connect(edge.https).await.unwrap();
    // The first of it alone.
    client.write_all(b"S").await.unwrap();
    let (mut stream, from) = handed_over.recv().await.unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    client.write_all(b"SH-2.0-client\r\n").await.unwrap();
    let mut read = [0; 16];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"SSH-2.0-client\r\n");
    stream.write_all(b"SSH-2.0-server\r\n").await.unwrap();
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"SSH-2.0-server\r\n");
}

#[tokio::test]
async fn sites_are_served_beside_it() {
    let ((edge, mut handed_over), server) = (TestEdge::with_ssh().await, Server::start().await);
    let _running = edge.sites.map("app.test", server.address);
    let answer = edge.curl("https", "app.test/teapot", &[]).await;
    assert_eq!(answer, "short and stout\n418 2");
    // By HTTP nobody speaks SSH.
    let mut client = TcpStream::connect(edge.http).await.unwrap();
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    assert!(handed_over.try_recv().is_err());
}

#[tokio::test]
async fn where_nobody_takes_ssh_it_is_bad_tls() {
    let edge = TestEdge::start().await;
    tls::client(&edge, "app.test", &[]).await.unwrap();
    let mut client = TcpStream::connect(edge.https).await.unwrap();
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, or nothing.
    _ = client.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"SSH"));
}
