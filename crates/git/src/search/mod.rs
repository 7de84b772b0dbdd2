//! Searching a repository: text in files, names of files, messages of commits, and lines that
//! commits added or removed.
//!
//! A search has a deadline, uses all processors, and is answered in pages: `offset` and
//! `max_results` count files, or commits. The order is that of paths, or newest commit first.

mod commits;
mod contents;
mod diffs;
mod files;
mod parallel;
mod pattern;
mod text;

pub(crate) use pattern::path_globs;

pub use commits::{CommitMatch, CommitMatches};
pub use contents::{ContentMatch, ContentMatches, SearchedFile};
pub use diffs::{DiffCommit, DiffFile, DiffMatch, DiffMatches};
pub use files::{FileMatch, FileMatches};

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;

use crate::limits::Room;
use crate::objects::Reader;
use crate::{GitError, Repository};

const MOST_RESULTS: usize = 1000;
const DEFAULT_RESULTS: usize = 100;
/// Files of one tree that a search looks at.
const MOST_FILES: usize = 1_000_000;

/// What the paths of those that are accepted may take.
const MOST_PATH_BYTES: usize = 256 << 20;

/// What is searched for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// A text, or a regular expression.
    pub query: String,
    /// A branch, tag or commit; `HEAD` if there is none.
    pub revision: Option<String>,
    /// A glob that paths must match.
    pub path_pattern: Option<String>,
    /// A glob that paths must not match.
    pub exclude_pattern: Option<String>,
    /// Files, or commits, answered at most; at most 1000 are.
    pub max_results: usize,
    /// Files, or commits, left out at the beginning.
    pub offset: usize,
    /// Whether the case of letters counts.
    pub case_sensitive: bool,
    /// Whether the query is a regular expression.
    pub is_regex: bool,
    /// Whether only whole words match.
    pub whole_word: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            query: String::new(),
            revision: None,
            path_pattern: None,
            exclude_pattern: None,
            max_results: DEFAULT_RESULTS,
            offset: 0,
            case_sensitive: false,
            is_regex: false,
            whole_word: false,
        }
    }
}

impl Search {
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("HEAD")
    }

    /// First result and the one after the last.
    fn page(&self) -> std::ops::Range<usize> {
        let most = self.max_results.clamp(1, MOST_RESULTS);
        self.offset..self.offset.saturating_add(most)
    }
}

impl Repository {
    async fn search<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader<'_>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let _of_repository = self.state.admission.searching.enter().await?;
        let _of_host = self.shared.admission.searching.enter().await?;
        self.read(work).await
    }
}

/// A file of a tree.
struct TreeFile {
    path: String,
    id: ObjectId,
}

impl Reader<'_> {
    /// The files of a tree that a filter accepts, ordered by path. Symbolic links and submodules are
    /// not among them.
    fn files_of(
        &self,
        tree: ObjectId,
        accepts: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<TreeFile>, GitError> {
        let mut files = Vec::new();
        let mut left = vec![(String::new(), tree)];
        let mut seen = 0usize;
        let mut room = Room::new("the list of files", MOST_PATH_BYTES);
        while let Some((folder, tree)) = left.pop() {
            self.deadline.check()?;
            for entry in self.tree(&tree)? {
                seen += 1;
                if seen > MOST_FILES {
                    let reason = format!("the repository has more than {MOST_FILES} files");
                    return Err(GitError::InvalidRequest(reason));
                }
                let separator = if folder.is_empty() { "" } else { "/" };
                let path = format!("{folder}{separator}{}", entry.name.to_str_lossy());
                if entry.mode.is_tree() {
                    left.push((path, entry.id));
                } else if entry.mode.is_blob() && accepts(&path) {
                    room.take(path.len() + size_of::<TreeFile>())?;
                    files.push(TreeFile { path, id: entry.id });
                }
            }
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// What follows the last dot of a file's name.
fn extension(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then(|| extension.to_owned())
}
