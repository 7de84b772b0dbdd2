//! Clone and fetch: `git upload-pack`.

use std::ffi::OsStr;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::pkt_line::{Packet, Parser};
use super::request::{BodyError, BodyReader};
use super::{Output, PeerGone, Sender, TransferPlace, channel, read_chunk};
use crate::limits::Place;
use crate::process::GitProcess;
use crate::{GitError, Repository, TransferRequest};

/// The first packet of a request that lists refs and prepares no pack.
const LIST_REFS: &[u8] = b"0014command=ls-refs\n";

/// Bytes of a request that are read before it gets its place, which is nearly always all of them:
/// who is slow to ask keeps no place from the others.
const READ_AHEAD: usize = 1 << 20;

/// Places in the queues for preparing a pack.
struct PackingPlace {
    _of_repository: Place,
    _of_host: Place,
}

/// Why a fetch was ended before git ended it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the client is gone or reads nothing")]
    Peer,
    #[error("git failed: {0}")]
    Git(#[from] std::io::Error),
}

impl From<PeerGone> for Ended {
    fn from(PeerGone: PeerGone) -> Self {
        Self::Peer
    }
}

impl Repository {
    /// The answer to `POST <repository>/git-upload-pack`. `Busy` when too many packs are being
    /// prepared and waited for.
    pub async fn upload_pack(&self, request: TransferRequest) -> Result<Output, GitError> {
        let transfer = self.transfer_place().await?;
        let limits = &self.shared.limits;
        let protocol = request.protocol().map(str::to_owned);
        let mut body = request_body(self, request);
        let mut head = Vec::new();
        while head.len() < READ_AHEAD {
            let part = body.next().await;
            let part = part.map_err(|error| GitError::InvalidRequest(error.to_string()))?;
            let Some(part) = part else { break };
            head.extend_from_slice(&part);
        }
        let packing = match head.starts_with(LIST_REFS) {
            true => None,
            false => Some(self.packing_place().await?),
        };
        let arguments = ["upload-pack", "--stateless-rpc", "."].map(OsStr::new);
        let process =
            self.shared.git.start(&self.state.path, &[], protocol.as_deref(), arguments)?;
        let (sender, output) = channel(limits.stall_time);
        let time = limits.request_time;
        let fetch =
            Fetch { process, body, head: head.into(), sender, packing, _transfer: transfer };
        tokio::spawn(async move {
            fetch.run(time).await;
        });
        Ok(output)
    }

    async fn packing_place(&self) -> Result<PackingPlace, GitError> {
        let of_repository = self.state.admission.packing.enter().await?;
        let of_host = self.shared.admission.packing.enter().await?;
        Ok(PackingPlace { _of_repository: of_repository, _of_host: of_host })
    }
}

fn request_body(repository: &Repository, request: TransferRequest) -> BodyReader {
    let limits = &repository.shared.limits;
    request.into_reader(limits.fetch_request_bytes, limits.stall_time)
}

struct Fetch {
    process: GitProcess,
    body: BodyReader,
    head: Bytes,
    sender: Sender,
    packing: Option<PackingPlace>,
    _transfer: TransferPlace,
}

impl Fetch {
    async fn run(mut self, time: std::time::Duration) {
        let result = tokio::time::timeout(time, self.transfer()).await;
        let reason = match result {
            Ok(Ok(())) => match self.process.wait().await {
                // A refusal of git's is in the output, as the client expects it.
                Ok((status, message)) => {
                    if !status.success() {
                        tracing::debug!(%status, message, "a fetch failed");
                    }
                    return;
                }
                Err(error) => return self.sender.fail(&error.to_string()).await,
            },
            Ok(Err(ended)) => ended.to_string(),
            Err(_) => "the fetch took too long".to_owned(),
        };
        tracing::debug!(reason, "a fetch was ended");
        self.process.terminate().await;
        self.sender.fail(&reason).await;
    }

    /// Feeds the request in and the answer out, at the same time.
    async fn transfer(&mut self) -> Result<(), Ended> {
        let (stdin, stdout) = (self.process.stdin.take(), self.process.stdout.take());
        let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else { return Ok(()) };
        let feed = async {
            let mut part = Some(self.head.clone());
            while let Some(bytes) = part {
                if stdin.write_all(&bytes).await.is_err() {
                    // Git has seen enough; its answer says why.
                    break;
                }
                part = self.body.next().await?;
            }
            drop(stdin);
            Ok::<_, Ended>(())
        };
        let forward = async {
            let mut watch = PackWatch::default();
            while let Some(chunk) = read_chunk(&mut stdout).await? {
                if self.packing.is_some() && watch.has_pack_begun(&chunk) {
                    self.packing = None;
                }
                self.sender.send(chunk).await?;
            }
            Ok(())
        };
        tokio::try_join!(feed, forward).map(|((), ())| ())
    }
}

/// Notices when the first bytes of the pack come: git has prepared it by then.
#[derive(Default)]
struct PackWatch {
    parser: Parser,
}

impl PackWatch {
    fn has_pack_begun(&mut self, chunk: &[u8]) -> bool {
        self.parser.push(chunk);
        loop {
            match self.parser.next() {
                Ok(Some((Packet::Data(line), _))) if line.starts_with(b"\x01PACK") => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
                // Without the side band the pack follows bare.
                Err(_) => return true,
            }
        }
    }
}
