//! Files and directories, and whole trees as archives.

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{
    ArchiveQuery, ContentsQuery, GitContents, GitDirectory, GitDirectoryEntry, GitFile,
    GitFileEntry,
};
use freestyle_git::{ArchiveFormat, Contents, Directory, DirectoryEntry};
use freestyle_repos::Repo;

use super::BAD;
use super::access::Readable;
use super::large::with_base64;
use crate::error::ApiError;
use crate::path::ContentsPath;
use crate::query::understood;

/// What is read when a request names no revision.
const DEFAULT_REVISION: &str = "HEAD";

/// Lists the root directory.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/contents/",
    operation_id = "getRootContents",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ContentsQuery),
    responses(
        (status = 200, description = "The directory", body = GitContents),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get_root(
    Readable(repo): Readable,
    query: Result<Query<ContentsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    read(&repo, "", understood(query, BAD)?).await
}

/// Reads a file or lists a directory.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/contents/{path}",
    operation_id = "getContents",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "The path, its slashes encoded"),
        ContentsQuery,
    ),
    responses(
        (status = 200, description = "The file or directory", body = GitContents),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Readable(repo): Readable,
    ContentsPath(path): ContentsPath,
    query: Result<Query<ContentsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    read(&repo, &path, understood(query, BAD)?).await
}

/// Sends the files of a revision as an uncompressed tar file.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/tarball",
    operation_id = "downloadTarball",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ArchiveQuery),
    responses(
        (status = 200, description = "The archive", body = Vec<u8>, content_type = "application/x-tar"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn tarball(
    Readable(repo): Readable,
    query: Result<Query<ArchiveQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    archive(&repo, understood(query, BAD)?, ArchiveFormat::Tar).await
}

/// Sends the files of a revision as a zip file.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/zip",
    operation_id = "downloadZip",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ArchiveQuery),
    responses(
        (status = 200, description = "The archive", body = Vec<u8>, content_type = "application/zip"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn zip(
    Readable(repo): Readable,
    query: Result<Query<ArchiveQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    archive(&repo, understood(query, BAD)?, ArchiveFormat::Zip).await
}

async fn read(repo: &Repo, path: &str, query: ContentsQuery) -> Result<Response, ApiError> {
    let ContentsQuery { rev, recursive } = query;
    let revision = rev.as_deref().unwrap_or(DEFAULT_REVISION);
    let contents = repo.git().contents(path, revision, recursive.unwrap_or(false)).await;
    match contents.map_err(ApiError::from_git)? {
        Contents::File { name, path, sha, content } => {
            let (sha, size) = (sha.to_string(), content.len() as u64);
            let head = GitFile { name, path, sha, size, content: String::new() };
            Ok(with_base64(&GitContents::File(head), content))
        }
        Contents::Directory(directory) => {
            let directory = GitContents::Directory(encode(directory));
            Ok(Json(directory).into_response())
        }
    }
}

async fn archive(
    repo: &Repo,
    query: ArchiveQuery,
    format: ArchiveFormat,
) -> Result<Response, ApiError> {
    let revision = query.rev.as_deref().unwrap_or(DEFAULT_REVISION);
    let output = repo.git().archive(revision, format).await.map_err(ApiError::from_git)?;
    let (content_type, extension) = match format {
        ArchiveFormat::Tar => ("application/x-tar", "tar"),
        ArchiveFormat::Zip => ("application/zip", "zip"),
    };
    let file = format!("attachment; filename=\"{}.{extension}\"", repo.id());
    let headers = [(CONTENT_TYPE, content_type.to_owned()), (CONTENT_DISPOSITION, file)];
    Ok((headers, Body::from_stream(output)).into_response())
}

fn encode(directory: Directory) -> GitDirectory {
    let entries = directory.entries.into_iter().map(|entry| match entry {
        DirectoryEntry::File { name, path, sha, size } => {
            GitDirectoryEntry::File(GitFileEntry { name, path, sha: sha.to_string(), size })
        }
        DirectoryEntry::Directory(inner) => GitDirectoryEntry::Directory(encode(inner)),
    });
    GitDirectory {
        name: directory.name,
        path: directory.path,
        sha: directory.sha.to_string(),
        entries: entries.collect(),
    }
}
