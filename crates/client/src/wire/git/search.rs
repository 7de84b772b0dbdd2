//! Searching a repository. A revision is called `rev` in the documentation and `ref` by the SDK:
//! either is taken.

use serde::{Deserialize, Serialize};

/// The query of `GET /git/v1/repo/{repo}/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ContentSearchQuery {
    /// A text, or a regular expression.
    #[cfg_attr(feature = "utoipa", param(required = true))]
    pub query: String,
    /// A branch, tag or commit; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The same as `rev`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A glob that paths must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_pattern: Option<String>,
    /// A glob that paths must not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_pattern: Option<String>,
    /// Files, or commits, answered at most; 100 where absent, and never more than 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u64>,
    /// Whether the case of letters counts; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// Whether `query` is a regular expression; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_regex: Option<bool>,
    /// Whether only whole words match; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_word: Option<bool>,
    /// Files, or commits, left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// The query of `GET /git/v1/repo/{repo}/search/files`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct FileSearchQuery {
    /// A glob, a text that paths contain, or a regular expression.
    #[cfg_attr(feature = "utoipa", param(required = true))]
    pub query: String,
    /// A branch, tag or commit; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The same as `rev`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A glob that paths must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_pattern: Option<String>,
    /// A glob that paths must not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_pattern: Option<String>,
    /// Files answered at most; 100 where absent, and never more than 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u64>,
    /// Whether the case of letters counts; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// Whether `query` is a regular expression; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_regex: Option<bool>,
    /// Files left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// The query of `GET /git/v1/repo/{repo}/search/commits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct CommitSearchQuery {
    /// A text, or a regular expression.
    #[cfg_attr(feature = "utoipa", param(required = true))]
    pub query: String,
    /// A branch, tag or commit; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The same as `rev`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Commits answered at most; 100 where absent, and never more than 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<u64>,
    /// Whether the case of letters counts; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// Whether `query` is a regular expression; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_regex: Option<bool>,
    /// Commits left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// The reply of `GET /git/v1/repo/{repo}/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SearchContentsResponse {
    /// Files with matches on all pages.
    pub total_files: u64,
    /// Matches in all of them.
    pub total_matches: u64,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The files of this page, ordered by path.
    pub files: Vec<ContentSearchFile>,
}

/// A file with its matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ContentSearchFile {
    /// From the root of the repository.
    pub path: String,
    /// What follows the last dot of its name.
    pub extension: Option<String>,
    /// Bytes.
    pub size: u64,
    /// What matches. Of a file with very many matches the first ones.
    pub matches: Vec<ContentSearchMatch>,
}

/// A match in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ContentSearchMatch {
    /// From 1.
    pub line_number: u64,
    /// The line without its end; of a very long line its beginning.
    pub line: String,
    /// Where the match begins, from 0, as JavaScript counts characters.
    pub start_column: u64,
    /// Where it ends.
    pub end_column: u64,
    /// Up to two lines before.
    pub context_before: Vec<String>,
    /// Up to two lines after.
    pub context_after: Vec<String>,
}

/// The reply of `GET /git/v1/repo/{repo}/search/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SearchFilesResponse {
    /// Files on all pages.
    pub total_files: u64,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The files of this page, ordered by path.
    pub files: Vec<FileSearchMatch>,
}

/// A file whose path matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct FileSearchMatch {
    /// From the root of the repository.
    pub path: String,
    /// What follows the last dot of its name.
    pub extension: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// The reply of `GET /git/v1/repo/{repo}/search/commits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SearchCommitsResponse {
    /// Commits on all pages.
    pub total_commits: u64,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The commits of this page, newest first.
    pub commits: Vec<CommitSearchMatch>,
}

/// A commit whose message matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CommitSearchMatch {
    /// The commit.
    pub sha: String,
    /// First line of its message.
    pub message: String,
    /// The whole message.
    pub full_message: String,
    /// Who wrote the change.
    pub author_name: String,
    /// Who wrote the change.
    pub author_email: String,
    /// When the commit was made, in RFC 3339.
    pub timestamp: String,
}

/// The reply of `GET /git/v1/repo/{repo}/search/diffs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SearchDiffsResponse {
    /// Commits found so far; the search ends with the page, so there are more when `hasMore`.
    pub total_commits: u64,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The commits of this page, newest first.
    pub commits: Vec<DiffSearchCommit>,
}

/// A commit that added or removed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DiffSearchCommit {
    /// The commit.
    pub sha: String,
    /// First line of its message.
    pub message: String,
    /// Who wrote the change.
    pub author_name: String,
    /// Who wrote the change.
    pub author_email: String,
    /// When the commit was made, in RFC 3339.
    pub timestamp: String,
    /// Files in which something matches, ordered by path.
    pub files: Vec<DiffSearchFile>,
}

/// A changed file with its matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DiffSearchFile {
    /// From the root of the repository.
    pub path: String,
    /// What matches.
    pub matches: Vec<DiffSearchMatch>,
}

/// A match in a line that was added or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DiffSearchMatch {
    /// The line without its end; of a very long line its beginning.
    pub line: String,
    /// From 1: in the new file if it was added, in the old one if it was removed.
    pub line_number: u64,
    /// Where the match begins, from 0, in bytes.
    pub start_column: u64,
    /// Where it ends.
    pub end_column: u64,
    /// Whether the line was added.
    pub is_addition: bool,
}
