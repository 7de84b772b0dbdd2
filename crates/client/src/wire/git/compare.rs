//! Comparing two revisions. In snake case, unlike the rest.

use serde::{Deserialize, Serialize};

/// The query of `GET /git/v1/repo/{repo}/compare`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct CompareQuery {
    /// A branch, tag or commit.
    pub base: String,
    /// A branch, tag or commit.
    pub head: String,
}

/// The reply of `GET /git/v1/repo/{repo}/compare`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(as = CompareRevsResponse))]
pub struct CompareResponse {
    /// How the head is to the base.
    pub status: CompareStatus,
    /// Commits of the head that the base has not.
    pub ahead_by: u64,
    /// Commits of the base that the head has not.
    pub behind_by: u64,
    /// As `ahead_by`.
    pub total_commits: u64,
    /// What the head changed since the newest commit that both have.
    pub files: Vec<ComparedFile>,
}

/// How a head is to a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum CompareStatus {
    /// The same commit.
    Identical,
    /// It has commits more.
    Ahead,
    /// It has commits less.
    Behind,
    /// Both.
    Diverged,
}

/// A file that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ComparedFile {
    /// Its blob; of a removed file the one it had.
    pub sha: Option<String>,
    /// Its path.
    pub filename: String,
    /// What happened to it.
    pub status: FileStatus,
    /// Lines added; 0 for files that are not text or very large.
    pub additions: u32,
    /// Lines removed; 0 likewise.
    pub deletions: u32,
    /// Both together.
    pub changes: u32,
    /// The path it had, when it was renamed.
    pub previous_filename: Option<String>,
}

/// What happened to a file. This server neither looks for copies nor lists what is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another.
    Modified,
    /// It had another path; its content may have changed too.
    Renamed,
    /// It is a copy of another.
    Copied,
    /// Only its mode is another.
    Changed,
    /// It is as it was.
    Unchanged,
}
