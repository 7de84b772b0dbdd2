//! Instance names and the records that say which of them exist.
//!
//! A record is an empty file `<slot>-<instance>`: made by one system call, so it is never half
//! written. It exists before anything else of the VM does and until after all else is gone.

use std::{fmt, fs, io, path::PathBuf, str::FromStr};

use crate::{
    address::{Block, Slot},
    error::{Because, NetworkError},
};

const LENGTH: usize = 20;

/// A VM instance's name, safe in file names, link names and rule sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance(String);

impl Instance {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the instance's namespace, as `ip netns` shows it.
    pub(crate) fn namespace(&self) -> String {
        format!("fs-{}", self.0)
    }
}

impl FromStr for Instance {
    type Err = NetworkError;

    fn from_str(name: &str) -> Result<Self, NetworkError> {
        let valid = name.len() == LENGTH
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !valid {
            return Err(NetworkError::InvalidInstance(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The records of one block, in a directory of their own.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
    block: Block,
}

impl Records {
    pub(crate) fn open(directory: PathBuf, block: Block) -> Result<Self, NetworkError> {
        fs::create_dir_all(&directory).because(|| format!("create {}", directory.display()))?;
        Ok(Self { directory, block })
    }

    pub(crate) fn add(&self, instance: &Instance, slot: Slot) -> Result<(), NetworkError> {
        let path = self.path(instance, slot);
        fs::File::create(&path).because(|| format!("create {}", path.display()))?;
        Ok(())
    }

    pub(crate) fn remove(&self, instance: &Instance, slot: Slot) -> Result<(), NetworkError> {
        let path = self.path(instance, slot);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.because(|| format!("remove {}", path.display())),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<(Instance, Slot)>, NetworkError> {
        let action = || format!("list {}", self.directory.display());
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).because(action)? {
            let name = entry.because(action)?.file_name();
            match name.to_str().and_then(|name| self.parse(name)) {
                Some(record) => records.push(record),
                None => tracing::warn!(?name, "ignoring a stray file among the network records"),
            }
        }
        Ok(records)
    }

    fn path(&self, instance: &Instance, slot: Slot) -> PathBuf {
        self.directory.join(format!("{}-{instance}", slot.index()))
    }

    fn parse(&self, name: &str) -> Option<(Instance, Slot)> {
        let (slot, instance) = name.split_once('-')?;
        Some((instance.parse().ok()?, self.block.slot(slot.parse().ok()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twenty_lowercase_letters_and_digits_are_a_name() {
        assert!("abcdefghij0123456789".parse::<Instance>().is_ok());
        for bad in ["", "short", "abcdefghij012345678", "abcdefghij01234567890"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
        for bad in ["ABCDEFGHIJ0123456789", "../../../etc/passwd0", "abcdefghij01234567\u{e9}"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn records_survive_reopening_and_strays_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let block = Block::from_number(3).unwrap();
        let records = Records::open(directory.path().join("vms"), block).unwrap();
        let instance: Instance = "abcdefghij0123456789".parse().unwrap();
        let slot = block.slot(7).unwrap();

        records.add(&instance, slot).unwrap();
        records.add(&instance, slot).unwrap();
        fs::write(records.directory.join("9999-abcdefghij0123456789"), "").unwrap();
        fs::write(records.directory.join("stray"), "").unwrap();
        let reopened = Records::open(directory.path().join("vms"), block).unwrap();
        assert_eq!(reopened.all().unwrap(), [(instance.clone(), slot)]);

        reopened.remove(&instance, slot).unwrap();
        reopened.remove(&instance, slot).unwrap();
        assert_eq!(reopened.all().unwrap(), []);
    }
}
