//! Repositories as a whole.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The body of `POST /git/v1/repo`. At most one of `source` and `import`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateRepoRequest {
    /// A label for people; not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether everybody may read it; `false` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// The branch that a clone checks out; `main` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// A repository elsewhere whose history the new one begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RepoSource>,
    /// Files that the new repository begins with, in one commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<RepoImport>,
}

/// A repository elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RepoSource {
    /// Where it is, as `git clone` takes it.
    pub url: String,
    /// What `rev` was once called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A branch, tag or commit, which becomes the default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// Commits taken of its history; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Whether to take all branches and tags instead of one; `false` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_branches: Option<bool>,
}

/// Files to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum RepoImport {
    /// Given in the request.
    Files(FilesImport),
    /// Those of a tar file, compressed with gzip or not.
    Tar(ArchiveImport),
    /// Those of a zip file.
    Zip(ArchiveImport),
    /// Those of one commit of a repository elsewhere, without its history.
    Git(GitImport),
}

/// Files that are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct FilesImport {
    /// Content by path.
    pub files: BTreeMap<String, String>,
    /// Message of the commit.
    pub commit_message: String,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_name: Option<String>,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_email: Option<String>,
}

/// Files of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ArchiveImport {
    /// Where it is.
    pub url: String,
    /// The directory in it that becomes the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Message of the commit.
    pub commit_message: String,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_name: Option<String>,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_email: Option<String>,
}

/// Files of a repository elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitImport {
    /// Where it is, as `git clone` takes it.
    pub url: String,
    /// What `rev` was once called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A branch, tag or commit; its default branch where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The directory in it that becomes the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Message of the commit.
    pub commit_message: String,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_name: Option<String>,
    /// Who makes the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_email: Option<String>,
}

/// The reply of `POST /git/v1/repo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateRepoResponse {
    /// The repository.
    pub repo_id: String,
}

/// The query of `GET /git/v1/repo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListReposQuery {
    /// Repositories listed at most; 10 where absent, and never more than 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Repositories left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Only those whose name contains this, or whose id it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// The reply of `GET /git/v1/repo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListReposResponse {
    /// Those asked for, newest first.
    pub repositories: Vec<RepoListItem>,
    /// How many there are on all pages.
    pub total: u64,
    /// Those left out at the beginning.
    pub offset: u64,
}

/// A repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RepoListItem {
    /// The repository.
    pub repo_id: String,
    /// The same again: some clients read it here.
    pub id: String,
    /// A label for people.
    pub name: Option<String>,
    /// Who may read it.
    pub visibility: Visibility,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The branch that a clone checks out; it need not exist.
    pub default_branch: String,
    /// Its branches by name, at most 1000.
    pub branches: BTreeMap<String, RepoListBranch>,
    /// Its tags by name, at most 1000.
    pub tags: BTreeMap<String, RepoListTag>,
}

/// A branch of a repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RepoListBranch {
    /// Whether it is the default branch.
    pub default: bool,
    /// Without `refs/heads/`.
    pub name: String,
    /// Its newest commit.
    pub target: Option<String>,
}

/// A tag of a repository in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RepoListTag {
    /// Without `refs/tags/`.
    pub name: String,
    /// What it points to, which may be a tag object.
    pub target: String,
    /// Its message; lists do not have it.
    pub message: Option<String>,
}

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Who was granted access.
    Private,
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Public => "public",
            Self::Private => "private",
        })
    }
}

/// The body of `PUT /git/v1/repo/{repo_id}/visibility` and the reply of its `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RepoVisibility {
    /// Who may read it.
    pub visibility: Visibility,
}

/// The reply of `GET /git/v1/repo/{repo}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GetRepoResponse {
    /// The repository.
    pub id: String,
    /// A label for people.
    pub name: Option<String>,
    /// Whose it is.
    pub account_id: String,
    /// Who may read it.
    pub visibility: Visibility,
    /// The branch that a clone checks out; it need not exist.
    pub default_branch: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}
