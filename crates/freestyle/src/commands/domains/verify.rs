//! `freestyle domains verify`, `complete` and `verifications`.

use std::io::{self, Write};

use freestyle_client::Client;
use freestyle_client::wire::CompleteVerificationRequest;

use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

/// The label in front of a domain whose TXT record is looked at (protocol section 13).
const TXT_LABEL: &str = "_freestyle_custom_hostname";

pub(super) const HELP: &str = "\
Whoever has verified a domain has verified everything below it.

Examples:
  freestyle domains verify example.com              shows the TXT record to make
  freestyle domains complete --domain example.com   once it is there
  freestyle domains map app.example.com --vm-id VM --vm-port 3000";

/// Options of `freestyle domains verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The domain
    domain: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle domains complete`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompleteArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which verification is meant.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The one of this domain
    #[arg(long)]
    domain: Option<String>,
    /// The one with this id
    #[arg(long, value_name = "ID")]
    verification_id: Option<String>,
}

/// Options of `freestyle domains verifications`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn verify(args: VerifyArgs, client: &Client) -> Result<(), CliError> {
    let begun = spinner::during("Asking for a code", client.verify_domain(&args.domain)).await?;
    if args.json {
        return print_json(&begun);
    }
    let name = format!("{TXT_LABEL}.{}", begun.domain);
    let row = ["TXT".to_owned(), name, begun.verification_code];
    table::print(["TYPE", "NAME", "VALUE"], &[row])?;
    writeln!(
        io::stderr(),
        "Make this DNS record, then: freestyle domains complete --domain {}",
        begun.domain
    )?;
    Ok(())
}

pub(super) async fn complete(args: CompleteArgs, client: &Client) -> Result<(), CliError> {
    let Which { domain, verification_id } = args.which;
    let which = match domain {
        Some(domain) => CompleteVerificationRequest::Domain { domain },
        // One of them is required.
        None => CompleteVerificationRequest::Id { id: verification_id.unwrap_or_default() },
    };
    let done = spinner::during("Looking at the DNS", client.complete_verification(&which)).await?;
    if args.json { print_json(&done) } else { print_line(&format!("verified {}", done.domain)) }
}

pub(super) async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let pending = spinner::during("Listing verifications", client.list_verifications()).await?;
    if args.json {
        return print_json(&pending);
    }
    if pending.is_empty() {
        writeln!(io::stderr(), "nothing is to be verified")?;
        return Ok(());
    }
    let rows = pending.into_iter().map(|it| [it.domain, it.verification_code, it.created_at]);
    Ok(table::print(["DOMAIN", "CODE", "SINCE"], &rows.collect::<Vec<_>>())?)
}
