//! Writing to disk so that it survives a crash of the process and of the host.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the names of everything that git wrote into a repository durable. The contents it flushes
/// itself.
pub(crate) fn sync_names(repository: &Path) -> io::Result<()> {
    let mut folders = vec![repository.join("refs")];
    while let Some(folder) = folders.pop() {
        sync_directory(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    for folder in ["objects/pack", "objects", ""] {
        sync_directory(&repository.join(folder))?;
    }
    Ok(())
}

/// Creates a file that did not exist, with durable content. Its name is durable only after
/// [`sync_directory`] of the parent.
pub(crate) fn create_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Whether there is a directory, and not a symbolic link to one.
pub(crate) fn is_directory(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
