//! One sync of one repository.

use std::collections::BTreeMap;

use freestyle_git::{BranchName, Moved, ObjectId, PushedRef, RefUpdate, Remote};
use freestyle_outbound::{Credentials, ProxyLimits, WebUrl};
use freestyle_repos::Repo;
use freestyle_store::{DueGitHubSync, GitHubConflict, GitHubSyncEnd};

use crate::plan::{Refs, Step, plan};
use crate::{GitHub, GitHubError, GitHubName};

/// The name that git sees the app's token under.
const USER: &str = "x-access-token";
/// Bytes that GitHub may send.
const LARGEST: u64 = 4 << 30;
const CONNECTIONS: usize = 8;

/// What came of the part of a sync that was done.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// What is recorded of it.
    pub(crate) end: GitHubSyncEnd,
    /// Something moved meanwhile: this is to be done again.
    pub(crate) is_stale: bool,
}

impl GitHub {
    /// Makes both sides equal, as far as that can be done. What was done counts even if the rest
    /// fails.
    pub(crate) async fn sync(
        &self,
        due: &DueGitHubSync,
        progress: &mut Progress,
    ) -> Result<(), GitHubError> {
        let id = due.repository_id.parse();
        let id = id.map_err(|_| GitHubError::Internal("no repository id".to_owned()))?;
        let repo = self.repos.get(&due.account_id, &id).await?;
        let name: GitHubName = due.github_name.parse()?;
        let installation = self.installation(&due.account_id, &name).await?;
        let url: WebUrl = installation.clone_url.parse()?;
        let limits = ProxyLimits { bytes: LARGEST, connections: CONNECTIONS };
        let proxy = self.outbound.proxy(limits).await;
        let proxy = proxy.map_err(|error| GitHubError::Internal(format!("no proxy: {error}")))?;
        let remote = Remote {
            url: url.to_string(),
            authorization: Some(Credentials::new(USER, &installation.token).basic()),
            proxy: proxy.url().to_owned(),
        };
        let base = self.store.system().github_base(&due.repository_id).await?;
        let base = base
            .into_iter()
            .filter_map(|(name, hex)| Some((name, ObjectId::from_hex(hex.as_bytes()).ok()?)));
        let default_branch = installation.default_branch.as_deref();
        let synced = with_remote(&repo, &remote, &base.collect(), default_branch, progress).await;
        // Git only knows that it got no connection; the proxy knows why.
        match (synced, proxy.failure()) {
            (Err(GitHubError::Remote(_)), Some(failure)) => Err(failure.into()),
            (synced, _) => synced,
        }
    }
}

async fn with_remote(
    repo: &Repo,
    remote: &Remote,
    base: &Refs,
    default_branch: Option<&str>,
    progress: &mut Progress,
) -> Result<(), GitHubError> {
    let there: Refs = repo.git().mirror(remote).await?.into_iter().collect();
    let here = repo.git().refs().await?.into_iter().map(|tip| (tip.name, tip.target));
    let here: Refs = here.collect();
    let relations = repo.git().ancestry(questions(&here, &there, base)).await?;
    let steps =
        plan(&here, &there, base, |old, new| relations.get(&(old, new)).copied().unwrap_or(false));

    let end = &mut progress.end;
    let mut pushes = Vec::new();
    for (name, step) in steps {
        match step {
            Step::Agree(at) if at == base.get(&name).copied() => {}
            Step::Agree(at) => end.agree(&name, at),
            Step::Pull { from, to } => {
                let update = RefUpdate { name: name.clone(), old: from, new: to };
                match repo.move_ref(update).await? {
                    Moved::Done => end.agree(&name, to),
                    Moved::Stale => progress.is_stale = true,
                    Moved::Refused(reason) => {
                        end.conflicts.push(conflict(&name, &here, &there, reason));
                    }
                }
            }
            Step::Push { from, to } => pushes.push(RefUpdate { name, old: from, new: to }),
            Step::Conflict(reason) => {
                end.conflicts.push(conflict(&name, &here, &there, reason.text()));
            }
        }
    }
    follow_default_branch(repo, &here, &there, default_branch).await?;

    let mut refused = Vec::new();
    let is_one = pushes.len() == 1;
    for pushed in repo.git().push(remote, pushes).await? {
        match pushed {
            PushedRef { update, refusal: None, .. } => end.agree(&update.name, update.new),
            PushedRef { is_stale: true, .. } => progress.is_stale = true,
            refused_one => refused.push(refused_one),
        }
    }
    for PushedRef { update, refusal, .. } in refused {
        // A server refuses all of a push for one of its branches. So each is tried alone.
        let mut reason = refusal;
        if !is_one {
            let again = repo.git().push(remote, vec![update.clone()]).await?;
            reason = again.into_iter().find_map(|pushed| pushed.refusal);
        }
        match reason {
            None => end.agree(&update.name, update.new),
            Some(reason) => end.conflicts.push(conflict(&update.name, &here, &there, &reason)),
        }
    }
    Ok(())
}

/// A repository that was empty has the default branch that the other side has.
async fn follow_default_branch(
    repo: &Repo,
    here: &Refs,
    there: &Refs,
    name: Option<&str>,
) -> Result<(), GitHubError> {
    let Some(name) = name.and_then(|name| BranchName::parse(name).ok()) else { return Ok(()) };
    let is_empty = !here.keys().any(|name| name.starts_with("refs/heads/"));
    if is_empty && there.contains_key(name.full_name()) {
        repo.git().set_default_branch(&name).await?;
    }
    Ok(())
}

/// Pairs of commits of which the plan asks whether the first is in the history of the second.
fn questions(here: &Refs, there: &Refs, base: &Refs) -> Vec<(ObjectId, ObjectId)> {
    let mut pairs = Vec::new();
    for (name, ours) in here.iter().filter(|(name, _)| name.starts_with("refs/heads/")) {
        let Some(theirs) = there.get(name).filter(|theirs| *theirs != ours) else { continue };
        if base.get(name) != Some(theirs) {
            pairs.push((*ours, *theirs));
        }
        if base.get(name) != Some(ours) {
            pairs.push((*theirs, *ours));
        }
    }
    pairs
}

fn conflict(name: &str, here: &Refs, there: &Refs, reason: &str) -> GitHubConflict {
    let at = |refs: &BTreeMap<String, ObjectId>| refs.get(name).map(ToString::to_string);
    GitHubConflict {
        name: name.to_owned(),
        here: at(here),
        there: at(there),
        reason: reason.to_owned(),
    }
}
