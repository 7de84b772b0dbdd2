//! Branches and tags.

use serde::{Deserialize, Serialize};

use super::{GitShaRef, GitSignature};

/// The body of `PUT /git/v1/repo/{repo_id}/default-branch` and the reply of its `GET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DefaultBranch {
    /// Without `refs/heads/`.
    pub default_branch: String,
}

/// The body of `POST /git/v1/repo/{repo}/git/refs/heads/{branch}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateBranchRequest {
    /// Where it begins, by an id that may be cut short; where the default branch is, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
}

/// A ref with where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitRef {
    /// Its full name, as `refs/heads/main`.
    pub name: String,
    /// The commit.
    pub sha: String,
}

/// The reply of `GET /git/v1/repo/{repo}/git/refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListBranchesResponse {
    /// All of them, ordered by name.
    pub branches: Vec<GitBranch>,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitBranch {
    /// Without `refs/heads/`.
    pub name: String,
    /// Its newest commit.
    pub commit: Option<String>,
}

/// The reply of `GET /git/v1/repo/{repo}/git/refs/tags/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListTagsResponse {
    /// All of them, ordered by name.
    pub tags: Vec<GitTag>,
}

/// A tag. One without an object of its own has neither tagger nor message, and `sha` is its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitTag {
    /// Without `refs/tags/`.
    pub name: String,
    /// Who made it.
    pub tagger: Option<GitSignature>,
    /// Its message.
    pub message: Option<String>,
    /// What it points to.
    pub target: GitShaRef,
    /// The tag object.
    pub sha: String,
}
