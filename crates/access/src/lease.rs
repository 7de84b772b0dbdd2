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
        self.ended().await;
    }

    /// Does some work for as long as the right lasts. When that ends first, the work ends with it,
    /// and the answer is what its next request would be told.
    pub async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Denied> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            why = self.ended() => Err(why),
        }
    }

    /// Waits until the right has ended, and says why.
    async fn ended(&self) -> Denied {
        let mut changes = self.access.store.rights();
        loop {
            // Asked before the first change too: the right may have ended since it was found.
            if let Err(why) = self.ask_again().await {
                if let Denied::Store(error) = &why {
                    tracing::error!(%error, "cannot find out about a right, which ends it");
                }
                return why;
            }
            let changed = changes.changed().await;
            changed.expect("the store tells of changes as long as it is there");
        }
    }

    async fn ask_again(&self) -> Result<(), Denied> {
        let access = &self.access;
        match &self.right {
            Right::Vm(VmAccess { caller, vm, purpose }) => {
                access.still_in_force(caller).await?;
                access.vm_for(caller, vm, purpose.clone()).await?;
            }
            Right::Repository(RepositoryAccess { caller, owner: _, repository, level }) => {
                if let Some(caller) = caller {
                    access.still_in_force(caller).await?;
                }
                access.repository(caller.as_ref(), repository, *level).await?;
            }
        }
        Ok(())
    }
}
