//! The family `auth`: whose credential a caller holds.

use axum::Json;
use axum::extract::FromRef;
use freestyle_client::wire::{ErrorBody, WhoamiResponse};
use freestyle_store::Store;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(whoami))
}

/// Tells whose credential this is.
#[utoipa::path(
    get,
    path = "/auth/v1/whoami",
    operation_id = "whoami",
    tag = "auth",
    responses(
        (status = 200, description = "The account", body = WhoamiResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
async fn whoami(Account(account): Account) -> Json<WhoamiResponse> {
    Json(WhoamiResponse { account_id: account.into(), identity_id: None })
}
