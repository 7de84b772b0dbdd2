//! The DNS server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::{Child, Command};

/// An authoritative server of the zone `example.com`, until it is dropped.
pub(crate) struct Knot {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    serial: u32,
    _server: Child,
}

impl Knot {
    /// Serves a zone with these records besides those that every zone has.
    pub(crate) async fn start(records: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let address = free_port().await;
        let (ip, port) = (address.ip(), address.port());
        let config = format!(
            "server:\n    rundir: {path}\n    listen: {ip}@{port}\n\
             database:\n    storage: {path}/db\n\
             log:\n  - target: stderr\n    any: info\n\
             zone:\n  - domain: example.com\n    storage: {path}\n    file: zone\n"
        );
        fs::write(folder.path().join("knot.conf"), config).unwrap();
        fs::write(folder.path().join("zone"), zone(1, records)).unwrap();
        let mut command = Command::new("knotd");
        command.arg("--config").arg(folder.path().join("knot.conf"));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut server = command.spawn().unwrap_or_else(|error| panic!("knotd: {error}"));
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
        loop {
            let line = log.next_line().await.unwrap().expect("knotd ended");
            if line.contains("zone loaded") || line.contains("loaded, serial") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { address, folder, serial: 1, _server: server }
    }

    /// Replaces the records. Answers have changed when this returns.
    pub(crate) async fn replace(&mut self, records: &str) {
        self.serial += 1;
        fs::write(self.folder.path().join("zone"), zone(self.serial, records)).unwrap();
        let mut reload = Command::new("knotc");
        reload.arg("--config").arg(self.folder.path().join("knot.conf"));
        reload.args(["--blocking", "zone-reload", "example.com"]);
        let output = reload.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn zone(serial: u32, records: &str) -> String {
    format!(
        "$ORIGIN example.com.\n$TTL 3600\n@ SOA ns admin {serial} 3600 600 86400 3600\n\
         @ NS ns\nns A 127.0.0.1\n{records}\n"
    )
}

/// One that is free for both of DNS's transports.
async fn free_port() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).await.is_ok() {
            return address;
        }
    }
}
