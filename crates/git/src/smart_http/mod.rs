//! Clone, fetch and push over HTTP, as git's own `http-backend` serves them, without the HTTP: a
//! request's body comes in as a stream and the body of the answer goes out as one.
//!
//! The work is done by `git upload-pack` and `git receive-pack` as child processes. Nothing is ever
//! held whole: what flows in and out is bounded by the pipes and a few packets. Protocol versions
//! 0, 1 and 2 are git's own business.
//!
//! Preparing a pack is what costs (issue trackers of other hosts: clone storms saturate the
//! processors), so it is limited per repository and per host with a bounded queue; sending a
//! prepared pack to a slow peer only counts as a transfer.

mod fetch;
mod pkt_line;
mod push;
mod request;

use std::ffi::OsStr;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

pub use push::{FinishedPush, Push, PushEnd, RefUpdate};
pub use request::{GitProtocol, TransferRequest};

use crate::limits::Place;
use crate::{GitError, Repository};

/// Bytes read from a child at one time; git's own packets are as large.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for a slow peer.
const CHUNKS_AHEAD: usize = 4;

/// One of git's two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Reading: clone and fetch.
    UploadPack,
    /// Writing: push.
    ReceivePack,
}

impl Service {
    /// By the name in URLs, as `git-upload-pack`. Git has no other service over HTTP that this
    /// server offers.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::UploadPack),
            "git-receive-pack" => Some(Self::ReceivePack),
            _ => None,
        }
    }

    /// The name in URLs; `application/x-<name>-advertisement`, `-request` and `-result` are its
    /// content types.
    pub fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn subcommand(self) -> &'static str {
        match self {
            Self::UploadPack => "upload-pack",
            Self::ReceivePack => "receive-pack",
        }
    }
}

/// The body of an answer. It ends with an error when the answer is not complete, and the
/// connection must then be cut, so that git notices. Dropping it ends a fetch, but not a push.
#[derive(Debug)]
pub struct Output {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Stream for Output {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context)
    }
}

/// The other end of an [`Output`].
#[derive(Debug)]
struct Sender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    stall_time: Duration,
}

/// The peer went away or has not read for too long.
#[derive(Debug)]
struct PeerGone;

impl Sender {
    async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), PeerGone> {
        let sent = self.chunks.send_timeout(Ok(bytes.into()), self.stall_time).await;
        sent.map_err(|_| PeerGone)
    }

    /// Tells the peer that the answer is not complete.
    async fn fail(&self, reason: &str) {
        let error = io::Error::other(reason.to_owned());
        let _ = self.chunks.send_timeout(Err(error), self.stall_time).await;
    }
}

fn channel(stall_time: Duration) -> (Sender, Output) {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    (Sender { chunks: sender, stall_time }, Output { chunks })
}

/// Reads what a child wrote, none at its end.
async fn read_chunk(stdout: &mut ChildStdout) -> io::Result<Option<Bytes>> {
    let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
    let length = stdout.read_buf(&mut chunk).await?;
    Ok((length > 0).then(|| chunk.freeze()))
}

/// A place for a transfer, of the repository and of the host.
struct TransferPlace {
    _of_repository: Place,
    _of_host: Place,
}

impl Repository {
    /// The answer to `GET <repository>/info/refs?service=<service>`.
    pub async fn advertise(
        &self,
        service: Service,
        protocol: Option<GitProtocol>,
    ) -> Result<Output, GitError> {
        // There is no version 2 of pushing; git answers with version 0 whatever is asked for.
        let protocol = protocol.filter(|_| service == Service::UploadPack);
        let mut head = Vec::new();
        if !protocol.as_ref().is_some_and(GitProtocol::is_version_2) {
            head = pkt_line::line(format!("# service={}\n", service.name()).as_bytes());
            head.extend_from_slice(b"0000");
        }
        let protocol = protocol.as_ref().map(GitProtocol::as_str);
        let arguments = [service.subcommand(), "--stateless-rpc", "--advertise-refs", "."];
        self.stream(head, protocol, &arguments.map(OsStr::new)).await
    }

    /// What `git <arguments>` writes, after `head`.
    pub(crate) async fn stream(
        &self,
        head: Vec<u8>,
        protocol: Option<&str>,
        arguments: &[&OsStr],
    ) -> Result<Output, GitError> {
        let place = self.transfer_place().await?;
        let arguments = arguments.iter().copied();
        let mut process = self.shared.git.start(&self.state.path, &[], protocol, arguments)?;
        let limits = &self.shared.limits;
        let (sender, output) = channel(limits.stall_time);
        let time = limits.request_time;
        tokio::spawn(async move {
            let _place = place;
            drop(process.stdin.take());
            let forwarded = tokio::time::timeout(time, async {
                if !head.is_empty() {
                    sender.send(head).await?;
                }
                if let Some(mut stdout) = process.stdout.take() {
                    while let Ok(Some(chunk)) = read_chunk(&mut stdout).await {
                        sender.send(chunk).await?;
                    }
                }
                Ok::<_, PeerGone>(())
            });
            if !matches!(forwarded.await, Ok(Ok(()))) {
                process.terminate().await;
                return sender.fail("the answer was broken off").await;
            }
            match process.wait().await {
                Ok((status, _)) if status.success() => {}
                Ok((status, message)) => {
                    tracing::warn!(%status, message, "git failed");
                    sender.fail("git failed").await;
                }
                Err(error) => sender.fail(&error.to_string()).await,
            }
        });
        Ok(output)
    }

    async fn transfer_place(&self) -> Result<TransferPlace, GitError> {
        // The repository first: those who wait for it take nothing from the others.
        let of_repository = self.state.admission.transfers.enter().await?;
        let of_host = self.shared.admission.transfers.enter().await?;
        Ok(TransferPlace { _of_repository: of_repository, _of_host: of_host })
    }
}
