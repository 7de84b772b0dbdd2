//! Writing a delta: pages come in order, zero ones are left out.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::format::{DATA, Header, Run, encode_index};
use crate::sparse::{self, CHUNK, PAGE};

/// What a finished delta is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Pages that differ from the image below, zero ones included.
    pub pages: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Covers the whole content, through the header.
    pub checksum: u64,
}

/// A delta that is being written.
pub(super) struct Writer<'a> {
    file: &'a File,
    /// Writes behind the data that is there.
    data: BufWriter<&'a File>,
    size_mib: u64,
    runs: Vec<Run>,
    slots: u64,
    pages: u64,
    data_checksum: Xxh3Default,
}

impl<'a> Writer<'a> {
    /// Begins a delta in a file without content.
    pub(super) fn new(mut file: &'a File, size_mib: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(DATA))?;
        Ok(Self {
            file,
            data: BufWriter::with_capacity(CHUNK, file),
            size_mib,
            runs: Vec::new(),
            slots: 0,
            pages: 0,
            data_checksum: Xxh3Default::new(),
        })
    }

    /// Appends pages that come after all others.
    pub(super) fn append(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        for (offset, data, zero) in sparse::stretches(bytes) {
            let start = first + offset / PAGE;
            let count = data.len() as u64 / PAGE;
            if !zero {
                self.data.write_all(data)?;
                self.data_checksum.update(data);
                self.slots += count;
            }
            self.append_run(start..start + count, !zero);
        }
        Ok(())
    }

    /// Appends pages that are all zero and come after all others.
    pub(super) fn append_zeros(&mut self, pages: Range<u64>) {
        self.append_run(pages, false);
    }

    fn append_run(&mut self, pages: Range<u64>, has_data: bool) {
        let count = pages.end - pages.start;
        self.pages += count;
        // The format's bound on the guest's size keeps both within 32 bits.
        let (first, count) = (pages.start as u32, count as u32);
        match self.runs.last_mut() {
            Some(last) if last.pages().end == pages.start && last.has_data == has_data => {
                last.count += count;
            }
            _ => self.runs.push(Run { first, count, has_data }),
        }
    }

    /// Writes index and header; the file ends there.
    pub(super) fn finish(mut self) -> io::Result<Summary> {
        self.data.flush()?;
        let index = encode_index(&self.runs);
        let header = Header {
            size_mib: self.size_mib,
            slots: self.slots,
            runs: self.runs.len() as u64,
            data_checksum: self.data_checksum.digest(),
            index_checksum: xxh3_64(&index),
        };
        self.file.write_all_at(&index, header.index())?;
        self.file.set_len(header.len())?;
        let (fields, checksum) = header.encode();
        let mut page = [0; DATA as usize];
        page[..fields.len()].copy_from_slice(&fields);
        self.file.write_all_at(&page, 0)?;
        Ok(Summary { pages: self.pages, bytes: header.len(), checksum })
    }
}
