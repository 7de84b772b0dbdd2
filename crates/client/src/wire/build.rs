//! Building a snapshot from a spec, and looking at builds (protocol section 10).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SnapshotPersistence, VmSpecLayer, VmTemplate};

/// The body of `POST /v1/vms/snapshots`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct EnsureSnapshotRequest {
    /// A label for people; not unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Layers, outermost first. The outermost is the snapshot that is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<VmSpecLayer>,
    /// One layer, instead of `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<VmTemplate>,
    /// What happens to the snapshot when space runs out; persistent where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<SnapshotPersistence>,
    /// Every field not named above, as sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "utoipa", schema(ignore))]
    pub rest: Map<String, Value>,
}

/// The reply of `POST /v1/vms/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct EnsureSnapshotResponse {
    /// The snapshot, ready: built now, or found with the same content.
    pub snapshot_id: String,
}

/// Where a build is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum BuildState {
    /// Not begun. No build of this server ever is.
    Pending,
    /// At work.
    Running,
    /// Every phase was done.
    Succeeded,
    /// Given up.
    Failed,
}

/// The making of a snapshot or VM from a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct BuildRecord {
    /// The build.
    pub build_id: String,
    /// Whose it is.
    pub account_id: String,
    /// Where it is in its life.
    pub state: BuildState,
    /// Hash of the spec.
    pub template_hash: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Names of all its phases, in order.
    pub planned_phases: Vec<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; once it is no longer running.
    pub finished_at: Option<String>,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// The reply of `GET /v1/vms/builds/{build_id}/phases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListBuildPhasesResponse {
    /// Those that were begun, in order; the last is the current one while the build runs.
    pub phases: Vec<BuildPhase>,
}

/// A phase of a build that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct BuildPhase {
    /// The phase.
    pub phase_id: String,
    /// The build.
    pub build_id: String,
    /// One of [`BuildRecord::planned_phases`].
    pub name: String,
    /// What can be started to look into the state after this phase.
    pub snapshot_id: Option<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
}
