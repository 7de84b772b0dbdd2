//! Why there is no image.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why an image could not be built or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The caller is not root, and there was no image in the cache.
    #[error("building a base image needs root: its files belong to many users")]
    NotRoot,
    /// A program that builds images is not installed.
    #[error("`{tool}` is not installed (Debian has it in the package `{package}`)")]
    MissingTool {
        /// The program's name.
        tool: &'static str,
        /// The Debian package to install.
        package: &'static str,
    },
    /// The specification cannot be built as it is.
    #[error("{what} {problem}")]
    InvalidSpec {
        /// The file or value in question.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Packages could not be fetched from the Debian archive or the mirror.
    #[error(
        "Debian packages could not be downloaded; is the archive or mirror reachable?\n{output}"
    )]
    Download {
        /// The last lines the installer wrote.
        output: String,
    },
    /// The disk that holds the cache has no room for an image.
    #[error("no space left for a base image on the disk of {}", path.display())]
    DiskFull {
        /// The file or directory that did not fit.
        path: PathBuf,
    },
    /// A program failed.
    #[error("{tool} failed ({status}):\n{output}")]
    Tool {
        /// The program's name.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        output: String,
    },
    /// A program wrote what this crate does not understand.
    #[error("{tool} gave an unexpected answer: {problem}")]
    UnexpectedOutput {
        /// The program's name.
        tool: &'static str,
        /// What was unexpected.
        problem: String,
    },
    /// A program, or another process's build, took too long.
    #[error("{what} took longer than {} s", limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The image in the cache is not what its manifest says.
    #[error("the base image in {} is damaged: {problem}", dir.display())]
    Damaged {
        /// The image's directory.
        dir: PathBuf,
        /// What does not agree.
        problem: String,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl ImageError {
    /// For `map_err`: names the file a failed operation was about.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, source },
        }
    }
}
