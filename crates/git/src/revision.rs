//! What a revision in a request names.
//!
//! Understood are branches, tags and other refs by short or full name, `HEAD`, object ids and their
//! unambiguous prefixes, and after each of them `~n`, `^n`, `^{}`, `^{commit}` and `^{tree}`. The
//! rest of git's notation (`@{...}`, `:path`, ranges) is refused: it depends on a work tree or a
//! reflog, or names more than one thing.

use gix_hash::{ObjectId, Prefix};
use gix_object::Kind;
use gix_ref::FullName;

use crate::GitError;
use crate::objects::Reader;

const LONGEST: usize = 1024;
/// `~n` may go back this far; a listing is the way to see more.
const FURTHEST: usize = 100_000;
const SHORTEST_PREFIX: usize = 4;

/// One step from an object to another.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    FirstParents(usize),
    Parent(usize),
    Peel,
    To(Kind),
}

impl Reader<'_> {
    /// The commit that a revision names.
    pub(crate) fn resolve_commit(&self, revision: &str) -> Result<ObjectId, GitError> {
        let id = self.resolve(revision)?;
        match self.peel(id)? {
            Some((id, Kind::Commit)) => Ok(id),
            _ => Err(GitError::InvalidRevision { revision: revision.to_owned() }),
        }
    }

    /// The tree that a revision names, or that of the commit it names.
    pub(crate) fn resolve_tree(&self, revision: &str) -> Result<ObjectId, GitError> {
        let id = self.resolve(revision)?;
        self.tree_of(id)?.ok_or_else(|| GitError::InvalidRevision { revision: revision.to_owned() })
    }

    fn tree_of(&self, id: ObjectId) -> Result<Option<ObjectId>, GitError> {
        match self.peel(id)? {
            Some((id, Kind::Tree)) => Ok(Some(id)),
            Some((id, Kind::Commit)) => Ok(Some(self.commit(&id)?.tree)),
            _ => Ok(None),
        }
    }

    /// The object that a revision names.
    fn resolve(&self, revision: &str) -> Result<ObjectId, GitError> {
        let bad_syntax = || GitError::InvalidRevisionSyntax { rev: revision.to_owned() };
        let (base, steps) = parse(revision).ok_or_else(bad_syntax)?;
        let mut id = self.resolve_base(base, revision)?;
        let invalid = || GitError::InvalidRevision { revision: revision.to_owned() };
        for step in steps {
            id = self.step(id, &step)?.ok_or_else(invalid)?;
        }
        Ok(id)
    }

    fn step(&self, id: ObjectId, step: &Step) -> Result<Option<ObjectId>, GitError> {
        let Some((id, kind)) = self.peel(id)? else { return Ok(None) };
        match step {
            Step::Peel => Ok(Some(id)),
            Step::To(Kind::Tree) => self.tree_of(id),
            Step::To(wanted) => Ok((kind == *wanted).then_some(id)),
            Step::Parent(_) | Step::FirstParents(_) if kind != Kind::Commit => Ok(None),
            Step::Parent(0) => Ok(Some(id)),
            Step::Parent(n) => Ok(self.commit(&id)?.parents.get(n - 1).copied()),
            Step::FirstParents(n) => {
                let mut id = id;
                for _ in 0..*n {
                    self.deadline.check()?;
                    let Some(parent) = self.commit_info(&id)?.parents.first().copied() else {
                        return Ok(None);
                    };
                    id = parent;
                }
                Ok(Some(id))
            }
        }
    }

    fn resolve_base(&self, base: &str, revision: &str) -> Result<ObjectId, GitError> {
        let not_found = || GitError::ReferenceNotFound { reference: revision.to_owned() };
        if base == "HEAD" || base == "@" {
            let Some(branch) = self.refs.default_branch()? else { return Err(not_found()) };
            return self.refs.branch(&branch)?.ok_or_else(not_found);
        }
        if let Some(id) = full_id(base) {
            return self.header(&id)?.map(|_| id).ok_or_else(not_found);
        }
        // As git looks for it; internal refs are not for users.
        for name in
            ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{base}"))
        {
            let is_for_users = name.starts_with("refs/") && !name.starts_with("refs/internal/");
            if is_for_users && let Some(id) = self.refs.get_named(&name)? {
                return Ok(id);
            }
        }
        match self.find_prefix(base)? {
            Some(id) => Ok(id),
            None => Err(not_found()),
        }
    }

    /// The only object whose id begins so. `Ambiguous` when there are several.
    pub(crate) fn find_prefix(&self, text: &str) -> Result<Option<ObjectId>, GitError> {
        let is_prefix = (SHORTEST_PREFIX..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(prefix) = is_prefix.then(|| Prefix::from_hex(text).ok()).flatten() else {
            return Ok(None);
        };
        match self.odb.lookup_prefix(prefix, None).map_err(GitError::objects)? {
            None => Ok(None),
            Some(Ok(id)) => Ok(Some(id)),
            // Of several objects a single commit is meant.
            Some(Err(())) => {
                let mut candidates = std::collections::HashSet::new();
                let _ = self.odb.lookup_prefix(prefix, Some(&mut candidates));
                let mut commits = Vec::new();
                for id in candidates {
                    self.deadline.check()?;
                    if matches!(self.header(&id)?, Some((Kind::Commit, _))) {
                        commits.push(id);
                    }
                }
                match commits[..] {
                    [only] => Ok(Some(only)),
                    _ => Err(GitError::Ambiguous { rev: text.to_owned() }),
                }
            }
        }
    }

    /// The commit with this id, which may be cut short. `InvalidObjectId` for anything else than an
    /// id, `CommitNotFound` when there is none.
    pub(crate) fn commit_by_id(&self, sha: &str) -> Result<ObjectId, GitError> {
        let is_id = (SHORTEST_PREFIX..=40).contains(&sha.len())
            && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(GitError::InvalidObjectId { hash: sha.to_owned() });
        }
        let found = match full_id(sha) {
            Some(id) => Some(id),
            None => self.find_prefix(sha)?,
        };
        if let Some(id) = found
            && matches!(self.header(&id)?, Some((Kind::Commit, _)))
        {
            return Ok(id);
        }
        Err(GitError::CommitNotFound { sha: sha.to_owned() })
    }
}

/// A whole object id.
pub(crate) fn full_id(text: &str) -> Option<ObjectId> {
    (text.len() == 40).then(|| ObjectId::from_hex(text.as_bytes()).ok()).flatten()
}

/// Takes a revision apart; none when it is not one.
fn parse(revision: &str) -> Option<(&str, Vec<Step>)> {
    if revision.len() > LONGEST {
        return None;
    }
    let end = revision.find(['~', '^']).unwrap_or(revision.len());
    let (base, mut rest) = revision.split_at(end);
    let is_name = base == "@" || FullName::try_from(format!("refs/heads/{base}")).is_ok();
    if !is_name || base.starts_with('-') {
        return None;
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, left) = match rest.strip_prefix("^{") {
            Some(peel) => {
                let (kind, left) = peel.split_once('}')?;
                let step = match kind {
                    "" => Step::Peel,
                    "commit" => Step::To(Kind::Commit),
                    "tree" => Step::To(Kind::Tree),
                    _ => return None,
                };
                (step, left)
            }
            None => {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                let (number, left) = rest[1..].split_at(digits);
                let number = if number.is_empty() { 1 } else { number.parse().ok()? };
                if number > FURTHEST {
                    return None;
                }
                let is_parent = rest.starts_with('^');
                let step =
                    if is_parent { Step::Parent(number) } else { Step::FirstParents(number) };
                (step, left)
            }
        };
        if !left.is_empty() && !left.starts_with(['~', '^']) {
            return None;
        }
        steps.push(step);
        rest = left;
    }
    Some((base, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_name_and_steps() {
        let steps = |revision| parse(revision).unwrap().1;
        assert_eq!(parse("feature/x").unwrap(), ("feature/x", Vec::new()));
        assert_eq!(steps("main~3^2"), [Step::FirstParents(3), Step::Parent(2)]);
        assert_eq!(steps("v1^{}~"), [Step::Peel, Step::FirstParents(1)]);
        assert_eq!(steps("v1^0^{tree}"), [Step::Parent(0), Step::To(Kind::Tree)]);
    }

    #[test]
    fn what_is_no_revision_is_refused() {
        let long = "a".repeat(2000);
        for bad in [
            "",
            "a..b",
            "main:file",
            "HEAD@{1}",
            "a b",
            "^main",
            "~1",
            "-x",
            "a^{blob}",
            "a^{tree",
            "a~1x",
            "a~9999999999999999999999",
            "a\0b",
            "refs//x",
            "x.lock",
            long.as_str(),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
