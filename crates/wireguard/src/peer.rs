//! One peer: its keys and sessions, and where it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use crate::key::{PrivateKey, PublicKey};
use crate::tunnel::Device;

/// A peer that is to be let into a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who it is. No other peer of the endpoint may have it.
    pub key: PublicKey,
    /// What it sends must come from this address, and what is for this address goes to it. No other
    /// peer of the network may have it.
    pub address: Ipv4Addr,
    /// Where it was when it was last heard from: it is told at once that there is a new server.
    pub last_seen_at: Option<SocketAddr>,
}

/// A peer of a network.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    /// Below 2^24: how its packets name it.
    pub(crate) index: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) device: Arc<Device>,
    state: Mutex<State>,
}

struct State {
    noise: Tunn,
    endpoint: Option<SocketAddr>,
    heard_at: Option<SystemTime>,
}

impl Peer {
    pub(crate) fn new(
        config: &PeerConfig,
        index: u32,
        device: Arc<Device>,
        key: &PrivateKey,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        let (own, peer) = (key.curve().clone(), config.key.curve());
        let noise = Tunn::new(own, peer, None, None, index, Some(limiter));
        let state = State { noise, endpoint: config.last_seen_at, heard_at: None };
        let PeerConfig { key, address, .. } = *config;
        Self { key, index, address, device, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the library does to a peer's keys before it panics is not to be relied on, but they
        // are the peer's own.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it was last heard from, and where.
    pub(crate) fn sighting(&self) -> Option<(SystemTime, SocketAddr)> {
        let state = self.state();
        state.heard_at.zip(state.endpoint)
    }

    /// Takes a datagram that names this peer. What is to be sent to it goes to `send`, what it sent
    /// to its network.
    pub(crate) fn open(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        buffer: &mut [u8],
        send: impl Fn(&[u8]),
    ) {
        let mut state = self.state();
        let mut result = state.noise.decapsulate(Some(from.ip()), datagram, buffer);
        if matches!(result, TunnResult::Err(_)) {
            // Forged, repeated or of a session that is over.
            return;
        }
        loop {
            match result {
                TunnResult::WriteToNetwork(answer) => {
                    send(answer);
                    // There may be packets that waited for the handshake.
                    result = state.noise.decapsulate(None, &[], buffer);
                }
                TunnResult::WriteToTunnelV4(packet, source) => {
                    if source == self.address {
                        self.device.write(packet);
                    } else {
                        tracing::trace!(peer = %self.key, %source, "a packet from a foreign address");
                    }
                    break;
                }
                TunnResult::WriteToTunnelV6(..) | TunnResult::Done | TunnResult::Err(_) => break,
            }
        }
        // It was genuine, so this is where the peer is.
        state.endpoint = Some(from);
        state.heard_at = Some(SystemTime::now());
    }

    /// Encrypts a packet for the peer: how many bytes of `buffer` are to be sent, and where.
    pub(crate) fn seal(&self, packet: &[u8], buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut state = self.state();
        let to = state.endpoint?;
        let result = state.noise.encapsulate(packet, buffer);
        to_send(&result).map(|length| (length, to))
    }

    /// Begins a handshake, if it is known where the peer is.
    pub(crate) fn greet(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut state = self.state();
        let to = state.endpoint?;
        let result = state.noise.format_handshake_initiation(buffer, false);
        to_send(&result).map(|length| (length, to))
    }

    /// Does what is due, several times a second.
    pub(crate) fn tick(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut state = self.state();
        let result = state.noise.update_timers(buffer);
        if let TunnResult::Err(WireGuardError::ConnectionExpired) = result {
            // Whoever is at that address now shall not be called again and again.
            state.endpoint = None;
        }
        let length = to_send(&result)?;
        state.endpoint.map(|to| (length, to))
    }
}

fn to_send(result: &TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
        _ => None,
    }
}
