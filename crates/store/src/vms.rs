//! VMs: who sees them, how they enter and leave, and how their recorded state changes.

use sqlx::SqliteConnection;

use crate::domain_mappings;
use crate::error::StoreError;
use crate::ids::{AccountId, InstanceId, SnapshotId, VmId};
use crate::instances;
use crate::operations::{self, Operation};
use crate::rows::{integer, json, optional_integer};
use crate::snapshots;
use crate::store::{AccountScope, SystemScope, now};
use crate::vm_grants;
use crate::vm_record::{NewVm, Nic, Persistence, Sizing, VmPhase, VmRecord, VmSettings};
use crate::vpcs;
use crate::wireguard_peers;

/// How an operation leaves its VM. One that was suspended and is left in another phase, or on
/// another snapshot, gives up the memory it stood on: that snapshot is deleted in the same
/// transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled<'a> {
    /// In phase [`VmPhase::Running`]. It must have an instance.
    Running,
    /// In phase [`VmPhase::Ready`]. It must have an instance and no owner.
    Ready,
    /// In phase [`VmPhase::Stopped`]; its instance, if it has one, ends.
    Stopped {
        /// How the instance ended, in words.
        last_exit: &'a str,
    },
    /// In phase [`VmPhase::Suspended`]; its instance, if it has one, ends.
    Suspended {
        /// Its memory: a live snapshot that was taken to suspend this VM, which becomes ready in
        /// the same transaction, or the one it stands on already (it could not be woken), which
        /// stays as it is.
        snapshot: &'a SnapshotId,
    },
    /// In phase [`VmPhase::Deleted`]; its instance, if it has one, ends. The row remains, and nobody
    /// has a grant on it any more.
    Deleted,
}

impl AccountScope<'_> {
    /// A VM of this account; `None` if it never existed, was deleted or is someone else's.
    pub async fn vm(&self, id: &VmId) -> Result<Option<VmRecord>, StoreError> {
        let vm = sqlx::query_as(
            "SELECT * FROM vms WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL",
        )
        .bind(id.as_str())
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(vm)
    }

    /// The account's VMs, newest first. The deleted ones are all that ever were.
    pub async fn vms(&self, include_deleted: bool) -> Result<Vec<VmRecord>, StoreError> {
        let vms = sqlx::query_as(
            "SELECT * FROM vms WHERE account_id = $1 AND (deleted_at IS NULL OR $2)
             ORDER BY created_at DESC, id DESC",
        )
        .bind(self.account.as_str())
        .bind(include_deleted)
        .fetch_all(self.store.readers())
        .await?;
        Ok(vms)
    }

    /// Records a VM that is about to be made for this account: phase Creating, its first instance
    /// and the operation, of this kind, that makes it. Its origin counts as used;
    /// [`StoreError::NoSuchSnapshot`] if that is not a snapshot of this account, or none to make
    /// VMs from. A NIC gets its address; [`StoreError::NoSuchVpc`] if the VPC is not this account's,
    /// or another error if it cannot have that address. One transaction: nothing remains of it on
    /// an error.
    pub async fn insert_vm(
        &self,
        vm: &NewVm,
        settings: &VmSettings,
        kind: &str,
    ) -> Result<(VmRecord, Operation), StoreError> {
        let mut tx = self.store.begin().await?;
        let inserted = insert(&mut tx, Some(self.account), vm, settings, kind).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Takes one ready VM of this image and size out of the pool: it becomes the account's, in
    /// phase Creating, with the settings and the operation that hands it over. `None` if the pool
    /// has none. However many callers there are, each gets another VM. A NIC as in
    /// [`AccountScope::insert_vm`].
    pub async fn claim_ready_vm(
        &self,
        image: &str,
        sizing: Sizing,
        settings: &VmSettings,
        kind: &str,
    ) -> Result<Option<(VmRecord, Operation)>, StoreError> {
        let mut tx = self.store.begin().await?;
        let nic = nic(&mut tx, Some(self.account), settings).await?;
        let claimed: Option<VmRecord> = sqlx::query_as(
            "UPDATE vms SET phase = 'creating', account_id = $1, created_at = $2, name = $3,
                 persistence = $4, idle_timeout_seconds = $5, activity_threshold_bytes = $6,
                 recreate = $7, vpc_id = $12, vpc_address = $13, vpc_default = $14
             WHERE phase = 'ready' AND id = (
                 SELECT id FROM vms
                 WHERE phase = 'ready' AND image = $8 AND vcpus = $9 AND memory_mib = $10
                     AND disk_mib = $11 AND id NOT IN (SELECT vm_id FROM operations)
                 ORDER BY created_at, id LIMIT 1)
             RETURNING *",
        )
        .bind(self.account.as_str())
        .bind(now())
        .bind(&settings.name)
        .bind(json(&settings.persistence)?)
        .bind(optional_integer(settings.idle_timeout_seconds)?)
        .bind(optional_integer(settings.activity_threshold_bytes)?)
        .bind(settings.recreate)
        .bind(image)
        .bind(i64::from(sizing.vcpus))
        .bind(integer(sizing.memory_mib)?)
        .bind(integer(sizing.disk_mib)?)
        .bind(nic.as_ref().map(|nic| nic.vpc.as_str()))
        .bind(nic.as_ref().map(|nic| nic.address.to_string()))
        .bind(nic.as_ref().map(|nic| nic.is_default))
        .fetch_optional(&mut *tx)
        .await?;
        let Some(vm) = claimed else {
            return Ok(None);
        };
        let operation = operations::begin(&mut tx, &vm.id, kind).await?;
        tx.commit().await?;
        Ok(Some((vm, operation)))
    }

    /// Replaces when the VM counts as idle; see [`VmRecord`]. False if the account has no such VM.
    pub async fn set_idle_settings(
        &self,
        vm: &VmId,
        idle_timeout_seconds: Option<u64>,
        activity_threshold_bytes: Option<u64>,
    ) -> Result<bool, StoreError> {
        let updated = sqlx::query(
            "UPDATE vms SET idle_timeout_seconds = $3, activity_threshold_bytes = $4
             WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL",
        )
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .bind(optional_integer(idle_timeout_seconds)?)
        .bind(optional_integer(activity_threshold_bytes)?)
        .execute(self.store.writer())
        .await?;
        Ok(updated.rows_affected() == 1)
    }
}

impl SystemScope<'_> {
    /// Every VM that was not deleted, of all accounts and the pool, oldest first.
    pub async fn live_vms(&self) -> Result<Vec<VmRecord>, StoreError> {
        let vms =
            sqlx::query_as("SELECT * FROM vms WHERE deleted_at IS NULL ORDER BY created_at, id")
                .fetch_all(self.store.readers())
                .await?;
        Ok(vms)
    }

    /// Replaces the CPU, memory and disk of a VM. Answers the VM as it then is.
    pub async fn set_sizing(&self, vm: &VmId, sizing: Sizing) -> Result<VmRecord, StoreError> {
        sqlx::query_as(
            "UPDATE vms SET vcpus = $2, memory_mib = $3, disk_mib = $4
             WHERE id = $1 AND deleted_at IS NULL RETURNING *",
        )
        .bind(vm.as_str())
        .bind(i64::from(sizing.vcpus))
        .bind(integer(sizing.memory_mib)?)
        .bind(integer(sizing.disk_mib)?)
        .fetch_optional(self.store.writer())
        .await?
        .ok_or_else(|| StoreError::NoSuchVm(vm.clone()))
    }

    /// Like [`AccountScope::insert_vm`], for a VM that will be held ready in the pool. It can be
    /// claimed once it is in phase Ready and its operation is finished.
    pub async fn insert_pool_vm(
        &self,
        vm: &NewVm,
        kind: &str,
    ) -> Result<(VmRecord, Operation), StoreError> {
        // Placeholders: whoever claims the VM brings the settings.
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
            nic: None,
        };
        let mut tx = self.store.begin().await?;
        let inserted = insert(&mut tx, None, vm, &settings, kind).await?;
        tx.commit().await?;
        Ok(inserted)
    }
}

/// A VM that was not deleted.
pub(crate) async fn live_vm(
    database: &mut SqliteConnection,
    id: &VmId,
) -> Result<VmRecord, StoreError> {
    sqlx::query_as("SELECT * FROM vms WHERE id = $1 AND deleted_at IS NULL")
        .bind(id.as_str())
        .fetch_optional(database)
        .await?
        .ok_or_else(|| StoreError::NoSuchVm(id.clone()))
}

/// Records how an operation leaves its VM and answers the VM as it then is.
pub(crate) async fn settle(
    database: &mut SqliteConnection,
    vm: &VmId,
    settled: Settled<'_>,
) -> Result<VmRecord, StoreError> {
    const GOES_ON: &str = "UPDATE vms SET phase = $2, suspended = NULL
         WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    const ENDED: &str = "UPDATE vms SET phase = $2, instance_id = NULL, slot = NULL,
             last_exit = CASE WHEN instance_id IS NULL THEN last_exit ELSE $3 END, suspended = $4
         WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    const DELETED: &str = "UPDATE vms SET phase = $2, instance_id = NULL, slot = NULL,
             suspended = NULL, deleted_at = $3
         WHERE id = $1 AND deleted_at IS NULL RETURNING *";
    let stands_on = match settled {
        Settled::Suspended { snapshot } => Some(snapshot),
        Settled::Running | Settled::Ready | Settled::Stopped { .. } | Settled::Deleted => None,
    };
    change_memory(database, vm, stands_on).await?;
    if settled == Settled::Deleted {
        vm_grants::end_all(database, vm).await?;
        domain_mappings::end_all(database, vm).await?;
        wireguard_peers::remove_of_gateway(database, vm).await?;
    }
    let update = |sql, phase: VmPhase| sqlx::query_as(sql).bind(vm.as_str()).bind(phase.as_str());
    let ended = |phase, last_exit| {
        update(ENDED, phase).bind(last_exit).bind(stands_on.map(SnapshotId::as_str))
    };
    let update = match settled {
        Settled::Running => update(GOES_ON, VmPhase::Running),
        Settled::Ready => update(GOES_ON, VmPhase::Ready),
        Settled::Stopped { last_exit } => ended(VmPhase::Stopped, last_exit),
        Settled::Suspended { .. } => ended(VmPhase::Suspended, "suspended"),
        Settled::Deleted => update(DELETED, VmPhase::Deleted).bind(now()),
    };
    update.fetch_optional(database).await?.ok_or_else(|| StoreError::NoSuchVm(vm.clone()))
}

/// Readies the snapshot that a VM is about to stand on, and deletes the one it stood on if that is
/// another.
async fn change_memory(
    database: &mut SqliteConnection,
    vm: &VmId,
    stands_on: Option<&SnapshotId>,
) -> Result<(), StoreError> {
    let stood_on = live_vm(database, vm).await?.suspended;
    if stood_on.as_ref() == stands_on {
        return Ok(());
    }
    if let Some(given_up) = stood_on {
        snapshots::mark_deleted(database, &given_up).await?;
    }
    if let Some(snapshot) = stands_on {
        snapshots::stand_on(database, snapshot, vm).await?;
    }
    Ok(())
}

/// The NIC that the settings ask for, with an address. A VM of nobody has none.
async fn nic(
    database: &mut SqliteConnection,
    account: Option<&AccountId>,
    settings: &VmSettings,
) -> Result<Option<Nic>, StoreError> {
    match (account, &settings.nic) {
        (Some(account), Some(new)) => Ok(Some(vpcs::choose_address(database, account, new).await?)),
        _ => Ok(None),
    }
}

async fn insert(
    database: &mut SqliteConnection,
    account: Option<&AccountId>,
    vm: &NewVm,
    settings: &VmSettings,
    kind: &str,
) -> Result<(VmRecord, Operation), StoreError> {
    if let Some(origin) = &vm.origin {
        snapshots::begin_use(database, origin, account).await?;
    }
    let nic = nic(database, account, settings).await?;
    let slot = instances::free_slot(database).await?;
    let record: VmRecord = sqlx::query_as(
        "INSERT INTO vms (id, account_id, name, vcpus, memory_mib, disk_mib, image, phase,
             instance_id, slot, origin, persistence, idle_timeout_seconds,
             activity_threshold_bytes, recreate, created_at, vpc_id, vpc_address, vpc_default)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19)
         RETURNING *",
    )
    .bind(vm.id.as_str())
    .bind(account.map(AccountId::as_str))
    .bind(&settings.name)
    .bind(i64::from(vm.sizing.vcpus))
    .bind(integer(vm.sizing.memory_mib)?)
    .bind(integer(vm.sizing.disk_mib)?)
    .bind(&vm.image)
    .bind(VmPhase::Creating.as_str())
    .bind(InstanceId::random().as_str())
    .bind(slot)
    .bind(vm.origin.as_ref().map(SnapshotId::as_str))
    .bind(json(&settings.persistence)?)
    .bind(optional_integer(settings.idle_timeout_seconds)?)
    .bind(optional_integer(settings.activity_threshold_bytes)?)
    .bind(settings.recreate)
    .bind(now())
    .bind(nic.as_ref().map(|nic| nic.vpc.as_str()))
    .bind(nic.as_ref().map(|nic| nic.address.to_string()))
    .bind(nic.as_ref().map(|nic| nic.is_default))
    .fetch_one(&mut *database)
    .await?;
    let operation = operations::begin(database, &vm.id, kind).await?;
    Ok((record, operation))
}
