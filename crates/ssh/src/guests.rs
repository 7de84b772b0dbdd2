//! The guests behind the gateway.

use std::pin::Pin;

use freestyle_access::VmAccess;
use freestyle_vm::{VmError, VmService};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::key::SigningKey;

/// Port of a guest's sshd.
const SSH: u16 = 22;

/// Who brings the gateway to a guest's sshd.
pub trait Guests: Clone + Send + Sync + 'static {
    /// A stream to it.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a stream to the sshd of a VM, which is started or woken if it does not run. May take as
    /// long as a boot. An error is told to the user, so it must not hold anything of the host.
    fn open(
        &self,
        vm: &VmAccess,
    ) -> impl Future<Output = Result<Guest<Self::Stream>, String>> + Send;
}

/// A way into a guest.
pub struct Guest<S> {
    /// To its sshd.
    pub stream: S,
    /// The key that every Linux user of this guest lets in.
    pub key: SigningKey,
    /// Resolves when the guest has ended: was stopped, suspended, deleted.
    pub ended: Ended,
}

/// Resolves when something has ended.
pub type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Guests for VmService {
    type Stream = tokio::net::TcpStream;

    async fn open(&self, vm: &VmAccess) -> Result<Guest<Self::Stream>, String> {
        let connected = self.connect(vm.account(), vm.vm(), SSH).await;
        let connection = connected.map_err(|error| explain(vm, &error))?;
        let key = SigningKey::from_seed(self.login_key(&connection.instance).seed());
        let (vms, instance) = (self.clone(), connection.instance);
        let ended = Box::pin(async move { vms.ended(&instance).await });
        Ok(Guest { stream: connection.stream, key, ended })
    }
}

/// What a user may know of it.
fn explain(vm: &VmAccess, error: &VmError) -> String {
    match error {
        VmError::Internal(_) | VmError::Store(_) | VmError::NoCapacity(_) => {
            tracing::error!(vm = %vm.vm(), %error, "cannot open a VM to SSH");
            "the VM cannot be reached; the server's log says why".to_owned()
        }
        other => other.to_string(),
    }
}
