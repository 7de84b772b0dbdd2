//! What a new repository begins with.

mod archive;
mod download;

pub use archive::{ArchiveError, ArchiveKind};

use std::num::NonZeroU32;
use std::time::Duration;

use freestyle_git::{
    BranchName, FileChange, GitError, Identity, NewCommit, Remote, RemoteError, RemoteFiles,
    Repository, Selection,
};
use freestyle_outbound::{Credentials, Outbound, Proxy, ProxyLimits, WebUrl};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::archive::unpack;
use self::download::download;
use crate::ReposError;

/// Archives that are being received at one time.
static RECEIVING: Semaphore = Semaphore::const_new(4);
/// Archives whose files are in memory at one time.
static UNPACKING: Semaphore = Semaphore::const_new(2);
/// How long an import waits for others.
const TURN: Duration = Duration::from_secs(60);

/// What a new repository begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Content {
    /// It is empty.
    #[default]
    Nothing,
    /// Files that are given, in one commit on the default branch.
    Files {
        /// The files.
        files: Vec<FileChange>,
        /// Message of the commit.
        message: String,
        /// Author and committer.
        author: Identity,
    },
    /// Files of an archive, in one commit on the default branch.
    Archive {
        /// Its format.
        kind: ArchiveKind,
        /// Where it is; its credentials are used for this one import and forgotten.
        url: WebUrl,
        /// The directory in it that becomes the root.
        dir: Option<String>,
        /// Message of the commit.
        message: String,
        /// Author and committer.
        author: Identity,
    },
    /// Files of one commit of a repository elsewhere, in one commit on the default branch.
    FilesOf {
        /// Where it is; its credentials are used for this one import and forgotten.
        url: WebUrl,
        /// Which of them.
        files: RemoteFiles,
    },
    /// The history of a repository elsewhere.
    Source {
        /// Where it is; its credentials are used for this one import and forgotten.
        url: WebUrl,
        /// A branch, a tag or a whole commit id; its default branch where there is none.
        revision: Option<String>,
        /// Commits from each tip on; all of them where there is none.
        depth: Option<NonZeroU32>,
        /// All branches and tags, and not only that of the revision.
        all_branches: bool,
    },
}

/// Bytes that a source may send.
const LARGEST_SOURCE: u64 = 4 << 30;
/// Connections to a source at one time.
const CONNECTIONS: usize = 8;

impl Content {
    /// Puts it into a repository that is empty and that nobody can see yet: nothing follows from
    /// the refs that this makes.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody watches a repository that does not exist"
    )]
    pub(crate) async fn fill(
        self,
        git: &Repository,
        default_branch: Option<BranchName>,
        outbound: &Outbound,
    ) -> Result<(), ReposError> {
        match self {
            Self::Nothing => {}
            Self::Source { url, revision, depth, all_branches } => {
                let branch = default_branch;
                let selection = Selection { revision, branch, depth, all_branches };
                let way = Way::open(outbound, &url).await?;
                let imported = git.import(&way.remote, &selection).await;
                way.judge(imported)?;
            }
            Self::FilesOf { url, files } => {
                let way = Way::open(outbound, &url).await?;
                let imported = git.import_files(&way.remote, files).await;
                way.judge(imported)?;
            }
            Self::Archive { kind, url, dir, message, author } => {
                let receiving = turn(&RECEIVING).await?;
                let archive = download(outbound, &url).await?;
                let unpacking = turn(&UNPACKING).await?;
                drop(receiving);
                // It counts as long as the thread works, whoever has given up.
                let work = move || (unpack(kind, &archive, dir.as_deref()), unpacking);
                let (unpacked, _unpacking) = to_thread(work).await?;
                let url = || url.to_string();
                let files = unpacked.map_err(|error| ReposError::Archive { url: url(), error })?;
                let commit = NewCommit { message, files, branch: None, author, expected_sha: None };
                git.create_commit(commit).await?;
            }
            Self::Files { files, message, author } => {
                let commit = NewCommit { message, files, branch: None, author, expected_sha: None };
                git.create_commit(commit).await?;
            }
        }
        Ok(())
    }
}

/// The way to a repository elsewhere. It is there as long as this is.
struct Way {
    proxy: Proxy,
    remote: Remote,
}

impl Way {
    async fn open(outbound: &Outbound, url: &WebUrl) -> Result<Self, ReposError> {
        let limits = ProxyLimits { bytes: LARGEST_SOURCE, connections: CONNECTIONS };
        let proxy = outbound.proxy(limits).await;
        let proxy = proxy.map_err(|error| ReposError::Internal(format!("no proxy: {error}")))?;
        let remote = Remote {
            url: url.to_string(),
            authorization: url.credentials().map(Credentials::basic),
            proxy: proxy.url().to_owned(),
        };
        Ok(Self { proxy, remote })
    }

    /// What came of an import. Git only knows that it got no connection; the proxy knows why.
    fn judge(self, imported: Result<(), RemoteError>) -> Result<(), ReposError> {
        match (imported, self.proxy.failure()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(cause)) => Err(ReposError::Source { url: self.remote.url, cause }),
            (Err(RemoteError::Git(error)), None) => Err(error.into()),
            (Err(error), None) => Err(ReposError::Import(error)),
        }
    }
}

/// Waits for a place, not for ever.
async fn turn(places: &'static Semaphore) -> Result<SemaphorePermit<'static>, ReposError> {
    match tokio::time::timeout(TURN, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(GitError::Busy.into()),
    }
}

async fn to_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReposError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ReposError::Internal(format!("a task failed: {error}")))
}
