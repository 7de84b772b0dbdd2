//! Lines that commits added or removed.

use gix_object::bstr::ByteSlice;
use regex::bytes::Regex;

use super::pattern::{PathFilter, expression};
use super::text::{decode, matches_in, shown};
use super::{Search, parallel};
use crate::diff::{Change, for_each_changed_line};
use crate::error::SearchKind;
use crate::history::Walk;
use crate::limits::Room;
use crate::objects::{Commit, Reader};
use crate::{GitError, Repository};

/// Commits that are compared with their parents at one time.
const BATCH: usize = 128;
/// Matches of one commit that are answered.
const MOST_MATCHES: usize = 1000;
/// What a match takes besides its line.
const MATCH_BYTES: usize = 128;

/// Commits that added or removed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffMatches {
    /// Commits found. When `has_more`, there are at least so many: the search ends with the page.
    pub total_commits: usize,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The commits of this page, newest first.
    pub commits: Vec<DiffCommit>,
}

/// A commit with its matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffCommit {
    /// The commit.
    pub commit: Commit,
    /// First line of its message.
    pub summary: String,
    /// Files in which something matches, ordered by path.
    pub files: Vec<DiffFile>,
}

/// A changed file with its matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffFile {
    /// From the root of the repository.
    pub path: String,
    /// What matches.
    pub matches: Vec<DiffMatch>,
}

/// A match in a line that was added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffMatch {
    /// The line without its end. Cut after 4096 characters.
    pub line: String,
    /// From 1: in the new file if it was added, in the old one if it was removed.
    pub line_number: usize,
    /// Where the match begins, from 0, in bytes.
    pub start_column: usize,
    /// Where it ends.
    pub end_column: usize,
    /// Whether the line was added.
    pub is_addition: bool,
}

impl Repository {
    /// Searches the changes of all commits that a revision contains, each compared with its parent.
    /// Merges are left out: what they bring was changed by others. Files that are not text or larger
    /// than 8 MiB are left out too.
    pub async fn search_diffs(&self, search: Search) -> Result<DiffMatches, GitError> {
        let expression = expression(&search, SearchKind::Diffs)?;
        let filter = PathFilter::new(&search, SearchKind::Diffs)?;
        self.search(move |reader| find(reader, &search, &expression, &filter)).await
    }
}

fn find(
    reader: &Reader<'_>,
    search: &Search,
    expression: &Regex,
    filter: &PathFilter,
) -> Result<DiffMatches, GitError> {
    let from = reader.resolve_commit(search.revision())?;
    let mut walk = Walk::new(reader, from, &[])?;
    let page = search.page();
    let (share, mut room) = (Room::share(page.len()), Room::of_answer());
    let (mut total_commits, mut commits) = (0, Vec::new());
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(id) = walk.next()? else { break };
            batch.push(id);
        }
        if batch.is_empty() {
            return Ok(DiffMatches { total_commits, has_more: false, commits });
        }
        let found = parallel::map(reader, &batch, |reader, id| {
            search_commit(reader, reader.commit(id)?, expression, filter, share)
        })?;
        for commit in found.into_iter().flatten() {
            if total_commits >= page.end {
                return Ok(DiffMatches { total_commits: page.end + 1, has_more: true, commits });
            }
            if page.contains(&total_commits) {
                room.take(commit.commit.answer_bytes() + commit.summary.len())?;
                commits.push(commit);
            }
            total_commits += 1;
        }
    }
}

/// What the matches of one commit may still take.
struct Left {
    matches: usize,
    bytes: usize,
}

fn search_commit(
    reader: &Reader<'_>,
    commit: Commit,
    expression: &Regex,
    filter: &PathFilter,
    bytes: usize,
) -> Result<Option<DiffCommit>, GitError> {
    let parent = match commit.parents[..] {
        [] => None,
        [parent] => Some(reader.commit(&parent)?.tree),
        _ => return Ok(None),
    };
    let (mut files, mut left) = (Vec::new(), Left { matches: MOST_MATCHES, bytes });
    for change in reader.tree_changes(parent, Some(commit.tree))? {
        let path = change.path.to_str_lossy();
        if left.matches == 0 || left.bytes == 0 {
            break;
        }
        if !filter.accepts(&path) {
            continue;
        }
        reader.deadline.check()?;
        let matches = search_change(reader, &change, expression, &mut left)?;
        if !matches.is_empty() {
            files.push(DiffFile { path: path.into_owned(), matches });
        }
    }
    let summary = commit.message.lines().next().unwrap_or_default().to_owned();
    Ok((!files.is_empty()).then_some(DiffCommit { commit, summary, files }))
}

fn search_change(
    reader: &Reader<'_>,
    change: &Change,
    expression: &Regex,
    left: &mut Left,
) -> Result<Vec<DiffMatch>, GitError> {
    let (Some(old), Some(new)) = (reader.text_of(change.old)?, reader.text_of(change.new)?) else {
        return Ok(Vec::new());
    };
    let (old, new) = (decode(&old), decode(&new));
    let mut matches = Vec::new();
    // Most changes have nothing to do with what is searched for, and comparing lines costs more
    // than searching them.
    if !expression.is_match(old.as_bytes()) && !expression.is_match(new.as_bytes()) {
        return Ok(matches);
    }
    for_each_changed_line(old.as_bytes(), new.as_bytes(), |changed| {
        let line = changed.line.trim_end_with(|c| c == '\n' || c == '\r');
        let line = std::str::from_utf8(line).unwrap_or_default();
        for (start, end) in matches_in(line, expression) {
            if left.matches == 0 || left.bytes == 0 {
                return;
            }
            let line = shown(line);
            left.matches -= 1;
            left.bytes = left.bytes.saturating_sub(line.len() + MATCH_BYTES);
            matches.push(DiffMatch {
                line,
                line_number: changed.number as usize,
                start_column: start,
                end_column: end,
                is_addition: changed.is_addition,
            });
        }
    });
    Ok(matches)
}
