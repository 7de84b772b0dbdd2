//! `POST /v1/vms/snapshots`.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{
    BackgroundRequest, EnsureSnapshotRequest, EnsureSnapshotResponse, ErrorBody,
};

use super::spec;
use crate::App;
use crate::authenticate::Account;
use crate::background::{Progress, answer_after};
use crate::body::Limits;
use crate::error::{ApiError, Code};

/// Builds a snapshot from a spec, or finds one that was built from the same, and answers when it is
/// ready.
///
/// A call that takes long answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/snapshots",
    operation_id = "ensureSnapshot",
    tag = "vms",
    params(
        ("X-Freestyle-Background-After-Secs" = Option<u32>, Header, description = "Seconds after which to answer at the latest"),
    ),
    request_body = EnsureSnapshotRequest,
    responses(
        (status = 200, description = "The snapshot, ready", body = EnsureSnapshotResponse),
        (status = 202, description = "It goes on", body = BackgroundRequest),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn ensure(
    Account(account): Account,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    const BAD: Code = Code::CreateSnapshotBadRequest;
    let after = answer_after(request.headers(), BAD)?;
    let body = app.bodies.receive(request, Limits::SPEC, BAD).await?;
    let (request, permit) = body.json_with_permit::<EnsureSnapshotRequest>(BAD)?;
    let request = spec::decode_ensure(request)?;
    drop(permit);
    let owner = account.clone();
    let background = app.background.clone();
    let call = async move |progress: Progress| {
        let snapshot = app.vms.ensure_snapshot(&owner, request, Some(progress.observer())).await;
        let snapshot = snapshot.map_err(|error| ApiError::from_vm(error, BAD))?;
        Ok(EnsureSnapshotResponse { snapshot_id: snapshot.id.into() })
    };
    Ok(background.answer(&account, after, call).await)
}
