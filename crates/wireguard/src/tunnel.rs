//! One network: its TUN device and the peers in it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::endpoint::{MAX_DATAGRAM, Shared};
use crate::key::PublicKey;
use crate::peer::{Peer, PeerConfig};

/// Room for the beginning of a handshake.
const HANDSHAKE: usize = 256;

/// A TUN device and who is behind it.
pub(crate) struct Device {
    tun: AsyncFd<OwnedFd>,
    peers: RwLock<HashMap<Ipv4Addr, Arc<Peer>>>,
}

impl Device {
    fn peers(&self) -> RwLockReadGuard<'_, HashMap<Ipv4Addr, Arc<Peer>>> {
        // No code that can panic runs while it is held.
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers_mut(&self) -> RwLockWriteGuard<'_, HashMap<Ipv4Addr, Arc<Peer>>> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a packet to the network. One for which there is no room is lost, as on any wire.
    pub(crate) fn write(&self, packet: &[u8]) {
        if let Err(error) = rustix::io::write(self.tun.get_ref(), packet) {
            tracing::trace!(%error, "a packet did not go into its network");
        }
    }

    async fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        let read = |tun: &OwnedFd| Ok(rustix::io::read(tun, &mut *packet)?);
        self.tun.async_io(Interest::READABLE, read).await
    }
}

/// A network of an [`Endpoint`](crate::Endpoint). When it is dropped its peers are gone, and its
/// TUN device is closed.
pub struct Tunnel {
    endpoint: Arc<Shared>,
    device: Arc<Device>,
    reader: JoinHandle<()>,
}

impl Tunnel {
    pub(crate) fn new(endpoint: Arc<Shared>, tun: OwnedFd) -> io::Result<Self> {
        #[expect(deprecated, reason = "the successor is unsafe; an OwnedFd keeps its promise")]
        let tun = AsyncFd::with_interest(tun, Interest::READABLE)?;
        let device = Arc::new(Device { tun, peers: RwLock::default() });
        let reader = tokio::spawn(carry(endpoint.clone(), device.clone()));
        Ok(Self { endpoint, device, reader })
    }

    /// Lets a peer in, in place of one with the same key. Its sessions begin anew.
    pub async fn admit(&self, config: &PeerConfig) {
        self.endpoint.dismiss(&config.key);
        let peer = self.endpoint.admit(config, self.device.clone());
        self.device.peers_mut().insert(config.address, peer.clone());
        let mut buffer = [0; HANDSHAKE];
        if let Some((length, to)) = peer.greet(&mut buffer) {
            self.endpoint.send(&buffer[..length], to).await;
        }
    }

    /// Ends what there is with a peer, at once. Whoever is not there is passed over.
    pub fn dismiss(&self, key: &PublicKey) {
        self.endpoint.dismiss(key);
    }

    /// Whose keys let them in.
    pub fn peers(&self) -> Vec<PublicKey> {
        self.device.peers().values().map(|peer| peer.key).collect()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for peer in self.peers() {
            self.endpoint.dismiss(&peer);
        }
        self.reader.abort();
    }
}

/// Forgets a peer that its endpoint has forgotten. Its address may be another's by now.
pub(crate) fn forget(peer: &Peer) {
    let mut peers = peer.device.peers_mut();
    if peers.get(&peer.address).is_some_and(|now| now.index == peer.index) {
        peers.remove(&peer.address);
    }
}

/// Carries what the network sends to its peers.
async fn carry(endpoint: Arc<Shared>, device: Arc<Device>) {
    let (mut packet, mut buffer) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
    loop {
        let length = match device.read(&mut packet).await {
            Ok(length) => length,
            Err(error) => return tracing::error!(%error, "reading from the tunnel of a network"),
        };
        let packet = &packet[..length];
        let Some(destination) = destination(packet) else { continue };
        let Some(peer) = device.peers().get(&destination).cloned() else { continue };
        let Some((length, to)) = peer.seal(packet, &mut buffer) else { continue };
        endpoint.send(&buffer[..length], to).await;
    }
}

/// Where an IPv4 packet wants to go.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_ipv4.then(|| address.into())
}
