//! `freestyle identity token ...`.

use std::io::{self, Write};

use clap::Subcommand;
use freestyle_client::Client;

use super::done;
use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
The token is printed once and cannot be shown again. Its id, for `revoke`, is in --json and in
`freestyle identity token list`.

Examples:
  token=$(freestyle identity token create IDENTITY)
  ssh VM:$token@your-server";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it
    #[command(after_help = CREATE_HELP)]
    Create(OneArgs),
    /// List the ids of an identity's tokens
    List(OneArgs),
    /// End a token at once
    Revoke(RevokeArgs),
}

/// Options of the commands that take an identity and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// Id of the identity
    identity: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle identity token revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Id of the identity
    identity: String,
    /// Id of the token, not the token itself
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Create(args) => {
            let created = client.create_token(&args.identity);
            let created = spinner::during("Making a token", created).await?;
            if args.json { print_json(&created) } else { print_line(&created.token) }
        }
        Command::List(args) => list(args, client).await,
        Command::Revoke(args) => {
            let revoked = client.revoke_token(&args.identity, &args.id);
            spinner::during("Revoking the token", revoked).await?;
            done(args.json, "revoked", &args.id)
        }
    }
}

async fn list(args: OneArgs, client: &Client) -> Result<(), CliError> {
    let list = spinner::during("Listing tokens", client.list_tokens(&args.identity)).await?;
    if args.json {
        return print_json(&list);
    }
    if list.tokens.is_empty() {
        writeln!(io::stderr(), "no tokens; `freestyle identity token create` makes one")?;
        return Ok(());
    }
    let rows: Vec<_> = list.tokens.into_iter().map(|token| [token.id]).collect();
    Ok(table::print(["ID"], &rows)?)
}
