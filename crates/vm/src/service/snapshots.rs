//! Snapshots, forks and suspended VMs: what happens to memory.
//!
//! All three are one thing, a snapshot of a VM, and differ in who owns it: the account, the children
//! that are made from it, or the VM itself.

use freestyle_store::{
    AccountId, NewSnapshot, SnapshotEnd, SnapshotId, SnapshotPurpose, SnapshotRecord, VmId,
    VmPhase, VmRecord, VmSettings,
};
use futures_util::future::join_all;
use std::sync::Arc;

use super::create::Origin;
use super::{Service, Shared};
use crate::engine::Engine;
use crate::error::VmError;
use crate::machine;
use crate::model::*;
use crate::operation::Operation;

impl<E: Engine> Service<E> {
    /// Takes a snapshot of a VM that runs, and goes on running, or is suspended.
    pub async fn snapshot(
        &self,
        account: &AccountId,
        vm: &VmId,
        request: TakeSnapshot,
    ) -> Result<SnapshotInfo, VmError> {
        let record = self.record(account, vm).await?;
        if record.phase == VmPhase::Stopped {
            return Err(VmError::NotRunning(record.id));
        }
        let new = NewSnapshot {
            name: request.name,
            persistence: request.persistence,
            ..machine::snapshot_of(&record, SnapshotId::random(), SnapshotPurpose::Kept)
        };
        let id = new.id.clone();
        let owner = account.clone();
        self.finish(move |shared| async move { shared.capture(&owner, &record, new).await })
            .await?;
        self.snapshot_info(account, &id).await
    }

    /// Makes `count` VMs that go on where this one is, each with its memory, processes and disk.
    /// Either all of them are there afterwards, or none. They are kept as their parent is unless
    /// `persistence` says otherwise.
    pub async fn fork(
        &self,
        account: &AccountId,
        vm: &VmId,
        count: u32,
        persistence: Option<Persistence>,
    ) -> Result<Vec<VmInfo>, VmError> {
        if !(1..=MAX_FORKS).contains(&count) {
            return Err(VmError::BadRequest(format!(
                "count is {count}; it must be between 1 and {MAX_FORKS}"
            )));
        }
        let record = self.record(account, vm).await?;
        // Its children would have its address.
        if record.nic.is_some() {
            return Err(VmError::ForkInVpc(record.id));
        }
        let new = machine::snapshot_of(&record, SnapshotId::random(), SnapshotPurpose::Fork);
        let account = account.clone();
        let children = self
            .finish(move |shared| async move {
                let id = new.id.clone();
                let mut record = shared.capture(&account, &record, new).await?;
                record.persistence = persistence.unwrap_or(record.persistence);
                let children = shared.children(&account, &record, &id, count).await;
                // They hold what they need of it.
                shared.end_snapshot(&id, SnapshotEnd::Deleted).await;
                children
            })
            .await?;
        Ok(join_all(children.into_iter().map(|child| self.info(child))).await)
    }

    /// Saves the VM's memory and ends its process. An ephemeral VM that goes when it is suspended is
    /// deleted instead.
    pub async fn suspend(&self, account: &AccountId, vm: &VmId) -> Result<SuspendedVm, VmError> {
        let record = self.record(account, vm).await?;
        let instance = record.instance.as_ref().map(|instance| instance.id.clone());
        let record = self.finish(move |shared| async move { shared.suspend(record).await }).await?;
        Ok(SuspendedVm { id: record.id, instance, snapshot: record.suspended })
    }

    /// The account's snapshots, newest first, in every state.
    pub async fn snapshots(
        &self,
        account: &AccountId,
        include_deleted: bool,
    ) -> Result<Vec<SnapshotInfo>, VmError> {
        let records = self.shared.store.account_scope(account).snapshots(include_deleted).await?;
        Ok(records.into_iter().map(snapshot_info).collect())
    }

    /// One snapshot; a deleted one says so.
    pub async fn snapshot_info(
        &self,
        account: &AccountId,
        id: &SnapshotId,
    ) -> Result<SnapshotInfo, VmError> {
        let record = self.shared.store.account_scope(account).snapshot(id).await?;
        record.map(snapshot_info).ok_or_else(|| VmError::SnapshotNotFound(id.clone()))
    }

    /// Gives a snapshot another name, or none.
    pub async fn rename_snapshot(
        &self,
        account: &AccountId,
        id: &SnapshotId,
        name: Option<String>,
    ) -> Result<SnapshotInfo, VmError> {
        let scope = self.shared.store.account_scope(account);
        if let Some(record) = scope.rename_snapshot(id, name.as_deref()).await? {
            return Ok(snapshot_info(record));
        }
        let info = self.snapshot_info(account, id).await?;
        Err(VmError::SnapshotDeleted(info.id))
    }

    /// Deletes a snapshot. VMs made from it are not touched.
    pub async fn delete_snapshot(
        &self,
        account: &AccountId,
        id: &SnapshotId,
    ) -> Result<SnapshotInfo, VmError> {
        let scope = self.shared.store.account_scope(account);
        if let Some(record) = scope.delete_snapshot(id).await? {
            self.shared.garbage.notify_one();
            return Ok(snapshot_info(record));
        }
        let info = self.snapshot_info(account, id).await?;
        Err(VmError::SnapshotDeleted(info.id))
    }

    /// A snapshot that VMs can be made from.
    pub(super) async fn usable_snapshot(
        &self,
        account: &AccountId,
        id: &SnapshotId,
    ) -> Result<SnapshotRecord, VmError> {
        let scope = self.shared.store.account_scope(account);
        let found = scope.snapshot(id).await?;
        let record = found.ok_or_else(|| VmError::SnapshotNotFound(id.clone()))?;
        let id = record.id.clone();
        if record.deleted_at.is_some() {
            return Err(VmError::SnapshotDeleted(id));
        }
        let reason = record.failure.clone().unwrap_or_default();
        match record.state {
            SnapshotState::Building => Err(VmError::SnapshotBuilding(id)),
            SnapshotState::Failed | SnapshotState::Cancelled => {
                Err(VmError::SnapshotFailed { id, reason })
            }
            SnapshotState::Lost => Err(VmError::SnapshotLost { id, reason }),
            SnapshotState::Ready => Ok(record),
        }
    }

    /// Settles what an earlier server was taking, and notices what is gone.
    pub(super) async fn recover_snapshots(&self) -> Result<(), VmError> {
        let shared = &self.shared;
        for record in shared.store.system().live_snapshots().await? {
            let is_complete = shared.engine.snapshot_size(&record.id).await.is_some();
            let end = match (record.state, record.purpose) {
                (_, SnapshotPurpose::Fork) => SnapshotEnd::Deleted,
                (SnapshotState::Building, SnapshotPurpose::Suspend) => SnapshotEnd::Deleted,
                (SnapshotState::Building, SnapshotPurpose::Kept) => {
                    SnapshotEnd::Failed { reason: "the server was restarted" }
                }
                (SnapshotState::Ready, _) if !is_complete => {
                    SnapshotEnd::Lost { reason: "its files are missing or damaged" }
                }
                _ => continue,
            };
            shared.end_snapshot(&record.id, end).await;
        }
        shared.garbage.notify_one();
        Ok(())
    }

    /// Runs work that must come to its end even if the caller goes away.
    pub(super) async fn finish<T: Send + 'static, F>(
        &self,
        work: impl FnOnce(Arc<Shared<E>>) -> F,
    ) -> Result<T, VmError>
    where
        F: Future<Output = Result<T, VmError>> + Send + 'static,
    {
        let done = tokio::spawn(work(self.shared.clone())).await;
        done.map_err(|error| VmError::Internal(error.to_string()))?
    }
}

impl<E: Engine> Shared<E> {
    /// Takes the snapshot `new` of a VM. Answers the VM as it then is.
    async fn capture(
        self: &Arc<Self>,
        account: &AccountId,
        record: &VmRecord,
        new: NewSnapshot,
    ) -> Result<VmRecord, VmError> {
        self.store.account_scope(account).insert_snapshot(&new).await?;
        self.take(record, &new.id, new.purpose).await
    }

    /// Takes the snapshot with this identifier, whose row is there already.
    pub(super) async fn take(
        self: &Arc<Self>,
        record: &VmRecord,
        id: &SnapshotId,
        purpose: SnapshotPurpose,
    ) -> Result<VmRecord, VmError> {
        let operation = match purpose {
            SnapshotPurpose::Fork => Operation::Fork(id.clone()),
            _ => Operation::Snapshot(id.clone()),
        };
        let captured = async { self.machine(record)?.run(operation).await }.await;
        let reason = captured.as_ref().err().map(VmError::to_string).unwrap_or_default();
        let end = match &captured {
            Ok(_) => match self.engine.snapshot_size(id).await {
                Some(size) => {
                    SnapshotEnd::Ready { memory_bytes: size.memory, disk_bytes: size.disk }
                }
                None => SnapshotEnd::Lost { reason: "its files vanished" },
            },
            Err(VmError::Interrupted(_)) if purpose == SnapshotPurpose::Kept => {
                SnapshotEnd::Cancelled
            }
            Err(_) if purpose == SnapshotPurpose::Kept => SnapshotEnd::Failed { reason: &reason },
            Err(_) => SnapshotEnd::Deleted,
        };
        self.end_snapshot(id, end).await;
        captured
    }

    pub(super) async fn suspend(self: &Arc<Self>, record: VmRecord) -> Result<VmRecord, VmError> {
        let goes = Persistence::Ephemeral { delete_event: DeleteEvent::OnSuspend };
        if record.persistence == goes {
            let gone = self.machine(&record)?.run(Operation::Delete).await?;
            self.garbage.notify_one();
            return Ok(gone);
        }
        let suspend = Operation::Suspend(SnapshotId::random());
        match self.machine(&record)?.run(suspend).await {
            Err(VmError::Internal(reason)) => Err(VmError::SuspendFailed { vm: record.id, reason }),
            result => result,
        }
    }

    /// Makes all children of a fork at once; removes them again if one fails.
    async fn children(
        self: &Arc<Self>,
        account: &AccountId,
        parent: &VmRecord,
        snapshot: &SnapshotId,
        count: u32,
    ) -> Result<Vec<VmRecord>, VmError> {
        let settings = VmSettings {
            name: None,
            persistence: parent.persistence,
            idle_timeout_seconds: parent.idle_timeout_seconds,
            activity_threshold_bytes: parent.activity_threshold_bytes,
            recreate: false,
            nic: None,
        };
        let child = || async {
            let origin = Origin { snapshot: Some(snapshot.clone()), sizing: parent.sizing };
            self.make_anew(account, VmId::random(), origin, &settings, None).await
        };
        let made = join_all((0..count).map(|_| child())).await;
        if made.iter().all(Result::is_ok) {
            return made.into_iter().collect();
        }
        let remove = made.iter().flatten().map(|child| async {
            if let Err(error) = async { self.machine(child)?.run(Operation::Delete).await }.await {
                tracing::warn!(vm = %child.id, %error, "removing a child of a failed fork");
            }
        });
        join_all(remove).await;
        made.into_iter().collect()
    }

    /// Records how a snapshot ended. If that fails the next server finds out.
    pub(super) async fn end_snapshot(&self, id: &SnapshotId, end: SnapshotEnd<'_>) {
        if let Err(error) = self.store.system().finish_snapshot(id, end).await {
            tracing::error!(snapshot = %id, %error, "recording the end of a snapshot");
        }
        // There may be files to remove, or one chain that has become long.
        self.garbage.notify_one();
    }
}

fn snapshot_info(record: SnapshotRecord) -> SnapshotInfo {
    let bytes = record.memory_bytes.zip(record.disk_bytes).map(|(memory, disk)| memory + disk);
    SnapshotInfo {
        state: record.state,
        bytes,
        id: record.id,
        name: record.name,
        failure: record.failure,
        source_vm: record.vm_id,
        source_instance: record.instance_id,
        sizing: record.sizing,
        persistence: record.persistence,
        build: record.build_id,
        created_at: record.created_at,
        deleted_at: record.deleted_at,
    }
}
