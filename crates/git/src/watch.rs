//! What those who watch a repository ask: whether a branch or a changed file is one they mean.

use gix_hash::ObjectId;
use gix_object::bstr::ByteSlice;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::SearchKind;
use crate::search::path_globs;
use crate::{GitError, Repository};

const LONGEST: usize = 1000;

/// Patterns for names of branches. `*` stays within a part between slashes and `**` does not.
#[derive(Debug, Clone)]
pub struct BranchPatterns(GlobSet);

/// Patterns for paths, as in the searches: one without a slash means a name in any directory.
#[derive(Debug, Clone)]
pub struct PathPatterns(GlobSet);

impl BranchPatterns {
    /// `InvalidRequest` for what is not a pattern.
    pub fn parse(patterns: &[String]) -> Result<Self, GitError> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let invalid = |reason: String| {
                GitError::InvalidRequest(format!("{pattern:?} is no pattern of branches: {reason}"))
            };
            if pattern.is_empty() || pattern.len() > LONGEST {
                return Err(invalid(format!("it is empty or longer than {LONGEST} bytes")));
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(glob.map_err(|error| invalid(error.kind().to_string()))?);
        }
        let invalid = |error: globset::Error| GitError::InvalidRequest(error.to_string());
        Ok(Self(set.build().map_err(invalid)?))
    }

    /// Whether a branch is meant, by its name without `refs/heads/`.
    pub fn matches(&self, branch: &str) -> bool {
        self.0.is_match(branch)
    }
}

impl PathPatterns {
    /// `InvalidRequest` for what is not a pattern.
    pub fn parse(patterns: &[String]) -> Result<Self, GitError> {
        let invalid = |reason: &dyn std::fmt::Display| {
            GitError::InvalidRequest(format!("not a pattern of paths: {reason}"))
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            if pattern.is_empty() {
                return Err(invalid(&"it is empty"));
            }
            let globs = path_globs(pattern, true, SearchKind::Filenames);
            for glob in globs.map_err(|error| invalid(&error))? {
                set.add(glob);
            }
        }
        Ok(Self(set.build().map_err(|error| invalid(&error))?))
    }
}

impl Repository {
    /// Whether a branch that moved from one commit to another changed a file that the patterns
    /// mean. Of a new branch, which comes from none, every file counts as changed.
    pub async fn has_changed(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
        paths: &PathPatterns,
    ) -> Result<bool, GitError> {
        let paths = paths.clone();
        self.read(move |reader| {
            let from =
                from.map(|from| Ok::<_, GitError>(reader.commit(&from)?.tree)).transpose()?;
            let changes = reader.tree_changes(from, Some(reader.commit(&to)?.tree))?;
            Ok(changes.iter().any(|change| paths.0.is_match(&*change.path.to_str_lossy())))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_meant_by_their_names() {
        let means = |pattern: &str, branch| {
            BranchPatterns::parse(&[pattern.to_owned()]).unwrap().matches(branch)
        };
        assert!(means("main", "main") && !means("main", "maintenance") && !means("main", "x/main"));
        assert!(means("release/*", "release/1") && !means("release/*", "release/1/rc"));
        assert!(
            means("release/**", "release/1/rc") && means("**", "a/b") && means("v[0-9]*", "v1")
        );
        let none = BranchPatterns::parse(&[]).unwrap();
        assert!(!none.matches("main"));
        for bad in ["", "a[", "{a", &"a".repeat(2000)] {
            assert!(BranchPatterns::parse(&[bad.to_owned()]).is_err(), "{bad}");
            assert!(PathPatterns::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
