//! Rights of connections that stay open.

use crate::access::{Access, RepositoryAccess, VmAccess};
use crate::denied::Denied;

/// What a lease is about.
#[derive(Debug, Clone)]
pub enum Right {
    /// To use a VM.
    Vm(VmAccess),
    /// To use a repository.
    Repository(RepositoryAccess),
}

impl From<VmAccess> for Right {
    fn from(right: VmAccess) -> Self {
        Self::Vm(right)
    }
}

impl From<RepositoryAccess> for Right {
    fn from(right: RepositoryAccess) -> Self {
        Self::Repository(right)
    }
}

/// A right that is being relied on.
#[derive(Debug)]
pub struct Lease {
    access: Access,
    right: Right,
}

impl Lease {
    pub(crate) fn new(access: Access, right: Right) -> Self {
        Self { access, right }
    }

    /// Resolves once the right has ended: at once when it was ended by this process, within a second
    /// or so when by another (`freestyle admin key revoke`). Also when it cannot be found out. May be
    /// asked any number of times, and given up at any time.
    pub async fn revoked(&self) {
        let mut changes = self.access.store.rights();
        // Asked before the first change too: the right may have ended since it was found.
        while self.is_held().await {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Does some work for as long as the right lasts; `None` if that ended first, and the work with
    /// it.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.revoked() => None,
        }
    }

    /// Whether the right is there now.
    async fn is_held(&self) -> bool {
        match self.ask_again().await {
            Ok(held) => held,
            Err(Denied::Store(error)) => {
                tracing::error!(%error, "cannot find out about a right, which ends it");
                false
            }
            Err(_) => false,
        }
    }

    async fn ask_again(&self) -> Result<bool, Denied> {
        let access = &self.access;
        let caller = match &self.right {
            Right::Vm(VmAccess { caller, vm, purpose }) => {
                access.vm_for(caller, vm, purpose.clone()).await?;
                Some(caller)
            }
            Right::Repository(RepositoryAccess { caller, owner: _, repository, level }) => {
                access.repository(caller.as_ref(), repository, *level).await?;
                caller.as_ref()
            }
        };
        match caller {
            Some(caller) => Ok(access.is_in_force(caller).await?),
            None => Ok(true),
        }
    }
}
