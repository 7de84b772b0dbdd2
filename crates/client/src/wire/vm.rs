//! Listing VMs, changing their state, and forking them (protocol section 6).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{VmPersistence, nullable};

/// The state of a VM, derived from what is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum VmState {
    /// Being created, its packages are being installed.
    Building,
    /// Being created or booting.
    Starting,
    /// The guest answers.
    Running,
    /// Its memory is being saved.
    Suspending,
    /// Memory and disk are saved, nothing runs.
    Suspended,
    /// Only the disk is kept.
    Stopped,
    /// Its files are missing or damaged.
    Lost,
}

impl VmState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// CPU, memory and disk of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmSizing {
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_size_mib: u64,
    /// Root filesystem in MiB, whatever the name says.
    pub rootfs_size_mb: u64,
}

/// The query of `GET /v1/vms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListVmsQuery {
    /// At most this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Skip this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Only VMs in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_state: Option<VmState>,
    /// Also VMs that were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_deleted: Option<bool>,
    /// Only VMs whose id or name contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// The reply of `GET /v1/vms`. The counts cover all VMs of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListVmsResponse {
    /// The page, newest first.
    pub vms: Vec<VmListItem>,
    /// How many match the filter in all.
    pub total_count: u64,
    /// How many are being built.
    pub building_count: u64,
    /// How many are starting.
    pub starting_count: u64,
    /// How many are running.
    pub running_count: u64,
    /// How many are being suspended.
    pub suspending_count: u64,
    /// How many are suspended.
    pub suspended_count: u64,
    /// How many are stopped.
    pub stopped_count: u64,
    /// How many are lost.
    pub lost_count: u64,
}

/// One VM of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmListItem {
    /// The VM.
    pub id: String,
    /// A label for people.
    pub name: Option<String>,
    /// What it is doing.
    pub state: VmState,
    /// RFC 3339, UTC.
    pub created_at: Option<String>,
    /// When its network was last in use, as the idle monitor counts it. RFC 3339, UTC.
    pub last_network_activity: Option<String>,
    /// CPU time of the current run.
    pub cpu_time_seconds: Option<f64>,
    /// What happens when it stops or space runs out.
    pub persistence: Option<VmPersistence>,
    /// Whether it was deleted; only listed when asked for.
    #[serde(default)]
    pub deleted: bool,
    /// CPU, memory and disk.
    pub sizing: VmSizing,
}

/// The reply of `GET /v1/vms/{vm_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GetVmResponse {
    /// The VM.
    pub id: String,
    /// A label for people.
    pub name: Option<String>,
    /// As given at create.
    pub recreate: bool,
    /// The current run, if there is one.
    pub vm_instance_id: Option<String>,
    /// When its network was last in use, as the idle monitor counts it. RFC 3339, UTC.
    pub last_network_activity: Option<String>,
    /// What it is doing.
    pub state: VmState,
    /// CPU time of the current run.
    pub cpu_time_seconds: Option<f64>,
}

/// The reply of `DELETE /v1/vms/{vm_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeleteVmResponse {
    /// The VM that was deleted.
    pub id: String,
    /// As given at create.
    pub recreate: bool,
}

/// The body of `POST /v1/vms/{vm_id}/start`. Absent fields keep the last value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct StartVmRequest {
    /// Seconds without network traffic until the VM is suspended; `null` is never.
    #[serde(default, deserialize_with = "nullable::deserialize")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u64>))]
    pub idle_timeout_seconds: Option<Option<u64>>,
    /// How long to wait for the guest; 120 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_signal_timeout_seconds: Option<u64>,
    /// Accepted either way: the call answers when the guest is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_ready_signal: Option<bool>,
    /// Bytes per check interval below which traffic does not count as activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_threshold_bytes: Option<u64>,
}

/// The reply of `POST /v1/vms/{vm_id}/start`. `console_url` is in snake case here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct StartVmResponse {
    /// The VM.
    pub id: String,
    /// Domains that lead to it.
    pub domains: Vec<String>,
    /// Always `null`.
    pub console_url: Option<String>,
}

/// The reply of `POST /v1/vms/{vm_id}/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct StopVmResponse {
    /// The VM.
    pub vm_id: String,
    /// The run that ended; empty when none did because the VM was stopped already.
    pub vm_instance_id: String,
}

/// The reply of `POST /v1/vms/{vm_id}/kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct KillVmResponse {
    /// The VM.
    pub id: String,
}

/// The reply of `POST /v1/vms/{vm_id}/await`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct AwaitVmResponse {
    /// The VM.
    pub id: String,
    /// How its process ended, in words.
    pub exit_status: String,
}

/// The reply of `POST /v1/vms/{vm_id}/suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SuspendVmResponse {
    /// The VM.
    pub id: String,
    /// The run whose memory was saved.
    pub vm_instance_id: String,
    /// The saved memory; it goes when the VM is woken.
    pub snapshot_layer_id: String,
}

/// The body of `POST /v1/vms/{id}/resize`. What is absent or `null` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ResizeVmRequest {
    /// Virtual CPUs: a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u32>))]
    pub vcpu_count: Option<f64>,
    /// Memory in GB; a power of two in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_size_gb: Option<f64>,
    /// Root filesystem in GB; it cannot shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_size_gb: Option<f64>,
}

/// The body of `POST /v1/vms/{vm_id}/fork`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ForkVmRequest {
    /// How many children; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u32>, minimum = 1, maximum = 128))]
    pub count: Option<i64>,
    /// What happens to the children when they stop or space runs out; as with their parent where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<VmPersistence>,
}

/// The reply of `POST /v1/vms/{vm_id}/fork`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ForkVmResponse {
    /// The VM that was forked.
    pub vm_id: String,
    /// Its children, ready.
    pub forks: Vec<ForkedVm>,
}

/// A child of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ForkedVm {
    /// The VM.
    pub id: String,
    /// Domains that lead to it.
    pub domains: Vec<String>,
    /// Always `null`.
    pub console_url: Option<String>,
}

/// The reply of `POST /v1/vms/{vm_id}/optimize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct OptimizeVmResponse {
    /// The VM.
    pub id: String,
    /// What was done, for people.
    pub message: String,
}
