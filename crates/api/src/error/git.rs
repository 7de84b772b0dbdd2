//! What went wrong with repositories: the part of the table that is the git family's.

use axum::http::StatusCode;
use freestyle_git::{GitError, RemoteError, SearchKind};
use freestyle_github::GitHubError;
use freestyle_outbound::OutboundError;
use freestyle_repos::{ArchiveError, ReposError};
use freestyle_store::StoreError;

use super::{ApiError, Code, cut};

impl ApiError {
    /// What the repositories report.
    pub(crate) fn from_repos(error: ReposError) -> Self {
        let message = error.to_string();
        match error {
            ReposError::NotFound(repository) => Self::repository_not_found(repository.as_str()),
            ReposError::TooMany { limit } => Self::new(Code::GitRepoLimitExceeded, message)
                .with("limit", limit)
                .with("current", limit),
            ReposError::Endpoint(_) => Self::new(Code::GitInvalidRequest, message),
            ReposError::Source { url, cause } => match cause {
                OutboundError::Internal(cause) => Self::internal(Code::GitServerError, &cause),
                OutboundError::InvalidUrl(_)
                | OutboundError::Refused { .. }
                | OutboundError::TooLarge { .. } => Self::new(Code::GitInvalidRequest, message),
                // As far as this server can see, there is nothing.
                _ => Self::new(Code::SourceNotFound, message).with("url", url),
            },
            ReposError::SourceStatus { url, status } => match status {
                401 | 403 => Self::new(Code::SourceUnauthorized, message).with("url", url),
                404 | 410 => Self::new(Code::SourceNotFound, message).with("url", url),
                _ => Self::new(Code::GitInvalidRequest, message),
            },
            ReposError::Archive { url, error } => match error {
                ArchiveError::NoSuchDirectory { dir } => Self::no_such_subdir(&url, &dir, message),
                _ => Self::new(Code::GitInvalidRequest, cut(&message, 400)),
            },
            ReposError::Import(error) => Self::from_remote(error),
            ReposError::Git(error) => Self::from_git(error),
            ReposError::Store(
                StoreError::NoSuchTrigger(_)
                | StoreError::NoSuchDelivery(_)
                | StoreError::NoSuchRepository(_),
            ) => Self::new(Code::NotFound, message),
            ReposError::Store(StoreError::LimitReached { .. }) => {
                Self::new(Code::GitInvalidRequest, message)
            }
            ReposError::Store(cause) => Self::internal(Code::DatabaseError, &cause),
            ReposError::Internal(cause) => Self::internal(Code::GitServerError, &cause),
        }
    }

    fn no_such_subdir(source: &str, dir: &str, message: String) -> Self {
        Self::new(Code::ImportSubdirNotFound, cut(&message, 400))
            .with("source", source)
            .with("dir", cut(dir, 1024))
    }

    /// What the sync with GitHub reports.
    pub(crate) fn from_github(error: GitHubError) -> Self {
        let message = error.to_string();
        match error {
            GitHubError::Invalid(_)
            | GitHubError::NoApp
            | GitHubError::AppRefused
            | GitHubError::NotInstalled(_)
            | GitHubError::Moved(_)
            | GitHubError::Unreachable(
                OutboundError::InvalidUrl(_) | OutboundError::Refused { .. },
            ) => Self::new(Code::GitInvalidRequest, message),
            GitHubError::Taken(_) => Self::new(Code::GithubSyncConflict, message),
            GitHubError::NotSigned => Self::new(Code::UnauthorizedError, message),
            // What is wrong is told: only the user can see what GitHub did.
            GitHubError::BadAnswer { .. }
            | GitHubError::Refused
            | GitHubError::Unreachable(_)
            | GitHubError::Remote(RemoteError::NotFound(_) | RemoteError::Unauthorized(_)) => {
                Self::new(Code::GithubSyncFailed, message)
            }
            GitHubError::Remote(error) => Self::from_remote(error),
            GitHubError::Repos(error) => Self::from_repos(error),
            GitHubError::Store(error) => Self::from_repos(error.into()),
            GitHubError::Internal(cause) => Self::internal(Code::GithubSyncFailed, &cause),
        }
    }

    /// Why nothing could be brought from a repository elsewhere.
    fn from_remote(error: RemoteError) -> Self {
        let message = error.to_string();
        match error {
            RemoteError::NotFound(url) => Self::new(Code::SourceNotFound, message).with("url", url),
            RemoteError::Unauthorized(url) => {
                Self::new(Code::SourceUnauthorized, message).with("url", url)
            }
            RemoteError::NoSuchRevision { revision, .. } => {
                Self::new(Code::InvalidRevision, message).with("revision", cut(&revision, 1024))
            }
            RemoteError::NoSuchDirectory { url, dir } => Self::no_such_subdir(&url, &dir, message),
            RemoteError::Failed { .. } => Self::new(Code::GitInvalidRequest, message),
            RemoteError::Git(error) => Self::from_git(error),
        }
    }

    /// What a repository reports.
    pub(crate) fn from_git(error: GitError) -> Self {
        // It quotes what the client sent, which may be a whole commit.
        let message = cut(&error.to_string(), 400);
        let new = |code| Self::new(code, message.clone());
        let quoting = |code, field, value: &str| new(code).with(field, cut(value, 1024));
        match &error {
            GitError::RepositoryNotFound(repository) => {
                Self::repository_not_found(repository.as_str())
            }
            GitError::RepositoryExists(repository) => {
                quoting(Code::RepoAlreadyExists, "repoId", repository.as_str())
            }
            GitError::InvalidRequest(_) | GitError::TooLarge { .. } => new(Code::GitInvalidRequest),
            GitError::BranchNotFound { branch } => quoting(Code::BranchNotFound, "branch", branch),
            GitError::BranchExists { branch } => {
                quoting(Code::BranchAlreadyExists, "branch", branch)
            }
            GitError::BranchNameEmpty => new(Code::BranchNameEmpty),
            GitError::TagNameEmpty => new(Code::EmptyTag),
            GitError::NoDefaultBranch => new(Code::NoDefaultBranch),
            GitError::ReferenceNotFound { reference } => {
                quoting(Code::ReferenceNotFound, "reference", reference)
            }
            GitError::CommitNotFound { sha } => quoting(Code::CommitNotFound, "sha", sha),
            GitError::ParentNotFound { sha } => quoting(Code::ParentNotFound, "sha", sha),
            GitError::CommitNotInBranch { sha, branch } => {
                quoting(Code::CommitNotInBranch, "sha", sha).with("branch", cut(branch, 1024))
            }
            GitError::BlobNotFound { hash } => quoting(Code::BlobNotFound, "hash", hash),
            GitError::TreeNotFound { hash } => quoting(Code::TreeNotFound, "hash", hash),
            GitError::TagNotFound { hash } => quoting(Code::TagNotFound, "hash", hash),
            GitError::PathNotFound { path } => quoting(Code::PathNotFound, "path", path),
            GitError::ContentNotFound { path } => quoting(Code::ContentNotFound, "path", path),
            GitError::InvalidObjectId { hash } => quoting(Code::InvalidObjectId, "hash", hash),
            GitError::InvalidRevision { revision } => {
                quoting(Code::InvalidRevision, "revision", revision)
            }
            GitError::Ambiguous { rev } => quoting(Code::Ambiguous, "rev", rev),
            GitError::InvalidRevisionSyntax { rev } => quoting(Code::Invalid, "rev", rev),
            GitError::InvalidRange { since, until } => {
                quoting(Code::InvalidRange, "since", since).with("until", cut(until, 1024))
            }
            GitError::OffsetWithSelector => new(Code::OffsetWithSelector),
            GitError::InvalidFilePath { path, .. } => quoting(Code::InvalidFilePath, "path", path),
            GitError::InvalidFileChange { path, .. } => {
                quoting(Code::InvalidFileChange, "path", path)
            }
            GitError::InvalidBase64 { path } => quoting(Code::InvalidBase64Content, "path", path),
            GitError::ConflictingParent { expected, actual } => new(Code::ConflictingParent)
                .with("expected", &**expected)
                .with("actual", actual.clone()),
            GitError::EmptyQuery(kind) => new(match kind {
                SearchKind::Contents => Code::EmptyQuery,
                SearchKind::Filenames => Code::FilenameEmptyQuery,
                SearchKind::Commits => Code::CommitEmptyQuery,
                SearchKind::Diffs => Code::DiffEmptyQuery,
            }),
            GitError::InvalidRegex { kind, reason } => {
                let code = match kind {
                    SearchKind::Contents => Code::InvalidRegex,
                    SearchKind::Filenames => Code::FilenameInvalidPattern,
                    SearchKind::Commits => Code::CommitInvalidRegex,
                    SearchKind::Diffs => Code::DiffInvalidRegex,
                };
                quoting(code, "reason", reason)
            }
            GitError::InvalidPattern { kind, reason } => {
                let code = match kind {
                    SearchKind::Contents | SearchKind::Commits => Code::InvalidPathPattern,
                    SearchKind::Filenames => Code::FilenameInvalidPattern,
                    SearchKind::Diffs => Code::DiffInvalidPathPattern,
                };
                quoting(code, "reason", reason)
            }
            GitError::Busy => {
                new(Code::GitServerError).with_status(StatusCode::SERVICE_UNAVAILABLE)
            }
            GitError::TimedOut => {
                new(Code::GitServerError).with_status(StatusCode::GATEWAY_TIMEOUT)
            }
            GitError::Internal(cause) => Self::internal(Code::GitServerError, cause),
        }
    }
}
