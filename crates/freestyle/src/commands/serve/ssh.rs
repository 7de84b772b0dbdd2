//! The SSH gateway with what it keeps in the data directory: its host key, and the secret from which
//! the keys follow that log in to guests.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use freestyle_access::Access;
use freestyle_client::wire::SshResponse;
use freestyle_ssh::{Gateway, Patience, SigningKey};
use freestyle_vm::{LoginSecret, VmService};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::info;

use super::private_file;
use crate::error::CliError;

/// Also the name under which an operator may put a key that clients know already.
const HOST_KEY: &str = "ssh-host-key";
const LOGIN_SECRET: &str = "ssh-login-secret";

/// A gateway that is about to serve.
pub(super) struct Ssh {
    listener: TcpListener,
    address: SocketAddr,
    host_key: SigningKey,
}

impl Ssh {
    /// Reads the host key, or makes it at the first start.
    pub(super) async fn open(data_dir: &Path, listener: TcpListener) -> Result<Self, CliError> {
        let file = data_dir.join(HOST_KEY);
        let path = file.clone();
        let opened = spawn_blocking(move || SigningKey::open_or_create(&path)).await;
        let host_key = opened.map_err(io::Error::other).flatten();
        let host_key = host_key.map_err(|error| cannot(&file, &error))?;
        let address = listener.local_addr()?;
        info!(%address, host_key = host_key.fingerprint(), "SSH");
        Ok(Self { listener, address, host_key })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients are told.
    pub(super) fn description(&self) -> SshResponse {
        // Whoever asks by way of another address than this one needs that address.
        let host = Some(self.address.ip()).filter(|ip| !ip.is_unspecified());
        SshResponse {
            host: host.map(|ip| ip.to_string()),
            port: self.address.port(),
            host_key: self.host_key.public_line(),
        }
    }

    /// Serves its listener, and connections that came elsewhere, until `shutdown` resolves.
    pub(super) async fn serve(
        self,
        access: Access,
        vms: VmService,
        others: mpsc::Receiver<(TcpStream, SocketAddr)>,
        shutdown: impl Future<Output = ()>,
    ) {
        let gateway = Gateway::new(access, vms, self.host_key, Patience::default());
        gateway.serve(self.listener, others, shutdown).await;
    }
}

/// Reads the secret, or makes it at the first start.
pub(super) async fn login_secret(data_dir: &Path) -> Result<LoginSecret, CliError> {
    let file = data_dir.join(LOGIN_SECRET);
    let bytes = match tokio::fs::read(&file).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = vec![0; 32];
            getrandom::fill(&mut bytes)
                .map_err(|error| CliError::new(format!("no random numbers: {error}")))?;
            let written = private_file::replace(&file, bytes.clone()).await;
            written.map_err(|error| cannot(&file, &error))?;
            bytes
        }
        Err(error) => return Err(cannot(&file, &error)),
    };
    let bytes = bytes.try_into().map_err(|_| {
        let message = format!("{} is damaged: it must have 32 bytes", file.display());
        CliError::with_hint(message, "remove it: another is made, and VMs learn of it at the start")
    })?;
    Ok(LoginSecret::new(bytes))
}

fn cannot(file: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot use {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn gateway(data_dir: &Path, listen: &str) -> Ssh {
        Ssh::open(data_dir, TcpListener::bind(listen).await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_gateway_is_known_by_the_same_key_at_every_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = gateway(folder.path(), "127.0.0.1:0").await.description();
        let second = gateway(folder.path(), "127.0.0.1:0").await.description();
        assert_eq!(first.host_key, second.host_key);
        assert_eq!(first.host.as_deref(), Some("127.0.0.1"));
        assert_eq!(gateway(folder.path(), "0.0.0.0:0").await.description().host, None);
    }

    #[tokio::test]
    async fn the_login_secret_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LOGIN_SECRET);
        login_secret(folder.path()).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&file).unwrap();
        login_secret(folder.path()).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        std::fs::write(&file, "short").unwrap();
        assert!(login_secret(folder.path()).await.is_err());
    }
}
