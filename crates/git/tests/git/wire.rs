//! Requests that no git client sends: cut off, malformed, or never read.

use std::time::Duration;

use bytes::Bytes;
use freestyle_git::{Limits, Output, Repository, TransferRequest};
use futures_util::{Stream, StreamExt, stream};

use crate::support::{Server, collect, noise};

const ZERO: &str = "0000000000000000000000000000000000000000";

fn line(content: &str) -> Vec<u8> {
    format!("{:04x}{content}", content.len() + 4).into_bytes()
}

type Part = std::io::Result<Bytes>;

fn request(body: impl Stream<Item = Part> + Send + 'static) -> TransferRequest {
    TransferRequest::new(None, false, body)
}

fn whole(body: impl Into<Bytes>) -> impl Stream<Item = Part> + Send + 'static {
    stream::iter([Ok(body.into())])
}

/// The answer to a push, acknowledged if it comes to that, and what it changed.
async fn push(
    repository: &Repository,
    body: impl Stream<Item = Part> + Send + 'static,
) -> (Result<Vec<u8>, std::io::Error>, Vec<freestyle_git::RefUpdate>) {
    let push = repository.receive_pack(request(body)).await.unwrap();
    let mut updates = Vec::new();
    if let Some(mut finished) = push.end.wait().await {
        updates.append(&mut finished.updates);
        finished.acknowledge();
    }
    let parts: Vec<Part> = push.output.collect().await;
    let answer = parts.into_iter().collect::<Result<Vec<_>, _>>();
    (answer.map(|parts| parts.concat()), updates)
}

/// A repository with one commit, a commit that is not pushed, and the bytes that push it.
async fn pushable(server: &Server) -> (Repository, String, Vec<u8>) {
    let repository = server.create().await;
    let client = server.clone_of(&repository, "writer").await;
    client.commit("a", "1").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    server.updates();
    let new = client.commit("b", noise(1, 200_000)).await;
    client.write("wanted", format!("{new}\n^{new}~1\n"));
    let mut pack = client.command(&["pack-objects", "--revs", "--stdout", "-q"]);
    pack.stdin(std::fs::File::open(client.path.join("wanted")).unwrap());
    let pack = pack.output().await.unwrap().stdout;
    let command = line(&format!("{ZERO} {new} refs/heads/new\0 report-status\n"));
    (repository, new, [command, b"0000".to_vec(), pack].concat())
}

#[tokio::test]
async fn a_push_made_by_hand_is_carried_out_and_a_cut_or_changed_one_is_not() {
    let server = Server::start().await;
    let (repository, new, body) = pushable(&server).await;

    for cut in [3, 60, 120, 5_000, body.len() - 1] {
        let (_, updates) = push(&repository, whole(body[..cut].to_vec())).await;
        assert_eq!(updates, [], "cut at {cut}");
    }
    let broken = stream::iter([
        Ok(Bytes::from(body[..50_000].to_vec())),
        Err(std::io::ErrorKind::ConnectionReset.into()),
    ]);
    let (answer, updates) = push(&repository, broken).await;
    assert!(answer.is_err() && updates.is_empty());
    let mut flipped = body.clone();
    flipped[100_000] ^= 1;
    let (answer, updates) = push(&repository, whole(flipped)).await;
    assert!(String::from_utf8_lossy(&answer.unwrap()).contains("ng refs/heads/new"));
    assert_eq!(updates, []);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"ffffffff", &[0; 4096]] {
        let (_, updates) = push(&repository, whole(nonsense.to_vec())).await;
        assert_eq!(updates, []);
    }
    assert_eq!(repository.branches().await.unwrap().len(), 1);
    server.fsck(&repository).await;

    let (answer, updates) = push(&repository, whole(body)).await;
    assert!(String::from_utf8_lossy(&answer.unwrap()).contains("ok refs/heads/new"));
    assert_eq!(updates[0].new.unwrap().to_string(), new);
    server.fsck(&repository).await;
}

#[tokio::test]
async fn a_push_without_a_report_is_known_by_where_its_refs_are() {
    let server = Server::start().await;
    let (repository, new, body) = pushable(&server).await;
    let silent = b" report-status";
    let at = body.windows(silent.len()).position(|window| window == silent).unwrap();
    let mut body = body;
    // The same length, but a capability that does not exist.
    body[at..at + silent.len()].copy_from_slice(b" teport-status");
    let (answer, updates) = push(&repository, whole(body)).await;
    assert_eq!(answer.unwrap(), b"");
    assert_eq!((updates[0].old, updates[0].new.unwrap().to_string()), (None, new));
}

#[tokio::test]
async fn a_push_that_nobody_acknowledges_gets_no_report() {
    let server = Server::start().await;
    let (repository, _, body) = pushable(&server).await;
    let push = repository.receive_pack(request(whole(body))).await.unwrap();
    let finished = push.end.wait().await.unwrap();
    assert_eq!(finished.updates.len(), 1);
    drop(finished);
    let parts: Vec<Part> = push.output.collect().await;
    assert!(parts.last().unwrap().is_err(), "{parts:?}");
}

#[tokio::test]
async fn deleting_a_repository_breaks_off_its_pushes() {
    let server = Server::start().await;
    let (repository, _, body) = pushable(&server).await;
    let head = stream::iter([Ok(Bytes::from(body[..100_000].to_vec()))]);
    let push = repository.receive_pack(request(head.chain(stream::pending()))).await.unwrap();
    server.repositories.delete(repository.id()).await.unwrap();
    assert!(push.end.wait().await.is_none());
    let parts: Vec<Part> = push.output.collect().await;
    assert!(parts.last().unwrap().is_err());
    let left = std::fs::read_dir(server.root().join(".deleted")).unwrap().count();
    assert_eq!(left, 0);
    let late = repository.receive_pack(request(whole(body))).await;
    assert!(late.is_err());
}

/// A clone of everything by protocol version 0.
async fn clone(repository: &Repository) -> Output {
    let head = repository.branch("main").await.unwrap().sha;
    let want = line(&format!("want {head} side-band-64k ofs-delta no-progress\n"));
    let body = [want, b"0000".to_vec(), line("done\n")].concat();
    repository.upload_pack(request(whole(body))).await.unwrap()
}

#[tokio::test]
async fn a_clone_that_is_not_read_keeps_nobody_from_cloning() {
    let limits = Limits {
        packing_per_host: 1,
        transfers_per_repository: 2,
        queue_time: Duration::from_secs(20),
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    let repository = server.create().await;
    let writer = server.clone_of(&repository, "writer").await;
    writer.commit("large", noise(1, 8 << 20)).await;
    writer.git(&["push", "-q", "origin", "main"]).await;

    // Its pack is prepared and waits to be read.
    let unread = clone(&repository).await;
    let read = collect(clone(&repository).await).await;
    assert!(read.len() > 8 << 20);
    // And one that is given up makes its place free.
    let another = clone(&repository).await;
    drop(unread);
    let read_too = collect(clone(&repository).await).await;
    assert!(read_too.len() > 8 << 20);
    assert!(collect(another).await.len() > 8 << 20);
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let limits = Limits { stall_time: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start_with(limits).await;
    let (repository, _, body) = pushable(&server).await;
    let head = stream::iter([Ok(Bytes::from(body[..1000].to_vec()))]);
    let (answer, updates) = push(&repository, head.chain(stream::pending())).await;
    assert!(answer.is_err() && updates.is_empty());
    let silent = repository.upload_pack(request(stream::pending())).await;
    assert!(silent.is_err());
}

#[tokio::test]
async fn a_fetch_request_over_the_limit_is_refused() {
    let limits = Limits { fetch_request_bytes: 1 << 16, ..Limits::default() };
    let server = Server::start_with(limits).await;
    let (repository, _, _) = pushable(&server).await;
    let head = repository.branch("main").await.unwrap().sha;
    let want = [line(&format!("want {head} side-band-64k\n")), b"0000".to_vec()].concat();
    let have = line(&format!("have {ZERO}\n"));
    let endless = whole(want).chain(stream::repeat_with(move || Ok(have.clone().into())));
    let refused = repository.upload_pack(request(endless)).await;
    assert!(matches!(refused, Err(freestyle_git::GitError::InvalidRequest(_))), "{refused:?}");
}
