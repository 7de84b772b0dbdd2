//! `freestyle git log` and `cat`.

use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_client::Client;
use freestyle_client::wire::git::{
    CommitOrder, ContentsQuery, GitCommit, GitContents, GitDirectory, GitDirectoryEntry,
    ListCommitsQuery,
};

use super::printable;
use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

pub(super) const LOG_HELP: &str = "\
Examples:
  freestyle git log REPO
  freestyle git log REPO --branch feature/x --limit 5 --json";
pub(super) const CAT_HELP: &str = "\
Examples:
  freestyle git cat REPO README.md
  freestyle git cat REPO src --rev v1.0.0      list a directory
  freestyle git cat REPO --recursive           list every file";

const SHORT_ID: usize = 10;

/// Options of `freestyle git log`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Id of the repository
    repo: String,
    /// The branch [default: the default branch]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Commits listed at most
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Show the oldest commits first
    #[arg(long)]
    reverse: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle git cat`.
#[derive(Debug, clap::Args)]
pub(crate) struct CatArgs {
    /// Id of the repository
    repo: String,
    /// A path in it [default: its root]
    #[arg(default_value = "", hide_default_value = true)]
    path: String,
    /// Branch, tag or commit [default: the default branch]
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// List what is in the directories of a directory too
    #[arg(long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn log(args: LogArgs, client: &Client) -> Result<(), CliError> {
    let LogArgs { repo, branch, limit, reverse, json } = args;
    let query = ListCommitsQuery {
        branch,
        limit: Some(limit),
        order: reverse.then_some(CommitOrder::Asc),
        disable_total_count: Some(true),
        ..ListCommitsQuery::default()
    };
    let listed = spinner::during("Listing commits", client.list_commits(&repo, &query)).await?;
    if json {
        return print_json(&listed);
    }
    if listed.commits.is_empty() {
        writeln!(io::stderr(), "no commits")?;
        return Ok(());
    }
    let rows: Vec<_> = listed.commits.iter().map(row).collect();
    Ok(table::print(["COMMIT", "DATE", "AUTHOR", "MESSAGE"], &rows)?)
}

fn row(commit: &GitCommit) -> [String; 4] {
    [
        commit.sha.chars().take(SHORT_ID).collect(),
        commit.author.date.clone(),
        commit.author.name.clone(),
        commit.message.lines().next().unwrap_or_default().to_owned(),
    ]
}

pub(super) async fn cat(args: CatArgs, client: &Client) -> Result<(), CliError> {
    let CatArgs { repo, path, rev, recursive, json } = args;
    let query = ContentsQuery { rev, recursive: recursive.then_some(true) };
    let contents = client.repo_contents(&repo, &path, &query);
    let contents = spinner::during("Reading", contents).await?;
    if json {
        return print_json(&contents);
    }
    match contents {
        GitContents::File(file) => {
            let bytes = STANDARD.decode(file.content);
            let bytes = bytes
                .map_err(|error| CliError::new(format!("the server sent no base64: {error}")))?;
            write_bytes(&bytes)
        }
        GitContents::Directory(directory) => list(&directory),
    }
}

/// As they are into a file or a pipe; a terminal gets no control characters.
fn write_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        for line in String::from_utf8_lossy(bytes).lines() {
            writeln!(stdout, "{}", printable(line))?;
        }
    } else {
        stdout.write_all(bytes)?;
    }
    Ok(stdout.flush()?)
}

fn list(directory: &GitDirectory) -> Result<(), CliError> {
    for entry in &directory.entries {
        match entry {
            GitDirectoryEntry::File(file) => print_line(&printable(&file.path))?,
            GitDirectoryEntry::Directory(inner) => {
                print_line(&format!("{}/", printable(&inner.path)))?;
                list(inner)?;
            }
        }
    }
    Ok(())
}
