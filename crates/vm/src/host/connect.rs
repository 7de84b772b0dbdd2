//! Connections to ports of guests.

use std::time::Duration;

use freestyle_network::NetworkError;
use freestyle_store::InstanceId;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Host, LoginKey};
use crate::error::VmError;

/// A guest that does not answer at all, not even that the port is closed.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A guest that just booted may not have started yet what is to listen.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

impl Host {
    /// Opens a stream to a TCP port of the guest. Waits for a port that is closed only where the
    /// guest has just come up.
    pub(crate) async fn connect(
        &self,
        instance: &InstanceId,
        port: u16,
    ) -> Result<TcpStream, VmError> {
        loop {
            let ended = || VmError::GuestUnreachable("its process ended".to_owned());
            let running = self.running(instance).ok_or_else(ended)?;
            let connect = self.inner.network.connect_tcp(instance.as_str(), port);
            let reason = match timeout(CONNECT_LIMIT, connect).await {
                Ok(Ok(stream)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY");
                    }
                    return Ok(stream);
                }
                Ok(Err(NetworkError::Io { source, .. })) => source.to_string(),
                Ok(Err(error)) => return Err(super::network_error(error)),
                Err(_) => format!("no answer within {} s", CONNECT_LIMIT.as_secs()),
            };
            if running.up_for().await.is_none_or(|up| up > BOOT_PATIENCE) {
                return Err(VmError::PortClosed { port, reason });
            }
            sleep(RETRY).await;
        }
    }

    /// The key that logs in to this run of a VM.
    pub(crate) fn login_key(&self, instance: &InstanceId) -> LoginKey {
        self.inner.login_secret.key(instance)
    }

    /// Waits until the instance has no process.
    pub(crate) async fn ended(&self, instance: &InstanceId) {
        if let Some(running) = self.running(instance) {
            running.process.exited().await;
        }
    }
}
