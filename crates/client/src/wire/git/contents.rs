//! Files, directories and the objects they are made of.

use serde::{Deserialize, Serialize};

/// The query of `GET /git/v1/repo/{repo}/contents/{path}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ContentsQuery {
    /// A branch, tag or commit; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// Whether the directories in a directory have their entries too; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
}

/// The query of `GET /git/v1/repo/{repo}/tarball` and `.../zip`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ArchiveQuery {
    /// A branch, tag or commit; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
}

/// The reply of `GET /git/v1/repo/{repo}/contents/{path}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitContents {
    /// The path is a file or a symbolic link.
    #[serde(rename = "file")]
    File(GitFile),
    /// The path is a directory.
    #[serde(rename = "dir")]
    Directory(GitDirectory),
}

/// A file with its content; of a symbolic link the content is its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitFile {
    /// Last part of the path.
    pub name: String,
    /// From the root of the repository.
    pub path: String,
    /// Its blob.
    pub sha: String,
    /// Bytes.
    pub size: u64,
    /// The content in base64.
    pub content: String,
}

/// A directory. Submodules are not among its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitDirectory {
    /// Last part of the path; empty for the root.
    pub name: String,
    /// From the root of the repository; empty for the root.
    pub path: String,
    /// Its tree.
    pub sha: String,
    /// What is in it. Directories in it have entries only when `recursive` was asked for.
    pub entries: Vec<GitDirectoryEntry>,
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitDirectoryEntry {
    /// A file or symbolic link.
    #[serde(rename = "file")]
    File(GitFileEntry),
    /// A directory.
    #[serde(rename = "dir")]
    #[cfg_attr(feature = "utoipa", schema(no_recursion))]
    Directory(GitDirectory),
}

/// A file in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitFileEntry {
    /// Last part of the path. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// From the root of the repository.
    pub path: String,
    /// Its blob.
    pub sha: String,
    /// Bytes.
    pub size: u64,
}

/// The reply of `GET /git/v1/repo/{repo}/git/blobs/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitBlob {
    /// The blob.
    pub sha: String,
    /// Bytes.
    pub size: u64,
    /// How `content` stands for bytes.
    pub encoding: GitBlobEncoding,
    /// The content.
    pub content: String,
}

/// How the content of a blob is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitBlobEncoding {
    /// Base64 with padding (RFC 4648 section 4).
    Base64,
}

/// The reply of `GET /git/v1/repo/{repo}/git/trees/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GetTreeResponse {
    /// The tree.
    pub sha: String,
    /// Its entries, those of other trees not included. Submodules are not among them.
    pub tree: Vec<GitTreeEntry>,
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitTreeEntry {
    /// A file or symbolic link.
    Blob {
        /// Its name. Bytes that are not UTF-8 are replaced.
        path: String,
        /// Its blob.
        sha: String,
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Tree {
        /// Its name. Bytes that are not UTF-8 are replaced.
        path: String,
        /// Its tree.
        sha: String,
    },
}
