//! What is remembered about a VM.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::ids::{AccountId, InstanceId, SnapshotId, VmId, VpcId};
use crate::rows::{decoded, number, optional_number, parsed, parsed_optional, word};

/// CPU, memory and disk of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sizing {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Root filesystem in MiB.
    pub disk_mib: u64,
}

/// What happens to a VM when it stops or space runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Persistence {
    /// Kept until it is deleted.
    Persistent,
    /// May be evicted when space runs out; a higher priority is evicted later.
    Sticky {
        /// 0 to 10.
        priority: u8,
    },
    /// Deleted at the event.
    #[serde(rename_all = "camelCase")]
    Ephemeral {
        /// When it goes.
        delete_event: DeleteEvent,
    },
}

/// When an ephemeral VM is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteEvent {
    /// When it stops.
    OnStop,
    /// When it is suspended or stops.
    OnSuspend,
}

/// The last settled state of a VM, as recorded. Not what users are shown: that is derived from
/// what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmPhase {
    /// Being made, for an account or for the pool.
    Creating,
    /// Held in the pool: made and waiting for an account to claim it.
    Ready,
    /// Has a process, or had one whose end is not recorded yet.
    Running,
    /// Only its disk is kept.
    Stopped,
    /// Its memory and its disk are kept, and no process: it goes on where it was when it wakes.
    Suspended,
    /// Gone; the row remains for lists that ask for it.
    Deleted,
}

impl VmPhase {
    const ALL: [Self; 6] =
        [Self::Creating, Self::Ready, Self::Running, Self::Stopped, Self::Suspended, Self::Deleted];

    /// As stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

/// One run of a VM's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Identifier; what is made on the host for this run is named after it.
    pub id: InstanceId,
    /// Below [`crate::SLOTS`], and no other instance has it: addresses are computed from it.
    pub slot: u16,
}

/// The place of a VM in a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The VPC, which exists as long as the VM does.
    pub vpc: VpcId,
    /// Its address there, which no other VM of the VPC has, with the prefix length of the range.
    pub address: Ipv4Net,
    /// Whether it is what the VM is known by on its way to the internet as well.
    pub is_default: bool,
}

/// What is remembered about a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRecord {
    /// Identifier.
    pub id: VmId,
    /// Its owner; `None` while it is held ready in the pool.
    pub account_id: Option<AccountId>,
    /// A label for people; not unique.
    pub name: Option<String>,
    /// CPU, memory and disk.
    pub sizing: Sizing,
    /// Content hash of the base image.
    pub image: String,
    /// The last settled state.
    pub phase: VmPhase,
    /// The current run, from before its process is started until after it ended. There is one in
    /// every phase but Stopped, Suspended and Deleted; in Stopped only while the VM is being
    /// started, in Suspended only while it is being woken.
    pub instance: Option<Instance>,
    /// The snapshot it was created from, which may be deleted by now; `None` is the base image.
    pub origin: Option<SnapshotId>,
    /// Its own memory, to go on with; set exactly in phase [`VmPhase::Suspended`].
    pub suspended: Option<SnapshotId>,
    /// Its place in a VPC.
    pub nic: Option<Nic>,
    /// What happens when it stops or space runs out.
    pub persistence: Persistence,
    /// Seconds without network traffic until it may be suspended; `None` is never.
    pub idle_timeout_seconds: Option<u64>,
    /// Bytes per check interval below which traffic does not count as activity.
    pub activity_threshold_bytes: Option<u64>,
    /// As given at create.
    pub recreate: bool,
    /// Unix milliseconds; of a VM from the pool, when it was claimed.
    pub created_at: i64,
    /// Unix milliseconds; set exactly in phase [`VmPhase::Deleted`].
    pub deleted_at: Option<i64>,
    /// How the last run that ended did so, in words.
    pub last_exit: Option<String>,
}

impl FromRow<'_, SqliteRow> for VmRecord {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let instance = match parsed_optional(row, "instance_id")? {
            None => None,
            Some(id) => Some(Instance { id, slot: number(row, "slot")? }),
        };
        let nic = match parsed_optional(row, "vpc_id")? {
            None => None,
            Some(vpc) => Some(Nic {
                vpc,
                address: parsed(row, "vpc_address")?,
                is_default: row.try_get("vpc_default")?,
            }),
        };
        let persistence: &str = row.try_get("persistence")?;
        Ok(Self {
            id: parsed(row, "id")?,
            account_id: parsed_optional(row, "account_id")?,
            name: row.try_get("name")?,
            sizing: Sizing {
                vcpus: number(row, "vcpus")?,
                memory_mib: number(row, "memory_mib")?,
                disk_mib: number(row, "disk_mib")?,
            },
            image: row.try_get("image")?,
            phase: word(row, "phase", &VmPhase::ALL, VmPhase::as_str)?,
            instance,
            origin: parsed_optional(row, "origin")?,
            suspended: parsed_optional(row, "suspended")?,
            nic,
            persistence: decoded("persistence", serde_json::from_str(persistence))?,
            idle_timeout_seconds: optional_number(row, "idle_timeout_seconds")?,
            activity_threshold_bytes: optional_number(row, "activity_threshold_bytes")?,
            recreate: row.try_get("recreate")?,
            created_at: row.try_get("created_at")?,
            deleted_at: row.try_get("deleted_at")?,
            last_exit: row.try_get("last_exit")?,
        })
    }
}

/// A VM that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVm {
    /// Never used before.
    pub id: VmId,
    /// CPU, memory and disk.
    pub sizing: Sizing,
    /// Content hash of the base image.
    pub image: String,
    /// The snapshot it is created from; `None` is the base image. A VM in the pool has none.
    pub origin: Option<SnapshotId>,
}

/// What an owner chooses about a VM besides its size. A VM in the pool has none of it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSettings {
    /// A label for people; not unique.
    pub name: Option<String>,
    /// What happens when it stops or space runs out.
    pub persistence: Persistence,
    /// Seconds without network traffic until it may be suspended; `None` is never.
    pub idle_timeout_seconds: Option<u64>,
    /// Bytes per check interval below which traffic does not count as activity.
    pub activity_threshold_bytes: Option<u64>,
    /// See protocol section 6.2.
    pub recreate: bool,
    /// Its place in a VPC.
    pub nic: Option<NewNic>,
}

/// A place in a VPC that a VM is about to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNic {
    /// The VPC.
    pub vpc: VpcId,
    /// The address it is to have; `None` is the lowest that is free.
    pub address: Option<Ipv4Addr>,
    /// See [`Nic::is_default`].
    pub is_default: bool,
    /// Addresses that it must not have, besides the first and the last of the VPC's range.
    pub excluded: Vec<Ipv4Net>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wire forms of protocol section 6.2, which are also the stored ones.
    #[test]
    fn persistence_has_the_documented_json_forms() {
        let forms = [
            (Persistence::Persistent, r#"{"type":"persistent"}"#),
            (Persistence::Sticky { priority: 5 }, r#"{"type":"sticky","priority":5}"#),
            (
                Persistence::Ephemeral { delete_event: DeleteEvent::OnStop },
                r#"{"type":"ephemeral","deleteEvent":"OnStop"}"#,
            ),
            (
                Persistence::Ephemeral { delete_event: DeleteEvent::OnSuspend },
                r#"{"type":"ephemeral","deleteEvent":"OnSuspend"}"#,
            ),
        ];
        for (persistence, json) in forms {
            assert_eq!(serde_json::to_string(&persistence).unwrap(), json);
            assert_eq!(serde_json::from_str::<Persistence>(json).unwrap(), persistence);
        }
    }
}
