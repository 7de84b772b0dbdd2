//! The repositories of accounts: the record, the files, and what happens to both when things fail.
//!
//! Owns: creating and deleting (both halves or none, whenever the server is killed), what a new
//! repository begins with (`import`), the one place that every moved ref passes (`updates`), and
//! when repositories are kept fast (`upkeep`). Does not own: what is inside a repository (`git`),
//! who may use one (`access`), the rows (`store`), or HTTP (`api`).
//!
//! # Reading guide
//!
//! [`Repos`] creates, finds, lists and deletes. A [`Repo`] is one of them: [`Repo::git`] reads it,
//! its own methods write, because a write has consequences that `git` knows nothing of.
//!
//! # Durability
//!
//! A repository that was acknowledged has its record and its files; one whose deletion was
//! acknowledged has neither. The record comes first and goes last, so that no file can be without
//! an owner: what a killed server left half made or half deleted is removed at the next start.

mod error;
mod import;
mod repo;
mod service;
mod triggers;
mod updates;
mod upkeep;
mod watch;

pub use error::ReposError;
pub use import::{ArchiveError, ArchiveKind, Content};
pub use repo::Repo;
pub use service::{Config, NewRepo, RepoPage, Repos};
pub use triggers::NewTrigger;
