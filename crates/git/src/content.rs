//! Files, directories, blobs, trees, branches and tags, as they are read through the API.

use gix_hash::ObjectId;
use gix_object::Kind;
use gix_object::bstr::ByteSlice;

use crate::file_content::{FileContent, Looked};
use crate::limits::Room;
use crate::objects::{Blob, DEEPEST, EntryKind, RawEntry, Reader, Tag, TreeEntry};
use crate::refs::{HEADS, Swap, TAGS};
use crate::revision::full_id;
use crate::{BranchName, GitError, Repository};

/// Entries of a directory and its subdirectories that one request answers with.
const MOST_ENTRIES: usize = 100_000;
/// What an entry takes in an answer besides its name and path.
const ENTRY_BYTES: usize = 128;

/// A file or a directory.
#[derive(Debug)]
pub enum Contents {
    /// A file, or a symbolic link, whose content is its target.
    File {
        /// Last part of the path.
        name: String,
        /// From the root of the repository.
        path: String,
        /// Its blob.
        sha: ObjectId,
        /// Its bytes.
        content: FileContent,
    },
    /// A directory.
    Directory(Directory),
}

/// A directory. Submodules are not in it: there is nothing of them in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Last part of the path; empty for the root.
    pub name: String,
    /// From the root of the repository; empty for the root.
    pub path: String,
    /// Its tree.
    pub sha: ObjectId,
    /// What is in it. Of its subdirectories only with `recursive`.
    pub entries: Vec<DirectoryEntry>,
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryEntry {
    /// A file or symbolic link.
    File {
        /// Last part of the path.
        name: String,
        /// From the root of the repository.
        path: String,
        /// Its blob.
        sha: ObjectId,
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory(Directory),
}

/// A branch with its newest commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Without `refs/heads/`.
    pub name: String,
    /// Its newest commit.
    pub sha: ObjectId,
}

/// A branch or tag by its full name, as `refs/heads/main`, with what it points to, which may be a
/// tag object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefTip {
    /// Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Where it is.
    pub target: ObjectId,
}

impl Repository {
    /// A file or directory at a revision. The empty path is the root.
    pub async fn contents(
        &self,
        path: &str,
        revision: &str,
        recursive: bool,
    ) -> Result<Contents, GitError> {
        let (path, revision) = (path.to_owned(), revision.to_owned());
        let found = self.read(move |reader| reader.contents(&path, &revision, recursive));
        match found.await? {
            Found::Directory(directory) => Ok(Contents::Directory(directory)),
            Found::File { name, path, sha, looked } => {
                let content = self.complete(sha, looked).await?;
                Ok(Contents::File { name, path, sha, content })
            }
        }
    }

    /// A blob by its id.
    pub async fn blob(&self, hash: &str) -> Result<Blob, GitError> {
        let sha = object_id(hash)?;
        let looked = self.read(move |reader| reader.look_at_blob(&sha)).await?;
        Ok(Blob { sha, content: self.complete(sha, looked).await? })
    }

    /// The entries of a tree by its id.
    pub async fn tree(&self, hash: &str) -> Result<Vec<TreeEntry>, GitError> {
        let id = object_id(hash)?;
        self.read(move |reader| reader.tree_entries(id)).await
    }

    /// All branches and tags as they are now, ordered by name.
    pub async fn refs(&self) -> Result<Vec<RefTip>, GitError> {
        self.read(|reader| {
            let (heads, tags) = (reader.refs.branches()?, reader.refs.tags()?);
            let heads = heads.into_iter().map(|r| (format!("{HEADS}{}", r.name), r.target));
            let tags = tags.into_iter().map(|r| (format!("{TAGS}{}", r.name), r.target));
            Ok(heads.chain(tags).map(|(name, target)| RefTip { name, target }).collect())
        })
        .await
    }

    /// All branches, ordered by name.
    pub async fn branches(&self) -> Result<Vec<Branch>, GitError> {
        self.read(|reader| {
            let branches = reader.refs.branches()?;
            let mut room = Room::of_answer();
            branches.iter().try_for_each(|branch| room.take(branch.name.len() + ENTRY_BYTES))?;
            Ok(branches.into_iter().map(|r| Branch { name: r.name, sha: r.target }).collect())
        })
        .await
    }

    /// One branch.
    pub async fn branch(&self, name: &str) -> Result<Branch, GitError> {
        let name = name.to_owned();
        self.read(move |reader| {
            if name.is_empty() {
                return Err(GitError::BranchNameEmpty);
            }
            match reader.branch_tip(Some(&name))? {
                Some((branch, sha)) => Ok(Branch { name: branch.as_str().to_owned(), sha }),
                None => Err(GitError::BranchNotFound { branch: name }),
            }
        })
        .await
    }

    /// Makes a branch at a commit, whose id may be cut short; without one, where the default branch
    /// is. Durable when it returns.
    pub async fn create_branch(
        &self,
        name: &BranchName,
        sha: Option<&str>,
    ) -> Result<Branch, GitError> {
        let (name, sha) = (name.clone(), sha.map(str::to_owned));
        self.with_ref_lock(move |reader| {
            let target = match &sha {
                Some(sha) => reader.commit_by_id(sha)?,
                None => match reader.branch_tip(None)? {
                    Some((_, tip)) => tip,
                    None => return Err(GitError::NoDefaultBranch),
                },
            };
            let exists = || GitError::BranchExists { branch: name.as_str().to_owned() };
            Ok(match reader.refs.swap(&name, None, target)? {
                Swap::Done => Some(Branch { name: name.as_str().to_owned(), sha: target }),
                Swap::Moved(_) => return Err(exists()),
                Swap::Locked => None,
            })
        })
        .await
    }

    /// The branch that is checked out by a clone, and read when a request names no revision.
    pub async fn default_branch(&self) -> Result<BranchName, GitError> {
        self.read(|reader| reader.refs.default_branch()?.ok_or(GitError::NoDefaultBranch)).await
    }

    /// Makes another branch the default. It must exist, unless the repository is empty.
    pub async fn set_default_branch(&self, name: &BranchName) -> Result<(), GitError> {
        let name = name.clone();
        self.with_ref_lock(move |reader| {
            let exists = reader.refs.branch(&name)?.is_some();
            if !exists && !reader.refs.branches()?.is_empty() {
                return Err(GitError::BranchNotFound { branch: name.as_str().to_owned() });
            }
            let swap = reader.refs.set_default_branch(&name);
            let swap = swap.map_err(GitError::io("cannot change the default branch"))?;
            Ok((swap == Swap::Done).then_some(()))
        })
        .await
    }

    /// All tags, ordered by name.
    pub async fn tags(&self) -> Result<Vec<Tag>, GitError> {
        self.read(|reader| {
            let mut room = Room::of_answer();
            let tags = reader.refs.tags()?.into_iter().map(|tag| {
                reader.deadline.check()?;
                let tag = reader.named_tag(tag.name, tag.target)?;
                let message = tag.message.as_ref().map_or(0, String::len);
                room.take(tag.name.len() + message + 2 * ENTRY_BYTES)?;
                Ok(tag)
            });
            tags.collect()
        })
        .await
    }

    /// One tag by its name.
    pub async fn tag(&self, name: &str) -> Result<Tag, GitError> {
        let name = name.strip_prefix("refs/tags/").unwrap_or(name).to_owned();
        self.read(move |reader| {
            if name.is_empty() {
                return Err(GitError::TagNameEmpty);
            }
            match reader.refs.tag(&name)? {
                Some(target) => reader.named_tag(name, target),
                None => Err(GitError::ReferenceNotFound { reference: format!("refs/tags/{name}") }),
            }
        })
        .await
    }

    /// A tag object by its id.
    pub async fn tag_object(&self, hash: &str) -> Result<Tag, GitError> {
        let (id, hash) = (object_id(hash)?, hash.to_owned());
        self.read(move |reader| reader.tag_object(&id)?.ok_or(GitError::TagNotFound { hash })).await
    }
}

fn object_id(hash: &str) -> Result<ObjectId, GitError> {
    full_id(hash).ok_or_else(|| GitError::InvalidObjectId { hash: hash.to_owned() })
}

/// The parts of a path.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// As [`Contents`], before a large file was read.
enum Found {
    File { name: String, path: String, sha: ObjectId, looked: Looked },
    Directory(Directory),
}

/// What a listing may still have.
struct Left {
    entries: usize,
    room: Room,
}

impl Reader<'_> {
    fn named_tag(&self, name: String, id: ObjectId) -> Result<Tag, GitError> {
        match self.tag_object(&id)? {
            Some(tag) => Ok(Tag { name, ..tag }),
            None => Ok(Tag { name, sha: id, target: id, tagger: None, message: None }),
        }
    }

    fn tree_entries(&self, id: ObjectId) -> Result<Vec<TreeEntry>, GitError> {
        let mut entries = Vec::new();
        let mut room = Room::of_answer();
        for entry in self.tree(&id)? {
            self.deadline.check()?;
            room.take(entry.name.len() + ENTRY_BYTES)?;
            let kind = match entry.mode {
                mode if mode.is_tree() => EntryKind::Tree,
                mode if mode.is_commit() => continue,
                _ => EntryKind::Blob(self.blob_size(&entry)?),
            };
            let name = entry.name.to_str_lossy().into_owned();
            entries.push(TreeEntry { name, sha: entry.id, kind });
        }
        Ok(entries)
    }

    fn blob_size(&self, entry: &RawEntry) -> Result<u64, GitError> {
        match self.header(&entry.id)? {
            Some((Kind::Blob, size)) => Ok(size),
            _ => Err(GitError::BlobNotFound { hash: entry.id.to_string() }),
        }
    }

    fn contents(&self, path: &str, revision: &str, recursive: bool) -> Result<Found, GitError> {
        let mut tree = self.resolve_tree(revision)?;
        let clean: Vec<_> = parts(path).collect();
        let not_found = || GitError::PathNotFound { path: path.to_owned() };
        let full = clean.join("/");
        let name = (*clean.last().unwrap_or(&"")).to_owned();
        for (at, part) in clean.iter().enumerate() {
            let entries = self.tree(&tree)?;
            let entry = entries.into_iter().find(|entry| entry.name == part.as_bytes());
            let entry = entry.ok_or_else(not_found)?;
            let is_last = at + 1 == clean.len();
            if entry.mode.is_tree() {
                tree = entry.id;
            } else if !is_last {
                return Err(not_found());
            } else if entry.mode.is_commit() {
                return Err(GitError::ContentNotFound { path: path.to_owned() });
            } else {
                let looked = self.look_at_blob(&entry.id)?;
                return Ok(Found::File { name, path: full, sha: entry.id, looked });
            }
        }
        let mut left = Left { entries: MOST_ENTRIES, room: Room::of_answer() };
        let depth = if recursive { DEEPEST } else { 1 };
        Ok(Found::Directory(self.directory(name, full, tree, depth, &mut left)?))
    }

    fn directory(
        &self,
        name: String,
        path: String,
        sha: ObjectId,
        depth: usize,
        left: &mut Left,
    ) -> Result<Directory, GitError> {
        let mut directory = Directory { name, path, sha, entries: Vec::new() };
        if depth == 0 {
            return Ok(directory);
        }
        for entry in self.tree(&sha)? {
            self.deadline.check()?;
            let too_many = || {
                GitError::InvalidRequest(format!(
                    "the directory has more than {MOST_ENTRIES} entries; ask for its subdirectories"
                ))
            };
            left.entries = left.entries.checked_sub(1).ok_or_else(too_many)?;
            let name = entry.name.to_str_lossy().into_owned();
            let separator = if directory.path.is_empty() { "" } else { "/" };
            let path = format!("{}{separator}{name}", directory.path);
            left.room.take(name.len() + path.len() + ENTRY_BYTES)?;
            if entry.mode.is_tree() {
                let inner = self.directory(name, path, entry.id, depth - 1, left)?;
                directory.entries.push(DirectoryEntry::Directory(inner));
            } else if !entry.mode.is_commit() {
                let size = self.blob_size(&entry)?;
                directory.entries.push(DirectoryEntry::File { name, path, sha: entry.id, size });
            }
        }
        Ok(directory)
    }
}
