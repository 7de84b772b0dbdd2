//! What is remembered about a snapshot.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::ids::{AccountId, BuildId, InstanceId, SnapshotId, VmId};
use crate::rows::{decoded, number, optional_number, parsed, parsed_optional, word};
use crate::vm_record::Sizing;

/// What a snapshot is for, and so who may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotPurpose {
    /// Its owner's: listed, named, and there until the owner deletes it.
    Kept,
    /// What one suspended VM goes on with. Goes when the VM leaves phase Suspended.
    Suspend,
    /// What the children of one fork start from.
    Fork,
}

impl SnapshotPurpose {
    const ALL: [Self; 3] = [Self::Kept, Self::Suspend, Self::Fork];

    /// As stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Suspend => "suspend",
            Self::Fork => "fork",
        }
    }
}

/// Where a snapshot is in its life (protocol section 10). That it was deleted is not a state:
/// see [`SnapshotRecord::deleted_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    const ALL: [Self; 5] = [Self::Building, Self::Ready, Self::Failed, Self::Cancelled, Self::Lost];

    /// As stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// What happens to a snapshot when space runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum SnapshotPersistence {
    /// Kept until it is deleted.
    Persistent,
    /// May be evicted when space runs out; a higher priority is evicted later.
    Sticky {
        /// 0 to 10.
        priority: u8,
    },
}

/// What is remembered about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Identifier.
    pub id: SnapshotId,
    /// Its owner.
    pub account_id: AccountId,
    /// What it is for.
    pub purpose: SnapshotPurpose,
    /// The VM it was taken of; it may be deleted by now.
    pub vm_id: Option<VmId>,
    /// The run of that VM.
    pub instance_id: Option<InstanceId>,
    /// A label for people; not unique.
    pub name: Option<String>,
    /// Where it is in its life. Never Building once it was deleted.
    pub state: SnapshotState,
    /// Why it failed or is lost, in words; set exactly in those two states.
    pub failure: Option<String>,
    /// What happens to it when space runs out.
    pub persistence: SnapshotPersistence,
    /// CPU, memory and disk of the VMs made from it.
    pub sizing: Sizing,
    /// Content hash of the base image that its disk stands on.
    pub image: String,
    /// Hash of the spec it was built from.
    pub content: Option<String>,
    /// The build that makes it.
    pub build_id: Option<BuildId>,
    /// Bytes that its memory takes on disk, once known.
    pub memory_bytes: Option<u64>,
    /// Bytes that its own disk layer takes, once known. Shared layers below are not counted.
    pub disk_bytes: Option<u64>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; when a VM was last made from it, or else when it was created.
    pub last_used_at: i64,
    /// Unix milliseconds; no VM is made from it any more.
    pub deleted_at: Option<i64>,
}

impl FromRow<'_, SqliteRow> for SnapshotRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let persistence: &str = row.try_get("persistence")?;
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed(row, "account_id")?,
            purpose: word(row, "purpose", &SnapshotPurpose::ALL, SnapshotPurpose::as_str)?,
            vm_id: parsed_optional(row, "vm_id")?,
            instance_id: parsed_optional(row, "instance_id")?,
            name: row.try_get("name")?,
            state: word(row, "state", &SnapshotState::ALL, SnapshotState::as_str)?,
            failure: row.try_get("failure")?,
            persistence: decoded("persistence", serde_json::from_str(persistence))?,
            sizing: Sizing {
                vcpus: number(row, "vcpus")?,
                memory_mib: number(row, "memory_mib")?,
                disk_mib: number(row, "disk_mib")?,
            },
            image: row.try_get("image")?,
            content: row.try_get("content")?,
            build_id: parsed_optional(row, "build_id")?,
            memory_bytes: optional_number(row, "memory_bytes")?,
            disk_bytes: optional_number(row, "disk_bytes")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
            deleted_at: row.try_get("deleted_at")?,
        })
    }
}

/// A snapshot that is about to be made. See [`SnapshotRecord`] for the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Never used before.
    pub id: SnapshotId,
    /// What it is for. A Suspend snapshot has a VM.
    pub purpose: SnapshotPurpose,
    /// The VM it is taken of, if one is.
    pub vm_id: Option<VmId>,
    /// The run of that VM.
    pub instance_id: Option<InstanceId>,
    /// A label for people; not unique.
    pub name: Option<String>,
    /// What happens to it when space runs out.
    pub persistence: SnapshotPersistence,
    /// CPU, memory and disk of the VMs made from it.
    pub sizing: Sizing,
    /// Content hash of the base image that its disk stands on.
    pub image: String,
    /// Hash of the spec it is built from, if it is.
    pub content: Option<String>,
    /// The build that makes it, if one does.
    pub build_id: Option<BuildId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wire forms of protocol section 6.2, which are also the stored ones.
    #[test]
    fn persistence_has_the_documented_json_forms() {
        let forms = [
            (SnapshotPersistence::Persistent, r#"{"type":"persistent"}"#),
            (SnapshotPersistence::Sticky { priority: 5 }, r#"{"type":"sticky","priority":5}"#),
        ];
        for (persistence, json) in forms {
            assert_eq!(serde_json::to_string(&persistence).unwrap(), json);
            assert_eq!(serde_json::from_str::<SnapshotPersistence>(json).unwrap(), persistence);
        }
        assert!(serde_json::from_str::<SnapshotPersistence>(r#"{"type":"ephemeral"}"#).is_err());
    }
}
