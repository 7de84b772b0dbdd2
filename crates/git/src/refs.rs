//! Names of branches and tags, reading them, and the compare-and-swap that moves a branch.
//!
//! The swap follows git's own protocol (`<ref>.lock` made exclusively, checked, renamed), so that
//! it and a push exclude each other. It is done here rather than by a child process, which would
//! cost more than all the rest of a commit, and flushes what the ref library does not.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;
use gix_ref::{FullName, FullNameRef, Target};

use crate::GitError;
use crate::disk::sync_directory;

pub(crate) const HEADS: &str = "refs/heads/";
pub(crate) const TAGS: &str = "refs/tags/";
/// What a file name may be long; git would fail on longer ones only when it writes them.
const LONGEST_PART: usize = 250;
const LONGEST_NAME: usize = 1024;

/// The short name of a branch, as `main`: not empty, and valid in git.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchName(FullName);

impl BranchName {
    /// Checks a name: `BranchNameEmpty`, or `InvalidRequest` when git would refuse it.
    pub fn parse(name: &str) -> Result<Self, GitError> {
        if name.is_empty() {
            return Err(GitError::BranchNameEmpty);
        }
        let acceptable = name.len() <= LONGEST_NAME
            && name.split('/').all(|part| part.len() <= LONGEST_PART)
            && !name.starts_with('-')
            && name != "HEAD";
        let full = FullName::try_from(format!("{HEADS}{name}"));
        match full {
            Ok(full) if acceptable => Ok(Self(full)),
            _ => Err(GitError::InvalidRequest(format!("{name:?} is not a name for a branch"))),
        }
    }

    /// The name without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        self.full_name().strip_prefix(HEADS).unwrap_or_default()
    }

    /// The name of the ref.
    pub fn full_name(&self) -> &str {
        self.0.as_bstr().to_str().expect("it was parsed from a string")
    }

    pub(crate) fn as_ref(&self) -> &FullNameRef {
        self.0.as_ref()
    }
}

impl std::fmt::Display for BranchName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of a compare-and-swap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    /// The ref is at its new value, durably.
    Done,
    /// It is not where the caller expected it.
    Moved(Option<ObjectId>),
    /// Another writer has it locked at this moment.
    Locked,
}

/// A ref with what it points to, which may be a tag object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ref {
    /// Without `refs/heads/` or `refs/tags/`. Bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    pub(crate) target: ObjectId,
}

/// The refs of one repository.
pub(crate) struct Refs<'a> {
    directory: &'a Path,
    store: gix_ref::file::Store,
}

impl<'a> Refs<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        let store = gix_ref::file::Store::at(directory.to_owned(), gix_hash::Kind::Sha1);
        Self { directory, store }
    }

    /// Where a ref is, exactly by its full name.
    pub(crate) fn get(&self, name: &FullNameRef) -> Result<Option<ObjectId>, GitError> {
        let found = self.store.try_find(name.as_partial_name()).map_err(unreadable)?;
        // A partial name is looked up in several places; only the first of them is meant.
        let found = found.filter(|found| found.name.as_ref() == name);
        Ok(found.and_then(|found| found.target.try_into_id().ok()))
    }

    /// Where the ref with this full name is, if that is a valid name.
    pub(crate) fn get_named(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        match FullName::try_from(name) {
            Ok(name) => self.get(name.as_ref()),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn branch(&self, name: &BranchName) -> Result<Option<ObjectId>, GitError> {
        self.get(name.as_ref())
    }

    pub(crate) fn tag(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        self.get_named(&format!("{TAGS}{name}"))
    }

    /// All branches, ordered by name.
    pub(crate) fn branches(&self) -> Result<Vec<Ref>, GitError> {
        self.below(HEADS)
    }

    /// All tags, ordered by name.
    pub(crate) fn tags(&self) -> Result<Vec<Ref>, GitError> {
        self.below(TAGS)
    }

    pub(crate) fn below(&self, prefix: &str) -> Result<Vec<Ref>, GitError> {
        let iterator = self.store.iter().map_err(unreadable)?;
        let relative = prefix.try_into().map_err(unreadable)?;
        let mut found = Vec::new();
        for reference in iterator.prefixed(relative).map_err(unreadable)? {
            // A ref that went away during the walk, or is being written, is skipped.
            let Ok(reference) = reference else { continue };
            let (Ok(target), name) = (reference.target.try_into_id(), reference.name) else {
                continue;
            };
            let name = name.as_bstr().to_str_lossy();
            let Some(name) = name.strip_prefix(prefix) else { continue };
            found.push(Ref { name: name.to_owned(), target });
        }
        Ok(found)
    }

    /// The branch that `HEAD` names; it need not exist.
    pub(crate) fn default_branch(&self) -> Result<Option<BranchName>, GitError> {
        let head: FullName = "HEAD".try_into().map_err(unreadable)?;
        let head = self.store.try_find(head.as_ref().as_partial_name()).map_err(unreadable)?;
        let Some(Target::Symbolic(name)) = head.map(|head| head.target) else { return Ok(None) };
        Ok(name
            .as_bstr()
            .to_str()
            .is_ok_and(|name| name.starts_with(HEADS))
            .then_some(BranchName(name)))
    }

    /// Makes `HEAD` name a branch. Durable when it returns `Done`.
    pub(crate) fn set_default_branch(&self, branch: &BranchName) -> io::Result<Swap> {
        let path = self.directory.join("HEAD.lock");
        let mut file = match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Swap::Locked),
            other => other?,
        };
        let lock = Lock(path);
        writeln!(file, "ref: {}", branch.full_name())?;
        file.sync_all()?;
        fs::rename(&lock.0, self.directory.join("HEAD"))?;
        sync_directory(self.directory)?;
        Ok(Swap::Done)
    }

    /// Moves a branch from `expected` (none: it does not exist) to `new`. The objects must be
    /// durable before.
    pub(crate) fn swap(
        &self,
        branch: &BranchName,
        expected: Option<ObjectId>,
        new: ObjectId,
    ) -> Result<Swap, GitError> {
        let path = self.directory.join(branch.full_name());
        let Some(lock) = self.lock(branch, &path)? else { return Ok(Swap::Locked) };
        let actual = self.branch(branch)?;
        if actual != expected {
            return Ok(Swap::Moved(actual));
        }
        if actual.is_none() && self.is_in_the_way(branch)? {
            return Err(in_the_way(branch));
        }
        let write = || -> io::Result<()> {
            // The lock is an empty file so far.
            let mut file = fs::OpenOptions::new().write(true).open(&lock.0)?;
            writeln!(file, "{new}")?;
            file.sync_all()?;
            match fs::remove_dir(&path) {
                // An empty folder that git left of a branch `name/...`.
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(error),
            }
            fs::rename(&lock.0, &path)?;
            sync_ref_folders(self.directory, branch.full_name())
        };
        match write() {
            Ok(()) => Ok(Swap::Done),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Err(in_the_way(branch))
            }
            Err(error) => Err(GitError::Internal(format!("cannot write {branch}: {error}"))),
        }
    }

    /// Takes git's lock of a branch; none when another has it.
    fn lock(&self, branch: &BranchName, path: &Path) -> Result<Option<Lock>, GitError> {
        // Git removes empty folders, so ours may vanish before there is something in it.
        const ATTEMPTS: usize = 8;
        let lock = PathBuf::from(format!("{}.lock", path.display()));
        let parent = path.parent().unwrap_or(self.directory);
        let mut last = io::ErrorKind::NotFound.into();
        for _ in 0..ATTEMPTS {
            let made = fs::create_dir_all(parent).and_then(|()| {
                fs::OpenOptions::new().write(true).create_new(true).open(&lock).map(drop)
            });
            match made {
                Ok(()) => return Ok(Some(Lock(lock))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(in_the_way(branch));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return if parent.is_dir() { Ok(None) } else { Err(in_the_way(branch)) };
                }
                Err(error) => last = error,
            }
        }
        Err(GitError::Internal(format!("cannot lock {branch}: {last}")))
    }

    /// Whether there is a ref that a new branch cannot exist beside: `a` beside `a/b`.
    fn is_in_the_way(&self, branch: &BranchName) -> Result<bool, GitError> {
        let name = branch.full_name();
        let above = name.match_indices('/').map(|(at, _)| &name[..at]);
        for above in above.filter(|above| above.len() > HEADS.len()) {
            if self.get_named(above)?.is_some() {
                return Ok(true);
            }
        }
        Ok(!self.below(&format!("{name}/"))?.is_empty())
    }
}

/// Makes the names on the way to a ref durable.
pub(crate) fn sync_ref_folders(directory: &Path, full_name: &str) -> io::Result<()> {
    let mut folder = directory.join(full_name);
    while folder.pop() && folder != directory {
        match sync_directory(&folder) {
            // Git removes a folder with the last ref in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// A lock file that is removed unless it was renamed.
struct Lock(PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn unreadable(error: impl std::fmt::Display) -> GitError {
    GitError::Internal(format!("cannot read the refs: {error}"))
}

fn in_the_way(branch: &BranchName) -> GitError {
    GitError::InvalidRequest(format!(
        "branch {:?} cannot exist beside another whose name begins the same, as a beside a/b",
        branch.as_str()
    ))
}
