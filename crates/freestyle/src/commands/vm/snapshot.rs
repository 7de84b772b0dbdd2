//! `freestyle vm snapshot ...`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ArgAction, Subcommand};
use freestyle_client::Client;
use freestyle_client::wire::{
    CreateVmRequest, ListSnapshotsQuery, RenameSnapshotRequest, SnapshotPersistence,
    SnapshotRecord, SnapshotVmRequest,
};

use super::create::{Then, make};
use super::{printable, seconds, size};
use crate::commands::{print_json, print_line};
use crate::environment::Environment;
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
The VM runs on. A VM made from the snapshot goes on from where this one was: what ran, runs.

Examples:
  freestyle vm snapshot create VM --name 'with redis'
  freestyle vm create --snapshot $(freestyle vm snapshot create VM)";
const LIST_HELP: &str = "\
Those that are being made, are ready or failed are shown; flags add others.";
const RENAME_HELP: &str = "\
Examples:
  freestyle vm snapshot rename ID --name 'with redis 8'
  freestyle vm snapshot rename ID --name ''                take the name away";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a snapshot of a VM and print its id
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the snapshots of your account
    #[command(after_help = LIST_HELP)]
    List(ListArgs),
    /// Show a snapshot
    Get(OneArgs),
    /// Give a snapshot another name
    #[command(after_help = RENAME_HELP)]
    Rename(RenameArgs),
    /// Delete a snapshot; VMs made from it live on
    Delete(OneArgs),
    /// Create a VM from a snapshot and print its id
    Boot(BootArgs),
}

/// Options of `freestyle vm snapshot create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Id of the VM
    vm: String,
    /// A label; need not be unique
    #[arg(long, short)]
    name: Option<String>,
    /// May be removed when space runs out, those of a higher priority later [default: it stays]
    #[arg(long, value_name = "PRIORITY", num_args = 0..=1, default_missing_value = "5")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=10))]
    sticky: Option<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm snapshot list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Whether to show those that failed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    show_failed: bool,
    /// Show those that were deleted
    #[arg(long)]
    show_deleted: bool,
    /// Show those whose making was given up
    #[arg(long)]
    show_cancelled: bool,
    /// Show those whose files are missing or damaged
    #[arg(long)]
    show_lost: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of the commands that take a snapshot and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// Id of the snapshot
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm snapshot rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    /// Id of the snapshot
    id: String,
    /// The new name; an empty one takes it away
    #[arg(long, short)]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm snapshot boot`.
#[derive(Debug, clap::Args)]
pub(crate) struct BootArgs {
    /// Id of the snapshot
    id: String,
    /// A label for the VM; need not be unique
    #[arg(long, short)]
    name: Option<String>,
    #[command(flatten)]
    then: Then,
}

pub(super) async fn run(
    command: Command,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    match command {
        Command::Boot(args) => return boot(args, client, environment).await,
        Command::Create(args) => create(args, client).await?,
        Command::List(args) => list(args, client).await?,
        Command::Get(args) => get(args, client).await?,
        Command::Rename(args) => rename(args, client).await?,
        Command::Delete(args) => {
            let deleted = client.delete_snapshot(&args.id);
            let deleted = spinner::during("Deleting the snapshot", deleted).await?;
            if args.json {
                print_json(&deleted)?;
            } else {
                print_line(&format!("deleted {}", args.id))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs, client: &Client) -> Result<(), CliError> {
    let CreateArgs { vm, name, sticky, json } = args;
    let persistence =
        sticky.map(|priority| SnapshotPersistence::Sticky { priority: Some(priority) });
    let request = SnapshotVmRequest { name, persistence };
    let taken = spinner::during("Taking a snapshot", client.snapshot_vm(&vm, &request)).await?;
    if json { print_json(&taken) } else { print_line(&taken.snapshot_id) }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let query = ListSnapshotsQuery {
        include_failed: Some(args.show_failed),
        include_deleted: Some(args.show_deleted),
        include_cancelled: Some(args.show_cancelled),
        include_lost: Some(args.show_lost),
        include_building: None,
    };
    let list = spinner::during("Listing snapshots", client.list_snapshots(&query)).await?;
    if args.json {
        return print_json(&list);
    }
    if list.snapshots.is_empty() {
        writeln!(io::stderr(), "no snapshots; `freestyle vm snapshot create VM` takes one")?;
        return Ok(());
    }
    let rows: Vec<_> = list.snapshots.iter().map(row).collect();
    Ok(table::print(["SNAPSHOT ID", "NAME", "SOURCE VM", "STATE", "CREATED"], &rows)?)
}

fn row(snapshot: &SnapshotRecord) -> [String; 5] {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        snapshot.snapshot_id.clone(),
        or_none(&snapshot.name),
        or_none(&snapshot.source_vm_id),
        state(snapshot),
        seconds(&snapshot.created_at),
    ]
}

fn state(snapshot: &SnapshotRecord) -> String {
    if snapshot.deleted { "deleted".to_owned() } else { snapshot.state.to_string() }
}

async fn get(args: OneArgs, client: &Client) -> Result<(), CliError> {
    let got = spinner::during("Looking the snapshot up", client.get_snapshot(&args.id)).await?;
    if args.json {
        return print_json(&got);
    }
    print_line(&format!("id        {}", got.snapshot_id))?;
    print_line(&format!("name      {}", printable(got.name.as_deref().unwrap_or("-"))))?;
    print_line(&format!("state     {}", state(&got)))?;
    if let Some(reason) = &got.failure_reason {
        print_line(&format!("reason    {}", printable(reason)))?;
    }
    print_line(&format!("created   {}", seconds(&got.created_at)))?;
    if let Some(vm) = &got.source_vm_id {
        print_line(&format!("taken of  {vm}"))?;
    }
    if let (Some(vcpus), Some(memory), Some(disk)) =
        (got.vcpu_count, got.mem_size_mib, got.rootfs_size_mb)
    {
        print_line(&format!("VMs have  {vcpus} vCPUs, {}, disk {}", size(memory), size(disk)))?;
    }
    print_line(&match got.snapshot_persistence {
        SnapshotPersistence::Persistent {} => "kept      until it is deleted".to_owned(),
        SnapshotPersistence::Sticky { priority } => {
            format!("kept      while there is space, priority {}", priority.unwrap_or(5))
        }
    })
}

async fn rename(args: RenameArgs, client: &Client) -> Result<(), CliError> {
    let RenameArgs { id, name, json } = args;
    let request = RenameSnapshotRequest { name: Some((!name.is_empty()).then_some(name)) };
    let renamed = client.rename_snapshot(&id, &request);
    let renamed = spinner::during("Renaming the snapshot", renamed).await?;
    if json { print_json(&renamed) } else { print_line(&format!("renamed {id}")) }
}

async fn boot(
    args: BootArgs,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let BootArgs { id, name, then } = args;
    let request = CreateVmRequest { name, snapshot_id: Some(id), ..CreateVmRequest::default() };
    make(&request, then, client, environment).await
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse as parse_vm;
    use super::*;

    fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        match parse_vm(&[&["snapshot"], line].concat())? {
            super::super::Command::Snapshot(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_stays_unless_it_is_sticky() {
        let sticky = |line: &[&str]| match parse(line).unwrap() {
            Command::Create(args) => args.sticky,
            other => panic!("{other:?}"),
        };
        assert_eq!(sticky(&["create", "vm"]), None);
        assert_eq!(sticky(&["create", "vm", "--sticky"]), Some(5));
        assert_eq!(sticky(&["create", "vm", "--sticky", "10"]), Some(10));
        assert!(parse(&["create", "vm", "--sticky", "11"]).is_err());
    }

    #[test]
    fn failed_ones_are_listed_unless_told_otherwise() {
        let shown = |line: &[&str]| match parse(line).unwrap() {
            Command::List(args) => (args.show_failed, args.show_lost),
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(&["list"]), (true, false));
        assert_eq!(shown(&["list", "--show-failed", "--show-lost"]), (true, true));
        assert_eq!(shown(&["list", "--show-failed=false"]), (false, false));
    }
}
