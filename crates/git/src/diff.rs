//! What differs between two trees, and between two versions of a file.

use gix_hash::ObjectId;
use gix_imara_diff::sources::byte_lines;
use gix_imara_diff::{Algorithm, Diff, InternedInput};
use gix_object::tree::EntryMode;

use crate::GitError;
use crate::limits::Room;
use crate::objects::{DEEPEST, RawEntry, Reader};

/// Bytes at the beginning of a file that decide whether it is text, as in git.
const TEXT_SAMPLE: usize = 8000;
/// Files of which only the names are compared: line by line it would take too long.
const LARGEST_COMPARED: u64 = 8 << 20;
/// What the changes between two trees may take, which is some million of them.
const MOST_CHANGED_BYTES: usize = 256 << 20;

/// One side of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: ObjectId,
    pub(crate) mode: EntryMode,
}

/// A file that is not the same in two trees. At least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: Vec<u8>,
    pub(crate) old: Option<Version>,
    pub(crate) new: Option<Version>,
}

/// Changes that were found, and the room for more.
struct Changes {
    list: Vec<Change>,
    room: Room,
}

impl Reader<'_> {
    /// Files that differ, ordered by path. None is the empty tree.
    pub(crate) fn tree_changes(
        &self,
        old: Option<ObjectId>,
        new: Option<ObjectId>,
    ) -> Result<Vec<Change>, GitError> {
        let room = Room::new("what is different", MOST_CHANGED_BYTES);
        let mut changes = Changes { list: Vec::new(), room };
        self.collect_changes(Vec::new(), (old, new), DEEPEST, &mut changes)?;
        Ok(changes.list)
    }

    fn collect_changes(
        &self,
        prefix: Vec<u8>,
        (old, new): (Option<ObjectId>, Option<ObjectId>),
        depth: usize,
        changes: &mut Changes,
    ) -> Result<(), GitError> {
        if old == new {
            return Ok(());
        }
        self.deadline.check()?;
        let too_deep = || {
            let reason = format!("there are more than {DEEPEST} directories within each other");
            GitError::InvalidRequest(reason)
        };
        let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
        let entries = |tree: Option<ObjectId>| tree.map_or(Ok(Vec::new()), |tree| self.tree(&tree));
        let (old, new) = (entries(old)?, entries(new)?);
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => order(old, new),
            };
            let old = if order.is_le() { old.next() } else { None };
            let new = if order.is_ge() { new.next() } else { None };
            let Some(name) = old.as_ref().or(new.as_ref()).map(|entry| &entry.name) else {
                return Ok(());
            };
            let path = join(&prefix, name);
            let tree = |entry: &Option<RawEntry>| {
                entry.as_ref().filter(|entry| entry.mode.is_tree()).map(|entry| entry.id)
            };
            let file = |entry: &Option<RawEntry>| {
                let file = entry.as_ref().filter(|entry| !entry.mode.is_tree());
                file.map(|entry| Version { id: entry.id, mode: entry.mode })
            };
            let (old_file, new_file) = (file(&old), file(&new));
            if old_file != new_file {
                changes.room.take(path.len() + size_of::<Change>())?;
                let change = Change { path: path.clone(), old: old_file, new: new_file };
                changes.list.push(change);
            }
            self.collect_changes(path, (tree(&old), tree(&new)), depth, changes)?;
        }
    }

    /// The content of a side of a change; empty when it is not there or not a file, none when it is
    /// too large to be compared or not text.
    pub(crate) fn text_of(&self, version: Option<Version>) -> Result<Option<Vec<u8>>, GitError> {
        let Some(version) = version.filter(|version| !version.mode.is_commit()) else {
            return Ok(Some(Vec::new()));
        };
        if self.header(&version.id)?.is_some_and(|(_, size)| size > LARGEST_COMPARED) {
            return Ok(None);
        }
        let content = self.blob(&version.id)?;
        Ok(is_text(&content).then_some(content))
    }
}

fn order(old: &RawEntry, new: &RawEntry) -> std::cmp::Ordering {
    gix_object::tree::name_order(
        old.name.as_slice(),
        old.mode.is_tree(),
        new.name.as_slice(),
        new.mode.is_tree(),
    )
}

fn join(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if prefix.is_empty() { b"" } else { b"/" };
    [prefix, separator, name].concat()
}

/// Whether content is text, as git decides it: without a zero byte at its beginning.
pub(crate) fn is_text(content: &[u8]) -> bool {
    !content[..content.len().min(TEXT_SAMPLE)].contains(&0)
}

/// A line that was added or removed, with its number in the version that has it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangedLine<'a> {
    pub(crate) is_addition: bool,
    pub(crate) number: u32,
    pub(crate) line: &'a [u8],
}

/// Lines added and removed between two texts.
pub(crate) fn count_lines(old: &[u8], new: &[u8]) -> (u32, u32) {
    let input = InternedInput::new(byte_lines(old), byte_lines(new));
    let diff = Diff::compute(Algorithm::Histogram, &input);
    (diff.count_additions(), diff.count_removals())
}

/// Hands each line that was removed and then each that was added, hunk by hunk.
pub(crate) fn for_each_changed_line<'a>(
    old: &'a [u8],
    new: &'a [u8],
    mut line: impl FnMut(ChangedLine<'a>),
) {
    let input = InternedInput::new(byte_lines(old), byte_lines(new));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    for hunk in diff.hunks() {
        for (range, tokens, is_addition) in
            [(hunk.before, &input.before, false), (hunk.after, &input.after, true)]
        {
            for at in range {
                let text = input.interner[tokens[at as usize]];
                line(ChangedLine { is_addition, number: at + 1, line: text });
            }
        }
    }
}
