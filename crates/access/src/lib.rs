//! Who is calling, and what they may touch.
//!
//! Owns: checking credentials (API keys, tokens of identities), what a grant is good for, the limit
//! to Linux users, and telling connections that stay open when their right has ended. Does not own:
//! HTTP or SSH, what is remembered (`store`), or what a caller then does (`vm`, `git`).
//!
//! Every way into the server goes through here, and nothing else decides about access:
//!
//! ```
//! # use freestyle_access::{Access, Credential, Denied};
//! # async fn example(access: &Access, token: &str, vm: &freestyle_store::VmId)
//! # -> Result<(), Denied> {
//! let Some(caller) = access.authenticate(Credential::IdentityToken(token)).await? else {
//!     return Ok(()); // Nobody: unknown or revoked.
//! };
//! let right = access.vm(&caller, vm, Some("alice")).await?;
//! let lease = access.lease(right);
//! tokio::select! {
//!     () = lease.revoked() => {} // Close the connection.
//!     // () = serve the connection => {}
//! }
//! # Ok(()) }
//! ```
//!
//! # Rules
//!
//! * An API key may do everything with what is its account's, and nothing with anything else.
//! * An identity may use the VMs and repositories that it was granted, nothing else, and never
//!   create, list, delete or change the thing itself: what only an account may do begins with
//!   [`Caller::account_only`].
//! * A grant with allowed users is good for those Linux users only. Who names none acts as root,
//!   which then must be among them.
//! * What is foreign, was deleted or was not granted is answered exactly like what never was.
//! * Everybody may read a public repository.
//! * A right ends at once when its key, token or grant is revoked or its identity, VM or repository
//!   deleted: the next question is answered so, and each [`Lease`] ends.

mod access;
mod caller;
mod denied;
mod lease;

pub use access::{Access, RepositoryAccess, VmAccess};
pub use caller::{Caller, Credential};
pub use denied::Denied;
pub use freestyle_store::RepositoryLevel;
pub use lease::{Lease, Right};
