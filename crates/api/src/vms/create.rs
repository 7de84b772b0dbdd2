//! `POST /v1/vms`.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{CreateVmRequest, CreateVmResponse, ErrorBody};

use super::spec;
use crate::App;
use crate::authenticate::Account;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::long_call;

/// Creates a VM and answers when its guest is ready.
///
/// A call that takes longer than 100 seconds answers status 200 and sends white space until the
/// body is there; a failure is then the error body with status 200. The VM is made even if the
/// client goes away.
#[utoipa::path(
    post,
    path = "/v1/vms",
    operation_id = "createVm",
    tag = "vms",
    request_body = CreateVmRequest,
    responses(
        (status = 200, description = "The VM, ready", body = CreateVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Account(account): Account,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    const BAD: Code = Code::CreateVmBadRequest;
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let request = spec::decode(body.json::<CreateVmRequest>(BAD)?)?;
    Ok(long_call::answer(long_call::to_completion(async move {
        let vm = app.vms.create(&account, request).await;
        let vm = vm.map_err(|error| ApiError::from_vm(error, BAD))?;
        Ok(CreateVmResponse {
            id: vm.id.into(),
            domains: Vec::new(),
            snapshot_id: None,
            console_url: None,
        })
    }))
    .await)
}
