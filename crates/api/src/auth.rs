//! The family `auth`: whose credential a caller holds.

use axum::Json;
use axum::extract::FromRef;
use freestyle_access::Access;
use freestyle_client::wire::{ErrorBody, WhoamiResponse};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Anyone;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
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
        (status = 200, description = "The account, and the identity if it is one", body = WhoamiResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
async fn whoami(Anyone(caller): Anyone) -> Json<WhoamiResponse> {
    Json(WhoamiResponse {
        account_id: caller.account().as_str().to_owned(),
        identity_id: caller.identity().map(|identity| identity.as_str().to_owned()),
    })
}
