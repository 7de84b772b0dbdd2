//! The lifecycle against a simulated host: thousands of random operations with failures at every
//! step, processes that die and servers that crash, and after each crash the question whether what
//! is recorded, what is on the host and what callers were told still agree.

mod cases;
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freestyle_store::{AccountId, InstanceId, SnapshotId, Store, VmId, VmPhase, VpcId};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::host::{Random, SimulatedHost, World};
use crate::error::VmError;
use crate::model::*;
use crate::pool;
use crate::service::{Patience, Service};
use crate::setup::{Source, Spec};

/// What callers were told, and what they asked for without hearing an answer.
#[derive(Default)]
struct Told {
    created: BTreeSet<VmId>,
    may_be_gone: BTreeSet<VmId>,
    deleted: BTreeSet<VmId>,
    snapshots: BTreeSet<SnapshotId>,
    snapshots_deleted: BTreeSet<SnapshotId>,
}

struct Run {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
    greeting: Arc<Notify>,
    told: Arc<Mutex<Told>>,
    account: AccountId,
    stranger: AccountId,
    vpc: VpcId,
}

/// The simulated host needs no time, but a busy machine may take some to notice its answers.
const PATIENCE: Patience =
    Patience { adoption: Duration::from_secs(60), retry: Duration::from_millis(5) };
const VPC: &str = "10.9.0.0/16";
const CLIENTS: usize = 4;
const POOL: usize = 2;
const PACE: pool::Pace = pool::Pace { quiet: Duration::ZERO, retry: Duration::from_millis(1) };

impl Run {
    async fn new(seed: u64, store: &Store) -> Self {
        let world = World {
            disks: BTreeSet::new(),
            networks: BTreeMap::new(),
            processes: BTreeMap::new(),
            paused: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            begun: BTreeSet::new(),
            exits: BTreeMap::new(),
            warm: BTreeSet::new(),
            claimed: 0,
            reboots: BTreeSet::new(),
            random: Random(seed),
            failures: 0,
            silent: false,
        };
        let account = store.system().create_account("owner").await.unwrap().id;
        let vpc = store.account_scope(&account).create_vpc(None, VPC.parse().unwrap()).await;
        Self {
            world: Arc::new(Mutex::new(world)),
            changed: Arc::new(Notify::new()),
            greeting: Arc::new(Notify::new()),
            told: Arc::default(),
            account,
            vpc: vpc.unwrap().id,
            stranger: store.system().create_account("stranger").await.unwrap().id,
        }
    }

    fn random(&self, bound: u64) -> u64 {
        self.world.lock().unwrap().random.below(bound)
    }

    fn host(&self) -> SimulatedHost {
        SimulatedHost {
            world: self.world.clone(),
            changed: self.changed.clone(),
            greeting: self.greeting.clone(),
        }
    }

    async fn start_server(&self, store: Store) -> Service<SimulatedHost> {
        Service::recover(self.host(), store, PATIENCE).await.unwrap()
    }

    /// One client: random calls on random VMs.
    async fn client(self: Arc<Self>, service: Service<SimulatedHost>, calls: usize) {
        for _ in 0..calls {
            let choice = self.random(26);
            if choice < 4 {
                let ephemeral = Persistence::Ephemeral { delete_event: DeleteEvent::OnStop };
                let persistence = if choice == 0 { ephemeral } else { Persistence::Persistent };
                let request = CreateVm { persistence, nic: self.nic(), ..CreateVm::default() };
                if let Ok(vm) = service.create(&self.account, request, None).await {
                    let mut told = self.told.lock().unwrap();
                    if choice == 0 {
                        told.may_be_gone.insert(vm.id.clone());
                    }
                    told.created.insert(vm.id);
                }
                continue;
            }
            let known: Vec<VmId> = self.told.lock().unwrap().created.iter().cloned().collect();
            let Some(vm) = known.get(self.random(known.len().max(1) as u64) as usize) else {
                continue;
            };
            let account = &self.account;
            match choice {
                4..=5 => drop(service.stop(account, vm).await),
                6..=7 => drop(service.start(account, vm, StartVm::default()).await),
                8 => drop(service.kill(account, vm).await),
                9..=10 => {
                    self.told.lock().unwrap().may_be_gone.insert(vm.clone());
                    if service.delete(account, vm).await.is_ok() {
                        self.told.lock().unwrap().deleted.insert(vm.clone());
                    }
                }
                11 => self.end_a_process(),
                12 => {
                    let foreign = service.delete(&self.stranger, vm).await;
                    assert!(matches!(foreign, Err(VmError::NotFound(_))), "{foreign:?}");
                }
                13..=14 => drop(service.suspend(account, vm).await),
                15..=16 => self.take_snapshot(&service, vm).await,
                17 => self.use_snapshot(&service).await,
                18 => self.delete_snapshot(&service).await,
                19..=20 => self.fork(&service, vm).await,
                21 => {
                    let sizes = Sizes { vcpus: Some(1 << self.random(4)), ..Sizes::default() };
                    let _ = service.resize(account, vm, sizes).await;
                }
                22 => drop(service.shared().sweep().await),
                23 => drop(service.optimize(account, vm).await),
                _ => {
                    let exec = Exec { command: "true".to_owned(), user: None, timeout: None };
                    let _ = service.exec(account, vm, exec).await;
                }
            }
        }
    }

    /// A place in the VPC, for some VMs; the same for several, of which all but one are refused.
    fn nic(&self) -> Option<CreateNic> {
        let address = match self.random(6) {
            0..=2 => return None,
            3 => Some(Ipv4Addr::new(10, 9, 0, 1 + self.random(3) as u8)),
            _ => None,
        };
        Some(CreateNic { vpc: self.vpc.clone(), address, is_default: false })
    }

    async fn take_snapshot(&self, service: &Service<SimulatedHost>, vm: &VmId) {
        let request = TakeSnapshot { name: None, persistence: SnapshotPersistence::Persistent };
        if let Ok(taken) = service.snapshot(&self.account, vm, request).await {
            assert_eq!(taken.state, SnapshotState::Ready);
            self.told.lock().unwrap().snapshots.insert(taken.id);
        }
    }

    fn known_snapshot(&self) -> Option<SnapshotId> {
        let known: Vec<_> = self.told.lock().unwrap().snapshots.iter().cloned().collect();
        known.get(self.random(known.len().max(1) as u64) as usize).cloned()
    }

    async fn use_snapshot(&self, service: &Service<SimulatedHost>) {
        let Some(snapshot) = self.known_snapshot() else { return };
        let foreign = service.snapshot_info(&self.stranger, &snapshot).await;
        assert!(matches!(foreign, Err(VmError::SnapshotNotFound(_))), "{foreign:?}");
        let spec = Spec { source: Source::Snapshot(snapshot), ..Spec::default() };
        let request = CreateVm { spec, nic: self.nic(), ..CreateVm::default() };
        if let Ok(vm) = service.create(&self.account, request, None).await {
            self.told.lock().unwrap().created.insert(vm.id);
        }
    }

    async fn delete_snapshot(&self, service: &Service<SimulatedHost>) {
        let Some(snapshot) = self.known_snapshot() else { return };
        // From here on it may be gone, also if the server crashes before it answers.
        self.told.lock().unwrap().snapshots.remove(&snapshot);
        let mut gone = service.delete_snapshot(&self.account, &snapshot).await.is_ok();
        // Another client may have been first, or a server that crashed before it answered.
        gone |= matches!(
            service.snapshot_info(&self.account, &snapshot).await,
            Ok(info) if info.deleted_at.is_some()
        );
        let mut told = self.told.lock().unwrap();
        if gone {
            told.snapshots_deleted.insert(snapshot);
        } else {
            told.snapshots.insert(snapshot);
        }
    }

    async fn fork(&self, service: &Service<SimulatedHost>, vm: &VmId) {
        let count = 1 + self.random(3) as u32;
        let Ok(children) = service.fork(&self.account, vm, count, None).await else { return };
        assert_eq!(children.len(), count as usize);
        let parent = service.shared().store.account_scope(&self.account).vm(vm).await.unwrap();
        assert!(parent.is_none_or(|vm| vm.nic.is_none()), "its children would have its address");
        let mut told = self.told.lock().unwrap();
        for child in children {
            if matches!(child.persistence, Persistence::Ephemeral { .. }) {
                told.may_be_gone.insert(child.id.clone());
            }
            told.created.insert(child.id);
        }
    }

    /// The process of this instance ends.
    fn end(&self, instance: &InstanceId) {
        self.world.lock().unwrap().processes.remove(instance);
        self.changed.notify_waiters();
    }

    /// A guest powers off, reboots or crashes.
    fn end_a_process(&self) {
        let mut world = self.world.lock().unwrap();
        let running: Vec<InstanceId> = world.processes.keys().cloned().collect();
        let index = world.random.below(running.len().max(1) as u64) as usize;
        if let Some(instance) = running.get(index) {
            world.processes.remove(instance);
            if world.random.one_in(2) {
                world.reboots.insert(instance.clone());
            }
        }
        drop(world);
        self.changed.notify_waiters();
    }

    /// A server's life that ends in a crash after a random number of turns of its scheduler, or
    /// when its clients are done.
    fn live_and_crash(self: &Arc<Self>, database: &Path) {
        self.world.lock().unwrap().failures = 12;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let millis = 1 + self.random(60);
        runtime.block_on(async {
            let store = Store::open(database).await.unwrap();
            let service = self.start_server(store).await;
            let fill = pool::keep_filled_at(PACE, service.shared().clone(), POOL);
            service.run_in_background(fill);
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                clients.spawn(self.clone().client(service.clone(), 12));
            }
            let work = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
            let _ = tokio::time::timeout(Duration::from_millis(millis), work).await;
            if self.random(3) == 0 {
                // In order, though clients go on.
                service.close().await;
            }
        });
        // Every task of the server is dropped where it stands.
        runtime.shutdown_background();
    }

    /// A server that starts without trouble must find or make everything right.
    fn recover_and_check(&self, database: &Path) {
        self.world.lock().unwrap().failures = 0;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(database).await.unwrap();
            let service = self.start_server(store.clone()).await;
            self.check(&service, &store).await;
        });
        runtime.shutdown_background();
    }

    async fn check(&self, service: &Service<SimulatedHost>, store: &Store) {
        let unfinished = store.system().unfinished_operations().await.unwrap();
        assert!(unfinished.is_empty(), "operations left: {unfinished:?}");
        let records = store.system().live_vms().await.unwrap();
        let list = service.list(&self.account, ListVms::default()).await.unwrap();
        service.shared().sweep().await.unwrap();
        let snapshots = store.system().live_snapshots().await.unwrap();
        let world = self.world.lock().unwrap();

        let instances: BTreeSet<InstanceId> = records
            .iter()
            .filter_map(|vm| vm.instance.as_ref())
            .map(|run| run.id.clone())
            .collect();
        let disks: BTreeSet<VmId> = records.iter().map(|vm| vm.id.clone()).collect();
        assert_eq!(world.disks, disks, "each VM has its disk and no other disk is left");
        let networks: BTreeSet<InstanceId> = world.networks.keys().cloned().collect();
        assert_eq!(networks, instances, "each run has its network and no other is left");
        let processes: BTreeSet<InstanceId> = world.processes.keys().cloned().collect();
        assert_eq!(processes, instances, "each run has its process and no other is left");
        for vm in &records {
            match vm.phase {
                VmPhase::Running => assert!(vm.instance.is_some(), "{vm:?}"),
                VmPhase::Stopped | VmPhase::Suspended => assert!(vm.instance.is_none(), "{vm:?}"),
                _ => panic!("not settled: {vm:?}"),
            }
            assert_eq!(vm.account_id.as_ref(), Some(&self.account), "the pool was emptied");
        }
        for vm in &list.vms {
            let suspended = records.iter().any(|row| row.id == vm.id && row.suspended.is_some());
            let shown = match (&vm.instance_id, suspended) {
                (Some(_), _) => VmState::Running,
                (None, true) => VmState::Suspended,
                (None, false) => VmState::Stopped,
            };
            assert_eq!(vm.state, shown);
        }
        assert!(world.paused.is_disjoint(&processes), "a guest stands still");
        let wanted: BTreeSet<SnapshotId> = snapshots
            .iter()
            .filter(|snapshot| snapshot.state == SnapshotState::Ready)
            .map(|snapshot| snapshot.id.clone())
            .collect();
        assert_eq!(world.snapshots, wanted, "each snapshot has its files and no other is left");
        let unsettled = snapshots.iter().find(|snapshot| snapshot.state == SnapshotState::Building);
        assert_eq!(unsettled, None);

        let told = self.told.lock().unwrap();
        for vm in told.created.difference(&told.may_be_gone) {
            assert!(disks.contains(vm), "{vm} was acknowledged and is lost");
        }
        for vm in &told.deleted {
            assert!(!disks.contains(vm), "{vm} was deleted and is back");
        }
        assert!(list.vms.iter().all(|vm| disks.contains(&vm.id)));
        for snapshot in &told.snapshots {
            assert!(wanted.contains(snapshot), "{snapshot} was acknowledged and is lost");
        }
        for snapshot in &told.snapshots_deleted {
            assert!(!wanted.contains(snapshot), "{snapshot} was deleted and is back");
        }
    }
}

/// A place for databases where syncing costs nothing: the crash here is the server's, not the
/// machine's.
fn fast_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn nothing_is_lost_or_left_behind_whatever_fails_or_crashes() {
    let (mut created, mut deleted, mut claimed) = (0, 0, 0);
    for seed in 1..=12 {
        let dir = fast_dir();
        let database = dir.path().join("store.sqlite");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let run = runtime.block_on(async {
            let store = Store::open(&database).await.unwrap();
            Arc::new(Run::new(0x9e37_79b9_7f4a_7c15 ^ seed, &store).await)
        });
        for _ in 0..10 {
            run.live_and_crash(&database);
            run.recover_and_check(&database);
        }
        let told = run.told.lock().unwrap();
        created += told.created.len();
        deleted += told.deleted.len();
        claimed += run.world.lock().unwrap().claimed;
    }
    // How much happens between two crashes depends on the machine; some of everything did.
    assert!(created > 30 && deleted > 5, "only {created} were made, {deleted} deleted");
    assert!(claimed > 5, "only {claimed} were claimed");
}
