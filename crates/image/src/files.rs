//! File operations that last: off the async threads, and durable.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::ImageError;

/// Renames such that the new name, and not only the content, survives a power cut.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::rename(from, to).map_err(ImageError::io(to))?;
    to.parent().map_or(Ok(()), sync)
}

/// Returns when what is in the file, or the names in the directory, would survive a power cut.
pub(crate) fn sync(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(ImageError::io(path))
}

/// Removes a directory with all in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io(path)(error)),
        _ => Ok(()),
    }
}

/// Runs file operations off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
