//! Why there is no certificate.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file with a key or certificate cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key or certificate cannot be made, or the authority's cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The authority refused, or cannot be reached.
    #[error("the certificate authority: {0}")]
    Authority(String),
    /// An order failed a short while ago, or the authority asked to be left alone.
    #[error("the certificate of {name} is tried again in {} s, because: {reason}", .wait.as_secs())]
    NotYet {
        /// For whom there is none.
        name: String,
        /// How long to wait.
        wait: Duration,
        /// What went wrong.
        reason: String,
    },
}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<rustls::Error> for CertificateError {
    fn from(error: rustls::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<instant_acme::Error> for CertificateError {
    fn from(error: instant_acme::Error) -> Self {
        // What is wrong with a connection is said by what caused the error.
        let mut reasons = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reasons += &format!(": {error}");
            cause = error.source();
        }
        Self::Authority(reasons)
    }
}
