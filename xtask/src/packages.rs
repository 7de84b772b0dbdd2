//! The Debian packages that are needed, installed where they are missing.

use crate::run::{command, is_installed, run};

/// A program and the package that has it.
type Needed = (&'static str, &'static str);

/// What the platform runs.
const PLATFORM: &[Needed] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("git", "git"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
];

/// What the tests run besides: the SDK is an npm package, and brings its own Node; the SSH gateway
/// meets OpenSSH on both of its sides, and the VPN WireGuard's own tools. (Debian starts the sshd it
/// installs, which no test needs.)
const CLIENTS: &[Needed] = &[
    ("npm", "npm"),
    ("curl", "curl"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("rsync", "rsync"),
    ("wg-quick", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// The servers that tests of the edge ask, a certificate authority and one for DNS, and what asks ours.
const SERVERS: &[Needed] =
    &[("pebble", "pebble"), ("knotd", "knot"), ("kdig", "knot-dnsutils"), ("openssl", "openssl")];

/// What only the tests need: a web page is one of the clients.
const BROWSERS: &[Needed] = &[("chromium", "chromium")];

/// What benchmarks compare it with.
const PEERS: &[Needed] = &[
    ("qemu-img", "qemu-utils"),
    ("nginx", "nginx-light"),
    ("fcgiwrap", "fcgiwrap"),
    ("iperf3", "iperf3"),
];

/// What the edge is measured with, and against.
const NET_PEERS: &[Needed] =
    &[("nginx", "nginx-light"), ("wrk", "wrk"), ("openssl", "openssl"), ("ip", "iproute2")];

/// Makes sure the platform can run here.
pub(crate) fn install_platform() -> Result<(), String> {
    install(PLATFORM)
}

/// Makes sure the real clients can run here.
pub(crate) fn install_clients() -> Result<(), String> {
    install(CLIENTS)
}

/// Makes sure that there is a real browser for the tests.
pub(crate) fn install_browsers() -> Result<(), String> {
    install(BROWSERS)
}

/// Makes sure that what tests ask can run here.
pub(crate) fn install_servers() -> Result<(), String> {
    install(SERVERS)
}

/// Makes sure that the edge can be measured here.
pub(crate) fn install_net_peers() -> Result<(), String> {
    install(NET_PEERS)
}

/// Makes sure that what benchmarks compare the platform with can run here.
pub(crate) fn install_peers() -> Result<(), String> {
    install(PEERS)
}

fn install(needed: &[Needed]) -> Result<(), String> {
    let missing = needed.iter().filter(|(program, _)| !is_installed(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {}", packages.join(", "));
    let install = || {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
        run(&mut apt)
    };
    // The package lists may be missing or old.
    run(command("apt-get").arg("update"))
        .and_then(|()| install())
        .map_err(|error| format!("{error}\ninstall {} as root and try again", packages.join(" ")))
}
