//! Trees with changes applied.

use std::collections::BTreeMap;

use gix_hash::ObjectId;
use gix_object::Kind;
use gix_object::bstr::ByteSlice;
use gix_object::tree::{EntryKind, EntryMode};

use super::FileMode;
use super::path;
use super::store::NewObjects;
use crate::GitError;
use crate::objects::{RawEntry, Reader};

/// What happens to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// The file has this blob from now on, and this mode.
    Write(ObjectId, Option<FileMode>),
    /// The file is gone.
    Delete,
}

/// Edits as a tree of their paths.
#[derive(Debug, Default)]
pub(super) struct Edits {
    edit: Option<Edit>,
    below: BTreeMap<String, Edits>,
}

impl Edits {
    /// Adds an edit. Each path can be edited once.
    pub(super) fn add(&mut self, path: &str, edit: Edit) -> Result<(), GitError> {
        let mut node = self;
        for part in path::parts(path)? {
            node = node.below.entry(part.to_owned()).or_default();
        }
        if node.edit.replace(edit).is_some() {
            let reason = "it is changed twice in this commit";
            return Err(GitError::InvalidFileChange { path: path.to_owned(), reason });
        }
        Ok(())
    }

    /// The tree with the edits applied; none when it is empty. `folder` is its path, for messages.
    pub(super) fn apply(
        &self,
        reader: &Reader<'_>,
        tree: Option<ObjectId>,
        folder: &str,
        new: &mut NewObjects,
    ) -> Result<Option<ObjectId>, GitError> {
        let entries = tree.map_or(Ok(Vec::new()), |tree| reader.tree(&tree))?;
        let mut entries: BTreeMap<Vec<u8>, (EntryMode, ObjectId)> =
            entries.into_iter().map(|entry| (entry.name, (entry.mode, entry.id))).collect();
        let mut added = Vec::new();
        for (name, node) in &self.below {
            reader.deadline.check()?;
            let separator = if folder.is_empty() { "" } else { "/" };
            let path = format!("{folder}{separator}{name}");
            let was = entries.get(name.as_bytes()).copied();
            match node.apply_to(reader, was, &path, new)? {
                Some(entry) => {
                    if entries.insert(name.clone().into_bytes(), entry).is_none() {
                        added.push(name);
                    }
                }
                None => {
                    entries.remove(name.as_bytes());
                }
            }
        }
        refuse_case_collisions(&entries, &added, folder)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let entries = entries.into_iter().map(|(name, (mode, id))| RawEntry { name, mode, id });
        Ok(Some(new.add(reader, Kind::Tree, encode(entries.collect()).into())?))
    }

    /// What is at one path after the edits.
    fn apply_to(
        &self,
        reader: &Reader<'_>,
        was: Option<(EntryMode, ObjectId)>,
        path: &str,
        new: &mut NewObjects,
    ) -> Result<Option<(EntryMode, ObjectId)>, GitError> {
        let refuse = |reason| Err(GitError::InvalidFileChange { path: path.to_owned(), reason });
        let in_the_way = |reason| Err(GitError::InvalidFilePath { path: path.to_owned(), reason });
        let is_folder = was.is_some_and(|(mode, _)| mode.is_tree());
        let was = match self.edit {
            Some(Edit::Delete) if was.is_none() => return refuse("there is no file to delete"),
            Some(Edit::Delete) if is_folder => {
                return refuse("it is a directory; delete the files in it");
            }
            // Something may be put in its place.
            Some(Edit::Delete) => None,
            _ => was,
        };
        let mut folder = was.filter(|(mode, _)| mode.is_tree()).map(|(_, id)| id);
        if !self.below.is_empty() {
            let is_file = was.is_some() && folder.is_none();
            if is_file && !matches!(self.edit, Some(Edit::Write(..))) {
                return in_the_way("a part of it is a file, not a directory");
            }
            folder = self.apply(reader, folder, path, new)?;
        }
        match (self.edit, folder) {
            (Some(Edit::Write(..)), Some(_)) => in_the_way("it is a directory, not a file"),
            (Some(Edit::Write(blob, mode)), None) => {
                let mode = match mode {
                    Some(FileMode::Plain) => EntryKind::Blob.into(),
                    Some(FileMode::Executable) => EntryKind::BlobExecutable.into(),
                    Some(FileMode::Link) => EntryKind::Link.into(),
                    // The executable bit stays; a symbolic link becomes a file.
                    None => {
                        let mode = was.map(|(mode, _)| mode).filter(|mode| mode.is_blob());
                        mode.unwrap_or(EntryKind::Blob.into())
                    }
                };
                Ok(Some((mode, blob)))
            }
            (_, Some(tree)) => Ok(Some((EntryKind::Tree.into(), tree))),
            (Some(Edit::Delete), None) => Ok(None),
            (None, None) => Ok(None),
        }
    }
}

/// Two names that differ only in case cannot be checked out on every file system. Those that were
/// there before stay as they are.
fn refuse_case_collisions(
    entries: &BTreeMap<Vec<u8>, (EntryMode, ObjectId)>,
    added: &[&String],
    folder: &str,
) -> Result<(), GitError> {
    if added.is_empty() {
        return Ok(());
    }
    let mut folded: BTreeMap<String, usize> = BTreeMap::new();
    for name in entries.keys() {
        *folded.entry(name.to_str_lossy().to_lowercase()).or_default() += 1;
    }
    for name in added {
        if folded.get(&name.to_lowercase()).is_some_and(|same| *same > 1) {
            let separator = if folder.is_empty() { "" } else { "/" };
            let path = format!("{folder}{separator}{name}");
            let reason = "another name in the same directory differs only in case";
            return Err(GitError::InvalidFilePath { path, reason });
        }
    }
    Ok(())
}

/// A tree as it is stored, its entries in git's order.
fn encode(mut entries: Vec<RawEntry>) -> Vec<u8> {
    entries.sort_by(|a, b| {
        let (a_name, b_name) = (a.name.as_slice(), b.name.as_slice());
        gix_object::tree::name_order(a_name, a.mode.is_tree(), b_name, b.mode.is_tree())
    });
    let mut bytes = Vec::new();
    for entry in entries {
        let mut digits = [0; 6];
        bytes.extend_from_slice(entry.mode.as_bytes(&mut digits));
        bytes.push(b' ');
        bytes.extend_from_slice(&entry.name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_slice());
    }
    bytes
}
