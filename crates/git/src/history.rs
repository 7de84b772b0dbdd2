//! Walks through the commits of a repository, and listing them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use crate::limits::Room;
use crate::objects::{Commit, Reader, SHA1};
use crate::{BranchName, GitError, Repository};

/// Most commits that a listing answers with.
const MOST_LISTED: usize = 500;

/// What a walk needs to know of a commit.
#[derive(Debug, Clone)]
pub(crate) struct CommitInfo {
    pub(crate) parents: Vec<ObjectId>,
    /// Of the committer, in seconds.
    pub(crate) time: i64,
    /// Larger than those of all its ancestors, when there is a commit graph.
    pub(crate) generation: Option<u32>,
}

/// In which order commits are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// Which commits are listed: those that the branch contains, from the commit `until` (itself
/// included) back to the commit `since` (itself included).
#[derive(Debug, Clone, Default)]
pub struct ListCommits {
    /// A branch; the default branch if there is none.
    pub branch: Option<String>,
    /// Most commits answered; at most 500 are.
    pub limit: usize,
    /// Commits left out at the beginning. Not together with `since` or `until`.
    pub offset: usize,
    /// Order of the answer, and at which end `offset` and `limit` count.
    pub order: Order,
    /// Id of the oldest commit.
    pub since: Option<String>,
    /// Id of the newest commit.
    pub until: Option<String>,
    /// Whether to count all commits that are selected.
    pub with_total: bool,
}

/// A part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitList {
    /// The commits.
    pub commits: Vec<Commit>,
    /// How many commits are selected, when it was asked for.
    pub total: Option<usize>,
    /// The commit after the last one of the answer: `until` of the next call when the order is
    /// descending, `since` when it is ascending.
    pub next_commit: Option<ObjectId>,
}

impl Repository {
    /// Lists commits.
    pub async fn list_commits(&self, request: ListCommits) -> Result<CommitList, GitError> {
        self.read(move |reader| reader.list_commits(&request)).await
    }

    /// The commit with an id, which may be cut short.
    pub async fn commit(&self, sha: &str) -> Result<Commit, GitError> {
        let sha = sha.to_owned();
        self.read(move |reader| reader.commit(&reader.commit_by_id(&sha)?)).await
    }
}

impl Reader<'_> {
    fn list_commits(&self, request: &ListCommits) -> Result<CommitList, GitError> {
        let has_selector = request.since.is_some() || request.until.is_some();
        if has_selector && request.offset > 0 {
            return Err(GitError::OffsetWithSelector);
        }
        let nothing = CommitList { commits: Vec::new(), total: Some(0), next_commit: None };
        let Some((branch, tip)) = self.branch_tip(request.branch.as_deref())? else {
            return Ok(nothing);
        };
        let until = request.until.as_deref().map(|sha| self.commit_by_id(sha)).transpose()?;
        let since = request.since.as_deref().map(|sha| self.commit_by_id(sha)).transpose()?;
        for selected in until.iter().chain(&since) {
            if !self.is_ancestor(*selected, tip)? {
                let (sha, branch) = (selected.to_string(), branch.as_str().to_owned());
                return Err(GitError::CommitNotInBranch { sha, branch });
            }
        }
        if let (Some(since), Some(until)) = (since, until)
            && !self.is_ancestor(since, until)?
        {
            let (since, until) = (since.to_string(), until.to_string());
            return Err(GitError::InvalidRange { since, until });
        }
        // What is older than `since`, and `since` itself is not.
        let hidden = match since {
            Some(since) => self.commit_info(&since)?.parents,
            None => Vec::new(),
        };
        let limit = request.limit.clamp(1, MOST_LISTED);
        let first = request.offset;
        let end = first.saturating_add(limit);
        let from = until.unwrap_or(tip);
        let known = hidden.is_empty().then(|| self.objects.known_count(&from)).flatten();
        let needs_count = request.with_total && known.is_none();
        let needs_all = needs_count || request.order == Order::Ascending;
        let mut ids = Vec::new();
        let mut walk = Walk::new(self, from, &hidden)?;
        while needs_all || ids.len() <= end {
            let Some(id) = walk.next()? else { break };
            ids.push(id);
        }
        if needs_count && hidden.is_empty() {
            self.objects.remember_count(from, ids.len());
        }
        let total = request.with_total.then(|| known.unwrap_or(ids.len()));
        if request.order == Order::Ascending {
            ids.reverse();
        }
        let listed = ids.get(first..end.min(ids.len())).unwrap_or_default();
        let mut room = Room::of_answer();
        let commits = listed.iter().map(|id| {
            self.deadline.check()?;
            let commit = self.commit(id)?;
            room.take(commit.answer_bytes())?;
            Ok(commit)
        });
        let commits = commits.collect::<Result<_, GitError>>()?;
        Ok(CommitList { commits, total, next_commit: ids.get(end).copied() })
    }

    /// A branch and its newest commit; without a name the default branch, which may have none yet.
    pub(crate) fn branch_tip(
        &self,
        name: Option<&str>,
    ) -> Result<Option<(BranchName, ObjectId)>, GitError> {
        let named = match name {
            None | Some("HEAD") => None,
            Some(name) => Some(name.strip_prefix("refs/heads/").unwrap_or(name)),
        };
        let Some(name) = named else {
            let branch = self.refs.default_branch()?.ok_or(GitError::NoDefaultBranch)?;
            let tip = self.refs.branch(&branch)?;
            return Ok(tip.map(|tip| (branch, tip)));
        };
        let not_found = || GitError::BranchNotFound { branch: name.to_owned() };
        let branch = match BranchName::parse(name) {
            Err(GitError::BranchNameEmpty) => return Err(GitError::BranchNameEmpty),
            branch => branch.map_err(|_| not_found())?,
        };
        let tip = self.refs.branch(&branch)?.ok_or_else(not_found)?;
        Ok(Some((branch, tip)))
    }

    pub(crate) fn commit_info(&self, id: &oid) -> Result<CommitInfo, GitError> {
        let graph = self.graph.as_ref();
        let known = graph.and_then(|graph| Some((graph, graph.commit_by_id(id)?)));
        if let Some((graph, commit)) = known {
            let parents = commit.iter_parents();
            let parents: Result<_, _> =
                parents.map(|at| at.map(|at| graph.id_at(at).to_owned())).collect();
            return Ok(CommitInfo {
                parents: parents.map_err(GitError::objects)?,
                time: i64::try_from(commit.committer_timestamp()).unwrap_or(i64::MAX),
                generation: Some(commit.generation()),
            });
        }
        let bytes = self.object(id, Kind::Commit)?;
        let bytes = bytes.ok_or_else(|| GitError::CommitNotFound { sha: id.to_string() })?;
        let commit = gix_object::CommitRefIter::from_bytes(&bytes, SHA1);
        let parents = self.known_parents(id, commit.parent_ids());
        let time = commit.committer().map_or(0, |committer| committer.seconds());
        Ok(CommitInfo { parents, time, generation: None })
    }

    /// Whether a commit is another or one of its ancestors.
    pub(crate) fn is_ancestor(&self, older: ObjectId, newer: ObjectId) -> Result<bool, GitError> {
        let oldest = self.commit_info(&older)?.generation;
        let mut seen = HashSet::from([newer]);
        let mut left = vec![newer];
        while let Some(id) = left.pop() {
            if id == older {
                return Ok(true);
            }
            self.deadline.check()?;
            let info = self.commit_info(&id)?;
            if matches!((info.generation, oldest), (Some(this), Some(oldest)) if this <= oldest) {
                continue;
            }
            left.extend(info.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(false)
    }
}

/// Commits from one back, newest first and each once, without those of hidden histories.
pub(crate) struct Walk<'a> {
    reader: &'a Reader<'a>,
    /// By time; of the same second what was met first comes first. As in git, a parent comes before
    /// a child when another child leads to it and its date is not older.
    left: BinaryHeap<(i64, Reverse<usize>, ObjectId)>,
    parents: HashMap<ObjectId, Vec<ObjectId>>,
    seen: HashSet<ObjectId>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        reader: &'a Reader<'a>,
        from: ObjectId,
        hidden: &[ObjectId],
    ) -> Result<Self, GitError> {
        let mut seen = HashSet::new();
        let mut stack: Vec<ObjectId> = hidden.to_vec();
        while let Some(id) = stack.pop() {
            reader.deadline.check()?;
            if seen.insert(id) {
                stack.extend(reader.commit_info(&id)?.parents);
            }
        }
        let (left, parents) = (BinaryHeap::new(), HashMap::new());
        let mut walk = Self { reader, left, parents, seen };
        walk.push(from)?;
        Ok(walk)
    }

    fn push(&mut self, id: ObjectId) -> Result<(), GitError> {
        if self.seen.insert(id) {
            let info = self.reader.commit_info(&id)?;
            self.left.push((info.time, Reverse(self.seen.len()), id));
            self.parents.insert(id, info.parents);
        }
        Ok(())
    }

    /// The next commit.
    pub(crate) fn next(&mut self) -> Result<Option<ObjectId>, GitError> {
        self.reader.deadline.check()?;
        let Some((_, _, id)) = self.left.pop() else { return Ok(None) };
        for parent in self.parents.remove(&id).unwrap_or_default() {
            self.push(parent)?;
        }
        Ok(Some(id))
    }
}
