//! What a search looks for, and in which files.
//!
//! Everything is matched in time linear in the text: regular expressions without back references,
//! and globs that become such.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexBuilder};

use super::Search;
use crate::GitError;
use crate::error::SearchKind;

const LONGEST: usize = 1000;
/// Bytes of a compiled expression, and of the automaton that is built while it runs.
const LARGEST_PROGRAM: usize = 4 << 20;

/// The expression of a search. Matches within lines.
pub(super) fn expression(search: &Search, kind: SearchKind) -> Result<Regex, GitError> {
    if search.query.is_empty() {
        return Err(GitError::EmptyQuery(kind));
    }
    let invalid = |reason: String| GitError::InvalidRegex { kind, reason };
    if search.query.len() > LONGEST {
        return Err(invalid(format!("it is longer than {LONGEST} bytes")));
    }
    let query = match search.is_regex {
        true => search.query.clone(),
        false => regex::escape(&search.query),
    };
    // Checked by itself, so that it cannot close a group that is put around it.
    build(&query, search.case_sensitive).map_err(|error| invalid(error.to_string()))?;
    let query = match search.whole_word {
        true => format!(r"\b{{start-half}}(?:{query})\b{{end-half}}"),
        false => query,
    };
    build(&query, search.case_sensitive).map_err(|error| invalid(error.to_string()))
}

fn build(query: &str, case_sensitive: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(query)
        .case_insensitive(!case_sensitive)
        .multi_line(true)
        .crlf(true)
        .size_limit(LARGEST_PROGRAM)
        .dfa_size_limit(LARGEST_PROGRAM)
        .build()
}

/// Which paths are searched.
pub(super) struct PathFilter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl PathFilter {
    pub(super) fn new(search: &Search, kind: SearchKind) -> Result<Self, GitError> {
        let set = |pattern: &Option<String>| {
            let pattern = pattern.as_deref().filter(|pattern| !pattern.is_empty());
            pattern.map(|pattern| globs(pattern, true, kind)).transpose()
        };
        Ok(Self { include: set(&search.path_pattern)?, exclude: set(&search.exclude_pattern)? })
    }

    pub(super) fn accepts(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(path))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(path))
    }
}

/// A glob on paths. `*` stays within a directory and `**` does not; a pattern without a slash means
/// a name in any directory; a pattern that matches a directory matches everything in it.
pub(crate) fn path_globs(
    pattern: &str,
    case_sensitive: bool,
    kind: SearchKind,
) -> Result<[Glob; 2], GitError> {
    let invalid = |reason: String| GitError::InvalidPattern { kind, reason };
    if pattern.len() > LONGEST {
        return Err(invalid(format!("it is longer than {LONGEST} bytes")));
    }
    let pattern = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
    let anywhere = if pattern.contains('/') { "" } else { "**/" };
    let glob = |pattern: String| {
        let glob = GlobBuilder::new(&pattern)
            .literal_separator(true)
            .case_insensitive(!case_sensitive)
            .backslash_escape(true)
            .build();
        glob.map_err(|error| invalid(error.kind().to_string()))
    };
    Ok([glob(format!("{anywhere}{pattern}"))?, glob(format!("{anywhere}{pattern}/**"))?])
}

/// The same as one set.
pub(super) fn globs(
    pattern: &str,
    case_sensitive: bool,
    kind: SearchKind,
) -> Result<GlobSet, GitError> {
    let mut set = GlobSetBuilder::new();
    for glob in path_globs(pattern, case_sensitive, kind)? {
        set.add(glob);
    }
    let invalid = |error: globset::Error| error.kind().to_string();
    set.build().map_err(|error| GitError::InvalidPattern { kind, reason: invalid(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(query: &str) -> Search {
        Search { query: query.to_owned(), ..Search::default() }
    }

    #[test]
    fn a_query_is_literal_unless_it_is_said_to_be_a_regex() {
        let literal = expression(&search("a.c("), SearchKind::Contents).unwrap();
        assert!(literal.is_match(b"xA.C(x") && !literal.is_match(b"abc("));
        let regex = Search { is_regex: true, case_sensitive: true, ..search("^a.c$") };
        let regex = expression(&regex, SearchKind::Contents).unwrap();
        assert!(regex.is_match(b"x\r\nabc\r\nx") && !regex.is_match(b"ABC"));
        let word = Search { whole_word: true, ..search("foo") };
        let word = expression(&word, SearchKind::Contents).unwrap();
        assert!(word.is_match(b"a foo, b") && !word.is_match(b"food") && !word.is_match(b"a_foo"));
    }

    #[test]
    fn bad_expressions_are_refused_with_a_reason() {
        let huge = format!("{}{{1000}}{{1000}}", r"\w");
        for bad in ["(", r"(a)\1", "x)(?:y", huge.as_str(), &"a".repeat(2000)] {
            let bad = Search { is_regex: true, whole_word: true, ..search(bad) };
            let refused = expression(&bad, SearchKind::Diffs);
            assert!(matches!(refused, Err(GitError::InvalidRegex { kind: SearchKind::Diffs, .. })));
        }
        let refused = expression(&search(""), SearchKind::Commits);
        assert!(matches!(refused, Err(GitError::EmptyQuery(SearchKind::Commits))));
    }

    #[test]
    fn globs_are_those_of_paths() {
        let accepts = |pattern: &str, path: &str| {
            globs(pattern, true, SearchKind::Contents).unwrap().is_match(path)
        };
        assert!(accepts("src/**/*.ts", "src/a.ts") && accepts("src/**/*.ts", "src/x/y/a.ts"));
        assert!(accepts("*.ts", "deep/down/a.ts") && !accepts("src/*.ts", "src/x/a.ts"));
        assert!(accepts("node_modules", "a/node_modules/b/c.js") && accepts("src/", "src/a"));
        assert!(accepts("{a,b}/*.rs", "b/x.rs") && !accepts("a", "b/c"));
        let refused = globs("a[", true, SearchKind::Filenames);
        assert!(matches!(refused, Err(GitError::InvalidPattern { .. })));
    }
}
