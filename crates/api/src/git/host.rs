//! Where native git finds the repositories.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::GitHostResponse;

use crate::authenticate::Anyone;
use crate::error::ApiError;

/// The URL of the git host, as clients reach it.
#[derive(Debug, Clone)]
pub(crate) struct GitUrl(pub(crate) Arc<str>);

/// Tells where native git finds repositories.
#[utoipa::path(
    get,
    path = "/git/v1/host",
    operation_id = "getGitHost",
    tag = "git",
    responses(
        (status = 200, description = "The git host", body = GitHostResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
    )
)]
pub(super) async fn get(
    _: Anyone,
    State(GitUrl(url)): State<GitUrl>,
) -> Result<Json<GitHostResponse>, ApiError> {
    Ok(Json(GitHostResponse { url: url.to_string() }))
}
