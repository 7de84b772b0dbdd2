//! The decisions.

use std::sync::Arc;

use freestyle_store::{AccountId, RepositoryLevel, Store, StoreError, VmId};
use tokio::task::JoinSet;

use crate::caller::{Caller, Credential};
use crate::denied::Denied;
use crate::lease::{Lease, Right};

/// The user that a caller acts as who names none.
const ROOT: &str = "root";

/// Decides who may do what. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Access {
    pub(crate) store: Store,
    /// Looks for changes by other processes; it ends with the last clone.
    _watcher: Arc<JoinSet<()>>,
}

/// The right of a caller to use a VM. Only [`Access`] makes one, so whoever holds one has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmAccess {
    pub(crate) caller: Caller,
    pub(crate) vm: VmId,
    pub(crate) purpose: Purpose,
}

/// What a VM is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be told about it.
    Look,
    /// To act in it, as root where no user is named.
    Act { user: Option<String> },
}

impl VmAccess {
    /// Whose VM it is.
    pub fn account(&self) -> &AccountId {
        self.caller.account()
    }

    /// The VM.
    pub fn vm(&self) -> &VmId {
        &self.vm
    }

    /// Who may use it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The Linux user to act as; `None` is root, the owner of everything in the VM.
    pub fn user(&self) -> Option<&str> {
        match &self.purpose {
            Purpose::Look => None,
            Purpose::Act { user } => user.as_deref(),
        }
    }
}

/// The right of a caller to use a repository. Only [`Access`] makes one, so whoever holds one has
/// asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAccess {
    /// `None`: anybody, at a public repository.
    pub(crate) caller: Option<Caller>,
    pub(crate) owner: AccountId,
    pub(crate) repository: String,
    pub(crate) level: RepositoryLevel,
}

impl RepositoryAccess {
    /// Whose repository it is, which at a public one need not be the caller's account.
    pub fn owner(&self) -> &AccountId {
        &self.owner
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Who may use it; `None` is anybody.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// What was asked for and may be done.
    pub fn level(&self) -> RepositoryLevel {
        self.level
    }
}

impl Access {
    /// Needs a tokio runtime, on which it looks once a second for what other processes revoked, as
    /// long as there are leases.
    pub fn new(store: Store) -> Self {
        let mut watcher = JoinSet::new();
        let watched = store.clone();
        watcher.spawn(async move { watched.watch_other_processes().await });
        Self { store, _watcher: Arc::new(watcher) }
    }

    /// Whose credential this is; `None` if it is unknown, malformed or was revoked.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
    ) -> Result<Option<Caller>, StoreError> {
        let system = self.store.system();
        Ok(match credential {
            Credential::ApiKey(key) => system
                .authenticate_api_key(key)
                .await?
                .map(|key| Caller::Account { account: key.account_id, key: key.id }),
            Credential::IdentityToken(token) => {
                system.authenticate_token(token).await?.map(|token| Caller::Identity {
                    account: token.account_id,
                    identity: token.identity_id,
                    token: token.id,
                })
            }
        })
    }

    /// May this caller act in this VM as this Linux user, root where none is named?
    pub async fn vm(
        &self,
        caller: &Caller,
        vm: &VmId,
        user: Option<&str>,
    ) -> Result<VmAccess, Denied> {
        self.vm_for(caller, vm, Purpose::Act { user: user.map(str::to_owned) }).await
    }

    /// May this caller be told about this VM?
    pub async fn vm_info(&self, caller: &Caller, vm: &VmId) -> Result<VmAccess, Denied> {
        self.vm_for(caller, vm, Purpose::Look).await
    }

    pub(crate) async fn vm_for(
        &self,
        caller: &Caller,
        vm: &VmId,
        purpose: Purpose,
    ) -> Result<VmAccess, Denied> {
        let scope = self.store.account_scope(caller.account());
        let no_such_vm = || Denied::NoSuchVm(vm.clone());
        match caller {
            Caller::Account { .. } => {
                scope.vm(vm).await?.ok_or_else(no_such_vm)?;
            }
            Caller::Identity { identity, .. } => {
                let grant = scope.vm_grant(identity, vm).await?.ok_or_else(no_such_vm)?;
                if let (Purpose::Act { user }, Some(allowed)) = (&purpose, grant.allowed_users) {
                    let acts_as = user.as_deref().unwrap_or(ROOT);
                    if !allowed.iter().any(|allowed| allowed == acts_as) {
                        let (vm, user) = (vm.clone(), user.clone());
                        return Err(Denied::UserNotAllowed { vm, user });
                    }
                }
            }
        }
        Ok(VmAccess { caller: caller.clone(), vm: vm.clone(), purpose })
    }

    /// May this caller, or anybody where there is none, do this with this repository?
    pub async fn repository(
        &self,
        caller: Option<&Caller>,
        repository: &str,
        need: RepositoryLevel,
    ) -> Result<RepositoryAccess, Denied> {
        let (may, owner) = match self.granted(caller, repository).await? {
            Some(granted) => granted,
            None => match self.store.system().public_repository(repository).await? {
                Some(public) => (RepositoryLevel::Read, public.account_id),
                None => return Err(Denied::NoSuchRepository(repository.to_owned())),
            },
        };
        if may < need {
            return Err(Denied::ReadOnly(repository.to_owned()));
        }
        let (caller, repository) = (caller.cloned(), repository.to_owned());
        Ok(RepositoryAccess { caller, owner, repository, level: need })
    }

    /// What the caller may do with a repository of its account.
    async fn granted(
        &self,
        caller: Option<&Caller>,
        repository: &str,
    ) -> Result<Option<(RepositoryLevel, AccountId)>, StoreError> {
        let Some(caller) = caller else { return Ok(None) };
        let scope = self.store.account_scope(caller.account());
        let level = match caller {
            Caller::Account { .. } => {
                scope.repository(repository).await?.map(|_| RepositoryLevel::Write)
            }
            Caller::Identity { identity, .. } => {
                scope.git_grant(identity, repository).await?.map(|grant| grant.level)
            }
        };
        Ok(level.map(|level| (level, caller.account().clone())))
    }

    /// Asks whether the credential that the caller presented has been revoked since.
    pub(crate) async fn still_in_force(&self, caller: &Caller) -> Result<(), Denied> {
        let system = self.store.system();
        let is_valid = match caller {
            Caller::Account { key, .. } => system.is_api_key_valid(key).await?,
            Caller::Identity { token, .. } => system.is_token_valid(token).await?,
        };
        if is_valid { Ok(()) } else { Err(Denied::NotInForce) }
    }

    /// Watches over a right, for a connection or call that lasts.
    pub fn lease(&self, right: impl Into<Right>) -> Lease {
        Lease::new(self.clone(), right.into())
    }
}
