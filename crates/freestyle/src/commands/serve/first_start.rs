//! The account and the API key that the first start makes.
//!
//! The key is also kept in a file of mode 0600 beside the metadata, so that every start can put it
//! into the ready file. Whoever does not want it there removes the file: it is never made again.

use std::io;
use std::path::{Path, PathBuf};

use freestyle_store::Store;

use super::private_file;
use crate::error::CliError;

const FILE_NAME: &str = "admin-key";
const NAME: &str = "default";

/// The key of the account `default`, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AdminKey {
    /// Made by this start.
    Created { secret: String, file: PathBuf },
    /// Made by an earlier start and still valid.
    Kept { secret: String, file: PathBuf },
    /// Its file was removed or the key revoked.
    Unknown,
}

impl AdminKey {
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Created { secret, .. } | Self::Kept { secret, .. } => Some(secret),
            Self::Unknown => None,
        }
    }
}

/// Makes account and key if the store has no account, else looks for the key that was kept.
pub(super) async fn admin_key(data_dir: &Path, store: &Store) -> Result<AdminKey, CliError> {
    let file = data_dir.join(FILE_NAME);
    if store.system().list_accounts().await?.is_empty() {
        let account = store.system().create_account(NAME).await?;
        let (_, secret) = store.account_scope(&account.id).create_api_key(NAME).await?;
        let secret = secret.expose().to_owned();
        let kept = private_file::replace(&file, format!("{secret}\n")).await;
        kept.map_err(|error| cannot("write", &file, &error))?;
        return Ok(AdminKey::Created { secret, file });
    }
    let secret = match tokio::fs::read_to_string(&file).await {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AdminKey::Unknown),
        Err(error) => return Err(cannot("read", &file, &error)),
    };
    let key = store.system().authenticate_api_key(&secret).await?;
    Ok(if key.is_some() { AdminKey::Kept { secret, file } } else { AdminKey::Unknown })
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("cannot {what} {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn the_key_is_made_once_and_found_again_until_its_file_goes() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::open(&data_dir.path().join("metadata.sqlite3")).await.unwrap();
        let created = admin_key(data_dir.path(), &store).await.unwrap();
        let AdminKey::Created { secret, file } = created else { panic!("{created:?}") };
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let kept = admin_key(data_dir.path(), &store).await.unwrap();
        assert_eq!(kept, AdminKey::Kept { secret, file: file.clone() });
        assert_eq!(store.system().list_accounts().await.unwrap().len(), 1);

        std::fs::remove_file(&file).unwrap();
        assert_eq!(admin_key(data_dir.path(), &store).await.unwrap(), AdminKey::Unknown);
    }

    #[tokio::test]
    async fn a_revoked_key_is_not_offered() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::open(&data_dir.path().join("metadata.sqlite3")).await.unwrap();
        admin_key(data_dir.path(), &store).await.unwrap();
        let account = store.system().list_accounts().await.unwrap().remove(0);
        let keys = store.account_scope(&account.id);
        let key = keys.list_api_keys().await.unwrap().remove(0);
        assert!(keys.revoke_api_key(&key.id).await.unwrap());
        assert_eq!(admin_key(data_dir.path(), &store).await.unwrap(), AdminKey::Unknown);
    }
}
