//! Sizes, as asked for.

use freestyle_vm::{
    DEFAULT_SIZING, MAX_DISK_MIB, MAX_MEMORY_MIB, MAX_VCPUS, MIN_DISK_MIB, MIN_MEMORY_MIB, Sizes,
};
use serde_json::Value;

use super::place::{Place, only};
use crate::error::{ApiError, Code};

/// Each size from the only place that names it, within its bounds.
pub(super) fn decode(places: &[Place], bad: Code) -> Result<Sizes, ApiError> {
    let given = |field: &'static str, size: fn(&Place) -> Option<f64>| {
        let given = places.iter().filter_map(move |place| Some((&place.prefix, size(place)?)));
        only(field, given, bad).map(|given| given.map(|(_, size)| size))
    };
    let sizes = Sizes {
        vcpus: given("vcpuCount", |place| place.vcpu_count)?.map(vcpus).transpose()?,
        memory_mib: given("memSizeGb", |place| place.mem_size_gb)?.map(memory_mib).transpose()?,
        disk_mib: given("rootfsSizeGb", |place| place.rootfs_size_gb)?.map(disk_mib).transpose()?,
    };
    sizes.or(DEFAULT_SIZING).map_err(|error| ApiError::from_vm(error, bad))?;
    Ok(sizes)
}

fn vcpus(got: f64) -> Result<u32, ApiError> {
    if !(got >= 1.0 && got <= f64::from(MAX_VCPUS)) {
        let message = format!("{got} vCPUs: the number must be between 1 and {MAX_VCPUS}");
        return Err(ApiError::new(Code::CreateVmVcpuOutOfRange, message)
            .with("got", number(got))
            .with("max", MAX_VCPUS));
    }
    whole(got).and_then(|whole| u32::try_from(whole).ok()).ok_or_else(|| {
        let message = format!("{got} vCPUs: the number must be a power of two");
        ApiError::new(Code::CreateVmVcpuNotPowerOfTwo, message).with("got", number(got))
    })
}

fn memory_mib(gb: f64) -> Result<u64, ApiError> {
    let got = gb * 1024.0;
    if !(got >= MIN_MEMORY_MIB as f64 && got <= MAX_MEMORY_MIB as f64) {
        let message = format!(
            "{got} MiB of memory: the size must be between {MIN_MEMORY_MIB} and {MAX_MEMORY_MIB} \
             MiB"
        );
        let (code, got) = (Code::CreateVmMemOutOfRange, number(got));
        return Err(ApiError::out_of_range(code, message, got, MIN_MEMORY_MIB, MAX_MEMORY_MIB));
    }
    whole(got).ok_or_else(|| {
        let message = format!("{got} MiB of memory: the size must be a power of two");
        ApiError::new(Code::CreateVmMemNotPowerOfTwo, message).with("got", number(got))
    })
}

/// A fraction of a MiB is rounded up.
fn disk_mib(gb: f64) -> Result<u64, ApiError> {
    let got = (gb * 1024.0).ceil();
    if !(got >= MIN_DISK_MIB as f64 && got <= MAX_DISK_MIB as f64) {
        let message = format!(
            "{got} MiB of root filesystem: the size must be between {MIN_DISK_MIB} and \
             {MAX_DISK_MIB} MiB"
        );
        let (code, got) = (Code::CreateVmRootfsOutOfRange, number(got));
        return Err(ApiError::out_of_range(code, message, got, MIN_DISK_MIB, MAX_DISK_MIB));
    }
    Ok(got as u64)
}

/// The integer that `value` is. Callers have checked that it is small and not negative.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0).then_some(value as u64)
}

/// A JSON number without a fraction where there is none.
fn number(value: f64) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}
