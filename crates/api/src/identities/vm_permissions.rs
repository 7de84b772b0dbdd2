//! Which VMs an identity may use, and as whom.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use freestyle_client::wire::{
    Empty, ErrorBody, ListPermissionsQuery, ListVmPermissionsResponse, VmPermission,
    VmPermissionRequest,
};
use freestyle_store::{Store, StoreError, VmGrant};
use freestyle_vm::LinuxUser;

use crate::authenticate::{Account, ApiKey};
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::path::{GrantedVmPath, IdentityPath};
use crate::query::{page, understood};
use crate::timestamp::rfc3339;

const BAD: Code = Code::BadRequest;
/// Most Linux users that one grant names.
const MAX_USERS: usize = 100;

/// Lets an identity use a VM: run commands, use files and terminals, log in over SSH. With
/// `allowedUsers`, only as those Linux users, one of which every call then has to name.
#[utoipa::path(
    post,
    path = "/identity/v1/identities/{identity}/permissions/vm/{vm_id}",
    operation_id = "grantVmPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("vm_id" = String, Path, description = "The VM"),
    ),
    request_body = VmPermissionRequest,
    responses(
        (status = 200, description = "The grant", body = VmPermission),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn grant(
    ApiKey { account, key }: ApiKey,
    IdentityPath(identity): IdentityPath,
    GrantedVmPath(vm): GrantedVmPath,
    State(store): State<Store>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<VmPermission>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let users = decode(body.json_or_default(BAD)?)?;
    let scope = store.account_scope(&account);
    let granted = scope.grant_vm(&identity, &vm, users.as_deref(), &key).await;
    granted.map(|granted| Json(encode(granted))).map_err(failure)
}

/// Replaces as which Linux users an identity may use a VM; without `allowedUsers`, as any.
#[utoipa::path(
    put,
    path = "/identity/v1/identities/{identity}/permissions/vm/{vm_id}",
    operation_id = "updateVmPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("vm_id" = String, Path, description = "The VM"),
    ),
    request_body = VmPermissionRequest,
    responses(
        (status = 200, description = "The grant as it is now", body = VmPermission),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn update(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    GrantedVmPath(vm): GrantedVmPath,
    State(store): State<Store>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<VmPermission>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let users = decode(body.json(BAD)?)?;
    let scope = store.account_scope(&account);
    let updated = scope.update_vm_grant(&identity, &vm, users.as_deref()).await;
    updated.map(|updated| Json(encode(updated))).map_err(failure)
}

/// Tells as whom an identity may use a VM.
#[utoipa::path(
    get,
    path = "/identity/v1/identities/{identity}/permissions/vm/{vm_id}",
    operation_id = "getVmPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("vm_id" = String, Path, description = "The VM"),
    ),
    responses(
        (status = 200, description = "The grant", body = VmPermission),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    GrantedVmPath(vm): GrantedVmPath,
    State(store): State<Store>,
) -> Result<Json<VmPermission>, ApiError> {
    let scope = store.account_scope(&account);
    scope.identity(&identity).await.map_err(failure)?;
    let granted = scope.vm_grant(&identity, &vm).await.map_err(failure)?;
    let granted = granted.ok_or(StoreError::NoSuchGrant).map_err(failure)?;
    Ok(Json(encode(granted)))
}

/// Lists the VMs that an identity may use, in the order in which they were granted.
#[utoipa::path(
    get,
    path = "/identity/v1/identities/{identity}/permissions/vm",
    operation_id = "listVmPermissions",
    tag = "identity",
    params(("identity" = String, Path, description = "The identity"), ListPermissionsQuery),
    responses(
        (status = 200, description = "The grants", body = ListVmPermissionsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    State(store): State<Store>,
    query: Result<Query<ListPermissionsQuery>, QueryRejection>,
) -> Result<Json<ListVmPermissionsResponse>, ApiError> {
    let ListPermissionsQuery { limit, offset } = understood(query, BAD)?;
    let (limit, offset) = page(limit, offset);
    let listed = store.account_scope(&account).vm_grants(&identity, limit, offset).await;
    let listed = listed.map_err(failure)?;
    let permissions = listed.items.into_iter().map(encode).collect();
    Ok(Json(ListVmPermissionsResponse { permissions, offset, total: listed.total }))
}

/// Ends an identity's right to use a VM at once. What it has open there is closed.
#[utoipa::path(
    delete,
    path = "/identity/v1/identities/{identity}/permissions/vm/{vm_id}",
    operation_id = "revokeVmPermission",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("vm_id" = String, Path, description = "The VM"),
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
    GrantedVmPath(vm): GrantedVmPath,
    State(store): State<Store>,
) -> Result<Json<Empty>, ApiError> {
    let revoked = store.account_scope(&account).revoke_vm_grant(&identity, &vm).await;
    revoked.map(|()| Json(Empty {})).map_err(failure)
}

fn failure(error: StoreError) -> ApiError {
    match error {
        StoreError::NoSuchGrant => ApiError::new(Code::VmPermissionNotFound, error.to_string()),
        _ => ApiError::from_store(error),
    }
}

/// The Linux users of a grant; `None` is any. An empty list is refused, since it could be meant as
/// either all or nothing.
fn decode(request: VmPermissionRequest) -> Result<Option<Vec<String>>, ApiError> {
    let VmPermissionRequest { allowed_users } = request;
    let Some(users) = allowed_users else { return Ok(None) };
    let bad = |why: &str| ApiError::new(BAD, format!("allowedUsers: {why}"));
    if users.is_empty() {
        return Err(bad("it is empty; name a Linux user, or leave it out to allow every one"));
    }
    if users.len() > MAX_USERS {
        return Err(bad(&format!("it names more than {MAX_USERS} Linux users")));
    }
    for user in &users {
        LinuxUser::parse(user).map_err(|error| bad(&error.to_string()))?;
    }
    Ok(Some(users))
}

fn encode(grant: VmGrant) -> VmPermission {
    VmPermission {
        id: grant.id.into(),
        vm_id: grant.vm_id.into(),
        identity_id: grant.identity_id.into(),
        allowed_users: grant.allowed_users,
        granted_at: rfc3339(grant.granted_at),
        granted_by: grant.granted_by.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn users(body: Value) -> Result<Option<Vec<String>>, ApiError> {
        decode(serde_json::from_value(body).unwrap())
    }

    #[test]
    fn no_users_are_any_user() {
        assert_eq!(users(json!({})), Ok(None));
        assert_eq!(users(json!({"allowedUsers": null})), Ok(None));
        let named = users(json!({"allowedUsers": ["alice", "root"]})).unwrap().unwrap();
        assert_eq!(named, ["alice", "root"]);
    }

    #[test]
    fn users_that_cannot_be_are_refused() {
        let many = vec!["alice"; MAX_USERS + 1];
        for bad in [
            json!([]),
            json!([""]),
            json!(["alice", "--help"]),
            json!(["a:b"]),
            json!(["alice "]),
            json!(["x".repeat(33)]),
            json!(many),
        ] {
            let error = users(json!({"allowedUsers": bad})).unwrap_err();
            assert_eq!(error.code(), Code::BadRequest);
            assert!(error.into_body().message.contains("allowedUsers"));
        }
        assert!(users(json!({"allowedUsers": vec!["alice"; MAX_USERS]})).is_ok());
    }
}
