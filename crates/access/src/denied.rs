//! Why a caller may not.

use freestyle_store::{StoreError, VmId};

/// Why a caller may not. No message tells whether something foreign exists.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There is no such VM for this caller.
    #[error("there is no VM {0}")]
    NoSuchVm(VmId),
    /// There is no such repository for this caller.
    #[error("there is no repository {0}")]
    NoSuchRepository(String),
    /// The identity may use the VM, as other Linux users than this.
    #[error("{}", user_not_allowed(.user.as_deref()))]
    UserNotAllowed {
        /// The VM.
        vm: VmId,
        /// The user that was named.
        user: Option<String>,
    },
    /// The caller may read the repository and do nothing else with it.
    #[error("the repository {0} may be read, not written")]
    ReadOnly(String),
    /// This is for accounts.
    #[error(
        "an identity's access token cannot do this: it can run commands, use files and terminals in \
         the VMs that it was granted, and read or write the repositories that it was granted; use an \
         API key"
    )]
    NotForIdentities,
    /// The caller's credential was revoked while it was relied on.
    #[error("the API key or access token was revoked while this went on")]
    NotInForce,
    /// It could not be found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn user_not_allowed(user: Option<&str>) -> String {
    match user {
        Some(user) => format!("the identity was not granted the Linux user {user}"),
        None => "the identity was granted some Linux users only, and none was named, which means \
                 root: name one of them"
            .to_owned(),
    }
}
