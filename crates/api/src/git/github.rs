//! Keeping repositories equal to repositories at GitHub. For API keys, but for the webhook, which
//! proves by its signature that it comes from GitHub.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use freestyle_client::wire::git::{
    EnableGithubSyncRequest, GithubApp, GithubSync, GithubSyncConflict, GithubSyncState,
    SetGithubAppRequest,
};
use freestyle_client::wire::{Empty, ErrorBody};
use freestyle_git::GitError;
use freestyle_github::{GITHUB_API, GitHub, GitHubError, GitHubName};
use freestyle_store::{GitHubAppRecord, GitHubSyncRecord, NewGitHubApp};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::BAD;
use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::ApiError;
use crate::path::RepoPath;
use crate::timestamp::rfc3339;

const SIGNATURE: &str = "x-hub-signature-256";
const APP_ID: &str = "x-github-hook-installation-target-id";
/// Webhooks that are being received: who sends one is known only at its end, and must not take the
/// memory of those who are known.
static HEARING: Semaphore = Semaphore::const_new(2);
/// GitHub does not wait longer.
const TURN: Duration = Duration::from_secs(10);

/// Tells which repository at GitHub this one is kept equal to; `null` if none.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo_id}/github-sync",
    operation_id = "getGithubSync",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The sync", body = GithubSync),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(github): State<GitHub>,
) -> Result<Json<Option<GithubSync>>, ApiError> {
    let sync = github.sync_of(&account, &repo).await.map_err(ApiError::from_github)?;
    Ok(Json(sync.map(encode)))
}

/// Has a repository kept equal to one at GitHub, in both directions: branches, tags and their
/// deletions. Nothing is ever overwritten.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo_id}/github-sync",
    operation_id = "enableGithubSync",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    request_body = EnableGithubSyncRequest,
    responses(
        (status = 200, description = "The first sync follows", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn enable(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(github): State<GitHub>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let EnableGithubSyncRequest { github_repo_name } = body.json(BAD)?;
    let name: GitHubName = github_repo_name.parse().map_err(ApiError::from_github)?;
    github.enable(&account, &repo, &name).await.map_err(ApiError::from_github)?;
    Ok(Json(Empty {}))
}

/// Ends the sync with GitHub; nothing changes on either side.
#[utoipa::path(
    delete,
    path = "/git/v1/repo/{repo_id}/github-sync",
    operation_id = "disableGithubSync",
    tag = "git",
    params(("repo_id" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "It is ended", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn disable(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(github): State<GitHub>,
) -> Result<Json<Empty>, ApiError> {
    github.disable(&account, &repo).await.map_err(ApiError::from_github)?;
    Ok(Json(Empty {}))
}

/// Tells which GitHub App the account is connected with; `null` if none.
#[utoipa::path(
    get,
    path = "/git/v1/github/app",
    operation_id = "getGithubApp",
    tag = "git",
    responses(
        (status = 200, description = "The app", body = GithubApp),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(super) async fn get_app(
    Account(account): Account,
    State(github): State<GitHub>,
) -> Result<Json<Option<GithubApp>>, ApiError> {
    let app = github.app(&account).await.map_err(ApiError::from_github)?;
    Ok(Json(app.map(encode_app)))
}

/// Connects the account with a GitHub App, in the place of another. Its webhook is
/// `/git/v1/github/webhook`.
#[utoipa::path(
    put,
    path = "/git/v1/github/app",
    operation_id = "setGithubApp",
    tag = "git",
    request_body = SetGithubAppRequest,
    responses(
        (status = 200, description = "The app", body = GithubApp),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(super) async fn set_app(
    Account(account): Account,
    State(github): State<GitHub>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<GithubApp>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let SetGithubAppRequest { app_id, private_key, webhook_secret, api_url } = body.json(BAD)?;
    let api_url = api_url.unwrap_or_else(|| GITHUB_API.to_owned());
    let new = NewGitHubApp { app_id, private_key, webhook_secret, api_url };
    let app = github.set_app(&account, new).await.map_err(ApiError::from_github)?;
    Ok(Json(encode_app(app)))
}

/// Forgets the account's GitHub App; its syncs fail from then on.
#[utoipa::path(
    delete,
    path = "/git/v1/github/app",
    operation_id = "deleteGithubApp",
    tag = "git",
    responses(
        (status = 200, description = "It is forgotten", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(super) async fn delete_app(
    Account(account): Account,
    State(github): State<GitHub>,
) -> Result<Json<Empty>, ApiError> {
    github.delete_app(&account).await.map_err(ApiError::from_github)?;
    Ok(Json(Empty {}))
}

/// Hears from GitHub that something has changed there. Signed with the webhook secret of an app.
#[utoipa::path(
    post,
    path = "/git/v1/github/webhook",
    operation_id = "githubWebhook",
    tag = "git",
    security(()),
    responses(
        (status = 200, description = "Heard", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(super) async fn webhook(
    State(github): State<GitHub>,
    State(bodies): State<Arc<Bodies>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        value.ok_or_else(|| ApiError::new(BAD, format!("there is no header {name}")))
    };
    let (signature, app_id) = (header(SIGNATURE)?, header(APP_ID)?);
    if !github.knows_app(&app_id).await.map_err(ApiError::from_github)? {
        return Err(ApiError::from_github(GitHubError::NotSigned));
    }
    let busy = |_| ApiError::from_github(GitError::Busy.into());
    let _turn = timeout(TURN, HEARING.acquire()).await.map_err(busy)?;
    let (body, _permit) = bodies.receive(request, Limits::GITHUB, BAD).await?.raw();
    github.webhook(&app_id, &signature, body.into()).await.map_err(ApiError::from_github)?;
    Ok(Json(Empty {}))
}

fn encode_app(app: GitHubAppRecord) -> GithubApp {
    let GitHubAppRecord { app_id, api_url, created_at } = app;
    GithubApp { app_id, api_url, created_at: rfc3339(created_at) }
}

fn encode(sync: GitHubSyncRecord) -> GithubSync {
    let state = match &sync {
        GitHubSyncRecord { error: Some(_), .. } => GithubSyncState::Failed,
        GitHubSyncRecord { is_wanted: true, .. } => GithubSyncState::Pending,
        GitHubSyncRecord { conflicts, .. } if !conflicts.is_empty() => GithubSyncState::Conflict,
        _ => GithubSyncState::Synced,
    };
    let conflicts = sync.conflicts.into_iter().map(|conflict| GithubSyncConflict {
        name: conflict.name,
        here: conflict.here,
        github: conflict.there,
        reason: conflict.reason,
    });
    GithubSync {
        github_repo_name: sync.github_name,
        state,
        conflicts: conflicts.collect(),
        error: sync.error,
        synced_at: sync.synced_at.map(rfc3339),
    }
}
