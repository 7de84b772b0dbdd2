//! Names of files.

use super::pattern::{PathFilter, expression, globs};
use super::{Search, extension};
use crate::error::SearchKind;
use crate::limits::Room;
use crate::{GitError, Repository};

/// Files whose path matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMatches {
    /// All of them, those of other pages too.
    pub total_files: usize,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The files of this page, ordered by path.
    pub files: Vec<FileMatch>,
}

/// A file whose path matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMatch {
    /// From the root of the repository.
    pub path: String,
    /// What follows the last dot of its name.
    pub extension: Option<String>,
    /// Bytes.
    pub size: u64,
}

impl Repository {
    /// Searches the paths of a revision: by regular expression, by glob, or, when the query has
    /// nothing of a glob in it, for paths that contain it.
    pub async fn search_files(&self, search: Search) -> Result<FileMatches, GitError> {
        let kind = SearchKind::Filenames;
        if search.query.is_empty() {
            return Err(GitError::EmptyQuery(kind));
        }
        let is_glob = !search.is_regex && search.query.contains(['*', '?', '[', '{']);
        let matches: Box<dyn Fn(&str) -> bool + Send> = if is_glob {
            let globs = globs(&search.query, search.case_sensitive, kind)?;
            Box::new(move |path| globs.is_match(path))
        } else {
            let expression = expression(&search, kind)?;
            Box::new(move |path| expression.is_match(path.as_bytes()))
        };
        let filter = PathFilter::new(&search, kind)?;
        self.search(move |reader| {
            let tree = reader.resolve_tree(search.revision())?;
            let found = reader.files_of(tree, &|path| filter.accepts(path) && matches(path))?;
            let page = search.page();
            let total_files = found.len();
            let mut room = Room::of_answer();
            let files = found.into_iter().skip(page.start).take(page.len()).map(|file| {
                room.take(2 * file.path.len())?;
                let size = reader.header(&file.id)?.map_or(0, |(_, size)| size);
                Ok(FileMatch { extension: extension(&file.path), path: file.path, size })
            });
            let files = files.collect::<Result<_, GitError>>()?;
            Ok(FileMatches { total_files, has_more: page.end < total_files, files })
        })
        .await
    }
}
