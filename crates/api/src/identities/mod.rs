//! The family `identity`: an account's end users, their tokens, and what they may use (protocol
//! section 12). All of it is for accounts; what an identity then does with a grant is in the family
//! of the thing that was granted.

mod git_permissions;
mod tokens;
mod vm_permissions;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, State};
use freestyle_access::Access;
use freestyle_client::wire::{self, Empty, ErrorBody, ListIdentitiesQuery, ListIdentitiesResponse};
use freestyle_store::{Identity, Store};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::body::Bodies;
use crate::error::{ApiError, Code};
use crate::path::IdentityPath;
use crate::query::{page, understood};

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
    Store: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(vm_permissions::list))
        .routes(routes!(
            vm_permissions::get,
            vm_permissions::grant,
            vm_permissions::update,
            vm_permissions::revoke
        ))
        .routes(routes!(git_permissions::list))
        .routes(routes!(
            git_permissions::get,
            git_permissions::grant,
            git_permissions::update,
            git_permissions::revoke
        ))
}

/// Makes an identity, who can do nothing until it has a token and a grant.
#[utoipa::path(
    post,
    path = "/identity/v1/identities",
    operation_id = "createIdentity",
    tag = "identity",
    responses(
        (status = 200, description = "The identity", body = wire::Identity),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn create(
    Account(account): Account,
    State(store): State<Store>,
) -> Result<Json<wire::Identity>, ApiError> {
    let created = store.account_scope(&account).create_identity().await;
    Ok(Json(encode(created.map_err(ApiError::from_store)?)))
}

/// Lists the account's identities, oldest first.
#[utoipa::path(
    get,
    path = "/identity/v1/identities",
    operation_id = "listIdentities",
    tag = "identity",
    params(ListIdentitiesQuery),
    responses(
        (status = 200, description = "The identities", body = ListIdentitiesResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn list(
    Account(account): Account,
    State(store): State<Store>,
    query: Result<Query<ListIdentitiesQuery>, QueryRejection>,
) -> Result<Json<ListIdentitiesResponse>, ApiError> {
    let ListIdentitiesQuery { limit, offset, include_managed: _ } =
        understood(query, Code::BadRequest)?;
    let (limit, offset) = page(limit, offset);
    let listed = store.account_scope(&account).identities(limit, offset).await;
    let listed = listed.map_err(ApiError::from_store)?;
    let identities = listed.items.into_iter().map(encode).collect();
    Ok(Json(ListIdentitiesResponse { identities, offset, total: listed.total }))
}

/// Deletes an identity. Its tokens and all that it was granted end at once.
#[utoipa::path(
    delete,
    path = "/identity/v1/identities/{identity}",
    operation_id = "deleteIdentity",
    tag = "identity",
    params(("identity" = String, Path, description = "The identity")),
    responses(
        (status = 200, description = "Deleted", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn delete(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    State(store): State<Store>,
) -> Result<Json<Empty>, ApiError> {
    let deleted = store.account_scope(&account).delete_identity(&identity).await;
    deleted.map(|()| Json(Empty {})).map_err(ApiError::from_store)
}

fn encode(identity: Identity) -> wire::Identity {
    wire::Identity { id: identity.id.into(), managed: false }
}
