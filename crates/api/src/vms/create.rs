//! `POST /v1/vms`.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{BackgroundRequest, CreateVmRequest, CreateVmResponse, ErrorBody};
use freestyle_vm::setup::Source;

use super::domains::Wanted;
use super::spec;
use crate::App;
use crate::authenticate::Account;
use crate::background::{Progress, answer_after};
use crate::body::Limits;
use crate::error::{ApiError, Code};

/// Creates a VM and answers when its guest is ready.
///
/// With the header, a call that takes longer than that many seconds answers status 202 and goes on
/// in the background. Without, one that takes longer than 100 seconds answers status 200 and sends
/// white space until the body is there; a failure is then the error body with status 200. The VM is
/// made even if the client goes away.
#[utoipa::path(
    post,
    path = "/v1/vms",
    operation_id = "createVm",
    tag = "vms",
    params(
        ("X-Freestyle-Background-After-Secs" = Option<u32>, Header, description = "Seconds after which to answer at the latest"),
    ),
    request_body = CreateVmRequest,
    responses(
        (status = 200, description = "The VM, ready", body = CreateVmResponse),
        (status = 202, description = "It goes on", body = BackgroundRequest),
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
    let after = answer_after(request.headers(), BAD)?;
    let body = app.bodies.receive(request, Limits::SPEC, BAD).await?;
    let (mut request, permit) = body.json_with_permit::<CreateVmRequest>(BAD)?;
    let domains = Wanted::take(&mut request)?;
    let request = spec::decode_create(request)?;
    drop(permit);
    domains.check(&app.domains, &account).await?;
    let snapshot_id = match &request.spec.source {
        Source::BaseImage => None,
        Source::Snapshot(id) => Some(id.clone().into()),
    };
    let owner = account.clone();
    let background = app.background.clone();
    let call = async move |progress: Progress| {
        let vm = app.vms.create(&owner, request, Some(progress.observer())).await;
        let vm = vm.map_err(|error| ApiError::from_vm(error, BAD))?;
        let mut domains = match domains.map(&app.domains, &owner, &vm.id).await {
            Ok(domains) => domains,
            // Somebody was quicker. Nobody is told of this VM.
            Err(error) => {
                if let Err(error) = app.vms.delete(&owner, &vm.id).await {
                    tracing::error!(vm = %vm.id, %error, "removing a VM that got no domain");
                }
                return Err(error);
            }
        };
        domains.extend(app.domains.own_host(&vm.id));
        Ok(CreateVmResponse { id: vm.id.into(), domains, snapshot_id, console_url: None })
    };
    Ok(background.answer(&account, after, call).await)
}
