//! What `freestyle doctor` asks about the host.

use std::{fs, net::Ipv4Addr, path::Path};

use crate::{
    Nic, Vpc,
    address::Block,
    error::NetworkError,
    namespace, resolver,
    rules::{self, Policy},
};

/// One finding about the host.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether guests' networks can rely on it.
    pub ok: bool,
    /// What to do if not; empty if all is well.
    pub advice: String,
}

/// Tries everything guests' networks need, changing nothing. Blocks for some tens of milliseconds.
pub fn checks() -> Vec<Check> {
    vec![root(), tun(), namespaces(), nft(), dns(), uplink()]
}

fn check(name: &'static str, result: Result<(), String>) -> Check {
    let ok = result.is_ok();
    Check { name, ok, advice: result.err().unwrap_or_default() }
}

fn root() -> Check {
    let result = rustix::process::geteuid().is_root().then_some(());
    check("root", result.ok_or_else(|| "run the server as root".to_owned()))
}

fn tun() -> Check {
    let result = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let advice = |error| format!("load the kernel module tun: cannot open /dev/net/tun: {error}");
    check("tap devices", result.map(drop).map_err(advice))
}

fn namespaces() -> Check {
    let advice = |error| format!("allow network namespaces (kernel, container policy): {error}");
    check("network namespaces", namespace::in_throwaway(|| ()).map_err(advice))
}

/// Loads the real rules of a VM in a VPC, and of the VPC, in a namespace that is gone at once.
fn nft() -> Check {
    let load = || -> Result<(), NetworkError> {
        let vpc = Vpc::new("vpc-00000000000000000000", "10.0.0.0/16".parse()?)?;
        let nic = Nic::new(vpc.clone(), Ipv4Addr::new(10, 0, 0, 4))?;
        let slot = Block::all().find_map(|block| block.slot(0));
        let slot = slot.ok_or(NetworkError::InvalidSlot(0))?;
        let policy = Policy::new(&[], &[], Some(Ipv4Addr::new(192, 0, 2, 53)));
        policy.load_for_vm(slot, Some(&nic))?;
        rules::load_for_vpc(vpc.range)
    };
    let result = match namespace::in_throwaway(load) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let advice = |error| format!("install nftables 1.0.6 or later and a kernel with it: {error}");
    check("packet filter", result.map_err(advice))
}

fn dns() -> Check {
    let result = match resolver::choose(&[]) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("name a DNS server with --dns-resolver; the host's own is not reachable \
                         from guests, which will have no DNS"
            .to_owned()),
        Err(error) => Err(error.to_string()),
    };
    check("DNS server", result)
}

fn uplink() -> Check {
    let result = match fs::read_to_string(Path::new("/proc/net/route")) {
        // Interface, destination, ...: all zeros is the default route.
        Ok(table) if table.lines().any(|line| line.split('\t').nth(1) == Some("00000000")) => {
            Ok(())
        }
        Ok(_) => Err("add an IPv4 default route; guests will have no internet".to_owned()),
        Err(error) => Err(format!("cannot read /proc/net/route: {error}")),
    };
    check("IPv4 uplink", result)
}
