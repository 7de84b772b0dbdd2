//! The files of one commit of a remote, without its history.

use std::fs;
use std::io;
use std::path::Path;

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{Found, NAME, Remote, RemoteError};
use crate::objects::Reader;
use crate::refs::{HEADS, Swap, TAGS};
use crate::write::NewTreeCommit;
use crate::{GitError, Identity, Repository};

/// Where the commit is while its files are taken over.
const PLACE: &str = "refs/internal/import";
const PLACE_FOLDER: &str = "refs/internal";

/// Files of a remote, and the commit in which they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFiles {
    /// A branch, a tag or a whole commit id; the remote's default branch where there is none.
    pub revision: Option<String>,
    /// The directory that becomes the root.
    pub dir: Option<String>,
    /// Message of the commit.
    pub message: String,
    /// Author and committer.
    pub author: Identity,
}

impl Repository {
    /// Fills this repository, which must be empty and used by nobody else, with files of a remote, in
    /// the first commit of its default branch. Durable when it returns. On failure something may
    /// have arrived.
    pub async fn import_files(
        &self,
        remote: &Remote,
        wanted: RemoteFiles,
    ) -> Result<(), RemoteError> {
        let _place = self.shared.importing.enter().await?;
        let found = self.find_revision(remote, wanted.revision.as_deref()).await?;
        let empty =
            || RemoteError::Failed { url: remote.url.clone(), reason: "it is empty".to_owned() };
        let source = match found.ok_or_else(empty)? {
            Found::Branch(name) => format!("{HEADS}{name}"),
            Found::Tag(name) => format!("{TAGS}{name}"),
            Found::Commit(id) => id,
        };
        let spec = format!("{source}:{PLACE}");
        // No tags: they would lead to a commit whose parents are not here.
        let options = ["fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance"];
        let arguments = [&options[..], &["--no-tags", "--depth=1", NAME, &spec]].concat();
        self.remote_git(remote, &arguments).await?;
        let dir = wanted.dir.clone().unwrap_or_default();
        let taken = self.read(move |reader| reader.take_over(&wanted)).await?;
        match taken {
            true => Ok(()),
            false => Err(RemoteError::NoSuchDirectory { url: remote.url.clone(), dir }),
        }
    }
}

impl Reader<'_> {
    /// Makes the commit of what was fetched, and forgets where it came from. False if there is no
    /// such directory.
    fn take_over(&self, wanted: &RemoteFiles) -> Result<bool, GitError> {
        // Not by its name as a revision: internal refs are none for users.
        let nothing = || GitError::Internal("a fetch left nothing".to_owned());
        let fetched = self.refs.get_named(PLACE)?.ok_or_else(nothing)?;
        let root = match self.peel(fetched)? {
            Some((commit, Kind::Commit)) => self.commit(&commit)?.tree,
            Some((tree, Kind::Tree)) => tree,
            _ => return Err(GitError::InvalidRequest("the revision has no files".to_owned())),
        };
        let Some(tree) = self.subtree(root, wanted.dir.as_deref().unwrap_or_default())? else {
            return Ok(false);
        };
        let branch = self.refs.default_branch()?.ok_or(GitError::NoDefaultBranch)?;
        let RemoteFiles { message, author, .. } = wanted.clone();
        let commit = self.commit_tree(NewTreeCommit { message, author, tree })?;
        if self.refs.swap(&branch, None, commit)? != Swap::Done {
            return Err(GitError::Internal("a new repository is in use".to_owned()));
        }
        forget(self.directory).map_err(GitError::io("cannot forget where the files came from"))?;
        Ok(true)
    }

    /// A directory in a tree.
    fn subtree(&self, root: ObjectId, dir: &str) -> Result<Option<ObjectId>, GitError> {
        let mut tree = root;
        for part in dir.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let entries = self.tree(&tree)?.into_iter();
            let mut named = entries.filter(|entry| entry.name == part.as_bytes());
            match named.next() {
                Some(entry) if entry.mode.is_tree() => tree = entry.id,
                _ => return Ok(None),
            }
        }
        Ok(Some(tree))
    }
}

/// Nothing refers to the commit that was fetched any more, and nothing says that it has parents.
fn forget(repository: &Path) -> io::Result<()> {
    fs::remove_dir_all(repository.join(PLACE_FOLDER))?;
    match fs::remove_file(repository.join("shallow")) {
        // The commit is the first of its history.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    crate::disk::sync_directory(repository)?;
    crate::disk::sync_directory(&repository.join("refs"))
}
