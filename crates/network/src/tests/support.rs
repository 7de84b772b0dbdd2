//! A server, guests behind its taps, and an internet, all gone again when dropped.

use std::{
    fs::File,
    io::{self, PipeWriter, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::Deref,
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    GATEWAY_ADDRESS, GUEST_ADDRESS, Network, NetworkConfig, Nic, PREFIX_LENGTH, VmNetwork, Vpc,
    address::Block, link::Netlink, namespace, rules, tap,
};

/// Longer than any answer takes on a loaded machine; waited for only where silence is expected.
const SILENCE: Duration = Duration::from_millis(500);
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A server with a data directory of its own.
pub(super) struct Server {
    pub(super) data: TempDir,
    runtime: Runtime,
    network: Option<Network>,
}

impl Server {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut server = Self { data: tempfile::tempdir().unwrap(), runtime, network: None };
        server.reopen(&[]);
        server
    }

    /// Drops the server without any farewell, as if killed, and starts it again.
    pub(super) fn reopen(&mut self, resolvers: &[Ipv4Addr]) {
        drop(self.network.take());
        let mut config = NetworkConfig::new(self.data.path().join("network"));
        config.resolvers = resolvers.iter().map(|resolver| (*resolver).into()).collect();
        self.network = Some(Network::open(config).unwrap());
    }

    pub(super) fn create(&self, instance: &str, slot: u16) -> VmNetwork {
        self.wait(self.network().create(instance, slot, None)).unwrap()
    }

    /// A VPC with a name no other test uses.
    pub(super) fn vpc(&self, tag: &str, range: &str) -> Vpc {
        Vpc::new(&format!("vpc-{}", self.instance(tag)), range.parse().unwrap()).unwrap()
    }

    pub(super) fn create_in(&self, vpc: &Vpc, slot: u16, address: Ipv4Addr) -> VmNetwork {
        let nic = Nic::new(vpc.clone(), address).unwrap();
        let instance = self.instance(&format!("m{slot}"));
        self.wait(self.network().create(&instance, slot, Some(nic))).unwrap()
    }

    /// A guest that has joined the VPC.
    pub(super) fn member(&self, vpc: &Vpc, slot: u16, address: Ipv4Addr) -> Guest {
        let guest = Guest::boot(&self.create_in(vpc, slot, address));
        guest.join(vpc, address);
        guest
    }

    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn blocking(&self, stream: tokio::net::TcpStream) -> TcpStream {
        let _runtime = self.runtime.enter();
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    pub(super) fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    pub(super) fn block(&self) -> Block {
        Block::from_number(self.network().block()).unwrap()
    }

    pub(super) fn take(&mut self) -> Network {
        self.network.take().unwrap()
    }

    /// A name no other test uses: it carries the block.
    pub(super) fn instance(&self, tag: &str) -> String {
        let block = self.network().block();
        format!("{tag:x<17}b{block:02}")
    }

    /// What the host shows of this block: links, namespaces, tables.
    pub(super) fn traces(&self) -> Vec<String> {
        traces(self.block())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(network) = self.network.take() else { return };
        for vm in network.list() {
            let _ = self.runtime.block_on(network.remove(&vm.instance));
        }
        let _ = network.close();
    }
}

/// What the host shows of a block: its links and table, and namespaces of instances named by
/// [`Server::instance`].
pub(super) fn traces(block: Block) -> Vec<String> {
    let links = run("ip", &["-o", "link", "show"]);
    let links = links.lines().filter_map(|line| line.split([':', '@']).nth(1).map(str::trim));
    let links = links.filter(|name| name.starts_with(&block.link_prefix())).map(str::to_owned);
    let namespaces = run("ip", &["netns", "list"]);
    let suffix = format!("b{:02}", block.number());
    let namespaces = namespaces.lines().filter_map(|line| line.split_whitespace().next());
    let namespaces = namespaces
        .filter(|name| name.starts_with("fs-") && name.ends_with(&suffix))
        .map(str::to_owned);
    let tables = run("nft", &["list", "tables"]);
    let table = format!("table ip {}", block.table());
    let tables = tables.lines().filter(|line| *line == table).map(str::to_owned);
    links.chain(namespaces).chain(tables).collect()
}

pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of the test's own.
pub(super) struct Place {
    name: String,
    handle: OwnedFd,
}

impl Place {
    fn new(name: String) -> Self {
        namespace::ensure(&name).unwrap();
        let handle = namespace::open(&name).unwrap();
        let place = Self { name, handle };
        place.run(|| Netlink::open().unwrap().set_up("lo", None).unwrap());
        place
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::enter(&self.handle, work).unwrap()
    }

    pub(super) fn add_address(&self, link: &str, address: Ipv4Addr, prefix_length: u8) {
        self.run(|| Netlink::open().unwrap().add_address(link, address, prefix_length).unwrap());
    }

    pub(super) fn try_connect(&self, address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENCE))
    }

    pub(super) fn connect(&self, address: Ipv4Addr, port: u16) -> TcpStream {
        let address = SocketAddr::from((address, port));
        self.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap()
    }

    pub(super) fn udp(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((address, port))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A TCP server on all of the place's addresses.
    pub(super) fn listen(&self, port: u16) -> TcpServer {
        TcpServer::start(self.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = namespace::remove(&self.name);
    }
}

/// Reads each connection to its end, then sends back what it read.
pub(super) struct TcpServer {
    pub(super) port: u16,
    accepted: Arc<AtomicUsize>,
}

impl TcpServer {
    /// In the root namespace, on all of the host's addresses and any free port.
    pub(super) fn on_host() -> Self {
        Self::start(TcpListener::bind("0.0.0.0:0").unwrap())
    }

    pub(super) fn start(listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                counter.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let mut content = Vec::new();
                    let _ = stream.read_to_end(&mut content);
                    let _ = stream.write_all(&content);
                });
            }
        });
        Self { port, accepted }
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Whether an attempt to connect was answered with a refusal, as opposed to silence.
pub(super) fn refused(attempt: &io::Result<TcpStream>) -> bool {
    matches!(attempt, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Sends `content` and ends the sending side; what the server returns.
pub(super) fn exchange(mut stream: TcpStream, content: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(content).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply
}

/// Stands in for a VM: holds the VM's tap as QEMU would, and carries frames between it and the link
/// of a namespace that is configured like a guest.
pub(super) struct Guest {
    place: Place,
    cable: Option<JoinHandle<()>>,
    unplug: Option<PipeWriter>,
}

impl Guest {
    pub(super) fn boot(vm: &VmNetwork) -> Self {
        Self::boot_on(vm.open_tap().unwrap(), vm.instance())
    }

    pub(super) fn boot_on(tap: OwnedFd, name: &str) -> Self {
        let place = Place::new(format!("guest-{name}"));
        let link = place.run(|| {
            tap::ensure().unwrap();
            let netlink = Netlink::open().unwrap();
            netlink.add_address(tap::NAME, GUEST_ADDRESS, PREFIX_LENGTH).unwrap();
            netlink.set_up(tap::NAME, None).unwrap();
            netlink.set_route(Ipv4Net::default(), tap::NAME, GATEWAY_ADDRESS).unwrap();
            tap::open().unwrap()
        });
        let (unplugged, unplug) = io::pipe().unwrap();
        let cable = thread::spawn(move || carry(tap.into(), link.into(), unplugged.as_fd()));
        let guest = Self { place, cable: Some(cable), unplug: Some(unplug) };
        guest.await_link();
        guest
    }

    /// What the agent does in a guest that has a NIC.
    pub(super) fn join(&self, vpc: &Vpc, address: Ipv4Addr) {
        self.add_address(tap::NAME, address, 32);
        let (range, gateway) = (vpc.range.to_string(), GATEWAY_ADDRESS.to_string());
        let route = ["route", "add", &range, "via", &gateway, "src", &address.to_string()];
        self.run(|| run("ip", &route));
    }

    /// A link drops what is sent before the kernel has noticed its carrier. The gateway answers any
    /// connection with a refusal, so the link works in both directions once that arrives.
    fn await_link(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !refused(&self.try_connect(GATEWAY_ADDRESS, 9)) {
            assert!(Instant::now() < deadline, "the guest's link stays down");
        }
    }
}

impl Deref for Guest {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.unplug.take());
        if let Some(cable) = self.cable.take() {
            let _ = cable.join();
        }
    }
}

/// Carries frames both ways until the other end of `unplugged` is closed.
fn carry(mut a: File, mut b: File, unplugged: impl AsFd) {
    let mut frame = vec![0; 70_000];
    loop {
        let mut ready = [
            PollFd::new(&a, PollFlags::IN),
            PollFd::new(&b, PollFlags::IN),
            PollFd::new(&unplugged, PollFlags::IN),
        ];
        poll(&mut ready, None).unwrap();
        let [from_a, from_b, stop] = ready.map(|fd| fd.revents());
        if !stop.is_empty() {
            return;
        }
        // A frame that cannot be delivered is lost, as on any wire.
        if from_a.contains(PollFlags::IN) {
            let _ = a.read(&mut frame).and_then(|length| b.write(&frame[..length]));
        }
        if from_b.contains(PollFlags::IN) {
            let _ = b.read(&mut frame).and_then(|length| a.write(&frame[..length]));
        }
    }
}

/// A namespace that plays the rest of the world. The host's link to it carries 1400 bytes, of which
/// the other end knows nothing.
pub(super) struct Internet {
    place: Place,
    link: String,
    gateway: Ipv4Addr,
    /// The host's own address on the link.
    pub(super) host: Ipv4Addr,
    /// A public address out there.
    pub(super) address: Ipv4Addr,
}

impl Internet {
    pub(super) fn beside(server: &Server) -> Self {
        let block = server.network().block();
        let place = Place::new(format!("internet-{block}"));
        let link = format!("inet{block}");
        let netlink = Netlink::open().unwrap();
        netlink.delete(&link).unwrap();
        netlink.create_veth(&link, rules::UPLINK, place.handle.as_fd(), "test").unwrap();
        let host = Ipv4Addr::new(198, 51, 100, 4 * block + 1);
        let gateway = Ipv4Addr::new(198, 51, 100, 4 * block + 2);
        netlink.add_address(&link, host, 30).unwrap();
        netlink.set_up(&link, None).unwrap();
        run("ip", &["link", "set", &link, "mtu", "1400"]);
        place.add_address(rules::UPLINK, gateway, 30);
        place.run(|| {
            let netlink = Netlink::open().unwrap();
            netlink.set_up(rules::UPLINK, None).unwrap();
            netlink.set_route(Ipv4Net::default(), rules::UPLINK, host).unwrap();
        });
        let address = Ipv4Addr::new(203, 0, 113, block);
        let internet = Self { place, link, gateway, host, address };
        internet.announce(address);
        internet
    }

    /// Gives the internet another address and the host a route to it.
    pub(super) fn announce(&self, address: Ipv4Addr) {
        self.place.add_address("lo", address, 32);
        let (address, gateway) = (address.to_string(), self.gateway.to_string());
        run("ip", &["route", "replace", &address, "via", &gateway, "dev", &self.link]);
    }
}

impl Deref for Internet {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let _ = Netlink::open().and_then(|netlink| netlink.delete(&self.link));
    }
}
