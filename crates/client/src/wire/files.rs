//! Files of a guest (protocol section 7).

use serde::{Deserialize, Serialize};

/// How [`FileResponse::content`] or [`WriteFileRequest::content`] stands for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum FileEncoding {
    /// The text itself.
    #[default]
    #[serde(alias = "utf-8")]
    Utf8,
    /// Base64 with padding (RFC 4648 section 4).
    Base64,
}

/// The body of `PUT /v1/vms/{vm_id}/files/{filepath}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct WriteFileRequest {
    /// What the file will hold.
    pub content: String,
    /// How `content` is to be read; `utf8` where absent.
    #[serde(default)]
    pub encoding: FileEncoding,
}

/// The reply of `GET /v1/vms/{vm_id}/files/{filepath}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum ReadFileOrDirResponse {
    /// The path is a file.
    File(FileResponse),
    /// The path is a directory.
    Directory(DirectoryResponse),
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct FileResponse {
    /// The content, in `encoding`.
    pub content: String,
    /// `utf8` when the content is valid UTF-8.
    #[serde(default)]
    pub encoding: FileEncoding,
}

/// A directory's entries, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DirectoryResponse {
    /// The entries.
    pub files: Vec<FileEntry>,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Name without the directory; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// A link counts as what it leads to.
    pub kind: FileKind,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum FileKind {
    /// Anything that is no directory.
    File,
    /// A directory.
    Directory,
}
