//! Changing a VM's sizes, and flattening its disk.

use axum::extract::{Request, State};
use axum::response::Response;
use freestyle_client::wire::{Empty, ErrorBody, OptimizeVmResponse, ResizeVmRequest};
use freestyle_vm::{MAX_DISK_MIB, MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, Sizes};

use crate::App;
use crate::authenticate::Account;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::long_call::{answer, to_completion};
use crate::path::VmPath;

const BAD: Code = Code::BadRequest;

/// Changes a VM's CPUs, memory or disk. One that runs or is suspended is shut down and started
/// again: its disk stays, its processes do not.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{id}/resize",
    operation_id = "resizeVm",
    tag = "vms",
    params(("id" = String, Path, description = "The VM")),
    request_body = ResizeVmRequest,
    responses(
        (status = 200, description = "It has the sizes", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn resize(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let sizes = decode(body.json(BAD)?)?;
    Ok(answer(to_completion(async move {
        app.vms.resize(&account, &vm, sizes).await.map_err(ApiError::from_resize)?;
        Ok(Empty {})
    }))
    .await)
}

/// Flattens the layers of a VM's disk into one, so that reads no longer go through each of them.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/optimize",
    operation_id = "optimizeVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "What was done", body = OptimizeVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn optimize(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        let message = app.vms.optimize(&account, &vm).await;
        let message = message.map_err(|error| ApiError::from_vm(error, BAD))?;
        Ok(OptimizeVmResponse { id: vm.into(), message })
    }))
    .await
}

/// What cannot be written in the service's units is refused here, everything else there.
pub(super) fn decode(request: ResizeVmRequest) -> Result<Sizes, ApiError> {
    let ResizeVmRequest { vcpu_count, mem_size_gb, rootfs_size_gb } = request;
    Ok(Sizes {
        vcpus: vcpu_count.map(vcpus).transpose()?,
        memory_mib: mem_size_gb.map(memory_mib).transpose()?,
        disk_mib: rootfs_size_gb.map(disk_mib).transpose()?,
    })
}

fn vcpus(got: f64) -> Result<u32, ApiError> {
    if !(got >= 1.0 && got <= f64::from(MAX_VCPUS)) {
        let message = format!("{got} vCPUs: the number must be between 1 and {MAX_VCPUS}");
        let error = ApiError::new(Code::ResizeVmVcpuOutOfRange, message);
        return Err(error.with("got", got).with("max", MAX_VCPUS));
    }
    if got.fract() != 0.0 {
        let message = format!("{got} vCPUs: the number must be a power of two");
        return Err(ApiError::new(Code::ResizeVmVcpuNotPowerOfTwo, message).with("got", got));
    }
    Ok(got as u32)
}

fn memory_mib(gb: f64) -> Result<u64, ApiError> {
    let got = gb * 1024.0;
    if !(got >= MIN_MEMORY_MIB as f64 && got <= MAX_MEMORY_MIB as f64) {
        let message = format!(
            "{got} MiB of memory: the size must be between {MIN_MEMORY_MIB} and {MAX_MEMORY_MIB} MiB"
        );
        let (code, got) = (Code::ResizeVmMemOutOfRange, got.into());
        return Err(ApiError::out_of_range(code, message, got, MIN_MEMORY_MIB, MAX_MEMORY_MIB));
    }
    if got.fract() != 0.0 {
        let message = format!("{got} MiB of memory: the size must be a power of two");
        return Err(ApiError::new(Code::ResizeVmMemNotPowerOfTwo, message).with("got", got));
    }
    Ok(got as u64)
}

/// A fraction of a MiB is rounded up. Whether it would shrink depends on the VM.
fn disk_mib(gb: f64) -> Result<u64, ApiError> {
    let got = (gb * 1024.0).ceil();
    if got > MAX_DISK_MIB as f64 {
        let max = MAX_DISK_MIB / 1024;
        let message = format!("{gb} GB of root filesystem: it has at most {max} GB");
        return Err(ApiError::new(Code::RootfsSizeTooLarge, message).with("gotGb", gb));
    }
    // A negative one becomes 0, which would shrink any disk.
    Ok(got as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resize(json: &str) -> Result<Sizes, ApiError> {
        decode(serde_json::from_str(json).unwrap())
    }

    fn refusal(json: &str) -> (&'static str, serde_json::Value) {
        let error = resize(json).unwrap_err();
        (error.code().as_str(), serde_json::to_value(error.into_body()).unwrap())
    }

    #[test]
    fn what_is_absent_or_null_stays() {
        for body in ["{}", r#"{"vcpuCount": null, "memSizeGb": null, "rootfsSizeGb": null}"#] {
            assert_eq!(resize(body).unwrap(), Sizes::default());
        }
        assert_eq!(
            resize(r#"{"vcpuCount": 8, "memSizeGb": 0.5, "rootfsSizeGb": 80.1}"#).unwrap(),
            Sizes { vcpus: Some(8), memory_mib: Some(512), disk_mib: Some(82023) },
        );
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_the_codes_of_a_resize() {
        for (body, code) in [
            (r#"{"vcpuCount": 0}"#, "RESIZE_VM_VCPU_OUT_OF_RANGE"),
            (r#"{"vcpuCount": -4}"#, "RESIZE_VM_VCPU_OUT_OF_RANGE"),
            (r#"{"vcpuCount": 1e300}"#, "RESIZE_VM_VCPU_OUT_OF_RANGE"),
            (r#"{"vcpuCount": 2.5}"#, "RESIZE_VM_VCPU_NOT_POWER_OF_TWO"),
            (r#"{"memSizeGb": 0}"#, "RESIZE_VM_MEM_OUT_OF_RANGE"),
            (r#"{"memSizeGb": 65}"#, "RESIZE_VM_MEM_OUT_OF_RANGE"),
            (r#"{"memSizeGb": 3.0001}"#, "RESIZE_VM_MEM_NOT_POWER_OF_TWO"),
        ] {
            let (got, error) = refusal(body);
            assert_eq!(got, code, "{body}");
            assert!(error["got"].is_number(), "{body}");
        }
        let (code, error) = refusal(r#"{"rootfsSizeGb": 512.1}"#);
        assert_eq!((code, &error["gotGb"]), ("ROOTFS_SIZE_TOO_LARGE", &512.1.into()));
    }

    proptest! {
        #[test]
        fn any_numbers_are_sizes_or_refused(
            vcpus in any::<f64>(), memory in any::<f64>(), disk in any::<f64>(),
        ) {
            let request = ResizeVmRequest {
                vcpu_count: Some(vcpus),
                mem_size_gb: Some(memory),
                rootfs_size_gb: Some(disk),
            };
            if let Ok(sizes) = decode(request) {
                prop_assert!(sizes.vcpus <= Some(MAX_VCPUS));
                prop_assert!(sizes.memory_mib <= Some(MAX_MEMORY_MIB));
                prop_assert!(sizes.disk_mib <= Some(MAX_DISK_MIB));
            }
        }
    }
}
