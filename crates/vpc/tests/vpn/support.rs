//! A server, guests in its VPCs and laptops elsewhere, all gone again when dropped.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use freestyle_network::{GUEST_ADDRESS, Network, NetworkConfig, Nic, Vpc, VpcRange};
use freestyle_store::{
    AccountId, NewNic, NewVm, Persistence, Settled, Sizing, Store, VmId, VmRecord, VmSettings,
    VpcRecord,
};
use freestyle_vpc::{Config, VpcService, VpnConfig};
use freestyle_wireguard::PrivateKey;
use rustix::thread::LinkNameSpaceType;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Waited for only where silence is expected.
const SILENCE: Duration = Duration::from_millis(700);

pub(crate) struct Server {
    pub(crate) account: AccountId,
    pub(crate) store: Store,
    pub(crate) network: Network,
    vpcs: Option<VpcService>,
    key: PrivateKey,
    listen: SocketAddr,
    _data: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join("store.db")).await.unwrap();
        let network = Network::open(NetworkConfig::new(data.path().join("network"))).unwrap();
        let account = store.system().create_account("owner").await.unwrap().id;
        let listen = "0.0.0.0:0".parse().unwrap();
        let key = PrivateKey::generate();
        let mut server = Self { account, store, network, vpcs: None, key, listen, _data: data };
        server.open().await;
        server.listen = server.vpcs().vpn_address().unwrap();
        server
    }

    /// The next server on the same data and port.
    pub(crate) async fn open(&mut self) {
        let began = Instant::now();
        let socket = loop {
            // The one before may be about to let go of it.
            match tokio::net::UdpSocket::bind(self.listen).await {
                Ok(socket) => break socket,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let vpn = VpnConfig { socket, host: None, key: self.key.clone() };
        let config = Config { vpn: Some(vpn) };
        let opened = VpcService::open(config, self.store.clone(), self.network.clone()).await;
        self.vpcs = Some(opened.unwrap());
    }

    pub(crate) fn vpcs(&self) -> &VpcService {
        self.vpcs.as_ref().unwrap()
    }

    pub(crate) fn take(&mut self) -> VpcService {
        self.vpcs.take().unwrap()
    }

    pub(crate) async fn vpc(&self, cidr: &str) -> VpcRecord {
        self.vpcs().create(&self.account, Some("net"), cidr).await.unwrap()
    }

    /// A VM that runs, as far as the store knows.
    pub(crate) async fn vm(&self, vpc: &VpcRecord, address: Ipv4Addr) -> VmRecord {
        let nic = NewNic {
            vpc: vpc.id.clone(),
            address: Some(address),
            is_default: true,
            excluded: Vec::new(),
        };
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
            nic: Some(nic),
        };
        let sizing = Sizing { vcpus: 1, memory_mib: 512, disk_mib: 4096 };
        let vm = NewVm { id: VmId::random(), sizing, image: "image".to_owned(), origin: None };
        let scope = self.store.account_scope(&self.account);
        let (_, create) = scope.insert_vm(&vm, &settings, "create").await.unwrap();
        self.store.system().finish_operation(&create.id, Settled::Running).await.unwrap()
    }

    pub(crate) async fn delete(&self, vm: &VmId) {
        let system = self.store.system();
        let (_, delete) = system.begin_operation(vm, "delete").await.unwrap();
        system.finish_operation(&delete.id, Settled::Deleted).await.unwrap();
    }

    /// A guest of such a VM.
    pub(crate) async fn guest(&self, vpc: &VpcRecord, address: Ipv4Addr) -> Guest {
        let vm = self.vm(vpc, address).await;
        let instance = vm.instance.unwrap();
        let range = VpcRange::try_from(vpc.cidr).unwrap();
        let nic = Nic::new(Vpc::new(vpc.id.as_str(), range).unwrap(), address).unwrap();
        let made = self.network.create(instance.id.as_str(), instance.slot, Some(nic)).await;
        Guest::behind(&made.unwrap().namespace_path(), instance.id.as_str(), address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.vpcs.take());
        let network = self.network.clone();
        // On a thread of its own: this one may be the runtime's.
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            for vm in network.list() {
                let _ = runtime.block_on(network.remove(&vm.instance));
            }
            let _ = network.close();
        };
        let _ = thread::spawn(clean).join();
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip(line: &str) {
    run("ip", &line.split_whitespace().collect::<Vec<_>>());
}

/// A namespace.
pub(crate) struct Place {
    pub(crate) name: String,
}

impl Place {
    fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Self { name }
    }

    pub(crate) fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.name));
    }

    /// Runs `work` in the namespace, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        thread::scope(|scope| {
            let inside = move || {
                let network = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    pub(crate) fn try_connect(&self, address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        let address = SocketAddr::from((address, port));
        self.run(|| TcpStream::connect_timeout(&address, SILENCE))
    }

    pub(crate) fn connect(&self, address: Ipv4Addr, port: u16) -> TcpStream {
        let address = SocketAddr::from((address, port));
        self.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap()
    }

    pub(crate) fn udp(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((address, port))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends every byte back that comes over a connection.
    pub(crate) fn echo(&self, port: u16) {
        let listener = self.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut writer);
                    let _ = writer.shutdown(Shutdown::Write);
                });
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Says something and hears it back.
pub(crate) fn exchange(stream: &mut TcpStream, content: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(content)?;
    let mut reply = vec![0; content.len()];
    stream.read_exact(&mut reply)?;
    assert_eq!(reply, content);
    Ok(())
}

/// Stands in for a VM: a namespace on the far end of the VM's network. The tap is replaced by a veth,
/// as no test can hold a tap's far end without a program that carries frames.
pub(crate) struct Guest(Place);

impl Guest {
    fn behind(vm: &Path, instance: &str, address: Ipv4Addr) -> Self {
        let place = Place::new(format!("guest-{instance}"));
        let (vm, guest) = (vm.file_name().unwrap().to_str().unwrap(), &place.name);
        ip(&format!("-n {vm} link delete tap0"));
        ip(&format!("-n {vm} link add tap0 type veth peer name eth0 netns {guest}"));
        ip(&format!("-n {vm} address add 10.0.0.1/30 dev tap0"));
        ip(&format!("-n {vm} link set tap0 up"));
        place.ip(&format!("address add {GUEST_ADDRESS}/30 dev eth0"));
        place.ip("link set eth0 up");
        // As the agent does.
        place.ip(&format!("address add {address}/32 dev eth0"));
        place.ip(&format!("route add default via 10.0.0.1 dev eth0 src {address}"));
        ip(&format!("-n {vm} route add {address}/32 via {GUEST_ADDRESS} dev tap0"));
        Self(place)
    }
}

impl Deref for Guest {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

/// A computer somewhere else that reaches the host over a network of its own.
pub(crate) struct Laptop {
    place: Place,
    link: String,
    pub(crate) host: Ipv4Addr,
    folder: TempDir,
    connected: Option<PathBuf>,
}

impl Laptop {
    /// `number` tells laptops of one test apart.
    pub(crate) fn beside(server: &Server, number: u8) -> Self {
        let block = server.network.block();
        let place = Place::new(format!("laptop-{block}-{number}"));
        let link = format!("lap{block}x{number}");
        let subnet = |last| Ipv4Addr::new(198, 51, 100, 8 * block + 4 * number + last);
        let (host, own) = (subnet(1), subnet(2));
        let _ = Command::new("ip").args(["link", "delete", &link]).output();
        ip(&format!("link add {link} type veth peer name eth0 netns {}", place.name));
        ip(&format!("address add {host}/30 dev {link}"));
        ip(&format!("link set {link} up"));
        place.ip(&format!("address add {own}/30 dev eth0"));
        place.ip("link set eth0 up");
        place.ip(&format!("route add default via {host}"));
        let folder = tempfile::tempdir().unwrap();
        Self { place, link, host, folder, connected: None }
    }

    /// The name of its tunnel. `wireguard-go` has its control sockets all in one folder.
    pub(crate) fn interface(&self) -> String {
        self.link.replace("lap", "wgl")
    }

    /// `wg-quick up`, with `wireguard-go` where the kernel has no WireGuard.
    pub(crate) fn up(&mut self, config: &str) {
        let file = self.folder.path().join(format!("{}.conf", self.interface()));
        fs::write(&file, config).unwrap();
        self.wg_quick("up", &file);
        self.connected = Some(file);
    }

    pub(crate) fn down(&mut self) {
        if let Some(file) = self.connected.take() {
            self.wg_quick("down", &file);
        }
    }

    fn wg_quick(&self, action: &str, file: &Path) {
        let output = self.folder.path().join("output");
        // To a file: wireguard-go goes on in the background and would keep a pipe open.
        let log = File::create(&output).unwrap();
        let status = Command::new("ip")
            .args(["netns", "exec", &self.place.name, "wg-quick", action])
            .arg(file)
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        assert!(status.success(), "{}", fs::read_to_string(output).unwrap());
    }
}

impl Deref for Laptop {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        if let Some(file) = self.connected.take()
            && !thread::panicking()
        {
            self.wg_quick("down", &file);
        }
        let interface = self.interface();
        let _ = Command::new("ip")
            .args(["-n", &self.place.name, "link", "delete", &interface])
            .output();
        let _ = Command::new("ip").args(["link", "delete", &self.link]).output();
    }
}
