//! Blobs and trees by their ids.

use axum::Json;
use axum::response::Response;
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{GetTreeResponse, GitBlob, GitBlobEncoding, GitTreeEntry};
use freestyle_git::{EntryKind, TreeEntry};

use super::access::Readable;
use super::large::with_base64;
use crate::error::ApiError;
use crate::path::HashPath;

/// Reads a blob.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/blobs/{hash}",
    operation_id = "getBlob",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("hash" = String, Path, description = "The blob"),
    ),
    responses(
        (status = 200, description = "The blob", body = GitBlob),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn blob(
    Readable(repo): Readable,
    HashPath(hash): HashPath,
) -> Result<Response, ApiError> {
    let blob = repo.git().blob(&hash).await.map_err(ApiError::from_git)?;
    let head = GitBlob {
        sha: blob.sha.to_string(),
        size: blob.content.len() as u64,
        encoding: GitBlobEncoding::Base64,
        content: String::new(),
    };
    Ok(with_base64(&head, blob.content))
}

/// Lists the entries of a tree.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/trees/{hash}",
    operation_id = "getTree",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("hash" = String, Path, description = "The tree"),
    ),
    responses(
        (status = 200, description = "The tree", body = GetTreeResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn tree(
    Readable(repo): Readable,
    HashPath(hash): HashPath,
) -> Result<Json<GetTreeResponse>, ApiError> {
    let tree = repo.git().tree(&hash).await.map_err(ApiError::from_git)?;
    // Of a tree that was found this is the id.
    let sha = hash.to_ascii_lowercase();
    Ok(Json(GetTreeResponse { sha, tree: tree.into_iter().map(encode).collect() }))
}

fn encode(entry: TreeEntry) -> GitTreeEntry {
    let (path, sha) = (entry.name, entry.sha.to_string());
    match entry.kind {
        EntryKind::Blob(size) => GitTreeEntry::Blob { path, sha, size },
        EntryKind::Tree => GitTreeEntry::Tree { path, sha },
    }
}
