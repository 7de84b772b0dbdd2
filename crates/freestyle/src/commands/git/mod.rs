//! `freestyle git ...`: a client of the API.

pub(crate) mod clone;
pub(crate) mod credential;
mod look;
mod search;
mod sync;
mod trigger;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::git::{
    CreateRepoRequest, ListReposQuery, ListReposResponse, RepoListItem, RepoSource,
};
use serde_json::json;

use super::{client, client_runtime, print_json, print_line};
use crate::environment::Environment;
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
Examples:
  freestyle git create --name my-repo
  freestyle git create --source-url https://github.com/owner/repo.git --source-rev main";
const LIST_HELP: &str = "\
Examples:
  freestyle git list --limit 100
  freestyle git list --search api --json";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Api(ApiCommand),
    /// Clone a repository with native git, set up to find its credential
    #[command(after_help = clone::HELP)]
    Clone(clone::Args),
    /// Answer native git when it asks for a credential
    #[command(after_help = credential::HELP)]
    Credential(credential::Args),
}

/// What is a call, or several, of the API.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiCommand {
    /// Create a repository and print its id
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the repositories of your account
    #[command(after_help = LIST_HELP)]
    List(ListArgs),
    /// Delete a repository with everything in it
    Delete(DeleteArgs),
    /// Manage webhooks of a repository
    #[command(subcommand)]
    Trigger(trigger::Command),
    /// Keep repositories equal to repositories at GitHub
    #[command(subcommand)]
    Sync(sync::Command),
    /// Search files, file names, commit messages or changes
    #[command(after_help = search::HELP)]
    Search(search::Args),
    /// List the commits of a branch
    #[command(after_help = look::LOG_HELP)]
    Log(look::LogArgs),
    /// Print a file, or list a directory
    #[command(after_help = look::CAT_HELP)]
    Cat(look::CatArgs),
}

/// Options of `freestyle git create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A label; need not be unique
    #[arg(long, short)]
    name: Option<String>,
    /// Let everybody read it
    #[arg(long)]
    public: bool,
    /// The branch that a clone checks out [default: main]
    #[arg(long, value_name = "BRANCH")]
    default_branch: Option<String>,
    /// A repository whose history the new one begins with
    #[arg(long, value_name = "URL")]
    source_url: Option<String>,
    /// Branch, tag or commit of it, which becomes the default branch [default: its own]
    #[arg(long, value_name = "REV", requires = "source_url")]
    source_rev: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle git list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Repositories listed at most
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Repositories left out at the beginning
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Only those whose name contains this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle git delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Id of the repository
    repo: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries a command out. The exit code is that of native git, if that was run.
pub(crate) fn run(command: Command, environment: &Environment) -> Result<ExitCode, CliError> {
    match command {
        Command::Clone(args) => clone::run(args, environment),
        Command::Credential(args) => credential::run(args, environment),
        Command::Api(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(call(command, &client)).map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn call(command: ApiCommand, client: &Client) -> Result<(), CliError> {
    match command {
        ApiCommand::Create(args) => create(args, client).await,
        ApiCommand::List(args) => list(args, client).await,
        ApiCommand::Delete(DeleteArgs { repo, json }) => {
            let deleted = client.delete_repo(&repo);
            spinner::during("Deleting the repository", deleted).await?;
            if json {
                return print_json(&json!({"repoId": repo}));
            }
            print_line(&format!("deleted {repo}"))
        }
        ApiCommand::Trigger(command) => trigger::run(command, client).await,
        ApiCommand::Sync(command) => sync::run(command, client).await,
        ApiCommand::Search(args) => search::run(args, client).await,
        ApiCommand::Log(args) => look::log(args, client).await,
        ApiCommand::Cat(args) => look::cat(args, client).await,
    }
}

async fn create(args: CreateArgs, client: &Client) -> Result<(), CliError> {
    let CreateArgs { name, public, default_branch, source_url, source_rev, json } = args;
    let source = source_url.map(|url| RepoSource { url, rev: source_rev, ..RepoSource::default() });
    let request =
        CreateRepoRequest { name, public: Some(public), default_branch, source, import: None };
    let created = client.create_repo(&request);
    let created = spinner::during("Creating the repository", created).await?;
    if json { print_json(&created) } else { print_line(&created.repo_id) }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let ListArgs { limit, offset, search, json } = args;
    let query = ListReposQuery { limit: Some(limit), offset: Some(offset), search };
    let list = spinner::during("Listing repositories", client.list_repos(&query)).await?;
    if json {
        return print_json(&list);
    }
    let ListReposResponse { repositories, total, offset } = list;
    if repositories.is_empty() && total == 0 {
        writeln!(io::stderr(), "no repositories; `freestyle git create` makes one")?;
        return Ok(());
    }
    let rows: Vec<_> = repositories.iter().map(row).collect();
    table::print(["ID", "NAME", "VISIBILITY", "DEFAULT", "BRANCHES", "TAGS", "CREATED"], &rows)?;
    let shown = offset + repositories.len() as u64;
    if shown < total {
        writeln!(io::stderr(), "{shown} of {total}; --offset {shown} shows the next")?;
    }
    Ok(())
}

fn row(repo: &RepoListItem) -> [String; 7] {
    [
        repo.repo_id.clone(),
        repo.name.clone().unwrap_or_else(|| "-".to_owned()),
        repo.visibility.to_string(),
        repo.default_branch.clone(),
        repo.branches.len().to_string(),
        repo.tags.len().to_string(),
        repo.created_at.get(..19).map_or(repo.created_at.clone(), |time| format!("{time}Z")),
    ]
}

/// What comes out of a repository may hold anything: a terminal must not act on it.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};

    pub(super) fn parse(line: &[&str]) -> Result<ApiCommand, clap::Error> {
        let cli = Cli::try_parse_from([&["freestyle", "git"], line].concat())?;
        let cli::Command::Git(Command::Api(command)) = cli.command else {
            unreachable!("it starts with git and is a call")
        };
        Ok(command)
    }

    #[test]
    fn a_revision_of_a_source_needs_the_source() {
        assert!(parse(&["create", "--source-rev", "main"]).is_err());
        assert!(parse(&["create", "--source-url", "https://x/y", "--source-rev", "main"]).is_ok());
    }

    #[test]
    fn what_is_in_a_repository_does_not_reach_the_terminal_as_it_is() {
        assert_eq!(printable("a\tb\u{1b}[2Jc\r"), "a\tb\u{fffd}[2Jc\u{fffd}");
    }
}
