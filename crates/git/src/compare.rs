//! What one revision has that another has not.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;

use crate::diff::{Change, Version, count_lines};
use crate::limits::Room;
use crate::objects::Reader;
use crate::revision::full_id;
use crate::{GitError, Repository};

/// Files added and removed that are compared with each other to find renamed ones; with more of
/// them only files of the same content are found, as in git.
const MOST_RENAMES: usize = 200;
/// A file is a renamed one when this many hundredths of it are the same.
const SIMILAR: u64 = 50;

/// What a file takes in an answer besides its names.
const COMPARED_FILE_BYTES: usize = 192;

/// How the head is to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareStatus {
    /// The same commit.
    Identical,
    /// It has commits more.
    Ahead,
    /// It has commits less.
    Behind,
    /// Both.
    Diverged,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another.
    Modified,
    /// It had this path before; its content may have changed too.
    Renamed {
        /// The path it had.
        previous: String,
    },
    /// Only its mode is another.
    Changed,
}

/// A file that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedFile {
    /// Its path. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What happened to it.
    pub status: FileStatus,
    /// Its blob; of a removed file the one it had.
    pub sha: ObjectId,
    /// Lines added; 0 for files that are not text or too large.
    pub additions: u32,
    /// Lines removed; 0 likewise.
    pub deletions: u32,
}

/// The comparison of two revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// How the head is to the base.
    pub status: CompareStatus,
    /// Commits of the head that the base has not.
    pub ahead_by: usize,
    /// Commits of the base that the head has not.
    pub behind_by: usize,
    /// What the head changed since the newest commit that both have.
    pub files: Vec<ComparedFile>,
}

impl Repository {
    /// Compares two revisions.
    pub async fn compare(&self, base: &str, head: &str) -> Result<Comparison, GitError> {
        let (base, head) = (base.to_owned(), head.to_owned());
        self.read(move |reader| reader.compare(&base, &head)).await
    }
}

/// A change, and the path that the file had if that was another.
type PossiblyRenamed = (Change, Option<Vec<u8>>);

impl Reader<'_> {
    fn compare(&self, base: &str, head: &str) -> Result<Comparison, GitError> {
        let commit = |revision: &str| match self.resolve_commit(revision) {
            Err(GitError::ReferenceNotFound { .. }) if full_id(revision).is_some() => {
                Err(GitError::CommitNotFound { sha: revision.to_owned() })
            }
            other => other,
        };
        let (base, head) = (commit(base)?, commit(head)?);
        let relation = self.relation(base, head)?;
        let status = match (relation.ahead, relation.behind) {
            (0, 0) => CompareStatus::Identical,
            (_, 0) => CompareStatus::Ahead,
            (0, _) => CompareStatus::Behind,
            _ => CompareStatus::Diverged,
        };
        let from = self.commit(&relation.merge_base.unwrap_or(base))?.tree;
        let changes = self.tree_changes(Some(from), Some(self.commit(&head)?.tree))?;
        let files = self.find_renames(changes)?;
        let mut room = Room::of_answer();
        let files = files.into_iter().map(|(change, previous)| {
            let names = change.path.len() + previous.as_ref().map_or(0, Vec::len);
            room.take(names + COMPARED_FILE_BYTES)?;
            self.compared(&change, previous)
        });
        Ok(Comparison {
            status,
            ahead_by: relation.ahead,
            behind_by: relation.behind,
            files: files.collect::<Result<_, _>>()?,
        })
    }

    fn compared(
        &self,
        change: &Change,
        previous: Option<Vec<u8>>,
    ) -> Result<ComparedFile, GitError> {
        self.deadline.check()?;
        let status = match (&change.old, &change.new, previous) {
            (_, _, Some(previous)) => {
                FileStatus::Renamed { previous: previous.to_str_lossy().into_owned() }
            }
            (None, _, _) => FileStatus::Added,
            (_, None, _) => FileStatus::Removed,
            (Some(old), Some(new), _) if old.id == new.id => FileStatus::Changed,
            _ => FileStatus::Modified,
        };
        let (additions, deletions) = match (self.text_of(change.old)?, self.text_of(change.new)?) {
            (Some(old), Some(new)) => count_lines(&old, &new),
            _ => (0, 0),
        };
        let version = change.new.or(change.old);
        let sha = version.map_or(ObjectId::null(gix_hash::Kind::Sha1), |version| version.id);
        let path = change.path.to_str_lossy().into_owned();
        Ok(ComparedFile { path, status, sha, additions, deletions })
    }

    /// Turns pairs of a removed and an added file into renamed ones, with the path they had.
    fn find_renames(&self, changes: Vec<Change>) -> Result<Vec<PossiblyRenamed>, GitError> {
        let is_file = |version: &Option<Version>| version.is_some_and(|v| v.mode.is_blob());
        let mut removed: Vec<_> =
            changes.iter().filter(|c| c.new.is_none() && is_file(&c.old)).cloned().collect();
        let mut added: Vec<_> =
            changes.iter().filter(|c| c.old.is_none() && is_file(&c.new)).cloned().collect();
        // New path to what it was.
        let mut renamed: HashMap<Vec<u8>, Change> = HashMap::new();

        let mut by_content: HashMap<ObjectId, Vec<Change>> = HashMap::new();
        for change in removed.drain(..).rev() {
            if let Some(old) = change.old {
                by_content.entry(old.id).or_default().push(change);
            }
        }
        added.retain(|change| {
            let same = change.new.and_then(|new| by_content.get_mut(&new.id)?.pop());
            let is_renamed = same.is_some();
            renamed.extend(same.map(|same| (change.path.clone(), same)));
            !is_renamed
        });
        removed.extend(by_content.into_values().flatten());

        if removed.len() <= MOST_RENAMES && added.len() <= MOST_RENAMES {
            for (new, old) in self.similar(&added, &removed)? {
                renamed.insert(added[new].path.clone(), removed[old].clone());
            }
        }
        let gone: std::collections::HashSet<_> =
            renamed.values().map(|change| change.path.clone()).collect();
        let left = changes.into_iter().filter(|c| c.new.is_some() || !gone.contains(&c.path));
        let result = left.map(|change| match renamed.remove(&change.path) {
            Some(was) => (Change { old: was.old, ..change }, Some(was.path)),
            None => (change, None),
        });
        Ok(result.collect())
    }

    /// Pairs of an added and a removed file that are alike, the most alike first.
    fn similar(
        &self,
        added: &[Change],
        removed: &[Change],
    ) -> Result<Vec<(usize, usize)>, GitError> {
        if added.is_empty() || removed.is_empty() {
            return Ok(Vec::new());
        }
        let prints = |changes: &[Change]| -> Result<Vec<Option<Fingerprint>>, GitError> {
            let print = |change: &Change| {
                self.deadline.check()?;
                let text = self.text_of(change.new.or(change.old))?;
                Ok(text.filter(|text| !text.is_empty()).map(|text| Fingerprint::of(&text)))
            };
            changes.iter().map(print).collect()
        };
        let (new, old) = (prints(added)?, prints(removed)?);
        let mut pairs = Vec::new();
        for (at, new) in new.iter().enumerate() {
            self.deadline.check()?;
            for (of, old) in old.iter().enumerate() {
                if let (Some(new), Some(old)) = (new, old) {
                    let score = new.similarity(old);
                    if score >= SIMILAR {
                        pairs.push((score, at, of));
                    }
                }
            }
        }
        pairs.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let (mut used_new, mut used_old) = (vec![false; new.len()], vec![false; old.len()]);
        let mut result = Vec::new();
        for (_, at, of) in pairs {
            if !used_new[at] && !used_old[of] {
                (used_new[at], used_old[of]) = (true, true);
                result.push((at, of));
            }
        }
        Ok(result)
    }
}

/// Bytes of each different line of a text, to tell how much two texts have in common.
struct Fingerprint {
    lines: HashMap<u64, u64>,
    size: u64,
}

impl Fingerprint {
    fn of(text: &[u8]) -> Self {
        let mut lines = HashMap::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let mut hasher = DefaultHasher::new();
            line.hash(&mut hasher);
            *lines.entry(hasher.finish()).or_default() += line.len() as u64;
        }
        Self { lines, size: text.len() as u64 }
    }

    /// Hundredths of the larger text that are in both.
    fn similarity(&self, other: &Self) -> u64 {
        let common: u64 = self
            .lines
            .iter()
            .map(|(line, bytes)| other.lines.get(line).map_or(0, |others| *bytes.min(others)))
            .sum();
        common * 100 / self.size.max(other.size).max(1)
    }
}
