//! Making VMs that go on from where another one is.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{ErrorBody, ForkVmRequest, ForkVmResponse, ForkedVm};
use freestyle_vm::{MAX_FORKS, Persistence};

use super::decode_persistence;
use crate::App;
use crate::authenticate::Account;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::long_call::{answer, to_completion};
use crate::path::VmPath;

const BAD: Code = Code::BadRequest;

/// Makes children of a running or suspended VM, each with its memory, processes and disk, and
/// answers when they are ready. Either all of them are there then, or none.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/fork",
    operation_id = "forkVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    request_body = Option<ForkVmRequest>,
    responses(
        (status = 200, description = "The children, ready", body = ForkVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn fork(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let (count, persistence) = decode(body.json_or_default(BAD)?)?;
    Ok(answer(to_completion(async move {
        let children = app.vms.fork(&account, &vm, count, persistence).await;
        let children = children.map_err(ApiError::from_fork)?;
        let forks = children.into_iter().map(|child| ForkedVm {
            // What was mapped still leads to the parent.
            domains: app.domains.own_host(&child.id).into_iter().collect(),
            id: child.id.into(),
            console_url: None,
        });
        Ok(ForkVmResponse { vm_id: vm.into(), forks: forks.collect() })
    }))
    .await)
}

/// How many children, and how they are kept if not like their parent.
pub(super) fn decode(request: ForkVmRequest) -> Result<(u32, Option<Persistence>), ApiError> {
    let ForkVmRequest { count, persistence } = request;
    let persistence = persistence.map(|asked| decode_persistence(&asked, BAD)).transpose()?;
    let count = count.unwrap_or(1);
    match u32::try_from(count) {
        Ok(count @ 1..=MAX_FORKS) => Ok((count, persistence)),
        _ => {
            let message = format!("count is {count}; it must be between 1 and {MAX_FORKS}");
            Err(ApiError::new(BAD, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(json: &str) -> Result<u32, ApiError> {
        decode(serde_json::from_str(json).unwrap()).map(|(count, _)| count)
    }

    #[test]
    fn one_child_unless_it_says_how_many() {
        assert_eq!(fork("{}"), Ok(1));
        assert_eq!(fork(r#"{"count": null}"#), Ok(1));
        assert_eq!(fork(r#"{"count": 16}"#), Ok(16));
        assert_eq!(fork(&format!(r#"{{"count": {MAX_FORKS}}}"#)), Ok(MAX_FORKS));
        for bad in ["0", "-1", "129", "10000", "4294967297", "9223372036854775807"] {
            let error = fork(&format!(r#"{{"count": {bad}}}"#)).unwrap_err();
            assert_eq!(error.code(), BAD, "{bad}");
            assert!(error.into_body().message.contains(bad));
        }
        let error = fork(r#"{"persistence": {"type": "sticky", "priority": 11}}"#).unwrap_err();
        assert_eq!(error.code(), BAD);
    }
}
