//! `freestyle vm ...`: a client of the API.

mod change;
mod create;
mod exec;
mod idle;
mod pty;
mod snapshot;
mod ssh;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::{ListVmsQuery, ListVmsResponse, StartVmRequest, VmListItem};
use serde_json::{Value, json};

use self::idle::{IdleTimeout, on_the_wire};
use super::{print_json, print_line};
use crate::environment::Environment;
use crate::error::CliError;
use crate::{spinner, table};

const START_HELP: &str = "\
A suspended VM goes on where it was; a stopped one boots. One that runs only takes the new settings.

Examples:
  freestyle vm start ID
  freestyle vm start ID --idle-timeout 600     suspend after ten minutes without network traffic
  freestyle vm start ID --idle-timeout never";
const SUSPEND_HELP: &str = "\
Nothing of the VM runs then. `start` wakes it, and so does whatever needs it: exec, a file, a terminal.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a VM and print its id
    #[command(after_help = create::CREATE_HELP)]
    Create(create::CreateArgs),
    /// List the VMs of your account
    List(ListArgs),
    /// Show a VM
    Get(OneArgs),
    /// Run a command in a VM, starting the VM if it is stopped or suspended
    #[command(after_help = exec::EXEC_HELP)]
    Exec(exec::ExecArgs),
    /// Log in to a VM with ssh, starting the VM if it is stopped or suspended
    #[command(after_help = ssh::SSH_HELP)]
    Ssh(ssh::SshArgs),
    /// Copy files to or from a VM with scp
    #[command(after_help = ssh::SCP_HELP)]
    Scp(ssh::ScpArgs),
    /// Open a terminal in a VM, or come back to one
    #[command(after_help = pty::PTY_HELP)]
    Pty(pty::PtyArgs),
    /// Make VMs that go on from where one is
    #[command(after_help = change::FORK_HELP)]
    Fork(change::ForkArgs),
    /// Take snapshots of VMs and look after them
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Wake a suspended VM or boot a stopped one
    #[command(after_help = START_HELP)]
    Start(StartArgs),
    /// Shut a VM down and keep its disk; a suspended one gives up its memory
    Stop(OneArgs),
    /// Save a VM's memory and end its process
    #[command(after_help = SUSPEND_HELP)]
    Suspend(OneArgs),
    /// Change the CPUs, memory or disk of a VM
    #[command(after_help = change::RESIZE_HELP)]
    Resize(change::ResizeArgs),
    /// Flatten the layers of a VM's disk into one
    Optimize(OneArgs),
    /// End a VM's process at once and keep its disk
    Kill(OneArgs),
    /// Delete a VM and its disk
    Delete(OneArgs),
}

/// Options of `freestyle vm list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of the commands that take a VM and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// Id of the VM
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm start`.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Seconds without network traffic until the VM is suspended, or never [default: as it was]
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<IdleTimeout>,
    #[command(flatten)]
    one: OneArgs,
}

pub(crate) async fn run(
    command: Command,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    match command {
        Command::Create(args) => return create::create(args, client, environment).await,
        Command::Ssh(args) => return ssh::ssh(args, client, environment).await,
        Command::Scp(args) => return ssh::scp(args, client, environment).await,
        Command::Exec(args) => return exec::exec(args, client).await,
        Command::Pty(args) => return pty::run(args, client).await,
        Command::Snapshot(command) => return snapshot::run(command, client, environment).await,
        Command::List(args) => list(args, client).await?,
        Command::Get(args) => get(args, client).await?,
        Command::Fork(args) => change::fork(args, client).await?,
        Command::Resize(args) => change::resize(args, client).await?,
        Command::Start(StartArgs { one: args, idle_timeout }) => {
            let request = StartVmRequest {
                idle_timeout_seconds: on_the_wire(idle_timeout),
                ..StartVmRequest::default()
            };
            let started = client.start_vm(&args.id, &request);
            let started = spinner::during("Starting the VM", started).await?;
            done(&args, &json!(started), "started")?;
        }
        Command::Stop(args) => {
            let stopped = spinner::during("Stopping the VM", client.stop_vm(&args.id)).await?;
            done(&args, &json!(stopped), "stopped")?;
        }
        Command::Suspend(args) => {
            let suspended = client.suspend_vm(&args.id);
            let suspended = spinner::during("Suspending the VM", suspended).await?;
            done(&args, &json!(suspended), "suspended")?;
        }
        Command::Optimize(args) => {
            let optimized = client.optimize_vm(&args.id);
            let optimized = spinner::during("Flattening the disk", optimized).await?;
            if args.json {
                print_json(&optimized)?;
            } else {
                print_line(&printable(&optimized.message))?;
            }
        }
        Command::Kill(args) => {
            let killed = spinner::during("Ending the VM", client.kill_vm(&args.id)).await?;
            done(&args, &json!(killed), "killed")?;
        }
        Command::Delete(args) => {
            let deleted = spinner::during("Deleting the VM", client.delete_vm(&args.id)).await?;
            done(&args, &json!(deleted), "deleted")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Deletes a VM that was needed for one command. What the command answered matters more than that
/// this failed.
async fn delete_afterwards(client: &Client, vm: &str) -> Result<(), CliError> {
    let deleted = spinner::during("Deleting the VM", client.delete_vm(vm)).await;
    if let Err(error) = deleted {
        let report = CliError::from(error).report();
        write!(io::stderr(), "VM {vm} was not deleted: {report}")?;
    }
    Ok(())
}

fn done(args: &OneArgs, answer: &Value, what: &str) -> Result<(), CliError> {
    if args.json { print_json(answer) } else { print_line(&format!("{what} {}", args.id)) }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let query = ListVmsQuery::default();
    let list = spinner::during("Listing VMs", client.list_vms(&query)).await?;
    if args.json {
        return print_json(&list);
    }
    let ListVmsResponse { vms, .. } = list;
    if vms.is_empty() {
        writeln!(io::stderr(), "no VMs; `freestyle vm create` makes one")?;
        return Ok(());
    }
    let rows: Vec<_> = vms.iter().map(row).collect();
    Ok(table::print(["ID", "NAME", "STATE", "CPU", "MEMORY", "DISK", "CREATED"], &rows)?)
}

fn row(vm: &VmListItem) -> [String; 7] {
    [
        vm.id.clone(),
        vm.name.clone().unwrap_or_else(|| "-".to_owned()),
        vm.state.to_string(),
        vm.sizing.vcpu_count.to_string(),
        size(vm.sizing.mem_size_mib),
        size(vm.sizing.rootfs_size_mb),
        vm.created_at.as_deref().map(seconds).unwrap_or_default(),
    ]
}

/// A point in time without the fraction of a second.
fn seconds(rfc3339: &str) -> String {
    rfc3339.get(..19).map_or(rfc3339.to_owned(), |time| format!("{time}Z"))
}

/// Names come from other people: a terminal must not act on what is in them.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn size(mib: u64) -> String {
    if mib.is_multiple_of(1024) { format!("{} GB", mib / 1024) } else { format!("{mib} MB") }
}

async fn get(args: OneArgs, client: &Client) -> Result<(), CliError> {
    let vm = spinner::during("Looking the VM up", client.get_vm(&args.id)).await?;
    if args.json {
        return print_json(&vm);
    }
    print_line(&format!("id        {}", vm.id))?;
    print_line(&format!("name      {}", printable(vm.name.as_deref().unwrap_or("-"))))?;
    print_line(&format!("state     {}", vm.state))?;
    if let Some(instance) = vm.vm_instance_id {
        print_line(&format!("instance  {instance}"))?;
    }
    if let Some(time) = vm.cpu_time_seconds {
        print_line(&format!("CPU time  {time:.1} s"))?;
    }
    if let Some(at) = vm.last_network_activity {
        print_line(&format!("network   last used {}", seconds(&at)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};

    pub(super) fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        let cli = Cli::try_parse_from([&["freestyle", "vm"], line].concat())?;
        let cli::Command::Vm(command) = cli.command else { unreachable!("it starts with vm") };
        Ok(command)
    }

    #[test]
    fn a_start_may_change_the_idle_timeout() {
        let timeout = |line: &[&str]| match parse(line).unwrap() {
            Command::Start(args) => args.idle_timeout,
            other => panic!("{other:?}"),
        };
        assert_eq!(timeout(&["start", "id"]), None);
        assert_eq!(timeout(&["start", "id", "--idle-timeout", "never"]), Some(IdleTimeout::Never));
        assert!(parse(&["start", "id", "--idle-timeout", "0"]).is_err());
    }

    #[test]
    fn sizes_are_in_gb_where_they_can_be() {
        assert_eq!(size(8192), "8 GB");
        assert_eq!(size(512), "512 MB");
    }
}
