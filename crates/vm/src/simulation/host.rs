//! The simulated host: what is there, and steps that take their time and fail at random.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freestyle_network::Ipv4Net;
use freestyle_store::{Instance, InstanceId, Nic, SnapshotId, VmId, VmRecord};
use tokio::sync::Notify;

use crate::engine::{Engine, Exit, SnapshotSize, Step, StorageUse};
use crate::error::VmError;
use crate::model::*;
use crate::terminal::{OpenPty, PtyFailure, PtySession, PtySize, SessionId, Terminal};

/// A small generator, so that a failing run can be repeated from its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(super) fn one_in(&mut self, bound: u64) -> bool {
        bound > 0 && self.below(bound) == 0
    }
}

/// The simulated host. It outlives the servers.
pub(super) struct World {
    pub(super) disks: BTreeSet<VmId>,
    /// With the place in a VPC that each has.
    pub(super) networks: BTreeMap<InstanceId, Option<Nic>>,
    /// Whether the guest was greeted by the server that now runs.
    pub(super) processes: BTreeMap<InstanceId, bool>,
    /// Processes whose guest stands still.
    pub(super) paused: BTreeSet<InstanceId>,
    /// Complete snapshots.
    pub(super) snapshots: BTreeSet<SnapshotId>,
    /// Every instance that ever had a process.
    pub(super) begun: BTreeSet<InstanceId>,
    /// How often a server was told that an instance's process is not there.
    pub(super) exits: BTreeMap<InstanceId, u32>,
    /// Instances that wait in the pool.
    pub(super) warm: BTreeSet<InstanceId>,
    /// How many of them were handed over.
    pub(super) claimed: usize,
    pub(super) reboots: BTreeSet<InstanceId>,
    pub(super) random: Random,
    /// One step in this many fails; 0 is never.
    pub(super) failures: u64,
    /// Guests do not answer.
    pub(super) silent: bool,
}

pub(super) struct SimulatedHost {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) changed: Arc<Notify>,
    /// Told when a silent guest is greeted.
    pub(super) greeting: Arc<Notify>,
}

impl SimulatedHost {
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.changed.notify_waiters();
        result
    }
}

impl Engine for SimulatedHost {
    fn image(&self) -> &str {
        "simulated"
    }

    fn excluded_addresses(&self) -> Vec<Ipv4Net> {
        Vec::new()
    }

    async fn apply(&self, step: &Step, vm: &VmRecord) -> Result<(), VmError> {
        let (pauses, fails_before, fails_after) = self.change(|world| {
            let failures = world.failures;
            let random = &mut world.random;
            (random.below(4), random.one_in(failures), random.one_in(failures))
        });
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        let failure = || Err(VmError::Internal(format!("injected at {step:?}")));
        if fails_before {
            return failure();
        }
        if *step == Step::Greet && self.world.lock().unwrap().silent {
            self.greeting.notify_one();
            std::future::pending::<()>().await;
        }
        let instance = || vm.instance.as_ref().expect("a step that has one").id.clone();
        let done = self.change(|world| {
            match step {
                Step::MakeDisk => {
                    if let Some(origin) = &vm.origin {
                        assert!(
                            world.snapshots.contains(origin),
                            "made from a snapshot that is gone"
                        );
                    }
                    world.disks.insert(vm.id.clone());
                }
                Step::MakeNetwork => drop(world.networks.insert(instance(), vm.nic.clone())),
                Step::Restore | Step::Boot => {
                    assert!(world.disks.contains(&vm.id), "a process without a disk");
                    let has_network = world.networks.contains_key(&instance());
                    assert!(has_network, "a process without a network");
                    if let (Step::Restore, Some(memory)) = (step, &vm.suspended) {
                        assert!(world.snapshots.contains(memory), "a memory that is gone");
                    }
                    if !world.processes.contains_key(&instance()) {
                        assert!(world.begun.insert(instance()), "a run that ended was begun again");
                        world.processes.insert(instance(), false);
                    }
                }
                Step::Warm => drop(world.warm.insert(instance())),
                Step::Greet => {
                    let Some(up) = world.processes.get_mut(&instance()) else {
                        return Err(VmError::NotRunning(vm.id.clone()));
                    };
                    *up = true;
                    let plugged = world.networks.get(&instance());
                    assert_eq!(plugged, Some(&vm.nic), "a guest believes in another network");
                    world.paused.remove(&instance());
                    world.claimed += usize::from(world.warm.remove(&instance()));
                }
                Step::Snapshot { id, .. } => {
                    let runs = vm.instance.as_ref();
                    let runs = runs.is_some_and(|run| world.processes.contains_key(&run.id));
                    if !runs && vm.suspended.is_none() {
                        return Err(VmError::NotRunning(vm.id.clone()));
                    }
                    world.snapshots.insert(id.clone());
                }
                Step::Suspend { id } => {
                    if !world.processes.contains_key(&instance()) {
                        return Err(VmError::NotRunning(vm.id.clone()));
                    }
                    world.paused.insert(instance());
                    world.snapshots.insert(id.clone());
                }
                Step::Abandon { id } => {
                    world.snapshots.remove(id);
                    if let Some(run) = &vm.instance {
                        world.paused.remove(&run.id);
                    }
                }
                Step::Flatten | Step::StopFlattening => {}
                Step::ShutDown | Step::EndProcess => drop(world.processes.remove(&instance())),
                Step::RemoveNetwork => {
                    assert!(!world.processes.contains_key(&instance()), "its network was in use");
                    world.networks.remove(&instance());
                }
                Step::RemoveDisk => drop(world.disks.remove(&vm.id)),
            }
            Ok(())
        });
        done?;
        if fails_after { failure() } else { Ok(()) }
    }

    async fn take_over(&self, vms: &[VmRecord]) -> Result<(), VmError> {
        let known: BTreeSet<InstanceId> =
            vms.iter().filter_map(|vm| vm.instance.as_ref()).map(|run| run.id.clone()).collect();
        self.change(|world| {
            world.processes.retain(|instance, up| {
                *up = false;
                known.contains(instance)
            });
            world.networks.retain(|instance, _| known.contains(instance));
            world.disks.retain(|disk| vms.iter().any(|vm| vm.id == *disk));
        });
        Ok(())
    }

    fn is_alive(&self, instance: &InstanceId) -> bool {
        self.world.lock().unwrap().processes.contains_key(instance)
    }

    fn is_up(&self, instance: &InstanceId) -> bool {
        self.world.lock().unwrap().processes.get(instance) == Some(&true)
    }

    async fn exited(&self, instance: &InstanceId) -> Exit {
        loop {
            let changed = self.changed.notified();
            if !self.is_alive(instance) {
                let mut world = self.world.lock().unwrap();
                let told = world.exits.entry(instance.clone()).or_default();
                *told += 1;
                assert!(*told < 20, "an end is noticed again and again");
                let reboot = world.reboots.remove(instance);
                return Exit { how: "simulated".to_owned(), reboot };
            }
            changed.await;
        }
    }

    fn cpu_time(&self, _: &InstanceId) -> Option<Duration> {
        None
    }

    async fn has_disk(&self, vm: &VmId) -> bool {
        self.world.lock().unwrap().disks.contains(vm)
    }

    async fn snapshot_size(&self, snapshot: &SnapshotId) -> Option<SnapshotSize> {
        let world = self.world.lock().unwrap();
        world.snapshots.contains(snapshot).then_some(SnapshotSize { memory: 1, disk: 1 })
    }

    async fn disk_layers(&self, _: &VmId) -> usize {
        11
    }

    async fn storage_use(&self) -> Result<StorageUse, VmError> {
        Ok(StorageUse::default())
    }

    async fn traffic(&self, instance: &InstanceId) -> Option<u64> {
        self.is_up(instance).then_some(0)
    }

    async fn sweep(
        &self,
        live: impl Future<Output = Result<HashSet<SnapshotId>, VmError>> + Send,
    ) -> Result<(), VmError> {
        let listed = self.world.lock().unwrap().snapshots.clone();
        tokio::task::yield_now().await;
        let live = live.await?;
        self.change(|world| {
            world.snapshots.retain(|id| live.contains(id) || !listed.contains(id));
        });
        Ok(())
    }

    async fn exec(&self, instance: &Instance, _: Exec) -> Result<ExecOutput, VmError> {
        if self.is_up(&instance.id) {
            Ok(ExecOutput { stdout: Vec::new(), stderr: Vec::new(), status: 0 })
        } else {
            Err(VmError::GuestUnreachable("it is down".to_owned()))
        }
    }

    async fn read_path(
        &self,
        _: &Instance,
        _: Option<LinuxUser>,
        path: &str,
    ) -> Result<FileOrDir, VmError> {
        Err(VmError::FileNotFound { path: path.to_owned() })
    }

    async fn write_file(
        &self,
        _: &Instance,
        _: Option<LinuxUser>,
        _: &str,
        _: Vec<u8>,
    ) -> Result<(), VmError> {
        Ok(())
    }

    async fn open_pty(&self, _: &Instance, _: OpenPty) -> Result<Terminal, VmError> {
        Err(PtyFailure::TooManySessions.into())
    }

    async fn attach_pty(
        &self,
        _: &Instance,
        _: &SessionId,
        _: Option<&LinuxUser>,
        _: PtySize,
    ) -> Result<Terminal, VmError> {
        Err(PtyFailure::NotFound.into())
    }

    async fn ptys(
        &self,
        instance: &Instance,
        _: Option<&LinuxUser>,
    ) -> Result<Vec<PtySession>, VmError> {
        if self.is_up(&instance.id) {
            Ok(Vec::new())
        } else {
            Err(VmError::GuestUnreachable("it is down".to_owned()))
        }
    }

    async fn close_pty(
        &self,
        _: &Instance,
        _: &SessionId,
        _: Option<&LinuxUser>,
    ) -> Result<i32, VmError> {
        Err(PtyFailure::NotFound.into())
    }

    async fn sleeping_ptys(&self, _: &SnapshotId) -> Option<Vec<PtySession>> {
        None
    }
}
