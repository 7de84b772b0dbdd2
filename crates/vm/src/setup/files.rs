//! Files with their content.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::error::SpecError;
use super::names::GuestPath;
use super::script::Script;

const MAX_FILES: usize = 1000;
/// All files of a layer together, in bytes.
pub const MAX_FILES_BYTES: usize = 16 << 20;
/// So many paths fit one command line, however long they are.
const PATHS_PER_CALL: usize = 100;

/// A file of root's, which everyone may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Any bytes.
    #[serde(serialize_with = "digest")]
    pub content: Vec<u8>,
    /// Whether everyone may run it.
    pub executable: bool,
}

/// A key needs to know whether a content changed, not the content.
fn digest<S: Serializer>(content: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&super::spec::hex(&Sha256::digest(content)))
}

/// Files by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Files(BTreeMap<GuestPath, File>);

impl Files {
    /// Fails when there are too many, they are too large together, or two have one path.
    pub fn new(files: Vec<(GuestPath, File)>) -> Result<Self, SpecError> {
        if files.len() > MAX_FILES {
            return Err(SpecError::too_many("files", MAX_FILES));
        }
        let bytes: usize = files.iter().map(|(_, file)| file.content.len()).sum();
        if bytes > MAX_FILES_BYTES {
            return Err(SpecError::invalid(format!(
                "the files have {bytes} bytes together, more than {MAX_FILES_BYTES}"
            )));
        }
        let mut by_path = BTreeMap::new();
        for (path, file) in files {
            if path.is_root() {
                return Err(SpecError::invalid("/ is not a file"));
            }
            let shown = path.as_str().to_owned();
            if by_path.insert(path, file).is_some() {
                return Err(SpecError::invalid(format!("file {shown:?} is described twice")));
            }
        }
        Ok(Self(by_path))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&GuestPath, &File)> {
        self.0.iter()
    }
}

/// What is left to do once the contents are written; `None` where nothing is.
pub(super) fn script(files: &Files, workdir: &GuestPath) -> Option<Script> {
    let executable: Vec<&str> =
        files.iter().filter(|(_, file)| file.executable).map(|(path, _)| path.as_str()).collect();
    if executable.is_empty() && workdir.is_root() {
        return None;
    }
    let mut script = Script::new(&["set -eu\n"]);
    if !workdir.is_root() {
        script.call("mkdir -p --", [workdir.as_str()]);
    }
    for paths in executable.chunks(PATHS_PER_CALL) {
        script.call("chmod 0755 --", paths.iter().copied());
    }
    Some(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> File {
        File { content: content.to_vec(), executable: false }
    }

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).unwrap()
    }

    #[test]
    fn a_path_names_one_file() {
        let twice = vec![(path("/a/b"), file(b"1")), (path("/a/./b"), file(b"2"))];
        assert!(Files::new(twice).is_err());
        assert!(Files::new(vec![(path("/"), file(b""))]).is_err());
    }

    #[test]
    fn files_are_bounded_in_number_and_together_in_size() {
        let many =
            |count: usize| (0..count).map(|n| (path(&format!("/f{n}")), file(b"x"))).collect();
        assert!(Files::new(many(MAX_FILES)).is_ok());
        assert!(Files::new(many(MAX_FILES + 1)).is_err());
        let large =
            |bytes: usize| vec![(path("/a"), file(&vec![0; bytes])), (path("/b"), file(b"x"))];
        assert!(Files::new(large(MAX_FILES_BYTES - 1)).is_ok());
        assert!(Files::new(large(MAX_FILES_BYTES)).is_err());
    }
}
