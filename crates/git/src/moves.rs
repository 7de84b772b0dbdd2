//! Moving a ref to where another repository has it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::time::Duration;

use gix_hash::ObjectId;

use crate::disk::sync_directory;
use crate::refs::sync_ref_folders;
use crate::{GitError, RefUpdate, Repository};

/// How long git may take for one ref.
const TIME: Duration = Duration::from_secs(60);

/// What came of moving a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is where it should be, durably.
    Done,
    /// It was not where it should have been before.
    Stale,
    /// Git will not have it there, for this reason: as a branch `a` beside a branch `a/b`.
    Refused(&'static str),
}

/// What it means that git did not move a ref. Its words name folders of this host.
fn refusal(is_where_it_was: bool, said: &str) -> Moved {
    match is_where_it_was {
        // Someone else is about to move it.
        true if said.contains(".lock") => Moved::Stale,
        true if said.contains("cannot create") => {
            Moved::Refused("a branch or tag that is here is in its way: one is within the other")
        }
        true => Moved::Refused("git does not take it here"),
        false => Moved::Stale,
    }
}

impl Repository {
    /// Makes, moves or deletes a branch or tag, whose objects are here: a compare-and-swap from `old`
    /// to `new`.
    pub async fn move_ref(&self, update: &RefUpdate) -> Result<Moved, GitError> {
        let id = |id: Option<ObjectId>| match id {
            Some(id) => id.to_string(),
            None => ObjectId::null(gix_hash::Kind::Sha1).to_string(),
        };
        let (old, new) = (id(update.old), id(update.new));
        let arguments = match update.new {
            Some(_) => ["update-ref", "--no-deref", &update.name, &new, &old],
            None => ["update-ref", "--no-deref", "-d", &update.name, &old],
        };
        let arguments = arguments.map(OsStr::new);
        let process = self.shared.git.start(&self.state.path, &[], None, arguments)?;
        let finished = process.finish(TIME).await?;
        let update = update.clone();
        self.finish_blocking(move |this| {
            if finished.status.success() {
                let sync = || -> std::io::Result<()> {
                    sync_directory(&this.state.path.join("objects/pack"))?;
                    sync_ref_folders(&this.state.path, &update.name)?;
                    // Deleting a ref rewrites the file of packed refs.
                    sync_directory(&this.state.path)
                };
                sync().map_err(GitError::io("cannot flush a ref to disk"))?;
                return Ok(Moved::Done);
            }
            let is_where_it_was = this.reader()?.refs.get_named(&update.name)? == update.old;
            Ok(refusal(is_where_it_was, &finished.stderr))
        })
        .await
    }

    /// Of each pair, whether the first commit is in the history of the second.
    pub async fn ancestry(
        &self,
        pairs: Vec<(ObjectId, ObjectId)>,
    ) -> Result<HashMap<(ObjectId, ObjectId), bool>, GitError> {
        let mut known = HashMap::with_capacity(pairs.len());
        for (older, newer) in pairs {
            // Each has the time that a read has.
            let is_ancestor = self.read(move |reader| reader.is_ancestor(older, newer)).await?;
            known.insert((older, newer), is_ancestor);
        }
        Ok(known)
    }
}
