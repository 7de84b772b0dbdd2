//! Commits made of a tree that is there, which no branch has yet.

use gix_hash::ObjectId;
use gix_object::Kind;

use super::store::NewObjects;
use super::{Identity, checked_message, encode, now};
use crate::objects::{Commit, Date, Reader};
use crate::revision::full_id;
use crate::{GitError, Repository};

/// Parents of one commit. Git itself merges as many at one time.
const MOST_PARENTS: usize = 64;

/// Who did something, and when; now where it is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who.
    pub by: Identity,
    /// When.
    pub at: Option<Date>,
}

/// A commit to be made of a tree that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommitObject {
    /// The message.
    pub message: String,
    /// Id of its root tree.
    pub tree: String,
    /// Ids of its parents.
    pub parents: Vec<String>,
    /// Who wrote the change.
    pub author: Signed,
    /// Who makes the commit.
    pub committer: Signed,
}

impl Repository {
    /// Makes a commit that belongs to no branch yet. Durable when it returns.
    pub async fn create_commit_object(&self, new: NewCommitObject) -> Result<Commit, GitError> {
        let _turn = self.state.writing.enter().await?;
        self.read(move |reader| reader.create_commit_object(new)).await
    }
}

/// A commit without parents of a tree that is there.
pub(crate) struct NewTreeCommit {
    pub(crate) message: String,
    /// Author and committer.
    pub(crate) author: Identity,
    pub(crate) tree: ObjectId,
}

impl Reader<'_> {
    /// Makes a first commit. Durable when it returns.
    pub(crate) fn commit_tree(&self, new: NewTreeCommit) -> Result<ObjectId, GitError> {
        let message = checked_message(new.message)?;
        let signed = Signed { by: new.author, at: None }.encode()?;
        let mut objects = NewObjects::default();
        let commit = encode(new.tree, &[], &signed, &signed, &message);
        let commit = objects.add(self, Kind::Commit, commit)?;
        objects.write(self.directory)?;
        Ok(commit)
    }

    fn create_commit_object(&self, new: NewCommitObject) -> Result<Commit, GitError> {
        let message = checked_message(new.message)?;
        let author = new.author.encode()?;
        let committer = new.committer.encode()?;
        if new.parents.len() > MOST_PARENTS {
            let reason = format!("a commit has {MOST_PARENTS} parents at most");
            return Err(GitError::InvalidRequest(reason));
        }
        let tree = self.existing(&new.tree, Kind::Tree)?;
        let tree = tree.ok_or(GitError::TreeNotFound { hash: new.tree })?;
        let mut parents = Vec::with_capacity(new.parents.len());
        for parent in new.parents {
            let found = self.existing(&parent, Kind::Commit)?;
            parents.push(found.ok_or(GitError::ParentNotFound { sha: parent })?);
        }
        let mut objects = NewObjects::default();
        let commit = encode(tree, &parents, &author, &committer, &message);
        let commit = objects.add(self, Kind::Commit, commit)?;
        objects.write(self.directory)?;
        self.commit(&commit)
    }

    /// The object with this id if it is there and of this kind.
    fn existing(&self, hash: &str, kind: Kind) -> Result<Option<ObjectId>, GitError> {
        let invalid = || GitError::InvalidObjectId { hash: hash.to_owned() };
        let id = full_id(hash).ok_or_else(invalid)?;
        let found = self.header(&id)?.is_some_and(|(found, _)| found == kind);
        Ok(found.then_some(id))
    }
}

impl Signed {
    fn encode(&self) -> Result<String, GitError> {
        self.by.check()?;
        Ok(self.by.signed(self.at.unwrap_or_else(now)))
    }
}
