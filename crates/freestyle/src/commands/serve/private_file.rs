//! Files that hold a secret.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Puts a file of mode 0600 in place: whoever looks sees the old content or the whole new one.
pub(super) async fn replace(file: &Path, content: impl Into<Vec<u8>>) -> io::Result<()> {
    let (file, content) = (file.to_owned(), content.into());
    let write = move || {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A temporary file has mode 0600 from its first byte.
        let mut temporary = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        temporary.write_all(&content)?;
        temporary.as_file().sync_all()?;
        temporary.persist(&file)?;
        Ok(())
    };
    tokio::task::spawn_blocking(write).await?
}
