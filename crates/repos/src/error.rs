//! Everything that can go wrong with the repositories of accounts, as callers need to tell it
//! apart.

use freestyle_git::{GitError, RemoteError, RepositoryId};
use freestyle_outbound::OutboundError;
use freestyle_store::StoreError;

use crate::ArchiveError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ReposError {
    /// It never existed, was deleted, or is someone else's.
    #[error("there is no repository {0}")]
    NotFound(RepositoryId),
    /// The account has as many repositories as it may have.
    #[error("the account has {limit} repositories, which is as many as it may have")]
    TooMany {
        /// Repositories.
        limit: u64,
    },
    /// A trigger's endpoint that cannot be one.
    #[error("the endpoint: {0}")]
    Endpoint(OutboundError),
    /// There is no way to the source of an import, or it sent too much.
    #[error("the source {url}: {cause}")]
    Source {
        /// Without credentials.
        url: String,
        /// Why.
        cause: OutboundError,
    },
    /// The source of an import answers with a status that brings nothing.
    #[error("the source {url} answers with status {status}")]
    SourceStatus {
        /// Without credentials.
        url: String,
        /// Of HTTP.
        status: u16,
    },
    /// An archive that cannot become the files of a repository.
    #[error("the source {url}: {error}")]
    Archive {
        /// Without credentials.
        url: String,
        /// What is the matter with it.
        error: ArchiveError,
    },
    /// The source of an import does not give what is wanted of it.
    #[error(transparent)]
    Import(RemoteError),
    /// What the repository itself says.
    #[error(transparent)]
    Git(GitError),
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server failed; no fault of the caller.
    #[error("{0}")]
    Internal(String),
}

impl From<GitError> for ReposError {
    /// Files that are not there mean the same as a record that is not there: deleted meanwhile.
    fn from(error: GitError) -> Self {
        match error {
            GitError::RepositoryNotFound(id) => Self::NotFound(id),
            other => Self::Git(other),
        }
    }
}
