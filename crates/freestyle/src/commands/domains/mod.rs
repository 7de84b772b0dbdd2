//! `freestyle domains ...`: a client of the API.

mod map;
mod verify;

use std::io::{self, Write};

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::ListDomainsQuery;

use super::print_json;
use crate::error::CliError;
use crate::{spinner, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what DNS has to say so that a domain is yours
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArgs),
    /// Have the DNS looked at; the domain is yours if it says so
    Complete(verify::CompleteArgs),
    /// List the domains that are still to be verified
    Verifications(verify::ListArgs),
    /// List the domains that are yours
    List(ListArgs),
    /// Have a domain lead to a port of a VM, in place of whatever it led to
    #[command(after_help = map::HELP)]
    Map(map::MapArgs),
    /// List what leads where
    Mappings(map::ListArgs),
    /// Have a domain lead nowhere
    Unmap(map::UnmapArgs),
}

/// Options of `freestyle domains list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Show at most so many [default: 1000, the most there can be]
    #[arg(long)]
    limit: Option<u32>,
    /// Leave so many of the oldest out
    #[arg(long)]
    offset: Option<u32>,
    /// Also show previews, which are yours for as long as they are mapped
    #[arg(long)]
    previews: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Verify(args) => verify::verify(args, client).await,
        Command::Complete(args) => verify::complete(args, client).await,
        Command::Verifications(args) => verify::list(args, client).await,
        Command::List(args) => list(args, client).await,
        Command::Map(args) => map::map(args, client).await,
        Command::Mappings(args) => map::list(args, client).await,
        Command::Unmap(args) => map::unmap(args, client).await,
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let ListArgs { limit, offset, previews, json } = args;
    let implicitly_owned = previews.then_some(true);
    let query = ListDomainsQuery { limit, offset, implicitly_owned };
    let domains = spinner::during("Listing domains", client.list_domains(&query)).await?;
    if json {
        return print_json(&domains);
    }
    if domains.is_empty() {
        writeln!(io::stderr(), "no domains; `freestyle domains verify` begins with one")?;
        return Ok(());
    }
    let rows = domains.into_iter().map(|domain| {
        let kind = if domain.verified_dns { "verified" } else { "preview" };
        [domain.domain, kind.to_owned(), domain.created_at]
    });
    Ok(table::print(["DOMAIN", "KIND", "SINCE"], &rows.collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    pub(super) fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        Line::try_parse_from([&["domains"], line].concat()).map(|line| line.command)
    }

    #[test]
    fn a_verification_is_completed_by_domain_or_by_id() {
        for good in [&["--domain", "a.com"], &["--verification-id", "dv-x"]] {
            assert!(parse(&[&["complete"], &good[..]].concat()).is_ok(), "{good:?}");
        }
        for bad in [&[][..], &["--domain", "a.com", "--verification-id", "dv-x"]] {
            assert!(parse(&[&["complete"], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_mapping_has_a_vm_and_a_port() {
        assert!(parse(&["map", "a.com", "--vm-id", "x", "--vm-port", "80"]).is_ok());
        for bad in [
            &["map", "a.com"][..],
            &["map", "a.com", "--vm-id", "x"],
            &["map", "a.com", "--vm-id", "x", "--vm-port", "0"],
            &["map", "a.com", "--vm-id", "x", "--vm-port", "65536"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
