//! Git repositories on disk: transfers with native git, and reads, commits and searches without.
//!
//! Owns: where repositories are and how they come and go, the child processes that serve clone,
//! fetch and push, everything the API reads from a repository or writes to one, and what all that
//! may cost. Does not own: whose a repository is and who may use it, triggers, routes and wire
//! shapes (`api`), or the record of repositories (`store`).
//!
//! # Reading guide
//!
//! [`Repositories`] makes, finds and deletes; a [`Repository`] answers everything else. Transfers
//! are in `smart_http` and run `git` (`process`), which alone can serve packs; so does `archive`.
//! All else is in process: `objects` reads the object database and has the values that reads answer
//! with, `revision` finds what a name means, and `history`, `content`, `compare` and `search` are
//! the reads; `write` makes commits. `upkeep` is for a task in the background.
//!
//! # Durability
//!
//! What was acknowledged, by the report of a push or by a function that returned, survives
//! `kill -9` and power loss. Objects are flushed before the ref that needs them, and the ref is
//! one compare-and-swap, so a crash leaves a repository at its old or its new state.
//!
//! # Hostile input
//!
//! No text of a user's becomes part of a path on disk but names of refs, which are checked as git
//! checks them. Symbolic links are content like any other and never followed. Each request is
//! bounded in size, time and number at one time ([`Limits`]).

mod archive;
mod compare;
mod content;
mod diff;
mod disk;
mod error;
mod file_content;
mod history;
mod id;
mod limits;
mod moves;
mod objects;
mod process;
mod refs;
mod relation;
mod remote;
mod repository;
mod revision;
mod search;
mod smart_http;
mod upkeep;
mod watch;
mod write;

pub use archive::ArchiveFormat;
pub use compare::{CompareStatus, ComparedFile, Comparison, FileStatus};
pub use content::{Branch, Contents, Directory, DirectoryEntry, RefTip};
pub use error::{GitError, SearchKind};
pub use file_content::FileContent;
pub use gix_hash::ObjectId;
pub use history::{CommitList, ListCommits, Order};
pub use id::{ParseRepositoryIdError, RepositoryId};
pub use limits::Limits;
pub use moves::Moved;
pub use objects::{Blob, Commit, Date, EntryKind, ParseDateError, Signature, Tag, TreeEntry};
pub use process::probe;
pub use refs::BranchName;
pub use remote::{PushedRef, Remote, RemoteError, RemoteFiles, Selection};
pub use repository::{Config, Repositories, Repository};
pub use search::{
    CommitMatch, CommitMatches, ContentMatch, ContentMatches, DiffCommit, DiffFile, DiffMatch,
    DiffMatches, FileMatch, FileMatches, Search, SearchedFile,
};
pub use smart_http::{
    FinishedPush, GitProtocol, Output, Push, PushEnd, RefUpdate, Service, TransferRequest,
};
pub use watch::{BranchPatterns, PathPatterns};
pub use write::{
    CreatedCommit, Encoding, FileChange, FileMode, Identity, NewCommit, NewCommitObject, Signed,
};
