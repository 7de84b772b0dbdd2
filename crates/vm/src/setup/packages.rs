//! Debian packages.

use serde::{Serialize, Serializer};

use super::error::SpecError;
use super::script::Script;
use crate::model::AptPackage;

const MAX_PACKAGES: usize = 1000;

/// Different packages, in the order in which they were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages(Vec<AptPackage>);

impl Packages {
    /// Leaves out what is asked for again. Fails when there are too many.
    pub fn new(packages: Vec<AptPackage>) -> Result<Self, SpecError> {
        if packages.len() > MAX_PACKAGES {
            return Err(SpecError::too_many("packages in aptDeps", MAX_PACKAGES));
        }
        let mut seen = std::collections::HashSet::new();
        let mut different = packages;
        different.retain(|package| seen.insert(package.as_str().to_owned()));
        Ok(Self(different))
    }

    /// The packages.
    pub fn iter(&self) -> impl Iterator<Item = &AptPackage> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Packages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(AptPackage::as_str))
    }
}

pub(super) fn script(packages: &Packages) -> Script {
    let mut script = Script::new(&[include_str!("guest/packages.sh")]);
    script.call("packages", packages.iter().map(AptPackage::as_str));
    script
}
