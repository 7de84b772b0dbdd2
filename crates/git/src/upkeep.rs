//! What keeps a repository fast as it grows, and what tells whether it is whole.
//!
//! A push leaves a pack and an API commit a few loose objects. The upkeep joins them, so that the
//! number of packs stays logarithmic in their size, and writes the bitmaps that a clone is prepared
//! from and the commit graph that walks read. It deletes no object, reachable or not: whoever is
//! about to need one may rely on it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::{GitError, Repository};

/// Packs, and loose objects, from which on upkeep is worth its cost.
const MANY_PACKS: usize = 16;
const MANY_LOOSE: usize = 1024;
/// Bytes of the packs' indexes from which on a clone is worth preparing by bitmaps: some 10,000
/// objects, which take 28 bytes each.
const LARGE_INDEXES: u64 = 280 << 10;
/// Refs with a file of their own from which on they are put into one.
const MANY_REFS: usize = 256;

/// What a repository consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Files {
    packs: usize,
    /// Estimated from one of 256 directories, as git does.
    loose: usize,
    refs: usize,
    /// Bytes of the packs' indexes.
    indexes: u64,
    has_bitmaps: bool,
    has_commit_graph: bool,
}

impl Repository {
    /// Does the upkeep if the repository needs it, and answers whether it did. Takes a place among
    /// those who prepare packs, and time in proportion to what is new, at a low priority; reads,
    /// pushes and commits go on meanwhile.
    pub async fn upkeep(&self) -> Result<bool, GitError> {
        let files = self.blocking(|this| {
            count(&this.state.path).map_err(GitError::io("cannot count the files of a repository"))
        });
        let files = files.await?;
        // A first push of a long history is one pack, which nothing else would ever prepare.
        let needs_bitmaps = files.indexes >= LARGE_INDEXES && !files.has_bitmaps;
        let needs_repack = needs_bitmaps || files.packs >= MANY_PACKS || files.loose >= MANY_LOOSE;
        let needs_graph = needs_repack || (files.packs > 0 && !files.has_commit_graph);
        let _place = self.shared.admission.packing.enter().await?;
        if needs_repack {
            let repack = ["repack", "-q", "-d", "--geometric=2", "--write-midx"];
            self.run(&[&repack[..], &["--write-bitmap-index"]].concat()).await?;
        }
        if needs_graph {
            self.run(&["commit-graph", "write", "--reachable", "--no-progress"]).await?;
        }
        let needs_refs = files.refs >= MANY_REFS;
        if needs_refs {
            // Git removes the file of a ref after writing the file of all. Who reads the refs in
            // process sees the one before the other, so nobody may.
            match self.state.packing_refs.clone().try_write_owned() {
                Ok(_alone) => drop(self.run(&["pack-refs", "--all"]).await?),
                Err(_) => tracing::debug!(repository = %self.id(), "the refs are in use"),
            }
        }
        Ok(needs_graph || needs_refs)
    }

    /// What git finds wrong with the repository; nothing, if it is whole. Reads all of it.
    pub async fn fsck(&self) -> Result<Vec<String>, GitError> {
        let _place = self.shared.admission.packing.enter().await?;
        let fsck = ["fsck", "--full", "--strict", "--no-dangling", "--no-progress"];
        let (is_whole, report) = self.run_any(&fsck).await?;
        let mut problems: Vec<_> = report.lines().map(str::to_owned).collect();
        if !is_whole && problems.is_empty() {
            problems.push("git fsck failed without saying why".to_owned());
        }
        Ok(problems)
    }

    async fn run(&self, arguments: &[&str]) -> Result<String, GitError> {
        match self.run_any(arguments).await? {
            (true, said) => Ok(said),
            (false, said) => Err(GitError::Internal(format!("git {}: {said}", arguments[0]))),
        }
    }

    /// Whether git succeeded, and what it said on both its outputs.
    async fn run_any(&self, arguments: &[&str]) -> Result<(bool, String), GitError> {
        let path = &self.state.path;
        let arguments = arguments.iter().map(OsStr::new);
        let process = self.shared.git.start(path, &[], None, arguments)?;
        process.yield_to_others();
        let finished = process.finish(self.shared.limits.request_time).await?;
        let said = String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr;
        Ok((finished.status.success(), said))
    }
}

fn count(repository: &Path) -> io::Result<Files> {
    let objects = repository.join("objects");
    let (mut packs, mut refs, mut indexes, mut has_bitmaps) = (0, 0, 0, false);
    for entry in std::fs::read_dir(objects.join("pack"))? {
        let entry = entry?;
        match Path::new(&entry.file_name()).extension().map(OsStr::as_encoded_bytes) {
            Some(b"pack") => packs += 1,
            Some(b"idx") => indexes += entry.metadata().map_or(0, |metadata| metadata.len()),
            Some(b"bitmap") => has_bitmaps = true,
            _ => {}
        }
    }
    let loose = match std::fs::read_dir(objects.join("17")) {
        Ok(folder) => folder.count() * 256,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let mut folders = vec![repository.join("refs")];
    while let Some(folder) = folders.pop() {
        // Git may remove a folder at any time.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => refs += 1,
            }
        }
    }
    let has_commit_graph = objects.join("info/commit-graph").exists();
    Ok(Files { packs, loose, refs, indexes, has_bitmaps, has_commit_graph })
}
