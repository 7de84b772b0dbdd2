//! What can go wrong with a QEMU process.

use std::io;
use std::path::PathBuf;

use crate::memory::DeltaProblem;

/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// No QEMU at this place.
    #[error("cannot run {path:?}: {source}; install the package qemu-system-x86")]
    Missing {
        /// What was tried.
        path: PathBuf,
        /// Why it does not run.
        source: io::Error,
    },
    /// A QEMU that is too old, or not QEMU.
    #[error("{path:?} is {found}; QEMU 7.2 or newer is needed")]
    TooOld {
        /// What was tried.
        path: PathBuf,
        /// What it said of itself.
        found: String,
    },
    /// Hardware virtualisation was asked for and cannot be used.
    #[error("hardware virtualisation was asked for, but {0}")]
    NoKvm(&'static str),
    /// A file or system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The process ended although it should run.
    #[error("QEMU ended: {0}")]
    Exited(String),
    /// QEMU refused a command of its monitor.
    #[error("QEMU refused {command}: {message}")]
    Refused {
        /// The QMP command.
        command: String,
        /// QEMU's own words.
        message: String,
    },
    /// The monitor sent something that is not QMP, or closed.
    #[error("QEMU's monitor failed: {0}")]
    Monitor(String),
    /// A file is not a memory delta that can be used here.
    #[error("{path:?} {problem}")]
    Delta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: DeltaProblem,
    },
    /// A machine that was saved and restored is not the same machine.
    #[error("a guest that was saved and restored is not the same: {0}")]
    SelfTest(String),
    /// Something took longer than it may.
    #[error("{0} took too long")]
    Timeout(&'static str),
}

impl QemuError {
    /// For `map_err`: says what was being done when the system call failed.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { doing: doing.into(), source: source.into() }
    }

    /// Whether the cause is a host without memory to spare.
    pub fn is_no_memory(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory)
    }

    /// Whether the cause is a full disk.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
