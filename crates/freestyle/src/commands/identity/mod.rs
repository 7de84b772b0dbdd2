//! `freestyle identity ...`: a client of the API.

mod grant;
mod token;

use std::io::{self, Write};

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::ListIdentitiesQuery;
use serde_json::json;

use super::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
An identity can do nothing until it has a token and is granted something.

Examples:
  identity=$(freestyle identity create)
  freestyle identity grant $identity --vm VM --user alice
  freestyle identity token create $identity         give this to the user, never your API key";
const LIST_HELP: &str = "\
Examples:
  freestyle identity list
  freestyle identity list --limit 100 --offset 100   the second hundred";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an identity and print its id
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the identities of your account
    #[command(after_help = LIST_HELP)]
    List(ListArgs),
    /// Delete an identity; its tokens and grants end at once
    Delete(DeleteArgs),
    /// Let an identity use a VM or a repository
    #[command(after_help = grant::GRANT_HELP)]
    Grant(grant::GrantArgs),
    /// Show what an identity may use: the first thousand VMs and repositories
    Grants(grant::ListArgs),
    /// End an identity's right to use a VM or a repository at once
    #[command(after_help = grant::REVOKE_HELP)]
    Revoke(grant::RevokeArgs),
    /// Make tokens for an identity and revoke them
    #[command(subcommand)]
    Token(token::Command),
}

/// Options of `freestyle identity create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle identity list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Show at most so many [default: 1000, the most there can be]
    #[arg(long)]
    limit: Option<u32>,
    /// Leave so many of the oldest out
    #[arg(long)]
    offset: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle identity delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Id of the identity
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Create(args) => {
            let created = client.create_identity();
            let created = spinner::during("Creating an identity", created).await?;
            if args.json { print_json(&created) } else { print_line(&created.id) }
        }
        Command::List(args) => list(args, client).await,
        Command::Delete(args) => {
            let deleted = client.delete_identity(&args.id);
            spinner::during("Deleting the identity", deleted).await?;
            done(args.json, "deleted", &args.id)
        }
        Command::Grant(args) => grant::grant(args, client).await,
        Command::Grants(args) => grant::list(args, client).await,
        Command::Revoke(args) => grant::revoke(args, client).await,
        Command::Token(command) => token::run(command, client).await,
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let ListArgs { limit, offset, json } = args;
    let query = ListIdentitiesQuery { limit, offset, include_managed: None };
    let list = spinner::during("Listing identities", client.list_identities(&query)).await?;
    if json {
        return print_json(&list);
    }
    if list.total == 0 {
        writeln!(io::stderr(), "no identities; `freestyle identity create` makes one")?;
        return Ok(());
    }
    let shown = list.identities.len() as u64;
    let rows: Vec<_> = list.identities.into_iter().map(|identity| [identity.id]).collect();
    table::print(["ID"], &rows)?;
    if shown < list.total {
        writeln!(io::stderr(), "{shown} of {}; --offset shows others", list.total)?;
    }
    Ok(())
}

/// Says what was done to what the server answers nothing about.
fn done(json: bool, what: &str, id: &str) -> Result<(), CliError> {
    if json { print_json(&json!({"id": id})) } else { print_line(&format!("{what} {id}")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};

    pub(super) fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        let cli = Cli::try_parse_from([&["freestyle", "identity"], line].concat())?;
        let cli::Command::Identity(command) = cli.command else {
            unreachable!("it starts with identity")
        };
        Ok(command)
    }
}
