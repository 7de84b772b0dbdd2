//! One server per data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::CliError;

/// Held for as long as the server lives. The kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Makes the directory (mode 0700) where it is missing, and locks it.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, CliError> {
        let failed = |error: io::Error| {
            CliError::with_hint(
                format!("cannot use the data directory {}: {error}", data_dir.display()),
                "--data-dir takes another one",
            )
        };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(data_dir.join("lock"))
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(CliError::with_hint(
                format!("another server uses the data directory {}", data_dir.display()),
                "stop it, or give this one its own with --data-dir",
            )),
            Err(error) => Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_is_in_its_way() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("data");
        let first = DataDirLock::acquire(&data_dir).unwrap();
        let report = DataDirLock::acquire(&data_dir).unwrap_err().report();
        assert!(report.contains("another server") && report.contains("--data-dir"), "{report}");
        drop(first);
        assert!(DataDirLock::acquire(&data_dir).is_ok());
    }
}
