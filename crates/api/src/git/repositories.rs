//! Repositories as a whole: making, listing, showing and deleting them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use freestyle_client::wire::git::{
    ArchiveImport, CreateRepoRequest, CreateRepoResponse, FilesImport, GetRepoResponse, GitImport,
    ListReposQuery, ListReposResponse, RepoImport, RepoListBranch, RepoListItem, RepoListTag,
    RepoSource, RepoVisibility, Visibility,
};
use freestyle_client::wire::{Empty, ErrorBody};
use freestyle_git::{BranchName, FileChange, Identity, RemoteFiles};
use freestyle_outbound::{OutboundError, WebUrl};
use freestyle_repos::{ArchiveKind, Content, NewRepo, Repo, Repos};

use super::BAD;
use super::access::Readable;
use super::commits::author;
use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::label::label;
use crate::long_call::answer;
use crate::path::RepoPath;
use crate::query::understood;
use crate::timestamp::rfc3339;

const DEFAULT_PAGE: u64 = 10;
const MAX_PAGE: u64 = 100;
/// Branches, and tags, of one repository in a list.
const MAX_LISTED_REFS: usize = 1000;

/// Makes a repository: empty, or with files to begin with.
///
/// A call that takes longer than 100 seconds answers like a create of a VM.
#[utoipa::path(
    post,
    path = "/git/v1/repo",
    operation_id = "createRepo",
    tag = "git",
    request_body = CreateRepoRequest,
    responses(
        (status = 200, description = "The repository", body = CreateRepoResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Account(account): Account,
    State(repos): State<Repos>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = bodies.receive(request, Limits::COMMIT, BAD).await?;
    let (request, memory) = body.json_off_thread(BAD).await?;
    let new = decode_create(request)?;
    Ok(answer(async move {
        let _memory = memory;
        let repo = repos.create(&account, new).await.map_err(ApiError::from_repos)?;
        Ok(CreateRepoResponse { repo_id: repo.id().to_string() })
    })
    .await)
}

/// Lists the account's repositories, newest first.
#[utoipa::path(
    get,
    path = "/git/v1/repo",
    operation_id = "listRepos",
    tag = "git",
    params(ListReposQuery),
    responses(
        (status = 200, description = "The repositories", body = ListReposResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    State(repos): State<Repos>,
    query: Result<Query<ListReposQuery>, QueryRejection>,
) -> Result<Json<ListReposResponse>, ApiError> {
    let query = understood(query, BAD)?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
    let offset = query.offset.unwrap_or(0);
    let search = query.search.as_deref().filter(|search| !search.is_empty());
    let page = repos.list(&account, search, limit, offset).await.map_err(ApiError::from_repos)?;
    let mut repositories = Vec::with_capacity(page.repos.len());
    for repo in page.repos {
        match encode_item(&repo).await {
            Ok(item) => repositories.push(item),
            // Deleted meanwhile.
            Err(error) if error.code() == Code::RepositoryNotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Json(ListReposResponse { repositories, total: page.total, offset }))
}

/// Tells what is known about a repository.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}",
    operation_id = "getRepo",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The repository", body = GetRepoResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(Readable(repo): Readable) -> Result<Json<GetRepoResponse>, ApiError> {
    let default_branch = repo.git().default_branch().await.map_err(ApiError::from_git)?;
    let record = repo.record();
    Ok(Json(GetRepoResponse {
        id: record.id.clone(),
        name: record.name.clone(),
        account_id: record.account_id.to_string(),
        visibility: visibility(record.public),
        default_branch: default_branch.to_string(),
        created_at: rfc3339(record.created_at),
    }))
}

/// Deletes a repository with everything in it.
#[utoipa::path(
    delete,
    path = "/git/v1/repo/{repo}",
    operation_id = "deleteRepo",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "It is gone", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(repos): State<Repos>,
) -> Result<Json<Empty>, ApiError> {
    repos.delete(&account, &repo).await.map_err(ApiError::from_repos)?;
    Ok(Json(Empty {}))
}

/// Tells who may read a repository.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo_id}/visibility",
    operation_id = "getVisibility",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "Who may read it", body = RepoVisibility),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get_visibility(Readable(repo): Readable) -> Json<RepoVisibility> {
    Json(RepoVisibility { visibility: visibility(repo.record().public) })
}

/// Says who may read a repository: everybody, or who was granted access.
#[utoipa::path(
    put,
    path = "/git/v1/repo/{repo_id}/visibility",
    operation_id = "setVisibility",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    request_body = RepoVisibility,
    responses(
        (status = 200, description = "It is so from now on", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn set_visibility(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(repos): State<Repos>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let RepoVisibility { visibility } = body.json(BAD)?;
    let public = visibility == Visibility::Public;
    repos.set_public(&account, &repo, public).await.map_err(ApiError::from_repos)?;
    Ok(Json(Empty {}))
}

fn visibility(public: bool) -> Visibility {
    if public { Visibility::Public } else { Visibility::Private }
}

async fn encode_item(repo: &Repo) -> Result<RepoListItem, ApiError> {
    let default_branch = repo.git().default_branch().await.map_err(ApiError::from_git)?;
    let (mut branches, mut tags) = (BTreeMap::new(), BTreeMap::new());
    for tip in repo.git().refs().await.map_err(ApiError::from_git)? {
        let target = tip.target.to_string();
        if let Some(name) = tip.name.strip_prefix("refs/heads/") {
            let default = name == default_branch.as_str();
            if default || branches.len() < MAX_LISTED_REFS {
                let name = name.to_owned();
                let branch = RepoListBranch { default, name: name.clone(), target: Some(target) };
                branches.insert(name, branch);
            }
        } else if let Some(name) = tip.name.strip_prefix("refs/tags/")
            && tags.len() < MAX_LISTED_REFS
        {
            let name = name.to_owned();
            tags.insert(name.clone(), RepoListTag { name, target, message: None });
        }
    }
    let record = repo.record();
    Ok(RepoListItem {
        repo_id: record.id.clone(),
        id: record.id.clone(),
        name: record.name.clone(),
        visibility: visibility(record.public),
        created_at: rfc3339(record.created_at),
        default_branch: default_branch.to_string(),
        branches,
        tags,
    })
}

pub(super) fn decode_create(request: CreateRepoRequest) -> Result<NewRepo, ApiError> {
    let CreateRepoRequest { name, public, default_branch, source, import } = request;
    let default_branch = default_branch.as_deref().map(BranchName::parse).transpose();
    let default_branch = default_branch.map_err(ApiError::from_git)?;
    let content = match (source, import) {
        (None, None) => Content::Nothing,
        (Some(_), Some(_)) => {
            let message = "a repository begins with a source or an import, not with both";
            return Err(ApiError::new(Code::SourceImportConflict, message));
        }
        (Some(source), None) => decode_source(source)?,
        (None, Some(import)) => decode_import(import)?,
    };
    let public = public.unwrap_or(false);
    Ok(NewRepo { name: label(name, BAD)?, public, default_branch, content })
}

fn decode_source(source: RepoSource) -> Result<Content, ApiError> {
    let RepoSource { url, branch, rev, depth, all_branches } = source;
    let no_depth = || ApiError::new(BAD, "source: depth 0 is nothing");
    let depth = depth.map(|depth| NonZeroU32::new(depth).ok_or_else(no_depth));
    Ok(Content::Source {
        url: decode_url(&url, "source")?,
        revision: rev.or(branch).filter(|revision| !revision.is_empty()),
        depth: depth.transpose()?,
        all_branches: all_branches.unwrap_or(false),
    })
}

fn decode_import(import: RepoImport) -> Result<Content, ApiError> {
    match import {
        RepoImport::Files(FilesImport { files, commit_message, author_name, author_email }) => {
            let change = |(path, content): (String, String)| FileChange {
                path,
                content: Some(content.into_bytes()),
                ..FileChange::default()
            };
            let files = files.into_iter().map(change).collect();
            let author = author_of_import(author_name, author_email);
            Ok(Content::Files { files, message: commit_message, author })
        }
        RepoImport::Tar(archive) => decode_archive(ArchiveKind::Tar, archive),
        RepoImport::Zip(archive) => decode_archive(ArchiveKind::Zip, archive),
        RepoImport::Git(import) => {
            let GitImport { url, branch, rev, dir, commit_message, author_name, author_email } =
                import;
            let files = RemoteFiles {
                revision: rev.or(branch).filter(|revision| !revision.is_empty()),
                dir,
                message: commit_message,
                author: author_of_import(author_name, author_email),
            };
            Ok(Content::FilesOf { url: decode_url(&url, "import")?, files })
        }
    }
}

fn decode_archive(kind: ArchiveKind, archive: ArchiveImport) -> Result<Content, ApiError> {
    let ArchiveImport { url, dir, commit_message, author_name, author_email } = archive;
    let (url, author) = (decode_url(&url, "import")?, author_of_import(author_name, author_email));
    Ok(Content::Archive { kind, url, dir, message: commit_message, author })
}

/// An address to be fetched from; `place` is the field that names it.
fn decode_url(url: &str, place: &str) -> Result<WebUrl, ApiError> {
    url.parse().map_err(|error: OutboundError| ApiError::new(BAD, format!("{place}: {error}")))
}

/// Either part may be left out.
fn author_of_import(name: Option<String>, email: Option<String>) -> Identity {
    let default = author(None);
    Identity { name: name.unwrap_or(default.name), email: email.unwrap_or(default.email) }
}
