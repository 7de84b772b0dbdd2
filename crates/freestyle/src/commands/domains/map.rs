//! `freestyle domains map`, `mappings` and `unmap`.

use std::io::{self, Write};

use clap::value_parser;
use freestyle_client::Client;
use freestyle_client::wire::{ListMappingsQuery, MapDomainRequest};
use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

pub(super) const HELP: &str = "\
A name below one of the server's preview domains needs no verification.

Examples:
  freestyle domains map app.style.localhost --vm-id VM --vm-port 3000
  freestyle domains map '*.example.com' --vm-id VM --vm-port 3000   every name right below";

/// Options of `freestyle domains map`.
#[derive(Debug, clap::Args)]
pub(crate) struct MapArgs {
    /// The domain
    domain: String,
    /// Id of the VM
    #[arg(long, value_name = "VM")]
    vm_id: String,
    /// The port in the VM that a server listens on
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    vm_port: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle domains mappings`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only the one of this domain
    #[arg(long)]
    domain: Option<String>,
    /// Show at most so many [default: 1000, the most there can be]
    #[arg(long)]
    limit: Option<u32>,
    /// Leave so many of the newest out
    #[arg(long)]
    offset: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle domains unmap`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnmapArgs {
    /// The domain
    domain: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn map(args: MapArgs, client: &Client) -> Result<(), CliError> {
    let MapArgs { domain, vm_id, vm_port, json } = args;
    let request = MapDomainRequest {
        vm_id: Some(vm_id),
        vm_port: Some(vm_port.into()),
        ..MapDomainRequest::default()
    };
    let mapped = client.map_domain(&domain, &request);
    let mapped = spinner::during("Mapping the domain", mapped).await?;
    if json {
        return print_json(&mapped);
    }
    let vm = mapped.vm_id.unwrap_or_default();
    print_line(&format!("{} leads to port {vm_port} of VM {vm}", mapped.domain))
}

pub(super) async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let ListArgs { domain, limit, offset, json } = args;
    let query = ListMappingsQuery { domain, limit, offset, ..ListMappingsQuery::default() };
    let mappings = spinner::during("Listing mappings", client.list_mappings(&query)).await?;
    if json {
        return print_json(&mappings);
    }
    if mappings.is_empty() {
        writeln!(io::stderr(), "no mappings; `freestyle domains map` makes one")?;
        return Ok(());
    }
    let rows = mappings.into_iter().map(|mapping| {
        let port = mapping.vm_port.map(|port| port.to_string()).unwrap_or_default();
        [mapping.domain, mapping.vm_id.unwrap_or_default(), port, mapping.created_at]
    });
    Ok(table::print(["DOMAIN", "VM", "PORT", "SINCE"], &rows.collect::<Vec<_>>())?)
}

pub(super) async fn unmap(args: UnmapArgs, client: &Client) -> Result<(), CliError> {
    let UnmapArgs { domain, json } = args;
    spinner::during("Unmapping the domain", client.unmap_domain(&domain)).await?;
    if json {
        return print_json(&json!({"domain": domain}));
    }
    print_line(&format!("unmapped {domain}"))
}
