//! What `freestyle admin` asks the server on this host, through a socket in its data directory.
//!
//! One question and one answer a connection, each a line of JSON. There is no credential: whoever
//! may open the socket, which is root, may ask.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::error::CliError;

const SOCKET: &str = "operator.sock";
const MAX_QUESTION_BYTES: u64 = 4 * 1024;
/// A row for each of some hundred thousand VMs.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// For one side to say what it has to say.
const TALK_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel is out of file descriptors or memory: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// What takes space on the host's disk.
    Storage,
    /// Which repositories there are, of all accounts.
    Repositories,
    /// What is wrong with a repository.
    GitFsck { repository: String },
}

impl Question {
    /// For the server to find out.
    fn time(&self) -> Duration {
        match self {
            Self::Storage | Self::Repositories => Duration::from_secs(120),
            // It reads all of a repository.
            Self::GitFsck { .. } => Duration::from_secs(3600),
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Storage(Storage),
    /// Their ids.
    Repositories(Vec<String>),
    /// What git says; nothing, if the repository is whole.
    GitFsck(Vec<String>),
    /// In words for the operator.
    Failed(String),
}

/// What takes space on the host's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Storage {
    /// What the data directory takes; a file with several names counts once.
    pub(crate) data_bytes: u64,
    /// What is still free on its file system.
    pub(crate) free_bytes: u64,
    /// What the cache takes. What the data directory shares with it is counted in both.
    pub(crate) cache_bytes: u64,
    /// Every piece, the largest first.
    pub(crate) items: Vec<StorageItem>,
}

/// A piece of storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StorageItem {
    pub(crate) kind: StorageKind,
    /// Of the VM or snapshot.
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    /// Whose it is; the host's own where absent.
    pub(crate) account_id: Option<String>,
    pub(crate) account_name: Option<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    /// How many VMs and snapshots stand directly on it.
    pub(crate) users: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StorageKind {
    /// The disk of a VM, as far as only this VM has it.
    Vm,
    /// Kept by an account.
    Snapshot,
    /// The memory of a suspended VM.
    SuspendedMemory,
    /// What is left of a snapshot that was deleted, or of a fork, because something stands on it.
    SharedLayer,
    /// Saved of the base image.
    BaseImage,
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct OperatorSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl OperatorSocket {
    /// Takes the place of what an earlier server on this data directory left. Only whoever holds the
    /// directory's lock may do that.
    pub(crate) fn bind(data_dir: &Path) -> Result<Self, CliError> {
        let path = data_dir.join(SOCKET);
        let bind = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().map_err(|error| {
            CliError::new(format!("cannot listen on {}: {error}", path.display()))
        })?;
        Ok(Self { listener, path })
    }

    /// Answers one question after the other, for ever.
    pub(crate) async fn serve(self, answer: impl AsyncFn(Question) -> Answer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = converse(stream, &answer).await {
                        debug!(%error, "operator");
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections of the operator");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for OperatorSocket {
    fn drop(&mut self) {
        // One that stays is replaced by the next server.
        _ = fs::remove_file(&self.path);
    }
}

async fn converse(
    mut stream: UnixStream,
    answer: &impl AsyncFn(Question) -> Answer,
) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let line = timeout(TALK_TIMEOUT, line(read, MAX_QUESTION_BYTES)).await??;
    let answered = match serde_json::from_slice::<Question>(&line) {
        Ok(question) => timeout(question.time(), answer(question))
            .await
            .unwrap_or_else(|_| Answer::Failed("the server is too busy to find out".to_owned())),
        Err(error) => Answer::Failed(format!("the server does not know this question: {error}")),
    };
    let mut text = serde_json::to_vec(&answered)?;
    text.push(b'\n');
    timeout(TALK_TIMEOUT, write.write_all(&text)).await?
}

/// Asks the server that runs on a data directory.
pub(crate) async fn ask(data_dir: &Path, question: Question) -> Result<Answer, CliError> {
    let path = data_dir.join(SOCKET);
    let mut stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CliError::with_hint(
            format!("no server runs on {}", data_dir.display()),
            "`freestyle serve` starts one; --data-dir says where another keeps its data",
        ),
        _ => CliError::new(format!("cannot ask the server through {}: {error}", path.display())),
    })?;
    let time = question.time();
    let exchange = async {
        let mut text = serde_json::to_vec(&question)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let line = line(&mut stream, MAX_ANSWER_BYTES).await?;
        Ok::<_, io::Error>(serde_json::from_slice(&line)?)
    };
    let answer = timeout(time + TALK_TIMEOUT, exchange).await;
    match answer.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(Answer::Failed(reason)) => Err(CliError::new(reason)),
        Ok(answer) => Ok(answer),
        Err(error) => Err(CliError::new(format!("the server did not answer: {error}"))),
    }
}

/// One line, bounded.
async fn line(read: impl tokio::io::AsyncRead + Unpin, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(read.take(max_bytes)).read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is cut off or too long"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Answer {
        let item = StorageItem {
            kind: StorageKind::SuspendedMemory,
            id: "sc-x".into(),
            name: None,
            account_id: Some("a".into()),
            account_name: Some("default".into()),
            memory_bytes: 1 << 20,
            disk_bytes: 0,
            users: 1,
        };
        let items = vec![item; 10_000];
        Answer::Storage(Storage { data_bytes: 1, free_bytes: 2, cache_bytes: 3, items })
    }

    #[tokio::test]
    async fn a_question_is_answered_and_another_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = OperatorSocket::bind(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let serving = socket.serve(async |question| {
            assert_eq!(question, Question::Storage);
            full()
        });
        let asking = async {
            for _ in 0..2 {
                assert_eq!(ask(dir.path(), Question::Storage).await.unwrap(), full());
            }
        };
        tokio::select! {
            () = serving => unreachable!("it serves for ever"),
            () = asking => {}
        }
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_does_not_stop_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let socket = OperatorSocket::bind(dir.path()).unwrap();
        let serving = socket.serve(async |_| Answer::Failed("the disk is on fire".to_owned()));
        let asking = async {
            let too_long = vec![b'x'; MAX_QUESTION_BYTES as usize + 1];
            for nonsense in [&b"\n"[..], b"{}\n", b"\"storage\"", &too_long] {
                let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
                // The server may have hung up already.
                _ = stream.write_all(nonsense).await;
                _ = stream.shutdown().await;
                let mut answer = Vec::new();
                _ = stream.read_to_end(&mut answer).await;
                let understood = serde_json::from_slice::<Answer>(&answer);
                assert!(matches!(understood, Err(_) | Ok(Answer::Failed(_))), "{understood:?}");
            }
            let error = ask(dir.path(), Question::Storage).await.unwrap_err();
            assert_eq!(error.to_string(), "the disk is on fire");
        };
        tokio::select! {
            () = serving => unreachable!("it serves for ever"),
            () = asking => {}
        }
    }

    #[tokio::test]
    async fn a_server_replaces_what_another_left_and_takes_its_own_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let report = ask(dir.path(), Question::Storage).await.unwrap_err().report();
        assert!(report.contains("no server runs"), "{report}");
        drop(OperatorSocket::bind(dir.path()).unwrap());
        assert!(!path.exists());
        let report = ask(dir.path(), Question::Storage).await.unwrap_err().report();
        assert!(report.contains("no server runs"), "{report}");
    }
}
