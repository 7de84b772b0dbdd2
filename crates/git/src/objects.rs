//! The object database of one repository, kept open between requests.
use std::path::PathBuf;
pub(crate) struct Objects {
    path: PathBuf,
}
impl Objects {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}
