//! `freestyle whoami`.

use freestyle_client::Client;

use super::{print_json, print_line};
use crate::error::CliError;
use crate::spinner;

/// Options of `freestyle whoami`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, client: &Client) -> Result<(), CliError> {
    let who = spinner::during("Asking the server", client.whoami()).await?;
    if args.json {
        return print_json(&who);
    }
    print_line(&format!("account   {}", who.account_id))?;
    match who.identity_id {
        Some(identity) => print_line(&format!("identity  {identity}")),
        None => Ok(()),
    }
}
