//! The UDP socket and whose each datagram is.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use rustix::net::sockopt;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::key::{PrivateKey, PublicKey};
use crate::peer::{Peer, PeerConfig};
use crate::tunnel::{self, Device, Tunnel};

/// Largest datagram. A peer with a larger MTU than a link of 9,000 bytes allows is cut off.
pub(crate) const MAX_DATAGRAM: usize = 9216;
/// Handshakes per second above which senders must show that they are where they say.
const HANDSHAKES_PER_SECOND: u64 = 100;
/// What may wait in the socket for its turn, in bytes.
const SOCKET_BUFFER: usize = 4 << 20;
/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Pause after an error of the socket, which mostly passes.
const RECOVERY: Duration = Duration::from_millis(20);
/// The library keeps the low byte of an index for itself.
const INDEX_BITS: u32 = 24;

/// When and where a peer was last heard from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The peer.
    pub key: PublicKey,
    /// When.
    pub at: SystemTime,
    /// Where it was.
    pub endpoint: SocketAddr,
}

/// A WireGuard server. When it is dropped it answers no more; drop its tunnels as well.
pub struct Endpoint {
    shared: Arc<Shared>,
    local: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Endpoint {
    /// Begins to answer at an address; port 0 is any free port. Needs a tokio runtime.
    pub async fn bind(address: SocketAddr, key: PrivateKey) -> io::Result<Self> {
        Self::new(UdpSocket::bind(address).await?, key)
    }

    /// Begins to answer on a socket. Needs a tokio runtime.
    pub fn new(socket: UdpSocket, key: PrivateKey) -> io::Result<Self> {
        let local = socket.local_addr()?;
        // As much as the system allows, where it does not allow this much.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER));
        let _ = sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
        let public_key = key.public_key();
        let shared = Arc::new(Shared {
            socket,
            limiter: RateLimiter::new(&public_key.curve(), HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public_key.curve(), u64::MAX)),
            key,
            public_key,
            peers: RwLock::default(),
        });
        let tasks =
            [tokio::spawn(receive(shared.clone())), tokio::spawn(keep_time(shared.clone()))];
        Ok(Self { shared, local, tasks })
    }

    /// Where it answers.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Who it is.
    pub fn public_key(&self) -> PublicKey {
        self.shared.public_key
    }

    /// Adds a network. `tun` is its TUN device, non-blocking and without packet information.
    pub fn open(&self, tun: OwnedFd) -> io::Result<Tunnel> {
        Tunnel::new(self.shared.clone(), tun)
    }

    /// Every peer that was heard from since it was let in.
    pub fn sightings(&self) -> Vec<Sighting> {
        let peers = self.shared.peers();
        let seen = peers.by_key.values().filter_map(|peer| {
            let (at, endpoint) = peer.sighting()?;
            Some(Sighting { key: peer.key, at, endpoint })
        });
        seen.collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the tasks of an endpoint share.
pub(crate) struct Shared {
    socket: UdpSocket,
    key: PrivateKey,
    public_key: PublicKey,
    /// Judges handshakes before it is known whose they are.
    limiter: RateLimiter,
    /// For the library, which would judge them again.
    unlimited: Arc<RateLimiter>,
    peers: RwLock<Peers>,
}

#[derive(Default)]
struct Peers {
    by_key: HashMap<PublicKey, Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
}

impl Shared {
    fn peers(&self) -> RwLockReadGuard<'_, Peers> {
        // No code that can panic runs while it is held.
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers_mut(&self) -> RwLockWriteGuard<'_, Peers> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn admit(&self, config: &PeerConfig, device: Arc<Device>) -> Arc<Peer> {
        let mut peers = self.peers_mut();
        // By chance, so that the packets of an earlier server's sessions hardly ever find a peer.
        let index = loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).expect("the operating system has a random source");
            let index = u32::from_le_bytes(bytes) >> (u32::BITS - INDEX_BITS);
            if !peers.by_index.contains_key(&index) {
                break index;
            }
        };
        let peer = Peer::new(config, index, device, &self.key, self.unlimited.clone());
        let peer = Arc::new(peer);
        peers.by_key.insert(peer.key, peer.clone());
        peers.by_index.insert(index, peer.clone());
        peer
    }

    pub(crate) fn dismiss(&self, key: &PublicKey) {
        let mut peers = self.peers_mut();
        let Some(peer) = peers.by_key.remove(key) else { return };
        peers.by_index.remove(&peer.index);
        drop(peers);
        tunnel::forget(&peer);
    }

    /// Sends, or does not if there is no room: for what is sent again if it is lost.
    pub(crate) fn send_now(&self, datagram: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.try_send_to(datagram, to) {
            tracing::trace!(%error, %to, "sending to a peer");
        }
    }

    /// Sends when there is room.
    pub(crate) async fn send(&self, datagram: &[u8], to: SocketAddr) {
        if let Err(error) = self.socket.send_to(datagram, to).await {
            tracing::trace!(%error, %to, "sending to a peer");
        }
    }

    /// Takes a datagram from anyone.
    fn accept(&self, datagram: &[u8], from: SocketAddr, buffer: &mut [u8]) {
        let packet = match self.limiter.verify_packet(Some(from.ip()), datagram, buffer) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(cookie)) => return self.send_now(cookie, from),
            Err(_) => return,
        };
        if let Some(peer) = self.sender(&packet) {
            peer.open(datagram, from, buffer, |answer| self.send_now(answer, from));
        }
    }

    fn sender(&self, packet: &Packet<'_>) -> Option<Arc<Peer>> {
        let of_index = |index: u32| self.peers().by_index.get(&(index >> 8)).cloned();
        match packet {
            Packet::HandshakeInit(init) => {
                let (private, public) = (self.key.curve(), self.public_key.curve());
                let half = parse_handshake_anon(private, &public, init).ok()?;
                let key = PublicKey::new(half.peer_static_public);
                self.peers().by_key.get(&key).cloned()
            }
            Packet::HandshakeResponse(response) => of_index(response.receiver_idx),
            Packet::PacketCookieReply(reply) => of_index(reply.receiver_idx),
            Packet::PacketData(data) => of_index(data.receiver_idx),
        }
    }
}

/// Takes what arrives, one datagram after the other.
async fn receive(shared: Arc<Shared>) {
    let (mut datagram, mut buffer) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
    loop {
        match shared.socket.recv_from(&mut datagram).await {
            Ok((length, from)) => shared.accept(&datagram[..length], from, &mut buffer),
            Err(error) => {
                tracing::warn!(%error, "receiving from WireGuard peers");
                tokio::time::sleep(RECOVERY).await;
            }
        }
    }
}

/// Does what is due for every peer: handshakes again, keys that are too old, keepalives.
async fn keep_time(shared: Arc<Shared>) {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        tokio::time::sleep(TICK).await;
        shared.limiter.reset_count();
        let peers: Vec<Arc<Peer>> = shared.peers().by_key.values().cloned().collect();
        for peer in peers {
            if let Some((length, to)) = peer.tick(&mut buffer) {
                shared.send_now(&buffer[..length], to);
            }
        }
    }
}
