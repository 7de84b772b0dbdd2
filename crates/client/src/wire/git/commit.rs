//! Commits: listing, reading and making them.

use serde::{Deserialize, Serialize};

/// An object by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitShaRef {
    /// The object.
    pub sha: String,
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitSignature {
    /// RFC 3339, with the offset at which it was noted.
    pub date: String,
    /// As it is shown.
    pub name: String,
    /// Without angle brackets.
    pub email: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitCommit {
    /// Who wrote the change.
    pub author: GitSignature,
    /// Who made the commit.
    pub committer: GitSignature,
    /// The whole message.
    pub message: String,
    /// Its root tree.
    pub tree: GitShaRef,
    /// Its parents.
    pub parents: Vec<GitShaRef>,
    /// Its id.
    pub sha: String,
}

/// The reply of calls that make a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CommitResponse {
    /// The commit.
    pub commit: GitCommit,
}

/// In which order commits are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum CommitOrder {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

impl CommitOrder {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desc => "desc",
            Self::Asc => "asc",
        }
    }
}

/// The query of `GET /git/v1/repo/{repo}/git/commits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListCommitsQuery {
    /// The branch; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commits listed at most; 50 where absent, and never more than 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Commits left out at the beginning; not together with `since` or `until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Newest first where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", param(inline))]
    pub order: Option<CommitOrder>,
    /// The oldest commit listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The newest commit listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Leaves `total` out, which takes time to find out; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_total_count: Option<bool>,
}

/// The reply of `GET /git/v1/repo/{repo}/git/commits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListCommitsResponse {
    /// Those asked for.
    pub commits: Vec<GitCommit>,
    /// How many are listed.
    pub count: u64,
    /// Those left out at the beginning; absent with a selector.
    pub offset: Option<u64>,
    /// Commits listed at most.
    pub limit: u64,
    /// How many there are on all pages.
    pub total: Option<u64>,
    /// In which order they are.
    pub order: CommitOrder,
    /// What `since` and `until` selected.
    pub selector: Option<CommitSelector>,
    /// The commit after the last one listed: `until` of the next call, or `since` when the oldest
    /// come first.
    pub next_commit: Option<String>,
}

/// Which part of a history was selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum CommitSelector {
    /// From one commit back to another.
    Range {
        /// The oldest.
        since: String,
        /// The newest.
        until: String,
    },
    /// Back to this one.
    Since(String),
    /// From this one back.
    Until(String),
}

/// The body of `POST /git/v1/repo/{repo}/commits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "utoipa", schema(as = CreateCommitFromFilesRequest))]
pub struct CreateCommitRequest {
    /// The message.
    pub message: String,
    /// What changes.
    pub files: Vec<GitFileChange>,
    /// The branch that gets the commit; the default branch where absent. One that does not exist is
    /// made, with this commit as its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Author and committer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<GitAuthor>,
    /// Where the branch must be. Where absent, the commit goes on top of what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_sha: Option<String>,
}

/// A change of one file: exactly one of content and deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitFileChange {
    /// From the root of the repository.
    pub path: String,
    /// The new content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// How `content` is written; `utf8` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<GitFileEncoding>,
    /// Whether the file is to be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
}

/// How the content of a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitFileEncoding {
    /// As it is.
    #[default]
    Utf8,
    /// Base64 with padding (RFC 4648 section 4).
    Base64,
}

/// Who makes a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitAuthor {
    /// As it is shown.
    pub name: String,
    /// Without angle brackets.
    pub email: String,
}

/// The body of `POST /git/v1/repo/{repo}/git/commits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateCommitObjectRequest {
    /// The message.
    pub message: String,
    /// Id of its root tree.
    pub tree: String,
    /// Ids of its parents.
    pub parents: Vec<String>,
    /// Who wrote the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<GitSignatureInput>,
    /// Who makes the commit; the author where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committer: Option<GitSignatureInput>,
}

/// Who did something, and perhaps when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitSignatureInput {
    /// As it is shown.
    pub name: String,
    /// Without angle brackets.
    pub email: String,
    /// RFC 3339; now where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}
