//! Which repositories an identity may use, and how.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use freestyle_access::RepositoryLevel;
use freestyle_client::wire::{
    Empty, ErrorBody, GitAccessLevel, GitPermission, GitPermissionRequest, GrantedRepository,
    ListGitPermissionsResponse, ListPermissionsQuery, Visibility,
};
use freestyle_store::{RepositoryRecord, Store, StoreError};

use crate::authenticate::{Account, ApiKey};
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::path::{GrantedRepositoryPath, IdentityPath};
use crate::query::{page, understood};

const BAD: Code = Code::BadRequest;

/// Lets an identity read or write a repository, through git and through this API.
#[utoipa::path(
    post,
    path = "/identity/v1/identities/{identity}/permissions/git/{repo}",
    operation_id = "grantGitPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("repo" = String, Path, description = "The repository"),
    ),
    request_body = GitPermissionRequest,
    responses(
        (status = 200, description = "Granted", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn grant(
    ApiKey { account, key }: ApiKey,
    IdentityPath(identity): IdentityPath,
    GrantedRepositoryPath(repository): GrantedRepositoryPath,
    State(store): State<Store>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let GitPermissionRequest { permission } = body.json(BAD)?;
    let scope = store.account_scope(&account);
    let granted = scope.grant_git(&identity, &repository, decode(permission), &key).await;
    granted.map(|_| Json(Empty {})).map_err(failure)
}

/// Replaces what an identity may do with a repository.
#[utoipa::path(
    put,
    path = "/identity/v1/identities/{identity}/permissions/git/{repo}",
    operation_id = "updateGitPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("repo" = String, Path, description = "The repository"),
    ),
    request_body = GitPermissionRequest,
    responses(
        (status = 200, description = "Changed", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn update(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    GrantedRepositoryPath(repository): GrantedRepositoryPath,
    State(store): State<Store>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let GitPermissionRequest { permission } = body.json(BAD)?;
    let scope = store.account_scope(&account);
    let updated = scope.update_git_grant(&identity, &repository, decode(permission)).await;
    updated.map(|_| Json(Empty {})).map_err(failure)
}

/// Tells what an identity may do with a repository.
#[utoipa::path(
    get,
    path = "/identity/v1/identities/{identity}/permissions/git/{repo}",
    operation_id = "getGitPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("repo" = String, Path, description = "The repository"),
    ),
    responses(
        (status = 200, description = "The grant", body = GitPermission),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    GrantedRepositoryPath(repository): GrantedRepositoryPath,
    State(store): State<Store>,
) -> Result<Json<GitPermission>, ApiError> {
    let scope = store.account_scope(&account);
    scope.identity(&identity).await.map_err(failure)?;
    let granted = scope.git_grant(&identity, &repository).await.map_err(failure)?;
    let granted = granted.ok_or(StoreError::NoSuchGrant).map_err(failure)?;
    Ok(Json(GitPermission {
        identity: granted.identity_id.into(),
        repo: granted.repository_id,
        access_level: Some(encode(granted.level)),
    }))
}

/// Lists the repositories that an identity may use, in the order in which they were granted.
#[utoipa::path(
    get,
    path = "/identity/v1/identities/{identity}/permissions/git",
    operation_id = "listGitPermissions",
    tag = "identity",
    params(("identity" = String, Path, description = "The identity"), ListPermissionsQuery),
    responses(
        (status = 200, description = "The repositories", body = ListGitPermissionsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    State(store): State<Store>,
    query: Result<Query<ListPermissionsQuery>, QueryRejection>,
) -> Result<Json<ListGitPermissionsResponse>, ApiError> {
    let ListPermissionsQuery { limit, offset } = understood(query, BAD)?;
    let (limit, offset) = page(limit, offset);
    let listed = store.account_scope(&account).git_grants(&identity, limit, offset).await;
    let listed = listed.map_err(failure)?.into_iter();
    let repositories = listed.map(|(repository, level)| encode_repository(repository, level));
    Ok(Json(ListGitPermissionsResponse { repositories: repositories.collect() }))
}

/// Ends an identity's right to use a repository at once.
#[utoipa::path(
    delete,
    path = "/identity/v1/identities/{identity}/permissions/git/{repo}",
    operation_id = "revokeGitPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("repo" = String, Path, description = "The repository"),
    ),
    responses(
        (status = 200, description = "Revoked", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    GrantedRepositoryPath(repository): GrantedRepositoryPath,
    State(store): State<Store>,
) -> Result<Json<Empty>, ApiError> {
    let revoked = store.account_scope(&account).revoke_git_grant(&identity, &repository).await;
    revoked.map(|()| Json(Empty {})).map_err(failure)
}

fn failure(error: StoreError) -> ApiError {
    match error {
        StoreError::NoSuchGrant => ApiError::new(Code::PermissionNotFound, error.to_string()),
        _ => ApiError::from_store(error),
    }
}

fn decode(level: GitAccessLevel) -> RepositoryLevel {
    match level {
        GitAccessLevel::Read => RepositoryLevel::Read,
        GitAccessLevel::Write => RepositoryLevel::Write,
    }
}

fn encode(level: RepositoryLevel) -> GitAccessLevel {
    match level {
        RepositoryLevel::Read => GitAccessLevel::Read,
        RepositoryLevel::Write => GitAccessLevel::Write,
    }
}

fn encode_repository(repository: RepositoryRecord, level: RepositoryLevel) -> GrantedRepository {
    GrantedRepository {
        id: repository.id,
        name: repository.name,
        account_id: repository.account_id.into(),
        permissions: encode(level),
        visibility: if repository.public { Visibility::Public } else { Visibility::Private },
    }
}
