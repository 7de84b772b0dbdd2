//! `freestyle vpc ...`: a client of the API.

use std::io::{self, Write};

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::{CreateVpcRequest, VpcItem};

use super::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
VMs that are created in it reach each other by private addresses; `freestyle vpn` lets your computer in.

Examples:
  vpc=$(freestyle vpc create --cidr 192.168.10.0/24)
  freestyle vm create --vpc $vpc --ip 192.168.10.10
  freestyle vm create --vpc $vpc                      with an address that is free";

/// What the npm SDK takes, too, where none is named.
const DEFAULT_CIDR: &str = "10.0.0.0/16";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a VPC and print its id
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the VPCs of your account and the VMs in them
    List(ListArgs),
    /// Delete a VPC that no VM is in; whoever has joined it by VPN is cut off
    Delete(DeleteArgs),
}

/// Options of `freestyle vpc create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A label; need not be unique
    #[arg(long, short)]
    name: Option<String>,
    /// Range of the VMs' addresses: one that is not in use where you want to reach them from
    #[arg(long, value_name = "RANGE", default_value = DEFAULT_CIDR)]
    cidr: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vpc list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vpc delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Id of the VPC
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Create(CreateArgs { name, cidr, json }) => {
            let request = CreateVpcRequest { cidr, name };
            let vpc = spinner::during("Creating a VPC", client.create_vpc(&request)).await?;
            if json { print_json(&vpc) } else { print_line(&vpc.vpc_id) }
        }
        Command::List(args) => list(args, client).await,
        Command::Delete(DeleteArgs { id, json }) => {
            let deleted = spinner::during("Deleting the VPC", client.delete_vpc(&id)).await?;
            if json { print_json(&deleted) } else { print_line(&format!("deleted {id}")) }
        }
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let list = spinner::during("Listing VPCs", client.list_vpcs()).await?;
    if args.json {
        return print_json(&list);
    }
    if list.vpcs.is_empty() {
        writeln!(io::stderr(), "no VPCs; `freestyle vpc create` makes one")?;
        return Ok(());
    }
    let rows: Vec<_> = list.vpcs.iter().flat_map(rows).collect();
    Ok(table::print(["ID", "NAME", "RANGE", "VM", "ADDRESS"], &rows)?)
}

/// One for each VM, or one for none.
fn rows(vpc: &VpcItem) -> Vec<[String; 5]> {
    let dash = || "-".to_owned();
    let row = |vm, address| {
        let name = vpc.name.clone().unwrap_or_else(dash);
        [vpc.vpc_id.clone(), name, vpc.cidr.clone(), vm, address]
    };
    if vpc.vms.is_empty() {
        return vec![row(dash(), dash())];
    }
    vpc.vms.iter().map(|member| row(member.vm_id.clone(), member.ipv4.clone())).collect()
}

#[cfg(test)]
mod tests {
    use freestyle_client::wire::VpcMember;

    use super::*;

    #[test]
    fn every_vm_has_a_row() {
        let member = |vm: &str| VpcMember { vm_id: vm.to_owned(), ipv4: "10.0.0.4".to_owned() };
        let vpc = |vms| VpcItem {
            vpc_id: "vpc-x".to_owned(),
            name: None,
            cidr: "10.0.0.0/16".to_owned(),
            created_at: String::new(),
            vms,
        };
        assert_eq!(rows(&vpc(vec![])), [["vpc-x", "-", "10.0.0.0/16", "-", "-"]]);
        let rows = rows(&vpc(vec![member("a"), member("b")]));
        assert_eq!(rows.iter().map(|row| row[3].as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
