//! `freestyle git search`.

use std::io::{self, Write};

use clap::ValueEnum;
use freestyle_client::Client;
use freestyle_client::wire::git::{
    CommitSearchQuery, ContentSearchQuery, FileSearchQuery, SearchCommitsResponse,
    SearchContentsResponse, SearchDiffsResponse, SearchFilesResponse,
};

use super::printable;
use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

pub(super) const HELP: &str = "\
Nothing is cloned: the server searches.

Examples:
  freestyle git search REPO TODO --path 'src/**/*.ts'
  freestyle git search REPO '^func \\w+' --regex --rev v1.0.0
  freestyle git search REPO '*.test.ts' --in files
  freestyle git search REPO deprecatedMethod --in changes";

/// Options of `freestyle git search`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the repository
    repo: String,
    /// A text, or a regular expression with --regex
    query: String,
    /// Where to search
    #[arg(long = "in", value_enum, value_name = "WHAT", default_value_t = Place::Contents)]
    place: Place,
    /// Branch, tag or commit [default: the default branch]
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// Only paths that match this glob
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// No paths that match this glob
    #[arg(long, value_name = "GLOB")]
    exclude: Option<String>,
    /// Take the query for a regular expression
    #[arg(long)]
    regex: bool,
    /// Tell upper from lower case
    #[arg(long)]
    case_sensitive: bool,
    /// Find whole words only
    #[arg(long)]
    word: bool,
    /// Files or commits found at most
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Files or commits left out at the beginning
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// Text of files
    Contents,
    /// Names of files
    Files,
    /// Messages of commits
    Commits,
    /// Lines that commits added or removed
    Changes,
}

impl Args {
    /// The query of a search that takes everything.
    fn full_query(&self) -> ContentSearchQuery {
        ContentSearchQuery {
            query: self.query.clone(),
            rev: self.rev.clone(),
            reference: None,
            path_pattern: self.path.clone(),
            exclude_pattern: self.exclude.clone(),
            max_results: Some(self.limit),
            case_sensitive: Some(self.case_sensitive),
            is_regex: Some(self.regex),
            whole_word: Some(self.word),
            offset: Some(self.offset),
        }
    }

    /// An option that the place does not know is a mistake, not something to pass over.
    fn check(&self) -> Result<(), CliError> {
        let paths = self.path.is_some() || self.exclude.is_some();
        let refused = match self.place {
            Place::Contents | Place::Changes => None,
            Place::Files => self.word.then_some("--word"),
            Place::Commits if paths => Some("--path and --exclude"),
            Place::Commits => self.word.then_some("--word"),
        };
        match refused {
            Some(option) => Err(CliError::new(format!("{option}: not with this --in"))),
            None => Ok(()),
        }
    }
}

pub(super) async fn run(args: Args, client: &Client) -> Result<(), CliError> {
    args.check()?;
    let query = args.full_query();
    let more = match args.place {
        Place::Contents => {
            let found = client.search_contents(&args.repo, &query);
            let found = spinner::during("Searching", found).await?;
            if args.json {
                return print_json(&found);
            }
            print_contents(&found)?;
            found.has_more
        }
        Place::Files => {
            let query = FileSearchQuery {
                query: query.query,
                rev: query.rev,
                reference: None,
                path_pattern: query.path_pattern,
                exclude_pattern: query.exclude_pattern,
                max_results: query.max_results,
                case_sensitive: query.case_sensitive,
                is_regex: query.is_regex,
                offset: query.offset,
            };
            let found = client.search_files(&args.repo, &query);
            let found = spinner::during("Searching", found).await?;
            if args.json {
                return print_json(&found);
            }
            print_files(&found)?;
            found.has_more
        }
        Place::Commits => {
            let query = CommitSearchQuery {
                query: query.query,
                rev: query.rev,
                reference: None,
                max_results: query.max_results,
                case_sensitive: query.case_sensitive,
                is_regex: query.is_regex,
                offset: query.offset,
            };
            let found = client.search_commits(&args.repo, &query);
            let found = spinner::during("Searching", found).await?;
            if args.json {
                return print_json(&found);
            }
            print_commits(&found)?;
            found.has_more
        }
        Place::Changes => {
            let found = client.search_diffs(&args.repo, &query);
            let found = spinner::during("Searching", found).await?;
            if args.json {
                return print_json(&found);
            }
            print_changes(&found)?;
            found.has_more
        }
    };
    if more {
        writeln!(io::stderr(), "there is more; --offset {} shows it", args.offset + args.limit)?;
    }
    Ok(())
}

fn print_contents(found: &SearchContentsResponse) -> Result<(), CliError> {
    for file in &found.files {
        let path = printable(&file.path);
        for found in &file.matches {
            print_line(&format!("{path}:{}: {}", found.line_number, printable(&found.line)))?;
        }
    }
    Ok(())
}

fn print_files(found: &SearchFilesResponse) -> Result<(), CliError> {
    found.files.iter().try_for_each(|file| print_line(&printable(&file.path)))
}

fn print_commits(found: &SearchCommitsResponse) -> Result<(), CliError> {
    if found.commits.is_empty() {
        return Ok(());
    }
    let rows = found.commits.iter().map(|commit| {
        let sha = commit.sha.chars().take(10).collect();
        [sha, commit.timestamp.clone(), commit.author_name.clone(), commit.message.clone()]
    });
    let rows: Vec<_> = rows.collect();
    Ok(table::print(["COMMIT", "DATE", "AUTHOR", "MESSAGE"], &rows)?)
}

fn print_changes(found: &SearchDiffsResponse) -> Result<(), CliError> {
    for commit in &found.commits {
        let sha: String = commit.sha.chars().take(10).collect();
        print_line(&format!("{sha} {}", printable(&commit.message)))?;
        for file in &commit.files {
            let path = printable(&file.path);
            for found in &file.matches {
                let sign = if found.is_addition { '+' } else { '-' };
                let line = printable(&found.line);
                print_line(&format!("  {path}:{}: {sign}{line}", found.line_number))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ApiCommand;
    use super::super::tests::parse;
    use super::*;

    fn args(line: &[&str]) -> Args {
        match parse(&[&["search", "repo", "x"], line].concat()).unwrap() {
            ApiCommand::Search(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_that_mean_nothing_in_a_place_are_refused() {
        assert!(args(&["--word", "--path", "*.ts"]).check().is_ok());
        assert!(args(&["--in", "changes", "--word"]).check().is_ok());
        assert!(args(&["--in", "files", "--path", "src"]).check().is_ok());
        assert!(args(&["--in", "files", "--word"]).check().is_err());
        assert!(args(&["--in", "commits", "--path", "src"]).check().is_err());
    }
}
