//! Triggers: who is told when a branch of a repository has moved.

use std::collections::BTreeMap;

use freestyle_git::{BranchPatterns, GitError, PathPatterns};
use freestyle_outbound::{OutboundError, WebUrl};
use freestyle_store::{DeliveryId, DeliveryRecord, TriggerId, TriggerRecord};

use crate::repo::Repo;
use crate::service::to_the_end;
use crate::{ReposError, watch};

/// Patterns in one list.
const MOST_PATTERNS: usize = 100;

/// A trigger to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTrigger {
    /// Names or patterns of branches; none: every branch.
    pub branches: Vec<String>,
    /// Patterns of files, one of which must have changed; none: whatever changed.
    pub globs: Vec<String>,
    /// The URL that is told.
    pub endpoint: String,
}

impl Repo {
    /// Makes a trigger: from now on its endpoint is told of every move of a branch that it means.
    /// An endpoint that is not at a public address is refused; one whose name does not resolve (yet)
    /// is not.
    pub async fn create_trigger(&self, new: NewTrigger) -> Result<TriggerRecord, ReposError> {
        BranchPatterns::parse(checked(&new.branches)?)?;
        PathPatterns::parse(checked(&new.globs)?)?;
        let url: WebUrl = new.endpoint.parse().map_err(ReposError::Endpoint)?;
        if url.credentials().is_some() {
            let reason = "it has a user name; deliveries prove by their signature who sends them";
            return Err(ReposError::Endpoint(OutboundError::InvalidUrl(reason)));
        }
        match self.shared.outbound.check(url.host(), url.port()).await {
            Ok(()) | Err(OutboundError::UnknownHost { .. }) => {}
            Err(error) => return Err(ReposError::Endpoint(error)),
        }
        let this = self.clone();
        to_the_end(async move {
            // What moves after the branches are read is recorded after the trigger is there.
            let _turn = this.shared.watch.turn(this.id()).await;
            let branches = this.branch_tips().await?;
            let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
            let (branches_meant, globs) = (list(new.branches), list(new.globs));
            let new = freestyle_store::NewTrigger {
                branches: branches_meant.as_deref(),
                globs: globs.as_deref(),
                endpoint: &new.endpoint,
            };
            let scope = this.shared.store.account_scope(&this.record.account_id);
            Ok(scope.insert_trigger(this.id().as_str(), new, &branches).await?)
        })
        .await
    }

    /// The triggers, oldest first.
    pub async fn triggers(&self) -> Result<Vec<TriggerRecord>, ReposError> {
        let scope = self.shared.store.account_scope(&self.record.account_id);
        Ok(scope.triggers(self.id().as_str()).await?)
    }

    /// Deletes a trigger. What was not delivered yet is never delivered.
    pub async fn delete_trigger(&self, id: &TriggerId) -> Result<(), ReposError> {
        let scope = self.shared.store.account_scope(&self.record.account_id);
        Ok(scope.delete_trigger(self.id().as_str(), id).await?)
    }

    /// What was and is to be delivered to a trigger, newest first.
    pub async fn deliveries(
        &self,
        trigger: &TriggerId,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DeliveryRecord>, ReposError> {
        let scope = self.shared.store.account_scope(&self.record.account_id);
        Ok(scope.deliveries(self.id().as_str(), trigger, limit, offset).await?)
    }

    /// Has something delivered once more, after all that are waiting.
    pub async fn redeliver(
        &self,
        trigger: &TriggerId,
        delivery: &DeliveryId,
    ) -> Result<DeliveryRecord, ReposError> {
        let scope = self.shared.store.account_scope(&self.record.account_id);
        Ok(scope.redeliver(self.id().as_str(), trigger, delivery).await?)
    }

    /// Records what a killed server did not get to record.
    pub(crate) async fn catch_up(&self) -> Result<(), ReposError> {
        let system = self.shared.store.system();
        let recorded = system.recorded_branches(self.id().as_str()).await?;
        let moves = watch::differences(&recorded, &self.branch_tips().await?);
        self.shared.watch.record(&self.shared.store, self.id(), moves).await?;
        Ok(())
    }

    /// Where the branches are now.
    async fn branch_tips(&self) -> Result<BTreeMap<String, String>, GitError> {
        let branches = self.git.branches().await?;
        Ok(branches.into_iter().map(|branch| (branch.name, branch.sha.to_string())).collect())
    }
}

fn checked(patterns: &[String]) -> Result<&[String], GitError> {
    match patterns.len() <= MOST_PATTERNS {
        true => Ok(patterns),
        false => Err(GitError::InvalidRequest(format!(
            "a trigger has at most {MOST_PATTERNS} patterns of a kind"
        ))),
    }
}
