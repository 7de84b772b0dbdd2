//! VPCs and the VPN of `serve`: its socket, its key, and how it is found.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use freestyle_network::Network;
use freestyle_store::Store;
use freestyle_vpc::{VpcService, VpnConfig};
use freestyle_wireguard::PrivateKey;
use tokio::net::UdpSocket;
use tracing::warn;

use super::private_file;
use crate::config::{Config, Listen};
use crate::error::CliError;

const FILE_NAME: &str = "wireguard-key";
/// Where it listens if nothing is said: the port that WireGuard's documents name.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 51820);

/// Begins to answer VPN clients.
pub(super) async fn open(
    config: &Config,
    store: Store,
    network: Network,
) -> Result<VpcService, CliError> {
    let vpn = match bind(config.wireguard_listen).await? {
        None => None,
        Some(socket) => {
            let key = key(&config.data_dir.join(FILE_NAME)).await?;
            Some(VpnConfig { socket, host: config.wireguard_host.clone(), key })
        }
    };
    let opened = VpcService::open(freestyle_vpc::Config { vpn }, store, network).await;
    opened.map_err(|error| CliError::new(format!("cannot offer VPCs: {error}")))
}

/// A port that was asked for is taken or the start fails. The default one may be another server's,
/// which most often needs no VPN: then any port serves, as clients are told which.
async fn bind(listen: Option<Listen>) -> Result<Option<UdpSocket>, CliError> {
    let (address, bound) = match listen {
        Some(Listen::Off) => return Ok(None),
        Some(Listen::At(address)) => (address, UdpSocket::bind(address).await),
        None => match UdpSocket::bind(DEFAULT_LISTEN).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let any = SocketAddr::new(DEFAULT_LISTEN.ip(), 0);
                let bound = UdpSocket::bind(any).await;
                if let Ok(Ok(other)) = bound.as_ref().map(UdpSocket::local_addr) {
                    warn!(
                        "{DEFAULT_LISTEN}, the VPN's default, is taken: it listens on {other} until \
                         the next start; --wireguard-listen chooses a port that stays"
                    );
                }
                (any, bound)
            }
            bound => (DEFAULT_LISTEN, bound),
        },
    };
    bound.map(Some).map_err(|error| {
        CliError::with_hint(
            format!("cannot listen on UDP {address}: {error}"),
            "--wireguard-listen takes another address; port 0 is any free port, off is none",
        )
    })
}

/// Where VPN clients on this host find it.
pub(super) fn endpoint(config: &Config, address: SocketAddr) -> String {
    match &config.wireguard_host {
        Some(host) if !host.as_str().contains(':') => format!("{host}:{}", address.port()),
        _ => super::reachable(address).to_string(),
    }
}

/// The key of the server, made by its first start: clients keep its public half.
async fn key(file: &Path) -> Result<PrivateKey, CliError> {
    let cannot =
        |what: &str, why: String| CliError::new(format!("cannot {what} {}: {why}", file.display()));
    match tokio::fs::read_to_string(file).await {
        Ok(text) => text.trim().parse().map_err(|_| cannot("use", "it holds no key".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = PrivateKey::generate();
            let kept = private_file::replace(file, format!("{}\n", key.expose())).await;
            kept.map_err(|error| cannot("write", error.to_string()))?;
            Ok(key)
        }
        Err(error) => Err(cannot("read", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_stops_only_whoever_asked_for_it() {
        assert!(bind(Some(Listen::Off)).await.unwrap().is_none());
        let any = Listen::At("127.0.0.1:0".parse().unwrap());
        let taken = bind(Some(any)).await.unwrap().unwrap().local_addr().unwrap();
        let holder = UdpSocket::bind(taken).await.unwrap();
        let error = bind(Some(Listen::At(taken))).await.unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()), "{error}");
        drop(holder);
        // Whether or not this machine has another server: both of these have a port.
        let first = bind(None).await.unwrap().unwrap();
        let second = bind(None).await.unwrap().unwrap();
        assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        let made = key(&file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(key(&file).await.unwrap().public_key(), made.public_key());
        std::fs::write(&file, "damaged").unwrap();
        // Another key would cut every client off without a word.
        assert!(key(&file).await.unwrap_err().to_string().contains(FILE_NAME));
    }
}
