//! Everything that can go wrong with a repository, as callers need to tell it apart.

use std::io;

use crate::RepositoryId;

/// Which of the four searches a refusal is about; each has codes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchKind {
    /// Text in files.
    Contents,
    /// Names of files.
    Filenames,
    /// Messages of commits.
    Commits,
    /// Lines added and removed by commits.
    Diffs,
}

/// Why a call failed. Each variant but the last four is one error code of protocol section 21,
/// named in its comment; `api` does the mapping.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// `REPOSITORY_NOT_FOUND`.
    #[error("there is no repository {0}")]
    RepositoryNotFound(RepositoryId),
    /// `REPO_ALREADY_EXISTS`.
    #[error("repository {0} already exists")]
    RepositoryExists(RepositoryId),
    /// `GIT_INVALID_REQUEST`: a request that makes no sense, in the user's words.
    #[error("{0}")]
    InvalidRequest(String),
    /// `BRANCH_NOT_FOUND`.
    #[error("there is no branch {branch:?}")]
    BranchNotFound {
        /// As requested.
        branch: String,
    },
    /// `BRANCH_ALREADY_EXISTS`.
    #[error("branch {branch:?} already exists")]
    BranchExists {
        /// As requested.
        branch: String,
    },
    /// `BRANCH_NAME_EMPTY`.
    #[error("the branch name is empty")]
    BranchNameEmpty,
    /// `EMPTY_TAG`.
    #[error("the tag name is empty")]
    TagNameEmpty,
    /// `NO_DEFAULT_BRANCH`.
    #[error("the repository has no default branch")]
    NoDefaultBranch,
    /// `REFERENCE_NOT_FOUND`.
    #[error("there is no reference {reference:?}")]
    ReferenceNotFound {
        /// As requested.
        reference: String,
    },
    /// `COMMIT_NOT_FOUND`.
    #[error("there is no commit {sha}")]
    CommitNotFound {
        /// As requested.
        sha: String,
    },
    /// `PARENT_NOT_FOUND`.
    #[error("there is no parent commit {sha}")]
    ParentNotFound {
        /// As requested.
        sha: String,
    },
    /// `COMMIT_NOT_IN_BRANCH`.
    #[error("commit {sha} is not reachable from branch {branch:?}")]
    CommitNotInBranch {
        /// The commit.
        sha: String,
        /// The branch.
        branch: String,
    },
    /// `BLOB_NOT_FOUND`.
    #[error("there is no blob {hash}")]
    BlobNotFound {
        /// As requested.
        hash: String,
    },
    /// `TREE_NOT_FOUND`.
    #[error("there is no tree {hash}")]
    TreeNotFound {
        /// As requested.
        hash: String,
    },
    /// `TAG_NOT_FOUND`.
    #[error("there is no tag object {hash}")]
    TagNotFound {
        /// As requested.
        hash: String,
    },
    /// `PATH_NOT_FOUND`.
    #[error("there is no path {path:?}")]
    PathNotFound {
        /// As requested.
        path: String,
    },
    /// `CONTENT_NOT_FOUND`: the path exists and has nothing that can be read, as a submodule.
    #[error("{path:?} has no content in this repository")]
    ContentNotFound {
        /// As requested.
        path: String,
    },
    /// `INVALID_OBJECT_ID`.
    #[error("{hash:?} is not an object id")]
    InvalidObjectId {
        /// As requested.
        hash: String,
    },
    /// `INVALID_REVISION`: well formed, and it names nothing, or not the kind of thing wanted.
    #[error("revision {revision:?} does not resolve")]
    InvalidRevision {
        /// As requested.
        revision: String,
    },
    /// `AMBIGUOUS`: a prefix of several objects.
    #[error("revision {rev:?} is ambiguous")]
    Ambiguous {
        /// As requested.
        rev: String,
    },
    /// `INVALID`: not the syntax of a revision, or a part of it that is not supported.
    #[error("{rev:?} is not a revision")]
    InvalidRevisionSyntax {
        /// As requested.
        rev: String,
    },
    /// `INVALID_RANGE`.
    #[error("commit {until} does not descend from {since}")]
    InvalidRange {
        /// Older end.
        since: String,
        /// Newer end.
        until: String,
    },
    /// `OFFSET_WITH_SELECTOR`.
    #[error("offset cannot be combined with since or until")]
    OffsetWithSelector,
    /// `INVALID_FILE_PATH`.
    #[error("{path:?} is not a path of a file: {reason}")]
    InvalidFilePath {
        /// As requested.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `INVALID_FILE_CHANGE`.
    #[error("{path:?}: {reason}")]
    InvalidFileChange {
        /// As requested.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `INVALID_BASE64_CONTENT`.
    #[error("the content of {path:?} is not base64")]
    InvalidBase64 {
        /// As requested.
        path: String,
    },
    /// `CONFLICTING_PARENT`: the branch is not where the writer expects it, or moved meanwhile.
    #[error("the branch is at {}, not at {expected}", .actual.as_deref().unwrap_or("no commit"))]
    ConflictingParent {
        /// Where the writer expects it.
        expected: String,
        /// Where it is; none when the branch does not exist.
        actual: Option<String>,
    },
    /// `EMPTY_QUERY`, `FILENAME_EMPTY_QUERY`, `COMMIT_EMPTY_QUERY`, `DIFF_EMPTY_QUERY`.
    #[error("the query is empty")]
    EmptyQuery(SearchKind),
    /// `INVALID_REGEX`, `COMMIT_INVALID_REGEX`, `DIFF_INVALID_REGEX`; a filename search has
    /// `FILENAME_INVALID_PATTERN` for it.
    #[error("the query is not a regular expression: {reason}")]
    InvalidRegex {
        /// Which search.
        kind: SearchKind,
        /// What is wrong with it.
        reason: String,
    },
    /// `INVALID_PATH_PATTERN`, `FILENAME_INVALID_PATTERN`, `DIFF_INVALID_PATH_PATTERN`.
    #[error("the pattern is not a glob: {reason}")]
    InvalidPattern {
        /// Which search.
        kind: SearchKind,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is over a limit of this server.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// Too many requests of this kind are running and waiting; trying again later helps.
    #[error("the server is busy with other requests for this repository; try again later")]
    Busy,
    /// The request needed more time than one request gets.
    #[error("the request took longer than one request may")]
    TimedOut,
    /// `GIT_SERVER_ERROR`: the host, the repository or git itself failed; no fault of the caller.
    #[error("{0}")]
    Internal(String),
}

impl GitError {
    /// An I/O error with what was being done, as in "cannot write the object".
    pub(crate) fn io(doing: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Internal(format!("{doing}: {error}"))
    }

    /// An error of the object database.
    pub(crate) fn objects(error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("cannot read the object database: {error}"))
    }
}
