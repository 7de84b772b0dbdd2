//! The calls of the VPC service, and the task that keeps the endpoint what the store says.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freestyle_network::{Network, TUNNEL_ADDRESS, TUNNEL_RANGE, Vpc, VpcRange};
use freestyle_store::{
    AccountId, NewWireguardPeer, Store, StoreError, VmId, VpcId, VpcRecord, WireguardPeer,
    WireguardPeerId, WireguardSighting,
};
use freestyle_wireguard::{Endpoint, PeerConfig, PrivateKey, PublicKey, Sighting, Tunnel};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::client_config::{self, Server};
use crate::error::VpcError;
use crate::host::VpnHost;

/// How often the endpoint is compared with the store, and what was heard is recorded.
const ROUND: Duration = Duration::from_secs(2);
/// What was heard is recorded anew after this, or when a peer has moved.
const FRESH: Duration = Duration::from_secs(60);
/// An ephemeral session that is not heard from for so long is over.
const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The end of the VPN in a VPC.
const INTERFACE: &str = "wg0";

/// What the VPC service needs to run.
#[derive(Debug)]
pub struct Config {
    /// The VPN; `None` offers none.
    pub vpn: Option<VpnConfig>,
}

/// How the VPN is offered.
#[derive(Debug)]
pub struct VpnConfig {
    /// Where the endpoint listens.
    pub socket: UdpSocket,
    /// By which name clients reach it. Where absent: the address that it listens on, or, if those
    /// are all of the host's, the host that the API was called by.
    pub host: Option<VpnHost>,
    /// The server's key. Clients know its public half, so it must be the same every time.
    pub key: PrivateKey,
}

/// A VPC as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcInfo {
    /// What it is.
    pub vpc: VpcRecord,
    /// The VMs that have a NIC in it, running or not.
    pub members: Vec<Member>,
}

/// A VM in a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The VM.
    pub vm: VmId,
    /// Its address there.
    pub address: Ipv4Addr,
}

/// A computer that may join a VPC, and what it must know to do so (protocol section 14).
#[derive(Debug, Clone)]
pub struct VpnPeer {
    /// Its name here.
    pub id: WireguardPeerId,
    /// The VPC.
    pub vpc: VpcRecord,
    /// Where the endpoint is.
    pub endpoint_host: VpnHost,
    /// Its UDP port.
    pub endpoint_port: u16,
    /// The VPC's end of the VPN.
    pub interface: &'static str,
    /// The endpoint's key.
    pub server_key: PublicKey,
    /// The endpoint's address in the tunnel.
    pub server_address: Ipv4Addr,
    /// The computer's address in the tunnel, by which VMs know it.
    pub client_address: Ipv4Addr,
    /// For `wg-quick`.
    pub client_config: String,
}

/// An ephemeral session: a peer whose key was made here.
#[derive(Debug, Clone)]
pub struct VpnSession {
    /// What every peer has.
    pub peer: VpnPeer,
    /// The client's key, which is known here no longer than this answer lives.
    pub client_key: PrivateKey,
}

/// The VPC service. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct VpcService {
    inner: Arc<Inner>,
    /// The task that keeps the endpoint what the store says, until the service is shut down or
    /// dropped.
    keeper: Arc<Mutex<JoinSet<()>>>,
}

struct Inner {
    store: Store,
    network: Network,
    vpn: Option<Vpn>,
    /// Held while the endpoint is made what the store says.
    tunnels: tokio::sync::Mutex<HashMap<VpcId, Tunnel>>,
}

struct Vpn {
    endpoint: Endpoint,
    host: Option<VpnHost>,
}

impl VpcService {
    /// Begins to answer WireGuard clients, those of an earlier server among them, and removes what
    /// that has left on the host of VPCs which are gone. `network` is the one that VMs are in.
    pub async fn open(config: Config, store: Store, network: Network) -> Result<Self, VpcError> {
        let vpn = match config.vpn {
            None => None,
            Some(VpnConfig { socket, host, key }) => {
                Some(Vpn { endpoint: Endpoint::new(socket, key)?, host })
            }
        };
        let inner = Arc::new(Inner { store, network, vpn, tunnels: tokio::sync::Mutex::default() });
        inner.remove_leftovers().await?;
        inner.expire().await?;
        inner.synchronize_all().await?;
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(inner.clone()));
        Ok(Self { inner, keeper: Arc::new(Mutex::new(keeper)) })
    }

    /// Where WireGuard clients are answered.
    pub fn vpn_address(&self) -> Option<SocketAddr> {
        self.inner.vpn.as_ref().map(|vpn| vpn.endpoint.local_addr())
    }

    /// Ends the VPN. What it has heard is recorded, so that the next server can call its clients.
    pub async fn shut_down(self) {
        let mut keeper =
            mem::take(&mut *self.keeper.lock().unwrap_or_else(PoisonError::into_inner));
        // What it holds is let go of before the rest.
        keeper.shutdown().await;
        if let Err(error) = self.inner.record_sightings(Duration::ZERO).await {
            tracing::warn!(%error, "recording where VPN clients are");
        }
        self.inner.tunnels.lock().await.clear();
    }

    /// Makes a VPC of the range `cidr`.
    pub async fn create(
        &self,
        account: &AccountId,
        name: Option<&str>,
        cidr: &str,
    ) -> Result<VpcRecord, VpcError> {
        let range: VpcRange = cidr.parse()?;
        let vpc = self.inner.store.account_scope(account).create_vpc(name, range.net()).await?;
        tracing::info!(%account, vpc = %vpc.id, %range, "created a VPC");
        Ok(vpc)
    }

    /// The account's VPCs, oldest first.
    pub async fn list(&self, account: &AccountId) -> Result<Vec<VpcInfo>, VpcError> {
        let scope = self.inner.store.account_scope(account);
        let mut members: HashMap<VpcId, Vec<Member>> = HashMap::new();
        for vm in scope.vms(false).await? {
            let Some(nic) = vm.nic else { continue };
            let member = Member { vm: vm.id, address: nic.address.addr() };
            members.entry(nic.vpc).or_default().push(member);
        }
        let infos = scope.vpcs().await?.into_iter().map(|vpc| {
            let mut members = members.remove(&vpc.id).unwrap_or_default();
            members.sort_by_key(|member| member.address);
            VpcInfo { vpc, members }
        });
        Ok(infos.collect())
    }

    /// Deletes a VPC and whatever joins it from outside. One that VMs have a NIC in is kept.
    pub async fn delete(&self, account: &AccountId, vpc: &VpcId) -> Result<VpcRecord, VpcError> {
        let (inner, account, vpc) = (self.inner.clone(), account.clone(), vpc.clone());
        to_the_end(async move {
            let deleted = inner.store.account_scope(&account).delete_vpc(&vpc).await?;
            inner.synchronize(&vpc).await?;
            if let Err(error) = inner.network.remove_vpc(vpc.as_str()).await {
                // The next server tries again.
                tracing::error!(%vpc, %error, "removing a VPC from the host");
            }
            Ok(deleted)
        })
        .await
    }

    /// Lets a new computer into a VPC until the session is closed or not used any more.
    /// `called_by` is the host that the API was called by.
    pub async fn connect(
        &self,
        account: &AccountId,
        vpc: &VpcId,
        called_by: Option<VpnHost>,
    ) -> Result<VpnSession, VpcError> {
        let client_key = PrivateKey::generate();
        let new = NewWireguardPeer {
            vpc: vpc.clone(),
            public_key: client_key.public_key().to_string(),
            gateway: None,
        };
        let peer = self.let_in(account, new, Some(&client_key), called_by).await?;
        Ok(VpnSession { peer, client_key })
    }

    /// Closes a session, at once. Content if there is none of that name in the VPC.
    pub async fn disconnect(
        &self,
        account: &AccountId,
        vpc: &VpcId,
        session: &WireguardPeerId,
    ) -> Result<(), VpcError> {
        let (inner, account) = (self.inner.clone(), account.clone());
        let (vpc, session) = (vpc.clone(), session.clone());
        to_the_end(async move {
            let scope = inner.store.account_scope(&account);
            scope.vpc(&vpc).await?;
            if scope.remove_wireguard_session(&vpc, &session).await? {
                inner.synchronize(&vpc).await?;
            }
            Ok(())
        })
        .await
    }

    /// Lets a computer with a key of its own into a VPC for as long as the VM `gateway` exists.
    /// Doing it again with another gateway changes that.
    pub async fn configure_peer(
        &self,
        account: &AccountId,
        vpc: &VpcId,
        gateway: &VmId,
        public_key: &str,
        called_by: Option<VpnHost>,
    ) -> Result<VpnPeer, VpcError> {
        let key: PublicKey = public_key.parse().map_err(|error| {
            VpcError::BadRequest(format!("clientPublicKey is no public key: {error}"))
        })?;
        let new = NewWireguardPeer {
            vpc: vpc.clone(),
            public_key: key.to_string(),
            gateway: Some(gateway.clone()),
        };
        self.let_in(account, new, None, called_by).await
    }

    async fn let_in(
        &self,
        account: &AccountId,
        new: NewWireguardPeer,
        key: Option<&PrivateKey>,
        called_by: Option<VpnHost>,
    ) -> Result<VpnPeer, VpcError> {
        let scope = self.inner.store.account_scope(account);
        let vpc = scope.vpc(&new.vpc).await?;
        let vpn = self.inner.vpn.as_ref().ok_or(VpcError::NoVpn)?;
        let peer = scope.create_wireguard_peer(&new, TUNNEL_RANGE).await;
        let peer = peer.map_err(|error| match error {
            StoreError::NoSuchVm(vm) => VpcError::NoSuchMember { vm, vpc: vpc.id.clone() },
            other => other.into(),
        })?;
        if let Err(error) = self.inner.synchronize(&vpc.id).await {
            // Nobody will be told of it. One with a gateway is let in as soon as that works.
            scope.remove_wireguard_session(&vpc.id, &peer.id).await?;
            return Err(error);
        }
        let (host, local) = (vpn.host(called_by), vpn.endpoint.local_addr());
        let server =
            Server { public_key: vpn.endpoint.public_key(), host: &host, port: local.port() };
        let address = peer.tunnel_address;
        Ok(VpnPeer {
            id: peer.id,
            client_config: client_config::text(address, key, vpc.cidr, &server),
            vpc,
            endpoint_port: local.port(),
            interface: INTERFACE,
            server_key: server.public_key,
            server_address: TUNNEL_ADDRESS,
            client_address: address,
            endpoint_host: host,
        })
    }
}

impl Vpn {
    /// By which name a client reaches the endpoint.
    fn host(&self, called_by: Option<VpnHost>) -> VpnHost {
        let local = self.endpoint.local_addr().ip();
        let called_by = called_by.filter(|_| local.is_unspecified());
        self.host.clone().or(called_by).unwrap_or_else(|| local.into())
    }
}

impl Inner {
    /// Removes what is on the host of VPCs that were deleted.
    async fn remove_leftovers(&self) -> Result<(), VpcError> {
        let vpcs = self.store.system().vpcs().await?;
        let known: HashSet<&str> = vpcs.iter().map(|vpc| vpc.id.as_str()).collect();
        for name in self.network.vpcs() {
            if !known.contains(name.as_str()) {
                self.network.remove_vpc(&name).await?;
            }
        }
        Ok(())
    }

    /// Makes the endpoint's peers in one VPC those of the store: whoever is not there is gone when
    /// this returns, and whoever is new is let in.
    async fn synchronize(&self, vpc: &VpcId) -> Result<(), VpcError> {
        let Some(vpn) = &self.vpn else { return Ok(()) };
        let mut tunnels = self.tunnels.lock().await;
        // Asked under the lock, so that what is older never overwrites what is newer.
        let system = self.store.system();
        let record = system.vpcs().await?.into_iter().find(|live| live.id == *vpc);
        let mut peers = system.wireguard_peers().await?;
        peers.retain(|peer| peer.vpc == *vpc);
        match record {
            Some(record) => self.follow(vpn, &mut tunnels, &record, &peers).await,
            None => {
                tunnels.remove(vpc);
                Ok(())
            }
        }
    }

    /// As [`Inner::synchronize`], for every VPC. One that fails does not hold the others up.
    async fn synchronize_all(&self) -> Result<(), VpcError> {
        let Some(vpn) = &self.vpn else { return Ok(()) };
        let mut tunnels = self.tunnels.lock().await;
        let system = self.store.system();
        let vpcs = system.vpcs().await?;
        let mut peers: HashMap<VpcId, Vec<WireguardPeer>> = HashMap::new();
        for peer in system.wireguard_peers().await? {
            peers.entry(peer.vpc.clone()).or_default().push(peer);
        }
        let live: HashSet<&VpcId> = vpcs.iter().map(|vpc| &vpc.id).collect();
        tunnels.retain(|vpc, _| live.contains(vpc));
        for vpc in &vpcs {
            let peers = peers.remove(&vpc.id).unwrap_or_default();
            if let Err(error) = self.follow(vpn, &mut tunnels, vpc, &peers).await {
                tracing::error!(vpc = %vpc.id, %error, "letting VPN clients in");
            }
        }
        Ok(())
    }

    /// Dismisses and admits until the VPC's tunnel has these peers. It is opened for the first and
    /// stays, as others are likely to come.
    async fn follow(
        &self,
        vpn: &Vpn,
        tunnels: &mut HashMap<VpcId, Tunnel>,
        vpc: &VpcRecord,
        wanted: &[WireguardPeer],
    ) -> Result<(), VpcError> {
        let tunnel = match tunnels.entry(vpc.id.clone()) {
            Entry::Occupied(tunnel) => tunnel.into_mut(),
            Entry::Vacant(_) if wanted.is_empty() => return Ok(()),
            Entry::Vacant(place) => {
                let range = VpcRange::try_from(vpc.cidr)?;
                let tun = self.network.open_tunnel(Vpc::new(vpc.id.as_str(), range)?).await?;
                place.insert(vpn.endpoint.open(tun)?)
            }
        };
        let mut present: HashSet<PublicKey> = tunnel.peers().into_iter().collect();
        let mut missing = Vec::new();
        for peer in wanted {
            // Nothing else is ever written there.
            let Ok(key) = peer.public_key.parse::<PublicKey>() else {
                tracing::error!(peer = %peer.id, "a stored public key is none");
                continue;
            };
            if !present.remove(&key) {
                let address = peer.tunnel_address;
                missing.push(PeerConfig { key, address, last_seen_at: peer.endpoint });
            }
        }
        present.iter().for_each(|key| tunnel.dismiss(key));
        for peer in missing {
            tunnel.admit(&peer).await;
        }
        Ok(())
    }

    /// Records when and where peers were heard from, if what is recorded is older than `age` or they
    /// have moved.
    async fn record_sightings(&self, age: Duration) -> Result<(), VpcError> {
        let Some(vpn) = &self.vpn else { return Ok(()) };
        let sightings = vpn.endpoint.sightings();
        let by_key: HashMap<String, &Sighting> =
            sightings.iter().map(|sighting| (sighting.key.to_string(), sighting)).collect();
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let mut news = Vec::new();
        for peer in self.store.system().wireguard_peers().await? {
            let Some(sighting) = by_key.get(&peer.public_key) else { continue };
            let (at, endpoint) = (unix_millis(sighting.at), Some(sighting.endpoint));
            let is_news = at > peer.last_seen_at.saturating_add(age) || endpoint != peer.endpoint;
            if is_news {
                news.push(WireguardSighting { id: peer.id, at, endpoint });
            }
        }
        if !news.is_empty() {
            self.store.system().record_wireguard_sightings(&news).await?;
        }
        Ok(())
    }

    /// Ends sessions that are not used any more.
    async fn expire(&self) -> Result<(), VpcError> {
        let before = unix_millis(SystemTime::now() - SESSION_LIFE);
        let expired = self.store.system().expire_wireguard_sessions(before).await?;
        if expired > 0 {
            tracing::info!(expired, "VPN sessions that were not used any more are over");
        }
        Ok(())
    }

    async fn round(&self) -> Result<(), VpcError> {
        self.record_sightings(FRESH).await?;
        self.expire().await?;
        self.synchronize_all().await
    }
}

/// Does what must not stop half-way, even if the caller goes away.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, VpcError>> + Send + 'static,
) -> Result<T, VpcError> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| VpcError::Endpoint(io::Error::other(error)))?
}

async fn keep(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Err(error) = inner.round().await {
            tracing::error!(%error, "looking after the VPN");
        }
    }
}

fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}
