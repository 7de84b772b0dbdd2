//! One repository of an account, and everything that writes to it.
#![expect(
    clippy::disallowed_methods,
    reason = "here refs are moved, and their consequences follow"
)]

use std::sync::Arc;

use freestyle_git::{
    Branch, BranchName, Commit, Moved, NewCommit, Output, RefUpdate, Repository, RepositoryId,
    TransferRequest,
};
use freestyle_store::RepositoryRecord;

use crate::ReposError;
use crate::service::{Shared, to_the_end};

/// A repository that exists. Cheap to clone; holding it does not keep it from being deleted.
#[derive(Clone)]
pub struct Repo {
    pub(crate) record: RepositoryRecord,
    pub(crate) git: Repository,
    pub(crate) shared: Arc<Shared>,
}

impl Repo {
    /// Its identifier.
    pub fn id(&self) -> &RepositoryId {
        self.git.id()
    }

    /// What is remembered of it.
    pub fn record(&self) -> &RepositoryRecord {
        &self.record
    }

    /// For reading. What moves a ref is below, because it has consequences.
    pub fn git(&self) -> &Repository {
        &self.git
    }

    /// Makes a commit. It is made, and has its consequences, whatever becomes of the caller.
    pub async fn create_commit(&self, new: NewCommit) -> Result<Commit, ReposError> {
        let this = self.clone();
        to_the_end(async move {
            let created = this.git.create_commit(new).await?;
            this.shared.record_updates(this.id(), &[created.update]).await?;
            Ok(created.commit)
        })
        .await
    }

    /// Makes a branch at a commit, whose id may be cut short; without one, where the default branch
    /// is.
    pub async fn create_branch(
        &self,
        name: &BranchName,
        sha: Option<&str>,
    ) -> Result<Branch, ReposError> {
        let (this, name, sha) = (self.clone(), name.clone(), sha.map(str::to_owned));
        to_the_end(async move {
            let branch = this.git.create_branch(&name, sha.as_deref()).await?;
            let name = name.full_name().to_owned();
            let update = RefUpdate { name, old: None, new: Some(branch.sha) };
            this.shared.record_updates(this.id(), &[update]).await?;
            Ok(branch)
        })
        .await
    }

    /// Makes, moves or deletes a branch or tag, whose objects are here: a compare-and-swap.
    pub async fn move_ref(&self, update: RefUpdate) -> Result<Moved, ReposError> {
        let this = self.clone();
        to_the_end(async move {
            let moved = this.git.move_ref(&update).await?;
            if moved == Moved::Done {
                this.shared.record_updates(this.id(), &[update]).await?;
            }
            Ok(moved)
        })
        .await
    }

    /// The answer to `POST <repository>/git-receive-pack`. The client is told of its updates only
    /// when their consequences are recorded.
    pub async fn receive_pack(&self, request: TransferRequest) -> Result<Output, ReposError> {
        let push = self.git.receive_pack(request).await?;
        let this = self.clone();
        tokio::spawn(async move {
            let Some(finished) = push.end.wait().await else { return };
            match this.shared.record_updates(this.id(), &finished.updates).await {
                Ok(()) => finished.acknowledge(),
                // Not acknowledged: the client sees a broken connection.
                Err(error) => tracing::error!(repository = %this.id(), %error, "after a push"),
            }
        });
        Ok(push.output)
    }
}
