//! Which paths a file of a commit may have.

use crate::GitError;
use crate::objects::DEEPEST;

const LONGEST: usize = 4096;
const LONGEST_PART: usize = 255;

/// The parts of a path, checked: nothing that means something else to git or to the file systems
/// on which a repository may be checked out.
pub(super) fn parts(path: &str) -> Result<Vec<&str>, GitError> {
    let refuse = |reason| Err(GitError::InvalidFilePath { path: path.to_owned(), reason });
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.len() > LONGEST {
        return refuse("it is too long");
    }
    let parts: Vec<_> = path.split('/').collect();
    if parts.len() > DEEPEST {
        return refuse("it has more directories within each other than can be read");
    }
    for part in &parts {
        if part.is_empty() {
            return refuse("it begins or ends with a slash, or has two in a row");
        }
        if part.len() > LONGEST_PART {
            return refuse("a part of it is longer than file systems allow");
        }
        if part.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        if *part == "." || *part == ".." {
            return refuse("a part of it is . or ..");
        }
        if is_git_folder(part) {
            return refuse("a part of it is .git, or becomes that on some file systems");
        }
    }
    Ok(parts)
}

/// Whether a file system that ignores case, some characters or the end of a name takes it for
/// `.git` (CVE-2014-9390 and its relatives).
fn is_git_folder(part: &str) -> bool {
    // Characters that HFS+ ignores.
    let is_ignored = |c: &char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let seen: String = part.chars().filter(|c| !is_ignored(c)).collect();
    let seen = seen.to_lowercase();
    // NTFS: the short name, streams after a colon, backslashes between parts, and ends that are
    // cut off.
    seen.split('\\').any(|part| {
        let name = part.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']);
        name == ".git" || name == "git~1"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_taken_as_they_are() {
        for good in ["README.md", "src/a b/ö.rs", ".github/x", ".gitignore", "a:b", "...", "git"] {
            assert_eq!(parts(good).unwrap().join("/"), good);
        }
    }

    #[test]
    fn dangerous_paths_are_refused() {
        let long = "a".repeat(300);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            "a\nb",
            ".git",
            ".GIT/config",
            "a/.Git/hooks/x",
            "git~1",
            ".git.",
            ".git ",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "a\\.git\\config",
            "\u{7f}",
            long.as_str(),
        ] {
            let refused = parts(bad);
            assert!(matches!(refused, Err(GitError::InvalidFilePath { .. })), "{bad:?}");
        }
    }
}
