//! A VPC with the networks of two VMs and a VPN session, but no guests: `tests/bench/net-vpc.mjs`
//! puts something else behind the VMs' taps, as emulated guests would only measure the emulation.
//!
//! Prints one line of JSON and waits for the end of its input, then removes everything. Needs root.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;

use freestyle_network::{Network, NetworkConfig, Nic, Vpc, VpcRange};
use freestyle_store::Store;
use freestyle_vpc::{Config, VpcService, VpnConfig, VpnHost};
use freestyle_wireguard::PrivateKey;

const CIDR: &str = "192.168.10.0/24";
const VMS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 10, 10), Ipv4Addr::new(192, 168, 10, 11)];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = std::env::args().nth(1).ok_or("usage: vpc_without_guests HOST")?;
    let data = tempfile::tempdir()?;
    let store = Store::open(&data.path().join("store.db")).await?;
    let account = store.system().create_account("bench").await?.id;
    let network = Network::open(NetworkConfig::new(data.path().join("network")))?;
    let vpn = VpnConfig {
        socket: tokio::net::UdpSocket::bind("0.0.0.0:0").await?,
        host: VpnHost::of_authority(&host),
        key: PrivateKey::generate(),
    };
    let vpcs = VpcService::open(Config { vpn: Some(vpn) }, store.clone(), network.clone()).await?;
    let vpc = vpcs.create(&account, None, CIDR).await?;

    let mut namespaces = Vec::new();
    for (slot, address) in (0..).zip(VMS) {
        let nic = Nic::new(Vpc::new(vpc.id.as_str(), VpcRange::try_from(vpc.cidr)?)?, address)?;
        // 20 characters that no other block's server chooses.
        let instance = format!("bench{slot:0>3}block{:0>7}", network.block());
        let made = network.create(&instance, slot, Some(nic)).await?;
        let path = made.namespace_path();
        namespaces.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    }
    let session = vpcs.connect(&account, &vpc.id, None).await?;
    let config = session.peer.client_config.replace('\n', "\\n");
    let [one, two] = VMS;
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        r#"{{"vms":[{{"namespace":"{}","address":"{one}"}},{{"namespace":"{}","address":"{two}"}}],"config":"{config}"}}"#,
        namespaces[0], namespaces[1],
    )?;
    stdout.flush()?;
    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;

    vpcs.shut_down().await;
    for vm in network.list() {
        network.remove(&vm.instance).await?;
    }
    Ok(network.close()?)
}
