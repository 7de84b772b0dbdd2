//! Messages of commits.

use super::Search;
use super::pattern::expression;
use crate::error::SearchKind;
use crate::history::Walk;
use crate::limits::Room;
use crate::objects::Commit;
use crate::{GitError, Repository};

/// Commits whose message matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMatches {
    /// All of them, those of other pages too.
    pub total_commits: usize,
    /// Whether there is a further page.
    pub has_more: bool,
    /// The commits of this page, newest first.
    pub commits: Vec<CommitMatch>,
}

/// A commit whose message matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMatch {
    /// The commit.
    pub commit: Commit,
    /// First line of its message.
    pub summary: String,
}

impl Repository {
    /// Searches the messages of all commits that a revision contains.
    pub async fn search_commits(&self, search: Search) -> Result<CommitMatches, GitError> {
        let expression = expression(&search, SearchKind::Commits)?;
        self.search(move |reader| {
            let from = reader.resolve_commit(search.revision())?;
            let page = search.page();
            let (mut total_commits, mut commits) = (0, Vec::new());
            let mut room = Room::of_answer();
            let mut walk = Walk::new(reader, from, &[])?;
            while let Some(id) = walk.next()? {
                let commit = reader.commit(&id)?;
                if !expression.is_match(commit.message.as_bytes()) {
                    continue;
                }
                if page.contains(&total_commits) {
                    let summary = commit.message.lines().next().unwrap_or_default().to_owned();
                    room.take(commit.answer_bytes() + summary.len())?;
                    commits.push(CommitMatch { commit, summary });
                }
                total_commits += 1;
            }
            Ok(CommitMatches { total_commits, has_more: page.end < total_commits, commits })
        })
        .await
    }
}
