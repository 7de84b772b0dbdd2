//! Starting, stopping, suspending, waiting for and deleting a VM.
//!
//! What was begun runs to its end even if the client goes away; only waiting stops with it.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{
    AwaitVmResponse, DeleteVmResponse, ErrorBody, KillVmResponse, StartVmRequest, StartVmResponse,
    StopVmResponse, SuspendVmResponse,
};
use freestyle_vm::{StartVm, VmError};

use super::domains::failure as domain_failure;
use super::spec::{activity_threshold, idle_timeout, ready_timeout};
use crate::App;
use crate::authenticate::Account;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::long_call::{answer, to_completion};
use crate::path::VmPath;

const BAD: Code = Code::BadRequest;

/// Wakes a suspended VM or boots a stopped one and answers when its guest is ready. A running one
/// takes the new settings.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/start",
    operation_id = "startVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    request_body = Option<StartVmRequest>,
    responses(
        (status = 200, description = "The VM, ready", body = StartVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn start(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let request = decode_start(body.json_or_default(BAD)?)?;
    Ok(answer(to_completion(async move {
        let vm = app.vms.start(&account, &vm, request).await.map_err(failure)?;
        let domains = app.domains.of_vm(&account, &vm.id).await.map_err(domain_failure)?;
        Ok(StartVmResponse { id: vm.id.into(), domains, console_url: None })
    }))
    .await)
}

/// Shuts a VM down and keeps its disk. A suspended one gives up its memory.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/stop",
    operation_id = "stopVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The run that ended", body = StopVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn stop(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        let instance = app.vms.stop(&account, &vm).await.map_err(failure)?;
        let vm_instance_id = instance.map(String::from).unwrap_or_default();
        Ok(StopVmResponse { vm_id: vm.into(), vm_instance_id })
    }))
    .await
}

/// Saves a VM's memory and ends its process. Whatever needs the guest wakes it: a start, a command,
/// a file.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/suspend",
    operation_id = "suspendVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The run that was suspended", body = SuspendVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn suspend(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        let suspended = app.vms.suspend(&account, &vm).await.map_err(failure)?;
        Ok(SuspendVmResponse {
            id: suspended.id.into(),
            // Empty for an ephemeral VM that was deleted instead.
            vm_instance_id: suspended.instance.map(String::from).unwrap_or_default(),
            snapshot_layer_id: suspended.snapshot.map(String::from).unwrap_or_default(),
        })
    }))
    .await
}

/// Ends a VM's process at once and keeps its disk as it is.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/kill",
    operation_id = "killVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The VM", body = KillVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn kill(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        app.vms.kill(&account, &vm).await.map_err(failure)?;
        Ok(KillVmResponse { id: vm.into() })
    }))
    .await
}

/// Waits until a VM's process has ended, however long that takes.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/await",
    operation_id = "awaitVmExit",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "How it ended", body = AwaitVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn wait_for_exit(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(async move {
        let exit_status = app.vms.wait_for_exit(&account, &vm).await.map_err(failure)?;
        Ok(AwaitVmResponse { id: vm.into(), exit_status })
    })
    .await
}

/// Ends a VM and deletes its files, from any state.
#[utoipa::path(
    delete,
    path = "/v1/vms/{vm_id}",
    operation_id = "deleteVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The VM that was", body = DeleteVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        let vm = app.vms.delete(&account, &vm).await.map_err(failure)?;
        Ok(DeleteVmResponse { id: vm.id.into(), recreate: vm.recreate })
    }))
    .await
}

fn failure(error: VmError) -> ApiError {
    ApiError::from_vm(error, BAD)
}

pub(super) fn decode_start(request: StartVmRequest) -> Result<StartVm, ApiError> {
    let StartVmRequest {
        idle_timeout_seconds,
        ready_signal_timeout_seconds,
        wait_for_ready_signal: _,
        activity_threshold_bytes,
    } = request;
    let bad = |message| ApiError::new(BAD, message);
    Ok(StartVm {
        idle_timeout: idle_timeout_seconds.map(idle_timeout).transpose().map_err(bad)?,
        activity_threshold_bytes: activity_threshold(activity_threshold_bytes).map_err(bad)?,
        ready_timeout: ready_timeout(ready_signal_timeout_seconds).map_err(bad)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start(json: &str) -> Result<StartVm, ApiError> {
        decode_start(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn null_is_never_and_absent_keeps_the_last_value() {
        assert_eq!(start("{}").unwrap().idle_timeout, None);
        assert_eq!(start(r#"{"idleTimeoutSeconds": null}"#).unwrap().idle_timeout, Some(None));
        assert_eq!(
            start(r#"{"idleTimeoutSeconds": 60}"#).unwrap().idle_timeout,
            Some(Some(Duration::from_secs(60))),
        );
    }

    #[test]
    fn times_without_sense_are_refused() {
        for body in [
            r#"{"idleTimeoutSeconds": 0}"#,
            r#"{"idleTimeoutSeconds": 18446744073709551615}"#,
            r#"{"readySignalTimeoutSeconds": 0}"#,
            r#"{"readySignalTimeoutSeconds": 3601}"#,
            r#"{"activityThresholdBytes": 9007199254740992}"#,
        ] {
            assert_eq!(start(body).unwrap_err().code(), Code::BadRequest, "{body}");
        }
    }
}
