//! A tree as one file, streamed.
//!
//! `git archive` makes it: it honours `export-ignore` and `export-subst` of `.gitattributes`, which
//! users of archives expect and which nothing in process knows.

use std::ffi::OsStr;

use crate::smart_http::Output;
use crate::{GitError, Repository};

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An uncompressed tar file.
    Tar,
    /// A zip file.
    Zip,
}

impl Repository {
    /// The files of a revision as an archive, without a directory around them.
    pub async fn archive(&self, revision: &str, format: ArchiveFormat) -> Result<Output, GitError> {
        let revision = revision.to_owned();
        // Resolved here: git would understand much more than we do.
        let id = self.read(move |reader| match reader.resolve_commit(&revision) {
            // A tree has an archive too, though no time.
            Err(GitError::InvalidRevision { .. }) => reader.resolve_tree(&revision),
            other => other,
        });
        let id = id.await?.to_string();
        let format = match format {
            ArchiveFormat::Tar => "--format=tar",
            ArchiveFormat::Zip => "--format=zip",
        };
        self.stream(Vec::new(), None, &["archive", format, &id].map(OsStr::new)).await
    }
}
