//! The host: the [`Engine`] that runs VMs for real, with QEMU, network namespaces and files.

mod capture;
mod connect;
mod engine;
mod files;
mod flatten;
mod login_key;
mod running;
mod snapshots;
mod steps;
mod storage;
mod template;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_guest_protocol::Identity;
use freestyle_guest_protocol::message::Nic;
use freestyle_image::{Image, kernel_cmdline};
use freestyle_network::{Network, NetworkConfig, NetworkError};
use freestyle_qemu::{Accelerator, AcceleratorChoice, Qemu, QemuError};
use freestyle_store::{InstanceId, Store, VmId};
use sha2::{Digest, Sha256};

use self::files::Files;
pub use self::login_key::{LoginKey, LoginSecret};
use self::running::Running;
use self::snapshots::Snapshots;
use self::template::Templates;
use crate::error::VmError;
use crate::model::DEFAULT_SIZING;
use crate::pool;
use crate::service::{Patience, Service, keep_small, suspend_idle};

/// How often consoles are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// What the VM service needs to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that is kept of VMs. Belongs to this server alone.
    pub data_dir: PathBuf,
    /// Base images and their snapshots; may be shared and may be cleared while no server runs.
    pub cache_dir: PathBuf,
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// How guest code is executed.
    pub accelerator: AcceleratorChoice,
    /// VMs of the default size to keep ready.
    pub pool_size: usize,
    /// Bytes to which the data directory may grow before sticky VMs and snapshots are evicted.
    pub disk_budget: Option<u64>,
    /// DNS servers for guests; empty takes the host's own.
    pub resolvers: Vec<IpAddr>,
    /// The base image of new VMs.
    pub image: Image,
    /// What the keys follow from that log in to guests.
    pub login_secret: LoginSecret,
}

/// The VM service on this host.
pub type VmService = Service<Host>;

impl VmService {
    /// Checks the host, takes over what an earlier server left running, and begins to fill the
    /// pool. Takes a second, or as long as a boot when the base image has no snapshot yet.
    pub async fn open(config: Config, store: Store) -> Result<Self, VmError> {
        let (pool_size, disk_budget) = (config.pool_size, config.disk_budget);
        let warm_up = DEFAULT_SIZING;
        let service = Self::take_over(config, store).await?;
        let shared = service.shared().clone();
        // Whatever keeps the host from running a guest at all should be said at the start.
        let template = shared.engine.inner.templates.get(warm_up).await?;
        shared.engine.inner.snapshots.memory(&template.id).await?;
        // Whoever wants a snapshot is told the outcome.
        let _ = shared.engine.inner.memory_snapshots_work().await;
        service.run_in_background(keep_small(shared.clone(), disk_budget));
        service.run_in_background(suspend_idle(shared.clone()));
        service.run_in_background(pool::keep_filled(shared.clone(), pool_size));
        let inner = shared.engine.inner.clone();
        service.run_in_background(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                let running: Vec<_> = inner.running().values().cloned().collect();
                let trim = move || running.iter().for_each(|running| running.trim_console());
                let _ = tokio::task::spawn_blocking(trim).await;
            }
        });
        Ok(service)
    }

    /// The first part of [`VmService::open`]: checks the host and takes over what an earlier server
    /// left running. Nothing is begun, and no base image is needed until a VM is made.
    pub async fn take_over(config: Config, store: Store) -> Result<Self, VmError> {
        let host = blocking(move || Host::open(config)).await?;
        Self::recover(host, store, Patience::default()).await
    }

    /// The network that its VMs are in, for what else is to reach them.
    pub fn network(&self) -> Network {
        self.shared().engine.inner.network.clone()
    }

    /// Ends the service in order. VMs that run go on and are taken over by the next
    /// [`VmService::open`]; if there are none, nothing of this server is left on the host.
    pub async fn shut_down(self) {
        let Some(host) = self.close().await else { return };
        if let Err(error) = host.inner.network.clone().close() {
            tracing::warn!(%error, "giving the network back");
        }
    }
}

/// A host with QEMU.
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    qemu: Qemu,
    files: Files,
    network: Network,
    snapshots: Arc<Snapshots>,
    /// Why memory snapshots do not work, once that was tried.
    self_test: tokio::sync::OnceCell<Option<String>>,
    templates: Templates,
    image: String,
    login_secret: LoginSecret,
    running: Mutex<HashMap<InstanceId, Arc<Running>>>,
    /// Held while a step of the VM is done.
    steps: Mutex<HashMap<VmId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Host {
    /// Blocks: it runs `qemu --version` and prepares the network.
    fn open(config: Config) -> Result<Self, VmError> {
        let qemu = Qemu::probe(&config.qemu, config.accelerator).map_err(qemu_error)?;
        let files = Files::open(config.data_dir, config.cache_dir)?;
        let mut network = NetworkConfig::new(files.data.join("network.json"));
        network.resolvers = config.resolvers;
        let network = Network::open(network).map_err(network_error)?;
        let (image, login_secret) = (config.image.hash.clone(), config.login_secret);
        let snapshots = Arc::new(Snapshots::new(files.clone()));
        let (for_files, for_network) = (files.clone(), network.clone());
        let templates =
            Templates::new(qemu.clone(), for_files, for_network, config.image, snapshots.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                qemu,
                files,
                network,
                snapshots,
                self_test: tokio::sync::OnceCell::new(),
                templates,
                image,
                login_secret,
                running: Mutex::default(),
                steps: Mutex::default(),
            }),
        })
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Running>>> {
        // The map is never left half-changed, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step_lock(&self, vm: &VmId) -> Arc<tokio::sync::Mutex<()>> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(vm.clone()).or_default().clone()
    }

    /// Fails if the self-test found that this host cannot save and restore memory.
    async fn memory_snapshots_work(&self) -> Result<(), VmError> {
        let test = || async {
            let tested = self.templates.self_test().await;
            tested.map_err(|error| {
                tracing::error!(%error, "this host cannot take memory snapshots");
                error.to_string()
            })
        };
        let tested = self.self_test.get_or_init(|| async { test().await.err() }).await;
        match tested {
            None => Ok(()),
            Some(reason) => Err(VmError::MemorySnapshotsUnavailable(reason.clone())),
        }
    }

    /// The users that processes of this server's VMs run as.
    fn own_uids(&self) -> Result<std::ops::RangeInclusive<u32>, VmError> {
        let uid = |slot| self.network.uid_for_slot(slot).map_err(network_error);
        Ok(uid(0)?..=uid(freestyle_network::SLOTS - 1)?)
    }
}

/// Who the guest is in this instance. The generation follows from the instance, so that a server
/// that restarted greets a guest as the one it is.
fn identity(
    instance: &InstanceId,
    hostname: &str,
    grow_root: bool,
    login_key: Option<&LoginKey>,
    nic: Option<&freestyle_store::Nic>,
) -> Identity {
    let digest = Sha256::digest(instance.as_str());
    let mut generation = [0; 16];
    generation.copy_from_slice(&digest[..16]);
    let login_key = login_key.map(LoginKey::public_line);
    let nic = nic.map(|nic| Nic {
        address: nic.address.addr(),
        prefix_length: nic.address.prefix_len(),
        is_default: nic.is_default,
    });
    Identity { generation, hostname: hostname.to_owned(), grow_root, login_key, nic }
}

/// Who a guest is that is nobody's yet: a new one every time, whom nobody may log in to.
fn nobody(grow_root: bool) -> Identity {
    identity(&InstanceId::random(), "freestyle", grow_root, None, None)
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmError> + Send + 'static,
) -> Result<T, VmError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| VmError::Internal(error.to_string()))?
}

/// The kernel command line of every boot.
fn cmdline(qemu: &Qemu) -> String {
    kernel_cmdline(qemu.accelerator == Accelerator::Tcg)
}

fn qemu_error(error: QemuError) -> VmError {
    if error.is_no_space() || error.is_no_memory() {
        return VmError::NoCapacity(error.to_string());
    }
    VmError::Internal(error.to_string())
}

fn network_error(error: NetworkError) -> VmError {
    VmError::Internal(error.to_string())
}
