//! Making VMs.

use freestyle_store::{
    AccountId, BuildId, NewNic, NewVm, SnapshotId, SnapshotRecord, VmId, VmRecord, VmSettings,
};

use super::builds::{BuildLog, Observer};
use super::{Service, Shared};
use crate::engine::Engine;
use crate::error::VmError;
use crate::machine::Plan;
use crate::model::*;
use crate::operation::{Begun, Operation};
use crate::setup::{Setup, Source};
use std::sync::Arc;

/// What a VM is made from, resolved.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) snapshot: Option<SnapshotId>,
    pub(super) sizing: Sizing,
}

impl<E: Engine> Service<E> {
    /// Makes a VM: builds the snapshots that its spec stands on, unless they are there, restores the
    /// last, and sets up what remains. `observer` is told what is being done.
    pub async fn create(
        &self,
        account: &AccountId,
        request: CreateVm,
        observer: Option<Observer>,
    ) -> Result<VmInfo, VmError> {
        let settings = VmSettings {
            name: request.name,
            persistence: request.persistence,
            idle_timeout_seconds: request.idle_timeout.map(|timeout| timeout.as_secs()),
            activity_threshold_bytes: request.activity_threshold_bytes,
            recreate: request.recreate,
            nic: request.nic.map(|nic| NewNic {
                vpc: nic.vpc,
                address: nic.address,
                is_default: nic.is_default,
                excluded: self.shared.engine.excluded_addresses(),
            }),
        };
        // Hashing what a layer holds is for those that become snapshots.
        let mut keys = match request.spec.layers.len() {
            0 | 1 => Vec::new(),
            _ => request.spec.keys(self.shared.engine.image()),
        };
        keys.pop();
        let source = self.ensure_layers(account, &request.spec, &keys, &observer).await?;
        let origin = self.origin(account, source, request.spec.sizes).await?;
        let setup = request.spec.layers.into_iter().last().map(|layer| layer.setup);
        let setup = setup.filter(|setup| !setup.phases().is_empty());
        let made = self.shared.make(account, origin, &settings, setup, observer).await?;
        Ok(self.info(made).await)
    }

    /// What a spec stands on, if a VM can be made from it, and the sizes of that VM.
    pub(super) async fn origin(
        &self,
        account: &AccountId,
        source: Source,
        sizes: Sizes,
    ) -> Result<Origin, VmError> {
        match source {
            Source::BaseImage => Ok(Origin { snapshot: None, sizing: sizes.or(DEFAULT_SIZING)? }),
            Source::Snapshot(id) => {
                let snapshot = self.usable_snapshot(account, &id).await?;
                let sizing = sizing_from(&snapshot, sizes)?;
                Ok(Origin { snapshot: Some(id), sizing })
            }
        }
    }
}

impl<E: Engine> Shared<E> {
    /// Makes a VM and sets it up. Nothing is left of it if that fails.
    pub(super) async fn make(
        self: &Arc<Self>,
        account: &AccountId,
        origin: Origin,
        settings: &VmSettings,
        setup: Option<Setup>,
        observer: Option<Observer>,
    ) -> Result<VmRecord, VmError> {
        if origin.snapshot.is_none() {
            let (operation, image) = (Operation::Claim, self.engine.image());
            let scope = self.store.account_scope(account);
            let kind = operation.to_string();
            let claimed = scope.claim_ready_vm(image, origin.sizing, settings, &kind).await?;
            if let Some((record, row)) = claimed {
                self.pool_changed.notify_one();
                let begun = Begun { id: row.id, operation };
                let plan = self.plan(account, &record.id, setup.clone(), observer.clone()).await?;
                match self.carry_out(record, begun, plan).await {
                    Ok(record) => return Ok(record),
                    Err(error @ (VmError::SetupFailed { .. } | VmError::Interrupted(_))) => {
                        return Err(error);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a VM of the pool did not work; making another");
                    }
                }
            }
        }
        let vm = VmId::random();
        let plan = self.plan(account, &vm, setup, observer).await?;
        self.make_anew(account, vm, origin, settings, plan).await
    }

    /// What is to be set up in a VM that is about to be made, with the record of it.
    async fn plan(
        &self,
        account: &AccountId,
        vm: &VmId,
        setup: Option<Setup>,
        observer: Option<Observer>,
    ) -> Result<Option<Plan>, VmError> {
        let Some(setup) = setup else { return Ok(None) };
        let log = BuildLog::begin(self, account, Some(vm.clone()), None, &setup, observer).await?;
        Ok(Some(Plan { setup, log }))
    }

    /// Makes a VM with this identifier, not one of the pool.
    pub(super) async fn make_anew(
        self: &Arc<Self>,
        account: &AccountId,
        id: VmId,
        origin: Origin,
        settings: &VmSettings,
        plan: Option<Plan>,
    ) -> Result<VmRecord, VmError> {
        let operation = Operation::Create;
        let image = self.engine.image().to_owned();
        let vm = NewVm { id, sizing: origin.sizing, image, origin: origin.snapshot };
        let scope = self.store.account_scope(account);
        let (record, row) = scope.insert_vm(&vm, settings, &operation.to_string()).await?;
        self.carry_out(record, Begun { id: row.id, operation }, plan).await
    }

    async fn carry_out(
        self: &Arc<Self>,
        record: VmRecord,
        begun: Begun,
        plan: Option<Plan>,
    ) -> Result<VmRecord, VmError> {
        let build: Option<BuildId> = plan.as_ref().map(|plan| plan.log.id().clone());
        let made = async { self.machine(&record)?.run_begun(record, begun, plan).await }.await;
        if let Some(build) = build {
            self.end_build(&build, made.as_ref().err()).await;
        }
        made
    }
}

/// The sizes of a VM made from a snapshot.
fn sizing_from(snapshot: &SnapshotRecord, sizes: Sizes) -> Result<Sizing, VmError> {
    let has = snapshot.sizing;
    let sizing = sizes.or(has)?;
    if (sizing.vcpus, sizing.memory_mib) != (has.vcpus, has.memory_mib) {
        return Err(VmError::BadRequest(format!(
            "snapshot {} was taken of a VM with {} vCPUs and {} MiB of memory, and its VMs begin \
             with the same; leave the sizes out and resize the VM afterwards",
            snapshot.id, has.vcpus, has.memory_mib
        )));
    }
    if sizing.disk_mib < has.disk_mib {
        return Err(VmError::DiskShrink { current: has.disk_mib, requested: sizing.disk_mib });
    }
    Ok(sizing)
}
