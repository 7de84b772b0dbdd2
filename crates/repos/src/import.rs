//! What a new repository begins with.

use std::num::NonZeroU32;

use freestyle_git::{
    BranchName, FileChange, Identity, NewCommit, Remote, RemoteError, Repository, Selection,
};
use freestyle_outbound::{Credentials, Outbound, ProxyLimits, WebUrl};

use crate::ReposError;

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
                import(git, outbound, &url, &selection).await?;
            }
            Self::Files { files, message, author } => {
                let commit = NewCommit { message, files, branch: None, author, expected_sha: None };
                git.create_commit(commit).await?;
            }
        }
        Ok(())
    }
}

async fn import(
    git: &Repository,
    outbound: &Outbound,
    url: &WebUrl,
    selection: &Selection,
) -> Result<(), ReposError> {
    let limits = ProxyLimits { bytes: LARGEST_SOURCE, connections: CONNECTIONS };
    let proxy = outbound.proxy(limits).await;
    let proxy = proxy.map_err(|error| ReposError::Internal(format!("no proxy: {error}")))?;
    let remote = Remote {
        url: url.to_string(),
        authorization: url.credentials().map(Credentials::basic),
        proxy: proxy.url().to_owned(),
    };
    let imported = git.import(&remote, selection).await;
    // Git only knows that it got no connection; the proxy knows why.
    match (imported, proxy.failure()) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(cause)) => Err(ReposError::Source { url: remote.url, cause }),
        (Err(RemoteError::Git(error)), None) => Err(error.into()),
        (Err(error), None) => Err(ReposError::Import(error)),
    }
}
