//! Records of what exists: one empty file per thing, named after it.
//!
//! An empty file is made by one system call, so a record is never half written. It exists before
//! anything else of its thing does and until after all else is gone.

use std::{fs, io, path::PathBuf};

use crate::error::{Because, NetworkError};

/// The records of one kind of thing, in a directory of their own.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, NetworkError> {
        fs::create_dir_all(&directory).because(|| format!("create {}", directory.display()))?;
        Ok(Self { directory })
    }

    /// Content if it is there.
    pub(crate) fn add(&self, name: &str) -> Result<(), NetworkError> {
        let path = self.directory.join(name);
        fs::File::create(&path).because(|| format!("create {}", path.display()))?;
        Ok(())
    }

    /// Content if it is not there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), NetworkError> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.because(|| format!("remove {}", path.display())),
        }
    }

    /// Everything whose name `parse` accepts.
    pub(crate) fn all<T>(&self, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, NetworkError> {
        let action = || format!("list {}", self.directory.display());
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).because(action)? {
            let name = entry.because(action)?.file_name();
            match name.to_str().and_then(&parse) {
                Some(record) => records.push(record),
                None => tracing::warn!(?name, "ignoring a stray file among the network records"),
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_reopening_and_strays_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path().join("vms")).unwrap();
        records.add("7").unwrap();
        records.add("7").unwrap();
        records.add("stray").unwrap();
        let number = |name: &str| name.parse::<u16>().ok();
        let reopened = Records::open(directory.path().join("vms")).unwrap();
        assert_eq!(reopened.all(number).unwrap(), [7]);

        reopened.remove("7").unwrap();
        reopened.remove("7").unwrap();
        assert_eq!(reopened.all(number).unwrap(), [] as [u16; 0]);
    }
}
