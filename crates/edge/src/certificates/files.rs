//! Keys and certificates on disk: whole or not at all, for nobody else to read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tempfile::NamedTempFile;

use super::error::CertificateError;

/// Reads a file; `None` if there is none.
pub(super) async fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::File { path: path.to_owned(), source }),
    }
}

/// Replaces a file, mode 0600, and its folder, mode 0700, if there is none. It survives a power
/// failure.
pub(super) async fn write(path: &Path, bytes: Vec<u8>) -> Result<(), CertificateError> {
    let target = path.to_owned();
    let written = tokio::task::spawn_blocking(move || replace(&target, &bytes)).await;
    let written = written.map_err(io::Error::other).flatten();
    written.map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

/// Removes a file that need not be there.
pub(super) async fn remove(path: &Path) -> Result<(), CertificateError> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CertificateError::File { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The files of a folder, which need not be there.
pub(super) async fn list(folder: &Path) -> Result<Vec<PathBuf>, CertificateError> {
    let failed = |source| CertificateError::File { path: folder.to_owned(), source };
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        files.push(entry.path());
    }
    Ok(files)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.exists() {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// A chain and its key, as TLS uses them, and the chain's first certificate.
pub(super) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = PrivateKeyDer::try_from(key.serialized_der()).map_err(unusable)?;
    Ok(Arc::new(CertifiedKey::new(chain, any_supported_type(&key)?)))
}

/// Reads a key and a chain from one PEM text.
pub(super) fn parse(pem: &[u8]) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(unusable)?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(pem).map_err(unusable)?)?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match()?;
    Ok(Arc::new(pair))
}

fn unusable(error: impl ToString) -> CertificateError {
    CertificateError::Unusable(error.to_string())
}
