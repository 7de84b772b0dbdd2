//! Commits: listing, showing and making them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{
    CommitOrder, CommitResponse, CommitSelector, CreateCommitObjectRequest, CreateCommitRequest,
    GitAuthor, GitCommit, GitFileChange, GitFileEncoding, GitShaRef, GitSignature,
    GitSignatureInput, ListCommitsQuery, ListCommitsResponse,
};
use freestyle_git::{
    Commit, CommitList, Encoding, FileChange, Identity, ListCommits, NewCommit, NewCommitObject,
    Order, ParseDateError, Signature, Signed,
};

use super::BAD;
use super::access::{Readable, Writable};
use crate::body::{Bodies, Limits};
use crate::error::ApiError;
use crate::path::HashPath;
use crate::query::understood;

const DEFAULT_PAGE: u64 = 50;
const MAX_PAGE: u64 = 500;

/// Lists commits of a branch.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/commits",
    operation_id = "listCommits",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ListCommitsQuery),
    responses(
        (status = 200, description = "The commits", body = ListCommitsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Readable(repo): Readable,
    query: Result<Query<ListCommitsQuery>, QueryRejection>,
) -> Result<Json<ListCommitsResponse>, ApiError> {
    let query = understood(query, BAD)?;
    let listed = repo.git().list_commits(decode_list(&query)).await.map_err(ApiError::from_git)?;
    Ok(Json(encode_list(query, listed)))
}

/// Shows a commit.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/commits/{hash}",
    operation_id = "getCommit",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("hash" = String, Path, description = "The commit, by an id that may be cut short"),
    ),
    responses(
        (status = 200, description = "The commit", body = GitCommit),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Readable(repo): Readable,
    HashPath(hash): HashPath,
) -> Result<Json<GitCommit>, ApiError> {
    let commit = repo.git().commit(&hash).await.map_err(ApiError::from_git)?;
    Ok(Json(encode(commit)))
}

/// Makes a commit out of changes of files, and moves the branch to it.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo}/commits",
    operation_id = "createCommitFromFiles",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    request_body = CreateCommitRequest,
    responses(
        (status = 200, description = "The commit", body = CommitResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Writable(repo): Writable,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<CommitResponse>, ApiError> {
    let body = bodies.receive(request, Limits::COMMIT, BAD).await?;
    let (request, _memory) = body.json_off_thread(BAD).await?;
    let commit = repo.create_commit(decode_create(request)).await;
    let commit = commit.map_err(ApiError::from_repos)?;
    Ok(Json(CommitResponse { commit: encode(commit) }))
}

/// Makes a commit of a tree that is there. It belongs to no branch until one is made at it.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo}/git/commits",
    operation_id = "createCommitObject",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    request_body = CreateCommitObjectRequest,
    responses(
        (status = 200, description = "The commit", body = CommitResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create_object(
    Writable(repo): Writable,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<CommitResponse>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let new = decode_create_object(body.json(BAD)?)?;
    let commit = repo.git().create_commit_object(new).await.map_err(ApiError::from_git)?;
    Ok(Json(CommitResponse { commit: encode(commit) }))
}

fn decode_list(query: &ListCommitsQuery) -> ListCommits {
    ListCommits {
        branch: query.branch.clone(),
        limit: to_usize(page(query)),
        offset: to_usize(query.offset.unwrap_or(0)),
        order: match query.order.unwrap_or_default() {
            CommitOrder::Desc => Order::Descending,
            CommitOrder::Asc => Order::Ascending,
        },
        since: query.since.clone(),
        until: query.until.clone(),
        with_total: !query.disable_total_count.unwrap_or(false),
    }
}

/// Commits listed at most.
fn page(query: &ListCommitsQuery) -> u64 {
    query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
}

/// No repository has as much as that.
pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn encode_list(query: ListCommitsQuery, listed: CommitList) -> ListCommitsResponse {
    let limit = page(&query);
    let selector = match (query.since, query.until) {
        (None, None) => None,
        (Some(since), None) => Some(CommitSelector::Since(since)),
        (None, Some(until)) => Some(CommitSelector::Until(until)),
        (Some(since), Some(until)) => Some(CommitSelector::Range { since, until }),
    };
    ListCommitsResponse {
        count: listed.commits.len() as u64,
        offset: selector.is_none().then(|| query.offset.unwrap_or(0)),
        limit,
        total: listed.total.map(|total| total as u64),
        order: query.order.unwrap_or_default(),
        selector,
        next_commit: listed.next_commit.map(|id| id.to_string()),
        commits: listed.commits.into_iter().map(encode).collect(),
    }
}

pub(super) fn decode_create(request: CreateCommitRequest) -> NewCommit {
    let CreateCommitRequest { message, files, branch, author: by, expected_sha } = request;
    let files = files.into_iter().map(decode_change).collect();
    NewCommit { message, files, branch, author: author(by), expected_sha }
}

fn decode_change(change: GitFileChange) -> FileChange {
    let GitFileChange { path, content, encoding, deleted } = change;
    let encoding = match encoding.unwrap_or_default() {
        GitFileEncoding::Utf8 => Encoding::Plain,
        GitFileEncoding::Base64 => Encoding::Base64,
    };
    let content = content.map(String::into_bytes);
    FileChange { path, content, encoding, mode: None, deleted: deleted.unwrap_or(false) }
}

/// Who makes a commit when the request does not say. The address can be nobody's (RFC 2606).
pub(super) fn author(given: Option<GitAuthor>) -> Identity {
    match given {
        Some(GitAuthor { name, email }) => Identity { name, email },
        None => {
            Identity { name: "Freestyle".to_owned(), email: "noreply@freestyle.invalid".to_owned() }
        }
    }
}

pub(super) fn decode_create_object(
    request: CreateCommitObjectRequest,
) -> Result<NewCommitObject, ApiError> {
    let CreateCommitObjectRequest { message, tree, parents, author: by, committer } = request;
    let signed = |given: Option<GitSignatureInput>| {
        let Some(GitSignatureInput { name, email, date }) = given else { return Ok(None) };
        let at = date.map(|date| date.parse()).transpose();
        let at = at.map_err(|error: ParseDateError| ApiError::new(BAD, error.to_string()))?;
        Ok(Some(Signed { by: Identity { name, email }, at }))
    };
    let by = signed(by)?.unwrap_or_else(|| Signed { by: author(None), at: None });
    let committer = signed(committer)?.unwrap_or_else(|| by.clone());
    Ok(NewCommitObject { message, tree, parents, author: by, committer })
}

pub(super) fn encode(commit: Commit) -> GitCommit {
    GitCommit {
        author: encode_signature(commit.author),
        committer: encode_signature(commit.committer),
        message: commit.message,
        tree: GitShaRef { sha: commit.tree.to_string() },
        parents: commit.parents.iter().map(|id| GitShaRef { sha: id.to_string() }).collect(),
        sha: commit.sha.to_string(),
    }
}

pub(super) fn encode_signature(signature: Signature) -> GitSignature {
    let Signature { name, email, date } = signature;
    GitSignature { date: date.to_string(), name, email }
}
