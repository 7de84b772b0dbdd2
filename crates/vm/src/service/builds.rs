//! Building snapshots from specs, and the record of how a build came along.
//!
//! Each layer of a spec is a snapshot, known by a hash of what it is made of, and made only if the
//! account has none of that content: a VM is made from the layer below, set up, captured, deleted.

use std::sync::{Arc, PoisonError};

use freestyle_store::{
    AccountId, BuildEnd, BuildId, BuildPhase, BuildPhaseId, DeleteEvent, NewBuild, NewSnapshot,
    Persistence, SnapshotEnd, SnapshotId, SnapshotPersistence, SnapshotPurpose, SnapshotRecord,
    SnapshotState, Store, VmId, VmSettings,
};

use super::create::Origin;
use super::{Service, Shared};
use crate::engine::Engine;
use crate::error::VmError;
use crate::machine::Plan;
use crate::model::SnapshotInfo;
use crate::operation::Operation;
use crate::setup::{self, EnsureSnapshot, Layer, Phase, Setup, Source, Spec};

/// Is told in words what a long call is doing.
pub type Observer = Arc<dyn Fn(&str) + Send + Sync>;

/// How readily the snapshots of inner layers are evicted: before those that somebody named.
const LAYER_PERSISTENCE: SnapshotPersistence = SnapshotPersistence::Sticky { priority: 0 };

/// The durable record of a build.
pub(crate) struct BuildLog {
    store: Store,
    id: BuildId,
    phases: tokio::sync::Mutex<Vec<BuildPhase>>,
    observer: Option<Observer>,
}

impl BuildLog {
    /// Records that a setup begins.
    pub(super) async fn begin<E: Engine>(
        shared: &Shared<E>,
        account: &AccountId,
        vm: Option<VmId>,
        snapshot: Option<(SnapshotId, String)>,
        setup: &Setup,
        observer: Option<Observer>,
    ) -> Result<Self, VmError> {
        let id = BuildId::random();
        let (snapshot_id, content) = snapshot.unzip();
        let planned_phases =
            setup.phases().into_iter().map(|phase| phase.as_str().to_owned()).collect();
        let new = NewBuild { id: id.clone(), snapshot_id, vm_id: vm, content, planned_phases };
        shared.store.account_scope(account).insert_build(&new).await?;
        Ok(Self { store: shared.store.clone(), id, phases: Default::default(), observer })
    }

    pub(super) fn id(&self) -> &BuildId {
        &self.id
    }
}

impl setup::Progress for BuildLog {
    async fn begin(&self, phase: Phase) {
        let name = phase.as_str().to_owned();
        if let Some(observer) = &self.observer {
            observer(&format!("setting up: {name}"));
        }
        let mut phases = self.phases.lock().await;
        let started_at = super::unix_millis();
        let id = BuildPhaseId::random();
        phases.push(BuildPhase { id, name, snapshot_id: None, started_at });
        // A build goes on without its record.
        if let Err(error) = self.store.system().update_build(&self.id, &phases).await {
            tracing::warn!(build = %self.id, %error, "recording how far a build is");
        }
    }
}

/// A layer to make a snapshot of.
struct LayerToBuild {
    account: AccountId,
    id: SnapshotId,
    layer: Layer,
    key: String,
    name: Option<String>,
    persistence: SnapshotPersistence,
    origin: Origin,
}

impl<E: Engine> Service<E> {
    /// The snapshot of a spec: one that was built from the same, or a new one.
    pub async fn ensure_snapshot(
        &self,
        account: &AccountId,
        request: EnsureSnapshot,
        observer: Option<Observer>,
    ) -> Result<SnapshotInfo, VmError> {
        let EnsureSnapshot { name, persistence, spec } = request;
        let Some(last) = spec.layers.len().checked_sub(1) else {
            return Err(VmError::BadRequest("the spec has no layer".to_owned()));
        };
        let mut keys = spec.keys(self.shared.engine.image());
        let key = keys.swap_remove(last);
        let source = self.ensure_layers(account, &spec, &keys, &observer).await?;
        let id = self
            .ensure_layer(account, &spec, last, key, source, name, persistence, &observer)
            .await?;
        self.snapshot_info(account, &id).await
    }

    /// The snapshot of the first layers, of which these are the keys, or what they stand on if there
    /// are none.
    pub(super) async fn ensure_layers(
        &self,
        account: &AccountId,
        spec: &Spec,
        keys: &[String],
        observer: &Option<Observer>,
    ) -> Result<Source, VmError> {
        let mut source = spec.source.clone();
        let mut first = 0;
        // The last that is there saves making those below it.
        let usable = spec.layers[..keys.len()].iter().take_while(|layer| !layer.skip_cache).count();
        for index in (0..usable).rev() {
            if let Some(found) = self.shared.built(account, &keys[index]).await? {
                source = Source::Snapshot(found.id);
                first = index + 1;
                break;
            }
        }
        for (index, key) in keys.iter().enumerate().skip(first) {
            let persistence = LAYER_PERSISTENCE;
            let id = self
                .ensure_layer(
                    account,
                    spec,
                    index,
                    key.clone(),
                    source,
                    None,
                    persistence,
                    observer,
                )
                .await?;
            source = Source::Snapshot(id);
        }
        Ok(source)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a layer is, and what its snapshot is to be"
    )]
    async fn ensure_layer(
        &self,
        account: &AccountId,
        spec: &Spec,
        index: usize,
        key: String,
        source: Source,
        name: Option<String>,
        persistence: SnapshotPersistence,
        observer: &Option<Observer>,
    ) -> Result<SnapshotId, VmError> {
        let layer = spec.layers[index].clone();
        // Two calls that want the same wait for one build.
        let lock = self.shared.build_lock(account, &key);
        let _building = lock.lock().await;
        if !layer.skip_cache
            && let Some(found) = self.shared.built(account, &key).await?
        {
            self.shared.store.account_scope(account).touch_snapshot(&found.id).await?;
            return Ok(found.id);
        }
        let origin = self.origin(account, source, spec.sizes).await?;
        let id = SnapshotId::random();
        if let Some(observer) = observer {
            observer(&format!("building snapshot {id}"));
        }
        let account = account.clone();
        let build = LayerToBuild { account, id: id.clone(), layer, key, name, persistence, origin };
        let observer = observer.clone();
        self.finish(move |shared| async move { shared.build_layer(build, observer).await }).await?;
        Ok(id)
    }

    /// Gives up what an earlier server was building.
    pub(super) async fn recover_builds(&self) -> Result<(), VmError> {
        let system = self.shared.store.system();
        let vms = system.live_vms().await?;
        for build in system.unfinished_builds().await? {
            // The VM of a build that makes a VM is gone with its operation, or was finished.
            let Some(vm) = build.vm_id.filter(|_| build.snapshot_id.is_some()) else { continue };
            if let Some(vm) = vms.iter().find(|live| live.id == vm) {
                match self.shared.machine(vm)?.run(Operation::Delete).await {
                    Ok(_) | Err(VmError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::error!(vm = %vm.id, %error, "removing the VM of a build")
                    }
                }
            }
        }
        system.fail_unfinished_builds("the server was restarted").await?;
        Ok(())
    }
}

impl<E: Engine> Shared<E> {
    /// A snapshot of this content that can be used.
    async fn built(
        &self,
        account: &AccountId,
        key: &str,
    ) -> Result<Option<SnapshotRecord>, VmError> {
        let found = self.store.account_scope(account).snapshot_by_content(key).await?;
        Ok(found.filter(|snapshot| snapshot.state == SnapshotState::Ready))
    }

    fn build_lock(&self, account: &AccountId, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        builds.retain(|_, lock| Arc::strong_count(lock) > 1);
        builds.entry((account.clone(), key.to_owned())).or_default().clone()
    }

    async fn build_layer(
        self: &Arc<Self>,
        build: LayerToBuild,
        observer: Option<Observer>,
    ) -> Result<(), VmError> {
        let LayerToBuild { account, id, layer, key, name, persistence, origin } = build;
        let vm = VmId::random();
        let snapshot = Some((id.clone(), key.clone()));
        let log =
            BuildLog::begin(self, &account, Some(vm.clone()), snapshot, &layer.setup, observer);
        let log = log.await?;
        let build_id = log.id().clone();
        let new = NewSnapshot {
            id: id.clone(),
            purpose: SnapshotPurpose::Kept,
            vm_id: None,
            instance_id: None,
            name,
            persistence,
            sizing: origin.sizing,
            image: self.engine.image().to_owned(),
            content: Some(key),
            build_id: Some(build_id.clone()),
        };
        let built = async {
            self.store.account_scope(&account).insert_snapshot(&new).await?;
            let settings = VmSettings {
                name: Some(format!("build of {id}")),
                persistence: Persistence::Ephemeral { delete_event: DeleteEvent::OnStop },
                idle_timeout_seconds: None,
                activity_threshold_bytes: None,
                recreate: false,
                nic: None,
            };
            let plan = Plan { setup: layer.setup, log };
            let made = self.make_anew(&account, vm, origin, &settings, Some(plan)).await?;
            let taken = self.take(&made, &id, SnapshotPurpose::Kept).await;
            let deleted = self.machine(&made)?.run(Operation::Delete).await;
            taken.and(deleted)
        };
        let built = match built.await {
            Err(VmError::SetupFailed { reason, diagnostics }) => {
                Err(VmError::SnapshotSetupFailed { id: id.clone(), reason, diagnostics })
            }
            built => built,
        };
        if let Err(error) = &built {
            // Does nothing to one that is ready and could only not be tidied up after.
            let reason = error.to_string();
            self.end_snapshot(&id, SnapshotEnd::Failed { reason: &reason }).await;
        }
        self.end_build(&build_id, built.as_ref().err()).await;
        built.map(drop)
    }

    /// Records how a build ended.
    pub(super) async fn end_build(&self, build: &BuildId, error: Option<&VmError>) {
        let error = error.map(VmError::to_string);
        let end = match &error {
            Some(error) => BuildEnd::Failed { error },
            None => BuildEnd::Succeeded,
        };
        if let Err(error) = self.store.system().finish_build(build, end).await {
            tracing::warn!(%build, %error, "recording the end of a build");
        }
    }
}
