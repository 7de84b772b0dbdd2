//! Taking snapshots and looking after them (protocol section 10).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::nullable;

/// Where a snapshot is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum SnapshotState {
    /// Being taken or built.
    Building,
    /// VMs can be made from it.
    Ready,
    /// It could not be taken or built.
    Failed,
    /// Its making was given up.
    Cancelled,
    /// Its files are missing or damaged.
    Lost,
}

impl SnapshotState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for SnapshotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happens to a snapshot when space runs out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum SnapshotPersistence {
    /// May be evicted.
    Sticky {
        /// 0 to 10, 5 where absent; a higher one is evicted later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "utoipa", schema(maximum = 10))]
        priority: Option<u8>,
    },
    /// Kept until it is deleted.
    Persistent {},
}

/// The body of `POST /v1/vms/{vm_id}/snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SnapshotVmRequest {
    /// A label for people; not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to it when space runs out; persistent where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<SnapshotPersistence>,
}

/// The reply of `POST /v1/vms/{vm_id}/snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SnapshotVmResponse {
    /// The snapshot, ready.
    pub snapshot_id: String,
    /// The VM it was taken of.
    pub source_vm_id: String,
    /// The run of that VM.
    pub source_vm_instance_id: Option<String>,
}

/// The query of `GET /v1/vms/snapshots`. Ready snapshots are always listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListSnapshotsQuery {
    /// Also snapshots that were deleted; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_deleted: Option<bool>,
    /// Also those that failed; `true` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_failed: Option<bool>,
    /// Also those that are being made; `true` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_building: Option<bool>,
    /// Also those whose making was given up; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_cancelled: Option<bool>,
    /// Also those whose files are gone; `false` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_lost: Option<bool>,
}

/// The reply of `GET /v1/vms/snapshots`. Apart from `total_count`, the counts cover all snapshots
/// of the account; a deleted one is counted as that and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListSnapshotsResponse {
    /// Those asked for, newest first.
    pub snapshots: Vec<SnapshotRecord>,
    /// How many are listed.
    pub total_count: u64,
    /// How many are being made.
    pub building_count: u64,
    /// How many are ready.
    pub ready_count: u64,
    /// How many failed.
    pub failed_count: u64,
    /// How many were given up.
    pub cancelled_count: u64,
    /// How many are lost.
    pub lost_count: u64,
    /// How many were deleted.
    pub deleted_count: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SnapshotRecord {
    /// The snapshot.
    pub snapshot_id: String,
    /// Where it is in its life. A deleted one keeps the state it had.
    pub state: SnapshotState,
    /// The VM it was taken of; it may be gone.
    pub source_vm_id: Option<String>,
    /// Whose it is.
    pub account_id: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// A label for people.
    pub name: Option<String>,
    /// Whether `state` is `failed`.
    pub failed: bool,
    /// Whether `state` is `cancelled`.
    pub cancelled: bool,
    /// Whether `state` is `lost`.
    pub lost: bool,
    /// Why it failed or is lost.
    pub failure_reason: Option<String>,
    /// Whether it was deleted; only listed when asked for.
    pub deleted: bool,
    /// What happens to it when space runs out.
    pub snapshot_persistence: SnapshotPersistence,
    /// The build that made it, if one did.
    pub build_id: Option<String>,
    /// Virtual CPUs of the VMs made from it.
    pub vcpu_count: Option<u32>,
    /// Memory of the VMs made from it, in MiB.
    pub mem_size_mib: Option<u64>,
    /// Root filesystem of the VMs made from it, in MiB, whatever the name says.
    pub rootfs_size_mb: Option<u64>,
}

/// The body of `PATCH /v1/vms/snapshots/{snapshot_id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RenameSnapshotRequest {
    /// The new label; `null` takes it away.
    #[serde(default, deserialize_with = "nullable::deserialize")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<String>))]
    pub name: Option<Option<String>>,
}

/// The reply of `PATCH /v1/vms/snapshots/{snapshot_id}`, in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RenameSnapshotResponse {
    /// The snapshot.
    pub snapshot_id: String,
    /// Its label now.
    pub name: Option<String>,
}

/// The reply of `DELETE /v1/vms/snapshots/{snapshot_id}`, in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeleteSnapshotResponse {
    /// The snapshot that was deleted.
    pub snapshot_id: String,
}
