//! How two commits relate: what each has that the other has not, and where they forked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use gix_hash::ObjectId;

use crate::GitError;
use crate::objects::Reader;

/// How many commits each of two has that the other has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Commits of the second only.
    pub(crate) ahead: usize,
    /// Commits of the first only.
    pub(crate) behind: usize,
    /// A commit of both that is no ancestor of another of both; the newest, if there are several.
    pub(crate) merge_base: Option<ObjectId>,
}

/// Whose history a commit is known to be in.
const BASE: u8 = 1;
const HEAD: u8 = 2;
const BOTH: u8 = BASE | HEAD;

impl Reader<'_> {
    /// How two commits relate, whatever their dates say.
    pub(crate) fn relation(&self, base: ObjectId, head: ObjectId) -> Result<Relation, GitError> {
        let mut painting = Painting::new(self);
        painting.paint(base, BASE)?;
        painting.paint(head, HEAD)?;
        painting.finish()?;
        Ok(painting.result())
    }
}

/// A commit that was met.
struct Painted {
    sides: u8,
    parents: Vec<ObjectId>,
    time: i64,
    generation: Option<u32>,
    /// Whether its parents were met too; otherwise it is on the frontier.
    expanded: bool,
}

/// Two histories on their way down from their tips.
///
/// The paint of an expanded commit is always on its parents too, so the only doubt is what the
/// commits on the frontier reach. Dates choose which of them is next and nothing else: they make
/// the walk short, and cannot make it wrong.
struct Painting<'a> {
    reader: &'a Reader<'a>,
    met: HashMap<ObjectId, Painted>,
    /// Newest first; of the same second what was met first.
    frontier: BinaryHeap<(i64, Reverse<usize>, ObjectId)>,
    /// Commits on the frontier that are of one side only.
    open: usize,
}

impl<'a> Painting<'a> {
    fn new(reader: &'a Reader<'a>) -> Self {
        Self { reader, met: HashMap::new(), frontier: BinaryHeap::new(), open: 0 }
    }

    /// Adds a commit to a side, and with it what is known to be reachable from it. A commit is
    /// painted at most once for each side.
    fn paint(&mut self, id: ObjectId, side: u8) -> Result<(), GitError> {
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            self.reader.deadline.check()?;
            let Some(commit) = self.met.get_mut(&id) else {
                let info = self.reader.commit_info(&id)?;
                self.frontier.push((info.time, Reverse(self.met.len()), id));
                self.open += usize::from(side != BOTH);
                let (parents, time, generation) = (info.parents, info.time, info.generation);
                let commit = Painted { sides: side, parents, time, generation, expanded: false };
                self.met.insert(id, commit);
                continue;
            };
            if commit.sides | side == commit.sides {
                continue;
            }
            commit.sides |= side;
            if commit.expanded {
                left.extend(&commit.parents);
            } else {
                self.open -= 1;
            }
        }
        Ok(())
    }

    /// Walks down until no commit that is left can change the answer.
    fn finish(&mut self) -> Result<(), GitError> {
        // Whether a path down ended elsewhere than on the frontier.
        let mut has_end = false;
        let mut lowest = None;
        while self.open > 0 || self.frontier.len() > 1 || has_end {
            let Some((_, _, id)) = self.frontier.pop() else { break };
            let Some(commit) = self.met.get(&id) else { continue };
            let (sides, generation) = (commit.sides, commit.generation);
            if self.open == 0 {
                // From here on all of the frontier is of both sides. It matters only if it reaches
                // a commit of one side or a merge base, which is a parent of such a commit.
                let lowest = *lowest.get_or_insert_with(|| self.lowest_generation());
                if generation.is_some_and(|generation| generation <= lowest) {
                    has_end = true;
                    continue;
                }
            }
            self.open -= usize::from(sides != BOTH);
            let parents = commit.parents.clone();
            has_end |= parents.is_empty();
            if let Some(commit) = self.met.get_mut(&id) {
                commit.expanded = true;
            }
            for parent in parents {
                self.paint(parent, sides)?;
            }
        }
        // Either nothing is left, or nothing that reaches what matters; or all paths down from all
        // commits end at the only one left, which is therefore an ancestor of them all and, there
        // being no cycles, reaches none.
        Ok(())
    }

    /// The lowest generation among the commits of one side and their parents. Ancestors of a commit
    /// that is in the commit graph are too, so those that are not count as the highest.
    fn lowest_generation(&self) -> u32 {
        let of_one = self.met.iter().filter(|(_, commit)| commit.sides != BOTH);
        let ids = of_one.flat_map(|(id, commit)| commit.parents.iter().chain([id]));
        let generations = ids.filter_map(|id| self.met.get(id)?.generation);
        generations.min().unwrap_or(u32::MAX)
    }

    fn result(&self) -> Relation {
        let count = |side| self.met.values().filter(|commit| commit.sides == side).count();
        let both = || self.met.iter().filter(|(_, commit)| commit.sides == BOTH);
        let older: HashSet<_> = both().flat_map(|(_, commit)| &commit.parents).collect();
        let newest = both().filter(|(id, _)| !older.contains(id));
        let merge_base = newest.max_by_key(|(id, commit)| (commit.time, Reverse(**id)));
        Relation {
            ahead: count(HEAD),
            behind: count(BASE),
            merge_base: merge_base.map(|(id, _)| *id),
        }
    }
}
