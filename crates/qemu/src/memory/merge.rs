//! Two deltas made one, so that chains stay short.

use std::io;
use std::path::Path;

use super::capture::Unfinished;
use super::delta::Delta;
use super::guest::Pages;
use super::writer::{Summary, Writer};
use crate::QemuError;
use crate::sparse::{CHUNK, PAGE};

/// Writes to `path`, where there is no file, what `lower` and then `upper` make of the image below
/// `lower`. Blocks: copies both, in pieces. The file is not synced.
pub fn merge(lower: &Delta, upper: &Delta, path: &Path) -> Result<Summary, QemuError> {
    upper.check_size(lower.size_mib())?;
    let merge = || -> io::Result<Summary> {
        let file = Unfinished::create(path)?;
        let mut writer = Writer::new(&file.file, upper.size_mib())?;
        let mut below = Rest { runs: lower.runs(), first: None };
        let mut end = 0;
        for run in upper.runs() {
            while let Some(visible) = below.next_within(end..run.pages.start) {
                copy(lower, visible, &mut writer)?;
            }
            end = run.pages.end;
            copy(upper, run, &mut writer)?;
        }
        while let Some(visible) = below.next_within(end..u64::MAX) {
            copy(lower, visible, &mut writer)?;
        }
        let summary = writer.finish()?;
        file.keep();
        Ok(summary)
    };
    merge().map_err(QemuError::io(format!("merging memory deltas to {path:?}")))
}

/// Pages of a delta that follow each other in guest and file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) pages: Pages,
    /// Where the data of the first page is; without data, the pages are zero.
    pub(super) slot: Option<u64>,
}

impl Stretch {
    /// Takes the pages before `end` off.
    fn split_before(&mut self, end: u64) -> Self {
        let end = end.clamp(self.pages.start, self.pages.end);
        let before = Self { pages: self.pages.start..end, slot: self.slot };
        self.slot = self.slot.map(|slot| slot + (end - self.pages.start));
        self.pages.start = end;
        before
    }
}

/// What is left of a delta's pages.
struct Rest<I> {
    runs: I,
    /// What is left of a run that was begun.
    first: Option<Stretch>,
}

impl<I: Iterator<Item = Stretch>> Rest<I> {
    /// The next pages within `wanted`; all before them are gone.
    fn next_within(&mut self, wanted: Pages) -> Option<Stretch> {
        loop {
            let mut run = self.first.take().or_else(|| self.runs.next())?;
            run.split_before(wanted.start);
            let found = run.split_before(wanted.end);
            if !run.pages.is_empty() {
                self.first = Some(run);
            }
            if !found.pages.is_empty() {
                return Some(found);
            }
            if self.first.is_some() {
                return None;
            }
        }
    }
}

fn copy(from: &Delta, stretch: Stretch, writer: &mut Writer<'_>) -> io::Result<()> {
    let Stretch { pages, slot } = stretch;
    let Some(slot) = slot else {
        writer.append_zeros(pages);
        return Ok(());
    };
    let mut first = pages.start;
    let mut buffer = vec![0; CHUNK.min((pages.end - pages.start) as usize * PAGE as usize)];
    while first < pages.end {
        let count = (buffer.len() as u64 / PAGE).min(pages.end - first);
        let piece = &mut buffer[..(count * PAGE) as usize];
        from.read_slots(slot + (first - pages.start), piece)?;
        writer.append(first, piece)?;
        first += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_passed_over_and_what_is_not_keeps_its_slot() {
        let stretch = |pages: Pages, slot| Stretch { pages, slot };
        let runs = [stretch(0..10, Some(0)), stretch(12..14, None), stretch(20..21, Some(10))];
        let mut rest = Rest { runs: runs.into_iter(), first: None };
        assert_eq!(rest.next_within(0..3), Some(stretch(0..3, Some(0))));
        assert_eq!(rest.next_within(0..3), None);
        assert_eq!(rest.next_within(5..7), Some(stretch(5..7, Some(5))));
        assert_eq!(rest.next_within(9..13), Some(stretch(9..10, Some(9))));
        assert_eq!(rest.next_within(9..13), Some(stretch(12..13, None)));
        assert_eq!(rest.next_within(9..13), None);
        assert_eq!(rest.next_within(14..u64::MAX), Some(stretch(20..21, Some(10))));
        assert_eq!(rest.next_within(14..u64::MAX), None);
    }
}
