//! Commits made through the API: files in, one compare-and-swap of a branch out.

mod object;
mod path;
mod store;
mod tree;

pub(crate) use self::object::NewTreeCommit;
pub use self::object::{NewCommitObject, Signed};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use bytes::Bytes;
use gix_hash::ObjectId;
use gix_object::Kind;

use self::store::NewObjects;
use self::tree::{Edit, Edits};
use crate::objects::{Commit, Date, Reader};
use crate::refs::Swap;
use crate::{BranchName, GitError, Repository};

/// Git holds the lock of a ref for milliseconds.
const LOCK_ATTEMPTS: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// A commit without an expected parent is made anew when a push was faster.
const REBASE_ATTEMPTS: usize = 16;
const LONGEST_MESSAGE: usize = 64 << 10;
const LONGEST_NAME: usize = 1024;

/// Who makes a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As it is shown.
    pub name: String,
    /// Without angle brackets.
    pub email: String,
}

/// How the content of a file is written in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    #[default]
    Plain,
    /// As base64, with padding.
    Base64,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// A file.
    Plain,
    /// A file that can be run.
    Executable,
    /// A symbolic link, whose content is its target.
    Link,
}

/// A change of one file: exactly one of content and deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileChange {
    /// From the root of the repository.
    pub path: String,
    /// The new content.
    pub content: Option<Vec<u8>>,
    /// How `content` is written.
    pub encoding: Encoding,
    /// Without one a file that is there stays executable if it is, and a new one is a plain file.
    pub mode: Option<FileMode>,
    /// Whether the file is to be deleted.
    pub deleted: bool,
}

/// A commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// The message.
    pub message: String,
    /// What changes. Without any the commit has the tree of its parent.
    pub files: Vec<FileChange>,
    /// The branch that gets the commit; the default branch if there is none. A branch that does not
    /// exist is made, with this commit as its first.
    pub branch: Option<String>,
    /// Author and committer.
    pub author: Identity,
    /// Where the branch must be, as a whole id. Without it the commit goes on top of what is there.
    pub expected_sha: Option<String>,
}

/// A commit that was made, and what it did to its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedCommit {
    /// The commit.
    pub commit: Commit,
    /// The one ref that was moved.
    pub update: crate::RefUpdate,
}

impl Repository {
    /// Makes a commit and moves the branch to it: both or nothing, durable when it returns.
    ///
    /// If the future is dropped, the commit may have been made all the same. Who has something to
    /// do for every update of a ref runs this in a task of its own.
    pub async fn create_commit(&self, request: NewCommit) -> Result<CreatedCommit, GitError> {
        let limit = self.shared.limits.commit_bytes;
        if request.files.len() > self.shared.limits.commit_files {
            return Err(GitError::InvalidRequest(format!(
                "a commit can change {} files at most",
                self.shared.limits.commit_files
            )));
        }
        let bytes = request.files.iter().filter_map(|file| file.content.as_ref()).map(Vec::len);
        if bytes.sum::<usize>() as u64 > limit {
            return Err(GitError::TooLarge { what: "the commit".to_owned(), limit });
        }
        let _turn = self.state.writing.enter().await?;
        let request = Arc::new(self.blocking(|_| Prepared::new(request)).await?);
        for _ in 0..REBASE_ATTEMPTS {
            let prepared = request.clone();
            let built = self.read(move |reader| prepared.build(reader)).await?;
            let built = Arc::new(built);
            let candidate = built.clone();
            let moved = self.with_ref_lock(move |reader| {
                match reader.refs.swap(&candidate.branch, candidate.parent, candidate.commit)? {
                    Swap::Locked => Ok(None),
                    Swap::Done => Ok(Some(Ok(()))),
                    Swap::Moved(actual) => Ok(Some(Err(actual))),
                }
            });
            match moved.await? {
                Ok(()) => return self.created(&built).await,
                Err(actual) => request.refuse_conflict(actual)?,
            }
        }
        Err(GitError::Busy)
    }

    async fn created(&self, built: &Built) -> Result<CreatedCommit, GitError> {
        let id = built.commit;
        let reader = move |this: &Self| this.reader()?.commit(&id);
        let update = crate::RefUpdate {
            name: built.branch.full_name().to_owned(),
            old: built.parent,
            new: Some(built.commit),
        };
        Ok(CreatedCommit { commit: self.finish_blocking(reader).await?, update })
    }

    /// Runs work that needs the lock of a ref until it gets it; none says that another has it.
    pub(crate) async fn with_ref_lock<T: Send + 'static>(
        &self,
        work: impl Fn(&Reader<'_>) -> Result<Option<T>, GitError> + Send + Sync + 'static,
    ) -> Result<T, GitError> {
        let work = Arc::new(work);
        for _ in 0..LOCK_ATTEMPTS {
            let attempt = work.clone();
            if let Some(done) = self.read(move |reader| attempt(reader)).await? {
                return Ok(done);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(GitError::Busy)
    }
}

/// A request, checked as far as it can be without the repository.
struct Prepared {
    message: String,
    branch: Option<BranchName>,
    author: Identity,
    expected: Option<ObjectId>,
    files: Vec<PreparedFile>,
}

/// A file with its new content and mode; without, it is deleted.
type PreparedFile = (String, Option<(Bytes, Option<FileMode>)>);

/// A commit that no branch has yet.
struct Built {
    branch: BranchName,
    parent: Option<ObjectId>,
    commit: ObjectId,
}

impl Prepared {
    fn new(request: NewCommit) -> Result<Self, GitError> {
        let refuse = |reason: &str| Err(GitError::InvalidRequest(reason.to_owned()));
        request.author.check()?;
        let expected = match request.expected_sha.as_deref().map(crate::revision::full_id) {
            Some(None) => return refuse("expectedSha is not the id of a commit"),
            Some(Some(expected)) => Some(expected),
            None => None,
        };
        let branch = request.branch.as_deref();
        let branch = branch.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
        let branch = branch.map(BranchName::parse).transpose()?;
        let message = checked_message(request.message)?;
        let files = request.files.into_iter().map(FileChange::decode).collect::<Result<_, _>>()?;
        Ok(Self { message, branch, author: request.author, expected, files })
    }

    /// `ConflictingParent` if the branch must be elsewhere.
    fn refuse_conflict(&self, actual: Option<ObjectId>) -> Result<(), GitError> {
        match self.expected {
            Some(expected) if actual != Some(expected) => Err(GitError::ConflictingParent {
                expected: expected.to_string(),
                actual: actual.map(|actual| actual.to_string()),
            }),
            _ => Ok(()),
        }
    }

    /// Writes the objects of the commit on top of where the branch is now.
    fn build(&self, reader: &Reader<'_>) -> Result<Built, GitError> {
        let branch = match &self.branch {
            Some(branch) => branch.clone(),
            None => reader.refs.default_branch()?.ok_or(GitError::NoDefaultBranch)?,
        };
        let parent = reader.refs.branch(&branch)?;
        self.refuse_conflict(parent)?;
        let base = parent.map(|parent| reader.commit(&parent)).transpose()?;
        let mut new = NewObjects::default();
        let mut edits = Edits::default();
        for (path, content) in &self.files {
            let edit = match content {
                Some((content, mode)) => {
                    Edit::Write(new.add(reader, Kind::Blob, content.clone())?, *mode)
                }
                None => Edit::Delete,
            };
            edits.add(path, edit)?;
        }
        let tree = base.as_ref().map(|base| base.tree);
        let tree = match edits.apply(reader, tree, "", &mut new)? {
            Some(tree) => tree,
            None => new.add(reader, Kind::Tree, Bytes::new())?,
        };
        let commit = new.add(reader, Kind::Commit, self.encode(tree, base.as_ref()))?;
        new.write(reader.directory)?;
        Ok(Built { branch, parent, commit })
    }

    fn encode(&self, tree: ObjectId, base: Option<&Commit>) -> Bytes {
        let now = now().seconds;
        // Never before its parent, whatever the clocks did: walks go by the time.
        let now = base.map_or(now, |base| now.max(base.committer.date.seconds));
        let parents: Vec<_> = base.iter().map(|base| base.sha).collect();
        let who = self.author.signed(Date { seconds: now, offset: 0 });
        encode(tree, &parents, &who, &who, &self.message)
    }
}

/// A message, checked, with the line end that git's own have.
fn checked_message(mut message: String) -> Result<String, GitError> {
    let refuse = |reason: &str| Err(GitError::InvalidRequest(reason.to_owned()));
    if message.trim().is_empty() {
        return refuse("the message of a commit cannot be empty");
    }
    if message.contains('\0') || message.len() > LONGEST_MESSAGE {
        return refuse("the message of a commit cannot be longer than 64 KiB or have a zero byte");
    }
    if !message.ends_with('\n') {
        message.push('\n');
    }
    Ok(message)
}

/// A commit as it is stored. The parts were checked.
fn encode(
    tree: ObjectId,
    parents: &[ObjectId],
    author: &str,
    committer: &str,
    message: &str,
) -> Bytes {
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    format!("tree {tree}\n{parents}author {author}\ncommitter {committer}\n\n{message}").into()
}

impl Identity {
    fn check(&self) -> Result<(), GitError> {
        for part in [&self.name, &self.email] {
            let is_bad = |c: char| c.is_control() || c == '<' || c == '>';
            if part.trim().is_empty() || part.contains(is_bad) || part.len() > LONGEST_NAME {
                let reason = "an author has a name and an email, without angle brackets";
                return Err(GitError::InvalidRequest(reason.to_owned()));
            }
        }
        Ok(())
    }

    /// As it is written in a commit.
    fn signed(&self, date: Date) -> String {
        let Date { seconds, offset } = date;
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs() / 60);
        let zone = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
        format!("{} <{}> {seconds} {zone}", self.name.trim(), self.email.trim())
    }
}

/// Now, in UTC.
fn now() -> Date {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Date { seconds: now.map_or(0, |now| now.as_secs().cast_signed()), offset: 0 }
}

impl FileChange {
    fn decode(self) -> Result<PreparedFile, GitError> {
        let path = self.path;
        match (self.content, self.deleted) {
            (Some(content), false) => {
                let content =
                    match self.encoding {
                        Encoding::Plain => content,
                        Encoding::Base64 => base64::engine::general_purpose::STANDARD
                            .decode(content)
                            .map_err(|_| GitError::InvalidBase64 { path: path.clone() })?,
                    };
                Ok((path, Some((content.into(), self.mode))))
            }
            (None, true) => Ok((path, None)),
            _ => {
                let reason = "a change has either content or deleted: true";
                Err(GitError::InvalidFileChange { path, reason })
            }
        }
    }
}
