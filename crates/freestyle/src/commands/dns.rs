//! `freestyle dns ...`: what the DNS of a domain says, as a client of the API.

use std::io::{self, Write};

use clap::{Subcommand, ValueEnum};
use freestyle_client::Client;
use freestyle_client::wire::{
    CreateDnsRecordRequest, DeleteDnsRecordQuery, DnsRecord, DnsRecordInput, DnsRecordKind,
    ListDnsRecordsQuery,
};

use super::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const HELP: &str = "\
The domain must be verified (`freestyle domains verify`), and its DNS delegated to this server with the
NS records that `freestyle dns list` shows.

Examples:
  freestyle dns create example.com www CNAME app.example.com
  freestyle dns create example.com @ MX mail.example.com --priority 10
  freestyle dns create example.com @ TXT 'v=spf1 mx -all' --ttl 3600";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what the DNS of a domain says
    List(ListArgs),
    /// Have the DNS of a domain say something more
    #[command(after_help = HELP)]
    Create(CreateArgs),
    /// Have the DNS of a domain say something no more
    Delete(RecordArgs),
}

/// Options of `freestyle dns list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The domain
    domain: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which record.
#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// The domain
    domain: String,
    /// Whose record it is, in the domain: @ is the domain itself
    name: String,
    /// What it is about
    kind: Kind,
    /// What it says
    value: String,
    /// Priority of an MX record; the lowest is tried first
    #[arg(long, value_name = "N")]
    priority: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle dns create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// How long others may keep it [default: 300]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u32>,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Kind {
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Txt,
}

impl From<Kind> for DnsRecordKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::A => Self::A,
            Kind::Aaaa => Self::Aaaa,
            Kind::Cname => Self::Cname,
            Kind::Mx => Self::Mx,
            Kind::Ns => Self::Ns,
            Kind::Txt => Self::Txt,
        }
    }
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::List(args) => list(args, client).await,
        Command::Create(args) => create(args, client).await,
        Command::Delete(args) => delete(args, client).await,
    }
}

async fn list(ListArgs { domain, json }: ListArgs, client: &Client) -> Result<(), CliError> {
    let query = ListDnsRecordsQuery { domain };
    let listed = spinner::during("Listing records", client.list_dns_records(&query)).await?;
    if json {
        return print_json(&listed.records);
    }
    if listed.records.is_empty() {
        writeln!(io::stderr(), "no records; `freestyle dns create` makes one")?;
        return Ok(());
    }
    let rows = listed.records.into_iter().map(|record| {
        let DnsRecord { kind, name, value, ttl, priority, managed: _ } = record;
        let value = match priority {
            Some(priority) => format!("{priority} {value}"),
            None => value,
        };
        [name, ttl, kind.to_string(), value]
    });
    Ok(table::print(["NAME", "TTL", "KIND", "VALUE"], &rows.collect::<Vec<_>>())?)
}

async fn create(CreateArgs { record, ttl }: CreateArgs, client: &Client) -> Result<(), CliError> {
    let (domain, record, json) = decode(record, ttl);
    let request = CreateDnsRecordRequest { domain, record };
    let made = spinner::during("Making the record", client.create_dns_record(&request)).await?;
    if json {
        return print_json(&made.record);
    }
    let DnsRecord { kind, name, value, .. } = made.record;
    print_line(&format!("{name} in {}: {kind} {value}", request.domain))
}

async fn delete(args: RecordArgs, client: &Client) -> Result<(), CliError> {
    let (domain, record, json) = decode(args, None);
    let record = serde_json::to_string(&record);
    let record = record.map_err(|error| CliError::new(format!("cannot encode: {error}")))?;
    let query = DeleteDnsRecordQuery { domain, record };
    let deleted = spinner::during("Deleting the record", client.delete_dns_record(&query)).await?;
    if json {
        return print_json(&deleted);
    }
    print_line(&deleted.message)
}

fn decode(args: RecordArgs, ttl: Option<u32>) -> (String, DnsRecordInput, bool) {
    let RecordArgs { domain, name, kind, value, priority, json } = args;
    let ttl = ttl.map(|ttl| ttl.to_string());
    let record = DnsRecordInput { kind: kind.into(), name, value, ttl, priority };
    (domain, record, json)
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

    #[test]
    fn a_record_is_written_as_in_a_zone_file() {
        for (line, good) in [
            (&["dns", "create", "a.com", "@", "MX", "m.a.com", "--priority", "10"][..], true),
            (&["dns", "create", "a.com", "www", "AAAA", "2001:db8::1", "--ttl", "60"], true),
            (&["dns", "delete", "a.com", "www", "TXT", "x y"], true),
            (&["dns", "create", "a.com", "www", "SRV", "x"], false),
            (&["dns", "create", "a.com", "www", "A"], false),
            (&["dns", "create", "a.com", "www", "A", "192.0.2.1", "--ttl", "-1"], false),
        ] {
            assert_eq!(Line::try_parse_from(line).is_ok(), good, "{line:?}");
        }
    }
}
