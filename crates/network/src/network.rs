//! One server's networks: its claim on a block, the block's rules, and the VMs and VPCs in it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::{IpNet, Ipv4Net};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    address::{Block, GUEST_ADDRESS, Slot},
    block::{self, Claim, HostUse, Registry},
    error::{Because, NetworkError},
    instance::Instance,
    link::host_subnets,
    namespace,
    records::Records,
    resolver,
    rules::{self, Policy},
    vm::{Site, Vm, VmNetwork},
    vpc::{self, Nic, Vpc, VpcName},
};

/// Where the host's registry of blocks is by default. Servers that share a host must share it.
const RUN_DIR: &str = "/run/freestyle";
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// What [`Network::open`] needs to know.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The host's registry of blocks. Only tests that touch no kernel object should change it.
    pub run_dir: PathBuf,
    /// A small file in the server's data directory that remembers the block. Its path is the
    /// server's identity, its existence says that the server still matters.
    pub state_file: PathBuf,
    /// DNS servers for guests; the first reachable IPv4 address is used. Empty: the host's own.
    pub resolvers: Vec<IpAddr>,
    /// Destinations to deny guests besides the built-in ones and the host's own subnets.
    pub extra_denied: Vec<Ipv4Net>,
}

impl NetworkConfig {
    /// The defaults, for a server that keeps its state in `state_file`.
    pub fn new(state_file: impl Into<PathBuf>) -> Self {
        Self {
            run_dir: PathBuf::from(RUN_DIR),
            state_file: state_file.into(),
            resolvers: Vec::new(),
            extra_denied: Vec::new(),
        }
    }
}

/// An instance whose network, or part of it, is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedInstance {
    /// Its name.
    pub instance: String,
    /// Its slot.
    pub slot: u16,
}

/// Bytes that crossed a VM's tap since its network was made, link headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Sent by the guest.
    pub from_guest: u64,
    /// Delivered to the guest.
    pub to_guest: u64,
}

/// One server's share of the host's network. See the crate's documentation.
///
/// Cloning gives another handle to the same. When the last is dropped, or the process ends in any
/// way, the VMs' networks stay as they are for the next [`Network::open`] with the same state file.
#[derive(Clone, Debug)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    claim: Claim,
    site: Site,
    vms: Mutex<Vms>,
    vpc_records: Records,
    vpcs: Mutex<Vpcs>,
}

#[derive(Debug, Default)]
struct Vms {
    entries: BTreeMap<Instance, Arc<Entry>>,
    /// The block has been given back; nothing may be made in it any more.
    closed: bool,
}

/// The VPCs that have a record, and whether all of each was made by this server. `None` once the
/// block has been given back.
type Vpcs = Option<BTreeMap<VpcName, bool>>;

/// An instance that may be worked on by one operation at a time.
#[derive(Debug)]
struct Entry {
    slot: Slot,
    /// False once removed: whoever waited for the lock must look the instance up again.
    alive: Mutex<bool>,
}

impl Network {
    /// Claims a block, turns on IPv4 forwarding and installs the block's rules, replacing those of
    /// an earlier run. A block taken over from a server that is gone is cleaned first.
    ///
    /// Blocks for some tens of milliseconds, or until other servers have chosen their block. Needs
    /// root. The host's subnets are denied to guests as they are now: call again (after dropping
    /// this) when they change.
    ///
    /// # Errors
    /// [`NetworkError::NoFreeBlock`], or whatever the host lacks; [`checks`](crate::checks) explains.
    pub fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        let resolver = resolver::choose(&config.resolvers)?;
        let registry = Registry::lock(&config.run_dir)?;
        namespace::prepare_directory()?;
        let subnets = host_subnets()?.into_iter().filter_map(|subnet| match subnet {
            IpNet::V4(subnet) => Some(subnet),
            // Guests have no IPv6.
            IpNet::V6(_) => None,
        });
        let subnets: Vec<_> = subnets.collect();
        let in_use = HostUse { subnets: subnets.clone(), uids: block::process_uids()? };
        let claim = registry.claim(&config.state_file, &in_use)?;
        drop(registry);
        let block = claim.block();
        let records = Records::open(claim.vm_records())?;
        let policy = Policy::new(&subnets, &config.extra_denied, resolver);
        let site = Site { records, policy };

        let mut vms = Vms::default();
        for vm in site.records.all(|name| Vm::from_record(block, name))? {
            if claim.taken_over() {
                tracing::info!(%block, instance = %vm.instance, "removing the network of a server that is gone");
                vm.remove(&site)?;
            } else {
                let entry = Entry { slot: vm.slot, alive: Mutex::new(true) };
                vms.entries.insert(vm.instance, Arc::new(entry));
            }
        }
        let vpc_records = Records::open(claim.vpc_records())?;
        let mut vpcs = BTreeMap::new();
        for name in vpc_records.all(|name| name.parse::<VpcName>().ok())? {
            if claim.taken_over() {
                vpc::remove(&vpc_records, &name)?;
            } else {
                vpcs.insert(name, false);
            }
        }

        enable_forwarding()?;
        site.policy.load_for_block(block)?;
        if resolver.is_none() {
            tracing::warn!("no DNS server that guests could reach; they will have no DNS");
        }
        tracing::info!(%block, subnet = %block.subnet(), adopted = vms.entries.len(), "network ready");
        let (vms, vpcs) = (Mutex::new(vms), Mutex::new(Some(vpcs)));
        Ok(Self(Arc::new(Inner { claim, site, vms, vpc_records, vpcs })))
    }

    /// The number of the claimed block, below 32.
    pub fn block(&self) -> u8 {
        self.0.block().number()
    }

    /// The DNS server guests are sent to; none if neither the configuration nor the host names one
    /// that they could reach.
    pub fn resolver(&self) -> Option<Ipv4Addr> {
        self.0.site.policy.resolver()
    }

    /// The unprivileged user for the VM in `slot`, unique on the host. It changes only if the
    /// server lost its block while it was down and had no VM running.
    ///
    /// # Errors
    /// [`NetworkError::InvalidSlot`].
    pub fn uid_for_slot(&self, slot: u16) -> Result<u32, NetworkError> {
        Ok(self.0.slot(slot)?.uid())
    }

    /// Makes the network of `instance`, or whatever of it is missing; a finished one is left as it
    /// is, save that its rules are brought up to date. A running VM is not disturbed.
    ///
    /// `instance` is 20 characters of `[a-z0-9]`, unique on the host; `slot` is below
    /// [`SLOTS`](crate::SLOTS) and in use by no other instance. With a NIC the instance is plugged
    /// into its VPC, which is made if it is not there; it stays plugged in as long as it exists.
    /// Takes about ten milliseconds. If the future is dropped the work goes on. After an error parts
    /// may remain: call [`Network::remove`], or this again.
    ///
    /// # Errors
    /// For arguments that clash with an existing instance, or if the kernel refuses a step.
    pub async fn create(
        &self,
        instance: &str,
        slot: u16,
        nic: Option<Nic>,
    ) -> Result<VmNetwork, NetworkError> {
        let vm = Vm { instance: instance.parse()?, slot: self.0.slot(slot)? };
        self.blocking(move |inner| {
            if let Some(nic) = &nic {
                inner.ensure_vpc(&nic.vpc)?;
            }
            let ensure = |_| vm.ensure(&inner.site, nic.as_ref());
            inner.exclusively(&vm.instance, Some(vm.slot), ensure)?;
            Ok(VmNetwork(vm))
        })
        .await
    }

    /// The network of an existing instance.
    ///
    /// # Errors
    /// [`NetworkError::UnknownInstance`].
    pub fn get(&self, instance: &str) -> Result<VmNetwork, NetworkError> {
        let instance: Instance = instance.parse()?;
        let slot = self.0.vms().entries.get(&instance).map(|entry| entry.slot);
        let slot = slot.ok_or_else(|| NetworkError::UnknownInstance(instance.to_string()))?;
        Ok(VmNetwork(Vm { instance, slot }))
    }

    /// Removes all there is of the network of `instance`; content if there is nothing. Processes in
    /// it are not ended but cut off. If the future is dropped the work goes on.
    ///
    /// # Errors
    /// If the kernel refuses; the instance then stays in [`Network::list`].
    pub async fn remove(&self, instance: &str) -> Result<(), NetworkError> {
        let instance: Instance = instance.parse()?;
        self.blocking(move |inner| {
            let result = inner.exclusively(&instance, None, |slot| {
                Vm { instance: instance.clone(), slot }.remove(&inner.site)
            });
            match result {
                Err(NetworkError::UnknownInstance(_)) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Every instance of this server with anything on the host, also those an earlier run left
    /// half made. Never another server's.
    pub fn list(&self) -> Vec<OwnedInstance> {
        let vms = self.0.vms();
        let owned = vms.entries.iter().map(|(instance, entry)| OwnedInstance {
            instance: instance.to_string(),
            slot: entry.slot.index(),
        });
        owned.collect()
    }

    /// The tap's counters. Costs a short-lived thread, about a tenth of a millisecond.
    ///
    /// # Errors
    /// [`NetworkError::UnknownInstance`], or if the network is half made.
    pub async fn traffic(&self, instance: &str) -> Result<Traffic, NetworkError> {
        let vm = self.get(instance)?.0;
        let counters = self.blocking(move |_| vm.counters()).await?;
        Ok(Traffic { from_guest: counters.received, to_guest: counters.transmitted })
    }

    /// Connects to a TCP port of the guest. The caller bounds the time: a guest that does not
    /// answer takes the kernel's two minutes.
    ///
    /// # Errors
    /// [`NetworkError::UnknownInstance`], or why the connection failed.
    pub async fn connect_tcp(&self, instance: &str, port: u16) -> Result<TcpStream, NetworkError> {
        let vm = self.get(instance)?.0;
        let action = || format!("connect to port {port} of instance {instance}");
        let socket = self.blocking(move |_| vm.inside(TcpSocket::new_v4)).await?.because(action)?;
        socket.connect(SocketAddr::from((GUEST_ADDRESS, port))).await.because(action)
    }

    /// Opens the tunnel of a VPC, which is made if it is not there. The descriptor is a TUN device
    /// in the VPC's namespace, non-blocking: what is written to it, one IP packet at a time, comes
    /// from [`TUNNEL_RANGE`](crate::TUNNEL_RANGE) and goes to VMs; what they answer is read from it.
    /// Dropping it takes the device away.
    ///
    /// # Errors
    /// If the tunnel is open already, or the kernel refuses.
    pub async fn open_tunnel(&self, vpc: Vpc) -> Result<OwnedFd, NetworkError> {
        self.blocking(move |inner| {
            inner.ensure_vpc(&vpc)?;
            vpc.open_tunnel()
        })
        .await
    }

    /// Removes all there is of a VPC; content if there is nothing. VMs in it are cut off, so it is
    /// for the caller to see that there are none. If the future is dropped the work goes on.
    ///
    /// # Errors
    /// If the kernel refuses; the VPC then stays in [`Network::vpcs`].
    pub async fn remove_vpc(&self, name: &str) -> Result<(), NetworkError> {
        let name: VpcName = name.parse()?;
        self.blocking(move |inner| {
            let mut vpcs = inner.vpcs();
            let Some(vpcs) = vpcs.as_mut().filter(|vpcs| vpcs.contains_key(&name)) else {
                return Ok(());
            };
            vpc::remove(&inner.vpc_records, &name)?;
            vpcs.remove(&name);
            Ok(())
        })
        .await
    }

    /// The name of every VPC of this server with anything on the host.
    pub fn vpcs(&self) -> Vec<String> {
        self.0.vpcs().iter().flatten().map(|(name, _)| name.as_str().to_owned()).collect()
    }

    /// For an orderly end of the server: if it has no VM left, removes its VPCs and the block's
    /// rules and gives the block back. Otherwise changes nothing, as the VMs that run on need them.
    /// Other handles may still be there; through them nothing is made any more.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn close(self) -> Result<(), NetworkError> {
        let mut vms = self.0.vms();
        if vms.closed || !vms.entries.is_empty() {
            return Ok(());
        }
        vms.closed = true;
        let vpcs = self.0.vpcs().take().unwrap_or_default();
        vpcs.keys().try_for_each(|name| vpc::remove(&self.0.vpc_records, name))?;
        rules::unload_block(self.0.block())?;
        self.0.claim.release()
    }

    /// Runs `work`, which may block, off the asynchronous threads. It must not change the thread's
    /// namespace.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(cause) => std::panic::resume_unwind(cause),
                Err(_) => Err(NetworkError::ShuttingDown),
            },
        }
    }
}

impl Inner {
    fn block(&self) -> Block {
        self.claim.block()
    }

    fn slot(&self, index: u16) -> Result<Slot, NetworkError> {
        self.block().slot(index).ok_or(NetworkError::InvalidSlot(index))
    }

    fn vms(&self) -> MutexGuard<'_, Vms> {
        // No code that can panic runs while it is held.
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vpcs(&self) -> MutexGuard<'_, Vpcs> {
        // An entry is changed after what it says has been done.
        self.vpcs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes whatever is missing of a VPC. One at a time: it takes some ten milliseconds, once.
    fn ensure_vpc(&self, vpc: &Vpc) -> Result<(), NetworkError> {
        let mut vpcs = self.vpcs();
        let vpcs = vpcs.as_mut().ok_or(NetworkError::ShuttingDown)?;
        let exists = namespace::exists(&vpc.name.namespace());
        match vpcs.get(&vpc.name) {
            Some(true) if exists => return Ok(()),
            Some(_) => {}
            // Adopting it would mean removing it later.
            None if exists => return Err(NetworkError::ForeignNamespace(vpc.name.to_string())),
            None => drop(vpcs.insert(vpc.name.clone(), false)),
        }
        vpc.ensure(&self.vpc_records)?;
        vpcs.insert(vpc.name.clone(), true);
        Ok(())
    }

    /// Runs `work` as the only operation on the instance. With a slot, the instance is entered into
    /// the table first if it is not there; without one, it must be there and is taken out when
    /// `work` succeeds.
    fn exclusively(
        &self,
        instance: &Instance,
        create_in: Option<Slot>,
        work: impl FnOnce(Slot) -> Result<(), NetworkError>,
    ) -> Result<(), NetworkError> {
        loop {
            let entry = match create_in {
                Some(slot) => self.find_or_insert(instance, slot)?,
                None => {
                    let entry = self.vms().entries.get(instance).cloned();
                    entry.ok_or_else(|| NetworkError::UnknownInstance(instance.to_string()))?
                }
            };
            let mut alive = entry.alive.lock().unwrap_or_else(PoisonError::into_inner);
            if !*alive {
                continue;
            }
            work(entry.slot)?;
            if create_in.is_none() {
                *alive = false;
                self.vms().entries.remove(instance);
            }
            return Ok(());
        }
    }

    fn find_or_insert(&self, instance: &Instance, slot: Slot) -> Result<Arc<Entry>, NetworkError> {
        let mut vms = self.vms();
        if vms.closed {
            return Err(NetworkError::ShuttingDown);
        }
        if let Some(entry) = vms.entries.get(instance) {
            if entry.slot != slot {
                let (instance, slot) = (instance.to_string(), entry.slot.index());
                return Err(NetworkError::SlotMismatch { instance, slot });
            }
            return Ok(Arc::clone(entry));
        }
        if let Some((holder, _)) = vms.entries.iter().find(|(_, entry)| entry.slot == slot) {
            let (slot, instance) = (slot.index(), holder.to_string());
            return Err(NetworkError::SlotInUse { slot, instance });
        }
        // Adopting it would mean removing it later.
        if namespace::exists(&instance.namespace()) {
            return Err(NetworkError::ForeignNamespace(instance.to_string()));
        }
        let entry = Arc::new(Entry { slot, alive: Mutex::new(true) });
        vms.entries.insert(instance.clone(), Arc::clone(&entry));
        Ok(entry)
    }
}

fn enable_forwarding() -> Result<(), NetworkError> {
    let path = Path::new(IP_FORWARD);
    let action = || format!("turn on {IP_FORWARD}");
    if fs::read_to_string(path).because(action)?.trim() == "1" {
        return Ok(());
    }
    fs::write(path, "1").because(action)?;
    tracing::warn!("turned on IPv4 forwarding (net.ipv4.ip_forward) for the whole host");
    Ok(())
}
