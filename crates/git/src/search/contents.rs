//! Text in files.

use regex::bytes::Regex;

use super::pattern::{PathFilter, expression};
use super::text::{decode, for_each_matching_line, matches_in, shown, utf16_column};
use super::{Search, TreeFile, extension, parallel};
use crate::diff::is_text;
use crate::error::SearchKind;
use crate::limits::Room;
use crate::objects::Reader;
use crate::{GitError, Repository};

/// Lines shown before and after a match.
const CONTEXT: usize = 2;
/// Matches of one file that are answered; all are counted.
const MOST_MATCHES: usize = 1000;
/// What a match takes besides its texts.
const MATCH_BYTES: usize = 192;

/// Files in which something was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentMatches {
    /// All files with matches, those of other pages too.
    pub total_files: usize,
    /// All matches in them.
    pub total_matches: usize,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The files of this page, ordered by path.
    pub files: Vec<SearchedFile>,
}

/// A file with its matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchedFile {
    /// From the root of the repository.
    pub path: String,
    /// What follows the last dot of its name.
    pub extension: Option<String>,
    /// Bytes.
    pub size: u64,
    /// What matches: the first 1000, or fewer where the answer would become too large.
    pub matches: Vec<ContentMatch>,
}

/// A match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentMatch {
    /// From 1.
    pub line_number: usize,
    /// The line without its end. Cut after 4096 characters.
    pub line: String,
    /// Where the match begins, from 0, in UTF-16 units.
    pub start_column: usize,
    /// Where it ends.
    pub end_column: usize,
    /// Up to two lines before.
    pub context_before: Vec<String>,
    /// Up to two lines after.
    pub context_after: Vec<String>,
}

impl Repository {
    /// Searches the files of a revision. Files that are not text or are over the size limit for
    /// blobs are left out.
    pub async fn search_contents(&self, search: Search) -> Result<ContentMatches, GitError> {
        let expression = expression(&search, SearchKind::Contents)?;
        let filter = PathFilter::new(&search, SearchKind::Contents)?;
        self.search(move |reader| find(reader, &search, &expression, &filter)).await
    }
}

fn find(
    reader: &Reader<'_>,
    search: &Search,
    expression: &Regex,
    filter: &PathFilter,
) -> Result<ContentMatches, GitError> {
    let tree = reader.resolve_tree(search.revision())?;
    let files = reader.files_of(tree, &|path| filter.accepts(path))?;
    // First how much is in each file, then the lines of those files that are answered: however much
    // there is, only one page of it is ever held.
    let counts = parallel::map(reader, &files, |reader, file| {
        reader.deadline.check()?;
        let Some(content) = read(reader, file)? else { return Ok(0) };
        let mut count = 0;
        for_each_matching_line(&decode(&content), expression, |found| {
            count += matches_in(found.line, expression).count();
        });
        Ok(count)
    })?;
    let total_matches = counts.iter().sum();
    let matching: Vec<_> =
        files.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(file, _)| file).collect();
    let page = search.page();
    let shown = matching.get(page.start..page.end.min(matching.len())).unwrap_or_default();
    let files = parallel::map(reader, shown, |reader, file| {
        reader.deadline.check()?;
        let content = read(reader, file)?.unwrap_or_default();
        let matches = matches_of(&decode(&content), expression, Room::share(shown.len()));
        let (path, extension) = (file.path.clone(), extension(&file.path));
        Ok(SearchedFile { path, extension, size: content.len() as u64, matches })
    })?;
    let has_more = page.end < matching.len();
    Ok(ContentMatches { total_files: matching.len(), total_matches, has_more, files })
}

/// The content of a file that can be searched.
fn read(reader: &Reader<'_>, file: &TreeFile) -> Result<Option<Vec<u8>>, GitError> {
    match reader.blob(&file.id) {
        Ok(content) => Ok(is_text(&content).then_some(content)),
        Err(GitError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first matches of a file, for as long as they take no more than so many bytes; at least one.
fn matches_of(text: &str, expression: &Regex, bytes: usize) -> Vec<ContentMatch> {
    let (mut matches, mut taken) = (Vec::new(), 0);
    for_each_matching_line(text, expression, |found| {
        if matches.len() >= MOST_MATCHES || taken >= bytes {
            return;
        }
        let mut context_before: Vec<_> =
            text[..found.start].lines().rev().take(CONTEXT).map(shown).collect();
        context_before.reverse();
        let after = text[found.start..].lines().skip(1).take(CONTEXT);
        let context_after: Vec<_> = after.map(shown).collect();
        let line = shown(found.line);
        let context = context_before.iter().chain(&context_after).map(String::len);
        let each = line.len() + context.sum::<usize>() + MATCH_BYTES;
        for (start, end) in matches_in(found.line, expression) {
            if matches.len() >= MOST_MATCHES || taken >= bytes {
                return;
            }
            taken += each;
            matches.push(ContentMatch {
                line_number: found.number,
                line: line.clone(),
                start_column: utf16_column(found.line, start),
                end_column: utf16_column(found.line, end),
                context_before: context_before.clone(),
                context_after: context_after.clone(),
            });
        }
    });
    matches
}
