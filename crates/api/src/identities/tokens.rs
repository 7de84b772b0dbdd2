//! Tokens of an identity.

use axum::Json;
use axum::extract::State;
use freestyle_client::wire::{
    CreateTokenResponse, Empty, ErrorBody, ListTokensResponse, TokenListItem,
};
use freestyle_store::Store;

use crate::authenticate::Account;
use crate::error::ApiError;
use crate::path::{IdentityPath, TokenPath};

/// Makes a token, which is in this answer and never shown again. It opens what the identity is
/// granted, now or later, until it is revoked.
#[utoipa::path(
    post,
    path = "/identity/v1/identities/{identity}/tokens",
    operation_id = "createToken",
    tag = "identity",
    params(("identity" = String, Path, description = "The identity")),
    responses(
        (status = 200, description = "The token", body = CreateTokenResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    State(store): State<Store>,
) -> Result<Json<CreateTokenResponse>, ApiError> {
    let created = store.account_scope(&account).create_token(&identity).await;
    let (token, secret) = created.map_err(ApiError::from_store)?;
    Ok(Json(CreateTokenResponse { id: token.id.into(), token: secret.expose().to_owned() }))
}

/// Lists the tokens of an identity that were not revoked, oldest first.
#[utoipa::path(
    get,
    path = "/identity/v1/identities/{identity}/tokens",
    operation_id = "listTokens",
    tag = "identity",
    params(("identity" = String, Path, description = "The identity")),
    responses(
        (status = 200, description = "The tokens, without their secrets", body = ListTokensResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    IdentityPath(identity): IdentityPath,
    State(store): State<Store>,
) -> Result<Json<ListTokensResponse>, ApiError> {
    let tokens = store.account_scope(&account).tokens(&identity).await;
    let tokens = tokens.map_err(ApiError::from_store)?.into_iter();
    let tokens = tokens.map(|token| TokenListItem { id: token.id.into() }).collect();
    Ok(Json(ListTokensResponse { tokens }))
}

/// Ends a token at once. What it had open is closed.
#[utoipa::path(
    delete,
    path = "/identity/v1/identities/{identity}/tokens/{token}",
    operation_id = "revokeToken",
    tag = "identity",
    params(
        ("identity" = String, Path, description = "The identity"),
        ("token" = String, Path, description = "The token's id"),
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
    TokenPath(token): TokenPath,
    State(store): State<Store>,
) -> Result<Json<Empty>, ApiError> {
    let revoked = store.account_scope(&account).revoke_token(&identity, &token).await;
    revoked.map(|()| Json(Empty {})).map_err(ApiError::from_store)
}
