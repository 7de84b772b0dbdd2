//! Where SSH is served. Not part of the contract of the npm SDK, which knows one host only: the own
//! CLI asks here, so that nobody has to be told, and learns the key that proves who answers.

use axum::extract::{FromRef, State};
use axum::routing::get;
use axum::{Json, Router};
use freestyle_access::Access;
use freestyle_client::wire::SshResponse;

use crate::authenticate::Anyone;
use crate::error::{ApiError, Code};

/// The gateway, if this server has one.
#[derive(Debug, Clone)]
pub(crate) struct Gateway(pub(crate) Option<SshResponse>);

pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Gateway: FromRef<S>,
{
    Router::new().route("/v1/ssh", get(gateway))
}

async fn gateway(
    Anyone(_): Anyone,
    State(Gateway(gateway)): State<Gateway>,
) -> Result<Json<SshResponse>, ApiError> {
    let off = || ApiError::new(Code::NotFound, "this server has no SSH gateway (--ssh-listen off)");
    gateway.map(Json).ok_or_else(off)
}
