//! The endpoint against clients that are made of the same library, well behaved and not. Clients of
//! other makes are in the tests of `freestyle-vpc`.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use freestyle_wireguard::{Endpoint, PeerConfig, PrivateKey, PublicKey, Tunnel};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const PATIENCE: Duration = Duration::from_secs(20);
/// Waited for only where silence is expected.
const SILENCE: Duration = Duration::from_millis(300);
const VM: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 10);
const HANDSHAKE_RESPONSE: u8 = 2;
const COOKIE: u8 = 3;

fn client_address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 96, 0, last)
}

async fn server(key: &PrivateKey) -> Endpoint {
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), key.clone()).await.unwrap()
}

/// A network of an endpoint, and the far end of what it takes for its TUN device.
fn network(endpoint: &Endpoint) -> (Tunnel, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    (endpoint.open(OwnedFd::from(near)).unwrap(), far)
}

/// An IPv4 packet as far as anyone here looks at it.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + content.len() as u16).to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(content);
    packet
}

fn arrived(network: &UnixDatagram) -> Vec<u8> {
    let mut buffer = [0; 2000];
    let length = network.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

struct Client {
    key: PrivateKey,
    address: Ipv4Addr,
    noise: Tunn,
    socket: UdpSocket,
}

impl Client {
    fn new(server: PublicKey, last: u8) -> Self {
        let key = PrivateKey::generate();
        let noise = noise(&key, server);
        Self { key, address: client_address(last), noise, socket: socket() }
    }

    fn config(&self) -> PeerConfig {
        PeerConfig { key: self.key.public_key(), address: self.address, last_seen_at: None }
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        match self.noise.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).unwrap();
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 2000];
        let (length, _) = self.socket.recv_from(&mut buffer)?;
        Ok(buffer[..length].to_vec())
    }

    /// Takes a datagram and sends what it asks for; the packet that was in it.
    fn take(&mut self, datagram: &[u8], to: SocketAddr) -> Option<Vec<u8>> {
        let mut buffer = [0; 2000];
        match self.noise.decapsulate(None, datagram, &mut buffer) {
            TunnResult::WriteToNetwork(answer) => {
                self.socket.send_to(answer, to).unwrap();
                None
            }
            TunnResult::WriteToTunnelV4(packet, _) => Some(packet.to_vec()),
            TunnResult::Done => None,
            other => panic!("{other:?}"),
        }
    }

    fn connect(&mut self, to: SocketAddr) {
        let initiation = self.initiation();
        self.send(&initiation, to);
        let response = self.receive().unwrap();
        assert_eq!(response[0], HANDSHAKE_RESPONSE);
        assert_eq!(self.take(&response, to), None);
    }

    fn sealed(&mut self, source: Ipv4Addr, content: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2000];
        match self.noise.encapsulate(&packet(source, VM, content), &mut buffer) {
            TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, source: Ipv4Addr, content: &[u8], to: SocketAddr) {
        let datagram = self.sealed(source, content);
        self.send(&datagram, to);
    }

    fn hear(&mut self, to: SocketAddr) -> Vec<u8> {
        loop {
            let datagram = self.receive().unwrap();
            if let Some(packet) = self.take(&datagram, to) {
                return packet;
            }
        }
    }

    fn hears_nothing(&self) -> bool {
        self.socket.set_read_timeout(Some(SILENCE)).unwrap();
        let silent = self.receive().is_err();
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn noise(key: &PrivateKey, server: PublicKey) -> Tunn {
    let bytes = |text: String| -> [u8; 32] {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        bytes.try_into().unwrap()
    };
    let own = x25519::StaticSecret::from(bytes(key.expose()));
    let server = x25519::PublicKey::from(bytes(server.to_string()));
    Tunn::new(own, server, None, None, 1, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_go_both_ways_between_a_peer_and_its_network() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut client) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    tunnel.admit(&client.config()).await;
    client.connect(at);

    client.say(client.address, b"ping", at);
    assert_eq!(arrived(&network), packet(client.address, VM, b"ping"));
    network.send(&packet(VM, client.address, b"pong")).unwrap();
    assert_eq!(client.hear(at), packet(VM, client.address, b"pong"));

    let seen = endpoint.sightings();
    assert_eq!((seen.len(), seen[0].key), (1, client.key.public_key()));
    assert_eq!(seen[0].endpoint, client.socket.local_addr().unwrap());

    // For nobody, and no packet at all.
    for lost in [packet(VM, client_address(9), b"lost"), vec![], vec![0x45], vec![0x60; 40]] {
        network.send(&lost).unwrap();
    }
    network.send(&packet(VM, client.address, b"next")).unwrap();
    assert_eq!(client.hear(at), packet(VM, client.address, b"next"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_sends_from_its_own_address_only() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut client) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    let other = Client::new(endpoint.public_key(), 3);
    tunnel.admit(&client.config()).await;
    tunnel.admit(&other.config()).await;
    client.connect(at);
    for foreign in [other.address, VM, Ipv4Addr::LOCALHOST, Ipv4Addr::new(198, 51, 100, 1)] {
        client.say(foreign, b"forged", at);
        client.say(client.address, b"honest", at);
        assert_eq!(arrived(&network), packet(client.address, VM, b"honest"), "{foreign}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_several_networks_share_the_port_and_nothing_else() {
    let endpoint = server(&PrivateKey::generate()).await;
    let at = endpoint.local_addr();
    let networks: Vec<_> = (0..3).map(|_| network(&endpoint)).collect();
    // The same addresses in each.
    let mut clients = Vec::new();
    for (tunnel, _) in &networks {
        for last in 2..6 {
            let client = Client::new(endpoint.public_key(), last);
            tunnel.admit(&client.config()).await;
            clients.push(client);
        }
    }
    for client in &mut clients {
        client.connect(at);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let (_, network) = &networks[index / 4];
        let content = [index as u8];
        client.say(client.address, &content, at);
        assert_eq!(arrived(network), packet(client.address, VM, &content));
        network.send(&packet(VM, client.address, &content)).unwrap();
        assert_eq!(client.hear(at), packet(VM, client.address, &content));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_never_answered() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut stranger) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    let initiation = stranger.initiation();
    stranger.send(&initiation, at);
    assert!(stranger.hears_nothing(), "it is no peer");

    // Of one that knows another key of the server the first MAC is wrong.
    let mut mistaken = Client::new(PrivateKey::generate().public_key(), 2);
    tunnel.admit(&mistaken.config()).await;
    let initiation = mistaken.initiation();
    mistaken.send(&initiation, at);
    assert!(mistaken.hears_nothing());

    // Whoever repeats what a peer said gains nothing, and does not draw its packets to himself.
    let mut client = Client::new(endpoint.public_key(), 3);
    tunnel.admit(&client.config()).await;
    let initiation = client.initiation();
    client.send(&initiation, at);
    let response = client.receive().unwrap();
    client.take(&response, at);
    let data = client.sealed(client.address, b"once");
    client.send(&data, at);
    assert_eq!(arrived(&network), packet(client.address, VM, b"once"));
    stranger.send(&initiation, at);
    stranger.send(&data, at);
    assert!(stranger.hears_nothing());
    network.send(&packet(VM, client.address, b"yours")).unwrap();
    assert_eq!(client.hear(at), packet(VM, client.address, b"yours"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_dismissed_is_gone_at_once() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let at = endpoint.local_addr();
    let (mut client, mut other) =
        (Client::new(endpoint.public_key(), 2), Client::new(endpoint.public_key(), 3));
    for client in [&mut client, &mut other] {
        tunnel.admit(&client.config()).await;
        client.connect(at);
    }
    tunnel.dismiss(&client.key.public_key());
    tunnel.dismiss(&client.key.public_key());
    client.say(client.address, b"late", at);
    let initiation = client.initiation();
    client.send(&initiation, at);
    network.send(&packet(VM, client.address, b"late")).unwrap();
    assert!(client.hears_nothing());
    other.say(other.address, b"still here", at);
    assert_eq!(arrived(&network), packet(other.address, VM, b"still here"));
    assert_eq!(tunnel.peers(), [other.key.public_key()]);

    // With the network all its peers go.
    drop(tunnel);
    let initiation = other.initiation();
    other.send(&initiation, at);
    assert!(other.hears_nothing());
    assert_eq!(endpoint.sightings(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_may_pass_to_another_peer() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let at = endpoint.local_addr();
    let (first, mut second) =
        (Client::new(endpoint.public_key(), 2), Client::new(endpoint.public_key(), 2));
    tunnel.admit(&first.config()).await;
    tunnel.admit(&second.config()).await;
    tunnel.dismiss(&first.key.public_key());
    second.connect(at);
    network.send(&packet(VM, second.address, b"yours")).unwrap();
    assert_eq!(second.hear(at), packet(VM, second.address, b"yours"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_may_move() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut client) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    tunnel.admit(&client.config()).await;
    client.connect(at);
    client.socket = socket();
    client.say(client.address, b"moved", at);
    assert_eq!(arrived(&network), packet(client.address, VM, b"moved"));
    network.send(&packet(VM, client.address, b"found")).unwrap();
    assert_eq!(client.hear(at), packet(VM, client.address, b"found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_calls_the_peers_of_the_one_before() {
    let key = PrivateKey::generate();
    let first = server(&key).await;
    let (tunnel, _) = network(&first);
    let mut client = Client::new(first.public_key(), 2);
    tunnel.admit(&client.config()).await;
    client.connect(first.local_addr());
    client.say(client.address, b"ping", first.local_addr());
    drop((tunnel, first));

    let second = server(&key).await;
    let (tunnel, network) = network(&second);
    let last_seen_at = Some(client.socket.local_addr().unwrap());
    tunnel.admit(&PeerConfig { last_seen_at, ..client.config() }).await;
    let initiation = client.receive().unwrap();
    client.take(&initiation, second.local_addr());
    // The client confirms by itself, as it has something to say.
    let confirmation = client.receive().unwrap();
    client.take(&confirmation, second.local_addr());
    client.say(client.address, b"again", second.local_addr());
    assert_eq!(arrived(&network), packet(client.address, VM, b"again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_handshakes_is_asked_for_cookies() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut client) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    tunnel.admit(&client.config()).await;
    let mut stranger = Client::new(endpoint.public_key(), 3);
    let flood = stranger.initiation();
    let mut sent = 0;
    let cookie = loop {
        stranger.send(&flood, at);
        sent += 1;
        assert!(sent < 100_000, "no cookie is asked for");
        stranger.socket.set_nonblocking(true).unwrap();
        if let Ok(answer) = stranger.receive() {
            break answer;
        }
    };
    assert_eq!(cookie[0], COOKIE);
    assert!(sent > 100, "only {sent}");

    // A peer that answers with the cookie gets through in the flood.
    let initiation = client.initiation();
    client.send(&initiation, at);
    let mut answer = client.receive().unwrap();
    if answer[0] == COOKIE {
        client.take(&answer, at);
        let initiation = client.initiation();
        client.send(&initiation, at);
        answer = client.receive().unwrap();
    }
    assert_eq!(answer[0], HANDSHAKE_RESPONSE);
    client.take(&answer, at);
    client.say(client.address, b"through", at);
    assert_eq!(arrived(&network), packet(client.address, VM, b"through"));
}

/// Garbage of every kind, among it what begins like something, and genuine datagrams with changes.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_disturbs_nobody() {
    let endpoint = server(&PrivateKey::generate()).await;
    let (tunnel, network) = network(&endpoint);
    let (at, mut client) = (endpoint.local_addr(), Client::new(endpoint.public_key(), 2));
    tunnel.admit(&client.config()).await;
    client.connect(at);
    let stranger = socket();
    let genuine = client.sealed(client.address, &[7; 100]);
    let kinds = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (1..6_u8, prop::sample::select(vec![32_usize, 60, 64, 92, 148, 1500])).prop_flat_map(
            |(kind, length)| proptest::collection::vec(any::<u8>(), length).prop_map(
                move |mut bytes| {
                    bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
                    bytes
                }
            )
        ),
        (any::<prop::sample::Index>(), 1..255_u8).prop_map(move |(at, change)| {
            let mut bytes = genuine.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            bytes
        }),
    ];
    TestRunner::default()
        .run(&kinds, |datagram| {
            stranger.send_to(&datagram, at).unwrap();
            Ok(())
        })
        .unwrap();
    client.say(client.address, b"honest", at);
    assert_eq!(arrived(&network), packet(client.address, VM, b"honest"));
    network.send(&packet(VM, client.address, b"pong")).unwrap();
    assert_eq!(client.hear(at), packet(VM, client.address, b"pong"));
}
