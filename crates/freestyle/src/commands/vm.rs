//! `freestyle vm ...`: a client of the API.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use freestyle_client::wire::{
    CreateVmRequest, ExecRequest, ExecResponse, ListVmsQuery, ListVmsResponse, StartVmRequest,
    VmListItem,
};
use freestyle_client::{Client, ClientError};
use serde_json::{Value, json};

use super::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
Examples:
  freestyle vm create                                   print the new VM's id
  freestyle vm create --vcpus 2 --memory 4 --apt git    with a size and a package
  freestyle vm create --exec 'uname -a' --delete        run one command and clean up";
const EXEC_HELP: &str = "\
Prints what the command prints and exits with its exit code.

Examples:
  freestyle vm exec ID 'cd /srv && make test'
  freestyle vm exec ID --user www-data --timeout 30 whoami";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a VM and print its id
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List the VMs of your account
    List(ListArgs),
    /// Show a VM
    Get(OneArgs),
    /// Run a command in a VM, starting the VM if it is stopped
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// Boot a stopped VM
    Start(OneArgs),
    /// Shut a VM down and keep its disk
    Stop(OneArgs),
    /// End a VM's process at once and keep its disk
    Kill(OneArgs),
    /// Delete a VM and its disk
    Delete(OneArgs),
}

/// Options of `freestyle vm create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A label; need not be unique
    #[arg(long)]
    name: Option<String>,
    /// Virtual CPUs: a power of two [default: 4]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory in GB: a power of two; 0.5 is 512 MiB [default: 8]
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    /// Root filesystem in GB [default: 20]
    #[arg(long, value_name = "GB")]
    disk: Option<f64>,
    /// Debian packages to install
    #[arg(long, value_name = "PACKAGE", num_args = 1..)]
    apt: Vec<String>,
    /// Run a command when the VM is ready, and exit with its exit code
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Delete the VM after the command
    #[arg(long, requires = "exec")]
    delete: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
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

/// Options of `freestyle vm exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// Id of the VM
    id: String,
    /// The command, given to a shell
    command: String,
    /// Linux user to run it as [default: root]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Kill the command after this many seconds and exit with 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<ExitCode, CliError> {
    match command {
        Command::Create(args) => return create(args, client).await,
        Command::Exec(args) => return exec(args, client).await,
        Command::List(args) => list(args, client).await?,
        Command::Get(args) => get(args, client).await?,
        Command::Start(args) => {
            let request = StartVmRequest::default();
            let started = client.start_vm(&args.id, &request);
            let started = spinner::during("Starting the VM", started).await?;
            done(&args, &json!(started), "started")?;
        }
        Command::Stop(args) => {
            let stopped = spinner::during("Stopping the VM", client.stop_vm(&args.id)).await?;
            done(&args, &json!(stopped), "stopped")?;
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

fn done(args: &OneArgs, answer: &Value, what: &str) -> Result<(), CliError> {
    if args.json { print_json(answer) } else { print_line(&format!("{what} {}", args.id)) }
}

async fn create(args: CreateArgs, client: &Client) -> Result<ExitCode, CliError> {
    let CreateArgs { name, vcpus, memory, disk, apt, exec, delete, json } = args;
    let request = CreateVmRequest {
        name,
        vcpu_count: vcpus.map(f64::from),
        mem_size_gb: memory,
        rootfs_size_gb: disk,
        apt_deps: (!apt.is_empty()).then_some(apt),
        ..CreateVmRequest::default()
    };
    let vm = spinner::during("Creating a VM", client.create_vm(&request)).await?;
    let Some(command) = exec else {
        if json {
            print_json(&vm)?
        } else {
            print_line(&vm.id)?
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !json {
        // Standard output is the command's.
        writeln!(io::stderr(), "VM {}", vm.id)?;
    }
    let request = ExecRequest::new(command);
    let result = run_and_print_failure(client, &vm.id, None, &request).await;
    if delete {
        let deleted = spinner::during("Deleting the VM", client.delete_vm(&vm.id)).await;
        if let Err(error) = deleted {
            let report = CliError::from(error).report();
            write!(io::stderr(), "VM {} was not deleted: {report}", vm.id)?;
        }
    }
    let output = result?;
    if json {
        let mut answer = json!(vm);
        answer["exec"] = json!(output);
        print_json(&answer)?;
    } else {
        print_output(&output)?;
    }
    exit_code(&output)
}

async fn exec(args: ExecArgs, client: &Client) -> Result<ExitCode, CliError> {
    let ExecArgs { id, command, user, timeout, json } = args;
    let timeout_ms = timeout.map(|seconds| seconds * 1000);
    let request = ExecRequest { timeout_ms, ..ExecRequest::new(command) };
    let output = run_and_print_failure(client, &id, user.as_deref(), &request).await?;
    if json {
        print_json(&output)?
    } else {
        print_output(&output)?
    }
    exit_code(&output)
}

/// Runs a command; of one that ran over its time, prints what it had printed.
async fn run_and_print_failure(
    client: &Client,
    vm: &str,
    user: Option<&str>,
    request: &ExecRequest,
) -> Result<ExecResponse, CliError> {
    let ran = spinner::during("Running the command", client.exec(vm, user, request)).await;
    if let Err(ClientError::Api(failure)) = &ran
        && failure.code == "EXEC_TIMED_OUT"
    {
        let field = |name: &str| failure.fields.get(name)?.as_str().map(str::to_owned);
        print_output(&ExecResponse {
            stdout: field("stdout"),
            stderr: field("stderr"),
            status_code: None,
        })?;
    }
    Ok(ran?)
}

fn print_output(output: &ExecResponse) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(output.stdout.as_deref().unwrap_or_default().as_bytes())?;
    stdout.flush()?;
    let stderr = output.stderr.as_deref().unwrap_or_default();
    Ok(io::stderr().write_all(stderr.as_bytes())?)
}

/// The command's own, which the guest keeps below 256.
fn exit_code(output: &ExecResponse) -> Result<ExitCode, CliError> {
    let status = output.status_code.and_then(|status| u8::try_from(status).ok());
    status.map(ExitCode::from).ok_or_else(|| CliError::new("the command has no exit code"))
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
    // To the second: RFC 3339 without its fraction.
    let created = vm.created_at.as_deref().unwrap_or_default();
    let created = created.get(..19).map_or(created.to_owned(), |time| format!("{time}Z"));
    [
        vm.id.clone(),
        vm.name.clone().unwrap_or_else(|| "-".to_owned()),
        vm.state.to_string(),
        vm.sizing.vcpu_count.to_string(),
        size(vm.sizing.mem_size_mib),
        size(vm.sizing.rootfs_size_mb),
        created,
    ]
}

fn size(mib: u64) -> String {
    if mib.is_multiple_of(1024) { format!("{} GB", mib / 1024) } else { format!("{mib} MB") }
}

async fn get(args: OneArgs, client: &Client) -> Result<(), CliError> {
    let vm = spinner::during("Looking the VM up", client.get_vm(&args.id)).await?;
    if args.json {
        return print_json(&vm);
    }
    let name = vm.name.unwrap_or_else(|| "-".to_owned()).replace(char::is_control, "\u{fffd}");
    print_line(&format!("id        {}", vm.id))?;
    print_line(&format!("name      {name}"))?;
    print_line(&format!("state     {}", vm.state))?;
    if let Some(instance) = vm.vm_instance_id {
        print_line(&format!("instance  {instance}"))?;
    }
    if let Some(seconds) = vm.cpu_time_seconds {
        print_line(&format!("CPU time  {seconds:.1} s"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};

    fn parse(line: &[&str]) -> Result<Command, clap::Error> {
        let cli = Cli::try_parse_from([&["freestyle", "vm"], line].concat())?;
        let cli::Command::Vm(command) = cli.command else { unreachable!("it starts with vm") };
        Ok(command)
    }

    #[test]
    fn several_packages_follow_one_flag() {
        let parsed = parse(&["create", "--apt", "git", "make", "--memory", "0.5"]).unwrap();
        let Command::Create(args) = parsed else { panic!("{parsed:?}") };
        assert_eq!(args.apt, ["git", "make"]);
        assert_eq!(args.memory, Some(0.5));
    }

    #[test]
    fn a_vm_is_not_deleted_before_it_did_anything() {
        assert!(parse(&["create", "--delete"]).is_err());
        assert!(parse(&["create", "--exec", "true", "--delete"]).is_ok());
    }

    #[test]
    fn a_timeout_is_bounded() {
        assert!(parse(&["exec", "id", "true", "--timeout", "0"]).is_err());
        assert!(parse(&["exec", "id", "true", "--timeout", "86400"]).is_ok());
        assert!(parse(&["exec", "id", "true", "--timeout", "86401"]).is_err());
    }

    #[test]
    fn sizes_are_in_gb_where_they_can_be() {
        assert_eq!(size(8192), "8 GB");
        assert_eq!(size(512), "512 MB");
    }
}
