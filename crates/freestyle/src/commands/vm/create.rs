//! `freestyle vm create`, and `freestyle vm snapshot boot`, which is the same with a snapshot.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use freestyle_client::Client;
use freestyle_client::wire::{
    CreateVmRequest, CreateVmResponse, ExecRequest, VmDomain, VmNic, VmNicAddress, VmNicMode,
};
use serde_json::json;

use super::exec::{exit_code, print_output, run_and_print_failure};
use super::idle::{IdleTimeout, on_the_wire};
use super::{delete_afterwards, ssh};
use crate::commands::{print_json, print_line};
use crate::environment::Environment;
use crate::error::CliError;
use crate::spinner;

pub(super) const CREATE_HELP: &str = "\
Examples:
  freestyle vm create                                   print the new VM's id
  freestyle vm create --vcpus 2 --memory 4 --apt git    with a size and a package
  freestyle vm create --snapshot ID                     go on from a snapshot
  freestyle vm create --domain app.style.localhost --port 3000
                                                        a VM that is a web site
  freestyle vm create --vpc ID --ip 192.168.10.10       in a VPC, with that address there
  freestyle vm create --exec 'uname -a' --delete        run one command and clean up
  freestyle vm create --ssh --delete                    a shell in a VM that goes with it";

/// Options of `freestyle vm create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A label; need not be unique
    #[arg(long, short)]
    name: Option<String>,
    /// Snapshot to go on from: its memory, processes and disk
    #[arg(long, short, value_name = "ID")]
    snapshot: Option<String>,
    /// Virtual CPUs: a power of two [default: 4, or the snapshot's]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory in GB: a power of two; 0.5 is 512 MiB [default: 8, or the snapshot's]
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    /// Root filesystem in GB [default: 20, or the snapshot's]
    #[arg(long, value_name = "GB")]
    disk: Option<f64>,
    /// Debian packages to install
    #[arg(long, value_name = "PACKAGE", num_args = 1..)]
    apt: Vec<String>,
    /// Have this domain lead to the VM: a preview or one that is verified
    #[arg(long, short)]
    domain: Option<String>,
    /// The port in the VM that the domain leads to
    #[arg(
        long,
        short,
        default_value_t = 3000,
        requires = "domain",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    port: u16,
    /// Seconds without network traffic until the VM is suspended, or never [default: 300]
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<IdleTimeout>,
    /// VPC to be in
    #[arg(long, value_name = "ID")]
    vpc: Option<String>,
    /// Address in the VPC [default: one that is free]
    #[arg(long, value_name = "ADDR", requires = "vpc")]
    ip: Option<Ipv4Addr>,
    #[command(flatten)]
    then: Then,
}

/// What to do with the new VM.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("use").args(["exec", "ssh"]).multiple(true))]
pub(crate) struct Then {
    /// Run a command when the VM is ready, and exit with its exit code
    #[arg(long, short, value_name = "COMMAND")]
    exec: Option<String>,
    /// Log in with ssh when the VM is ready and the command, if there is one, has worked
    #[arg(long, conflicts_with = "json")]
    ssh: bool,
    /// Delete the VM afterwards
    #[arg(long, requires = "use")]
    delete: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn create(
    args: CreateArgs,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let CreateArgs {
        name,
        snapshot,
        vcpus,
        memory,
        disk,
        apt,
        domain,
        port,
        idle_timeout,
        vpc,
        ip,
        then,
    } = args;
    let domain = domain.map(|domain| vec![VmDomain { domain, vm_port: Some(port.into()) }]);
    let request = CreateVmRequest {
        name,
        snapshot_id: snapshot,
        vcpu_count: vcpus.map(f64::from),
        mem_size_gb: memory,
        rootfs_size_gb: disk,
        apt_deps: (!apt.is_empty()).then_some(apt),
        idle_timeout_seconds: on_the_wire(idle_timeout),
        domains: domain,
        nics: vpc.map(|vpc| vec![nic(vpc, ip)]),
        ..CreateVmRequest::default()
    };
    make(&request, then, client, environment).await
}

/// A place in a VPC that the VM is known by everywhere.
fn nic(vpc: String, ip: Option<Ipv4Addr>) -> VmNic {
    let any = VmNicAddress::Any(true);
    VmNic {
        vpc,
        mode: VmNicMode::Routed,
        ipv4: ip.map_or(any, |ip| VmNicAddress::Fixed(ip.to_string())),
        default: Some(true),
        backend: None,
    }
}

/// Creates a VM and does with it what was asked.
pub(super) async fn make(
    request: &CreateVmRequest,
    then: Then,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let vm = spinner::during("Creating a VM", client.create_vm(request)).await?;
    let is_used = then.exec.is_some() || then.ssh;
    if then.json && !is_used {
        print_json(&vm)?;
    } else if !is_used {
        print_line(&vm.id)?;
    } else if !then.json {
        // Standard output is the command's.
        writeln!(io::stderr(), "VM {}", vm.id)?;
    }
    for domain in vm.domains.iter().filter(|_| !then.json) {
        writeln!(io::stderr(), "https://{domain} leads to it")?;
    }
    let used = use_vm(&vm, &then, client, environment).await;
    if then.delete {
        delete_afterwards(client, &vm.id).await?;
    }
    used
}

async fn use_vm(
    vm: &CreateVmResponse,
    then: &Then,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    if let Some(command) = &then.exec {
        let request = ExecRequest::new(command.clone());
        let output = run_and_print_failure(client, &vm.id, None, &request).await?;
        if then.json {
            let mut answer = json!(vm);
            answer["exec"] = json!(output);
            print_json(&answer)?;
        } else {
            print_output(&output)?;
        }
        if !then.ssh || output.status_code != Some(0) {
            return exit_code(&output);
        }
    }
    if then.ssh {
        return ssh::log_in(client, environment, &vm.id, None, Vec::new()).await;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::parse;

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
        assert!(parse(&["create", "--ssh", "--delete"]).is_ok());
        assert!(parse(&["create", "--exec", "true", "--ssh", "--delete"]).is_ok());
    }

    #[test]
    fn flags_have_the_letters_of_the_npm_cli() {
        let parsed = parse(&["create", "-n", "a", "-s", "sc-x", "-e", "true"]).unwrap();
        let Command::Create(args) = parsed else { panic!("{parsed:?}") };
        assert_eq!((args.name.as_deref(), args.snapshot.as_deref()), (Some("a"), Some("sc-x")));
        assert_eq!(args.then.exec.as_deref(), Some("true"));
    }
}
