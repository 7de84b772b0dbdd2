//! The bytes of a file that is read whole, and the room they take until they were sent.

use std::fmt;
use std::ops::Deref;

use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use tokio::sync::OwnedSemaphorePermit;

use crate::objects::Reader;
use crate::{GitError, Repository};

/// Files up to this size take their room without asking.
const SMALL: u64 = 1 << 20;

/// The bytes of a file. Those of a large one have a place among what all answers together may hold,
/// until this is dropped.
pub struct FileContent {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl From<Vec<u8>> for FileContent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, _room: None }
    }
}

impl Deref for FileContent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContent({} bytes)", self.bytes.len())
    }
}

/// What a first look at a blob brought.
pub(crate) enum Looked {
    Small(Vec<u8>),
    /// It needs room for so many bytes.
    Large(u64),
}

impl Reader<'_> {
    /// Reads a blob if it is small. `TooLarge` above the limit.
    pub(crate) fn look_at_blob(&self, id: &oid) -> Result<Looked, GitError> {
        match self.header(id)? {
            Some((Kind::Blob, size)) if size > SMALL && size <= self.limits.blob_bytes => {
                Ok(Looked::Large(size))
            }
            _ => self.blob(id).map(Looked::Small),
        }
    }
}

impl Repository {
    /// The bytes of a blob, when there is room for them if it is large.
    pub(crate) async fn complete(
        &self,
        id: ObjectId,
        looked: Looked,
    ) -> Result<FileContent, GitError> {
        let size = match looked {
            Looked::Small(bytes) => return Ok(bytes.into()),
            Looked::Large(size) => size,
        };
        let limits = &self.shared.limits;
        // In KiB, since a permit counts up to 2^32.
        let kib = |bytes: u64| u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = kib(size).min(kib(limits.large_files_bytes));
        let wait = self.shared.large_files.clone().acquire_many_owned(room);
        let Ok(Ok(room)) = tokio::time::timeout(limits.queue_time, wait).await else {
            return Err(GitError::Busy);
        };
        let bytes = self.read(move |reader| reader.blob(&id)).await?;
        Ok(FileContent { bytes, _room: Some(room) })
    }
}
