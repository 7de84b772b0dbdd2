//! Branches, and which of them is the default.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use freestyle_client::wire::git::{
    CreateBranchRequest, DefaultBranch, GitBranch, GitRef, ListBranchesResponse,
};
use freestyle_client::wire::{Empty, ErrorBody};
use freestyle_git::{Branch, BranchName};

use super::BAD;
use super::access::{Readable, Writable};
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::path::RefPath;

/// What the SDK sends instead of the name of a branch (protocol section 11).
const SDK_PLACEHOLDER: &str = "{*branch}";

/// Tells which branch a clone checks out.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo_id}/default-branch",
    operation_id = "getDefaultBranch",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The branch", body = DefaultBranch),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get_default(Readable(repo): Readable) -> Result<Json<DefaultBranch>, ApiError> {
    let branch = repo.git().default_branch().await.map_err(ApiError::from_git)?;
    Ok(Json(DefaultBranch { default_branch: branch.to_string() }))
}

/// Says which branch a clone checks out. It must exist, unless the repository is empty.
#[utoipa::path(
    put,
    path = "/git/v1/repo/{repo_id}/default-branch",
    operation_id = "setDefaultBranch",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    request_body = DefaultBranch,
    responses(
        (status = 200, description = "It is so from now on", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn set_default(
    Writable(repo): Writable,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let DefaultBranch { default_branch } = body.json(BAD)?;
    let branch = BranchName::parse(&default_branch).map_err(ApiError::from_git)?;
    repo.git().set_default_branch(&branch).await.map_err(ApiError::from_git)?;
    Ok(Json(Empty {}))
}

/// Lists the branches.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/refs/heads/",
    operation_id = "listBranches",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The branches", body = ListBranchesResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(Readable(repo): Readable) -> Result<Json<ListBranchesResponse>, ApiError> {
    let branches = repo.git().branches().await.map_err(ApiError::from_git)?;
    let encode =
        |branch: Branch| GitBranch { name: branch.name, commit: Some(branch.sha.to_string()) };
    Ok(Json(ListBranchesResponse { branches: branches.into_iter().map(encode).collect() }))
}

/// Tells where a branch is.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/refs/heads/{branch}",
    operation_id = "getBranch",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("branch" = String, Path, description = "The branch, its slashes encoded"),
    ),
    responses(
        (status = 200, description = "The branch", body = GitRef),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Readable(repo): Readable,
    RefPath(branch): RefPath,
) -> Result<Json<GitRef>, ApiError> {
    repo.git().branch(&branch).await.map(encode).map_err(ApiError::from_git)
}

/// Makes a branch at a commit.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo}/git/refs/heads/{branch}",
    operation_id = "createBranch",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("branch" = String, Path, description = "The branch, its slashes encoded"),
    ),
    request_body = CreateBranchRequest,
    responses(
        (status = 200, description = "The branch", body = GitRef),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Writable(repo): Writable,
    RefPath(branch): RefPath,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<GitRef>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CreateBranchRequest { sha } = body.json_or_default(BAD)?;
    if branch == SDK_PLACEHOLDER {
        let message = "the client did not send the name of the branch but the placeholder \
                       {*branch}, as the npm package freestyle does up to version 0.1.63: POST \
                       /git/v1/repo/<repo>/git/refs/heads/<name> with the name percent-encoded, \
                       or push the branch with git";
        return Err(ApiError::new(Code::BranchNameEmpty, message));
    }
    let branch = BranchName::parse(&branch).map_err(ApiError::from_git)?;
    let created = repo.create_branch(&branch, sha.as_deref()).await;
    created.map(encode).map_err(ApiError::from_repos)
}

fn encode(branch: Branch) -> Json<GitRef> {
    let name = format!("refs/heads/{}", branch.name);
    Json(GitRef { name, sha: branch.sha.to_string() })
}
