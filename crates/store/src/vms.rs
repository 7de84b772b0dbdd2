//! VMs: who sees them, how they enter and leave, and how their recorded state changes.

use sqlx::SqliteConnection;

use crate::error::StoreError;
use crate::ids::{AccountId, InstanceId, VmId};
use crate::instances;
use crate::operations::{self, NewOperation, Operation};
use crate::rows::{integer, json, optional_integer};
use crate::store::{AccountScope, SystemScope, now};
use crate::vm_record::{NewVm, Persistence, Sizing, VmPhase, VmRecord, VmSettings};

/// The only node there is until several share a database.
const LOCAL_NODE: &str = "local";

/// What changes about a VM together with its operation, in one transaction. The default changes
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmChange {
    /// The new phase, if it changes; see [`SystemScope::set_phase`].
    pub phase: Option<VmPhase>,
    /// What becomes of the current instance.
    pub instance: InstanceChange,
}

impl VmChange {
    /// Only the phase changes.
    pub fn phase(phase: VmPhase) -> Self {
        Self { phase: Some(phase), instance: InstanceChange::Keep }
    }
}

/// What becomes of a VM's current instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InstanceChange {
    /// Nothing.
    #[default]
    Keep,
    /// The VM has none and gets a new one; see [`SystemScope::begin_instance`].
    Begin,
    /// It ended. Nothing happens if the VM's current instance is another.
    End {
        /// The run that ended.
        instance: InstanceId,
        /// How, in words.
        last_exit: String,
    },
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
    /// and the operation that makes it. One transaction: nothing remains of it on an error.
    pub async fn insert_vm(
        &self,
        vm: &NewVm,
        settings: &VmSettings,
        operation: NewOperation<'_>,
    ) -> Result<(VmRecord, Operation), StoreError> {
        let mut tx = self.store.begin().await?;
        let inserted = insert(&mut tx, Some(self.account), vm, settings, operation).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Takes one ready VM of this image and size out of the pool: it becomes the account's, in
    /// phase Creating, with the settings and the operation that hands it over. `None` if the pool
    /// has none. However many callers there are, each gets another VM.
    pub async fn claim_ready_vm(
        &self,
        image: &str,
        sizing: Sizing,
        settings: &VmSettings,
        operation: NewOperation<'_>,
    ) -> Result<Option<(VmRecord, Operation)>, StoreError> {
        let mut tx = self.store.begin().await?;
        let claimed: Option<VmRecord> = sqlx::query_as(
            "UPDATE vms SET phase = 'creating', account_id = $1, created_at = $2, name = $3,
                 persistence = $4, idle_timeout_seconds = $5, activity_threshold_bytes = $6,
                 recreate = $7
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
        .fetch_optional(&mut *tx)
        .await?;
        let Some(vm) = claimed else {
            return Ok(None);
        };
        let operation = operations::begin(&mut tx, &vm.id, operation).await?;
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
    /// Any account's VM; `None` if it never existed or was deleted.
    pub async fn vm(&self, id: &VmId) -> Result<Option<VmRecord>, StoreError> {
        let vm = sqlx::query_as("SELECT * FROM vms WHERE id = $1 AND deleted_at IS NULL")
            .bind(id.as_str())
            .fetch_optional(self.store.readers())
            .await?;
        Ok(vm)
    }

    /// Every VM that was not deleted, of all accounts and the pool, oldest first.
    pub async fn live_vms(&self) -> Result<Vec<VmRecord>, StoreError> {
        let vms =
            sqlx::query_as("SELECT * FROM vms WHERE deleted_at IS NULL ORDER BY created_at, id")
                .fetch_all(self.store.readers())
                .await?;
        Ok(vms)
    }

    /// Like [`AccountScope::insert_vm`], for a VM that will be held ready in the pool. It can be
    /// claimed once it is in phase Ready and its operation is finished.
    pub async fn insert_pool_vm(
        &self,
        vm: &NewVm,
        operation: NewOperation<'_>,
    ) -> Result<(VmRecord, Operation), StoreError> {
        // Placeholders: whoever claims the VM brings the settings.
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
        };
        let mut tx = self.store.begin().await?;
        let inserted = insert(&mut tx, None, vm, &settings, operation).await?;
        tx.commit().await?;
        Ok(inserted)
    }

    /// Records a new phase. Deleted also ends the VM's instance and drops its operation; the row
    /// remains.
    pub async fn set_phase(&self, vm: &VmId, phase: VmPhase) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        set_phase(&mut tx, vm, phase).await?;
        tx.commit().await?;
        Ok(())
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

/// Applies a change and answers the VM as it then is.
pub(crate) async fn change(
    database: &mut SqliteConnection,
    vm: &VmId,
    change: &VmChange,
) -> Result<VmRecord, StoreError> {
    match &change.instance {
        InstanceChange::Keep => {}
        InstanceChange::Begin => {
            instances::begin(database, vm).await?;
        }
        InstanceChange::End { instance, last_exit } => {
            instances::end(database, vm, instance, last_exit).await?;
        }
    }
    match change.phase {
        Some(phase) => set_phase(database, vm, phase).await,
        None => live_vm(database, vm).await,
    }
}

/// Records a new phase and answers the VM as it then is.
pub(crate) async fn set_phase(
    database: &mut SqliteConnection,
    vm: &VmId,
    phase: VmPhase,
) -> Result<VmRecord, StoreError> {
    let update = match phase {
        VmPhase::Deleted => {
            // Its task, if there is one, finds out when it next reports a step.
            operations::remove_of_vm(database, vm).await?;
            sqlx::query_as(
                "UPDATE vms SET phase = $2, deleted_at = $3, instance_id = NULL, slot = NULL
                 WHERE id = $1 AND deleted_at IS NULL RETURNING *",
            )
            .bind(vm.as_str())
            .bind(phase.as_str())
            .bind(now())
        }
        _ => sqlx::query_as(
            "UPDATE vms SET phase = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING *",
        )
        .bind(vm.as_str())
        .bind(phase.as_str()),
    };
    update.fetch_optional(database).await?.ok_or_else(|| StoreError::NoSuchVm(vm.clone()))
}

async fn insert(
    database: &mut SqliteConnection,
    account: Option<&AccountId>,
    vm: &NewVm,
    settings: &VmSettings,
    operation: NewOperation<'_>,
) -> Result<(VmRecord, Operation), StoreError> {
    sqlx::query(
        "INSERT INTO vms (id, account_id, name, vcpus, memory_mib, disk_mib, image, phase,
             persistence, idle_timeout_seconds, activity_threshold_bytes, recreate, node,
             created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(vm.id.as_str())
    .bind(account.map(AccountId::as_str))
    .bind(&settings.name)
    .bind(i64::from(vm.sizing.vcpus))
    .bind(integer(vm.sizing.memory_mib)?)
    .bind(integer(vm.sizing.disk_mib)?)
    .bind(&vm.image)
    .bind(VmPhase::Creating.as_str())
    .bind(json(&settings.persistence)?)
    .bind(optional_integer(settings.idle_timeout_seconds)?)
    .bind(optional_integer(settings.activity_threshold_bytes)?)
    .bind(settings.recreate)
    .bind(LOCAL_NODE)
    .bind(now())
    .execute(&mut *database)
    .await?;
    instances::begin(database, &vm.id).await?;
    let operation = operations::begin(database, &vm.id, operation).await?;
    Ok((live_vm(database, &vm.id).await?, operation))
}
