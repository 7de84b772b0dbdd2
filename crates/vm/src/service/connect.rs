//! Ways into a guest for what stands between it and its users: the SSH gateway, the HTTPS edge.

use freestyle_store::{AccountId, InstanceId, VmId};
use tokio::net::TcpStream;

use super::instance;
use crate::error::VmError;
use crate::host::{LoginKey, VmService};

/// A stream to a TCP port of a guest.
#[derive(Debug)]
pub struct GuestConnection {
    /// The stream. It breaks, or just falls silent, when the guest is stopped or suspended: see
    /// [`VmService::ended`].
    pub stream: TcpStream,
    /// The run of the VM that it leads to.
    pub instance: InstanceId,
}

impl VmService {
    /// Opens a stream to a TCP port of a VM, which is started or woken if it does not run. What is
    /// sent counts as network traffic. May take as long as a boot.
    ///
    /// # Errors
    /// [`VmError::PortClosed`] if nothing listens there, or whatever keeps the VM from running.
    pub async fn connect(
        &self,
        account: &AccountId,
        vm: &VmId,
        port: u16,
    ) -> Result<GuestConnection, VmError> {
        let record = self.running(account, vm).await?;
        let instance = &instance(&record)?.id;
        let connected = self.shared.engine.connect(instance, port).await;
        let stream = self.explain(&record, connected).await?;
        Ok(GuestConnection { stream, instance: instance.clone() })
    }

    /// The key that logs in to this run of a VM as any of its Linux users. The guest learned of it
    /// before anyone could connect, and lets no other in.
    pub fn login_key(&self, instance: &InstanceId) -> LoginKey {
        self.shared.engine.login_key(instance)
    }

    /// Waits until this run of a VM has ended. Returns at once if it has.
    pub async fn ended(&self, instance: &InstanceId) {
        self.shared.engine.ended(instance).await;
    }
}
