//! `freestyle vm fork` and `freestyle vm resize`.

use clap::Args;
use freestyle_client::Client;
use freestyle_client::wire::{ForkVmRequest, ResizeVmRequest};
use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::spinner;

pub(super) const FORK_HELP: &str = "\
Each child goes on from where the VM is, with its memory, processes and disk; nothing that happens
afterwards crosses over. The VM itself runs on.

Examples:
  freestyle vm fork ID                  print the child's id
  freestyle vm fork ID --count 4        four children, one id a line
  for vm in $(freestyle vm fork ID --count 4); do freestyle vm exec $vm 'make test' & done; wait";
pub(super) const RESIZE_HELP: &str = "\
A VM that runs or is suspended is shut down and started again: its disk stays, its processes do not.

Examples:
  freestyle vm resize ID --vcpus 8 --memory 16
  freestyle vm resize ID --disk 80             the filesystem grows with the disk";

/// Options of `freestyle vm fork`.
#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// Id of the VM
    id: String,
    /// How many children
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..=128))]
    count: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm resize`.
#[derive(Debug, Args)]
pub(crate) struct ResizeArgs {
    /// Id of the VM
    id: String,
    #[command(flatten)]
    sizes: Sizes,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Sizes {
    /// Virtual CPUs: a power of two
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory in GB: a power of two; 0.5 is 512 MiB
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    /// Root filesystem in GB; it cannot shrink
    #[arg(long, value_name = "GB")]
    disk: Option<f64>,
}

pub(super) async fn fork(args: ForkArgs, client: &Client) -> Result<(), CliError> {
    let request = ForkVmRequest { count: Some(args.count), ..ForkVmRequest::default() };
    let forked = spinner::during("Forking the VM", client.fork_vm(&args.id, &request)).await?;
    if args.json {
        return print_json(&forked);
    }
    for child in forked.forks {
        print_line(&child.id)?;
    }
    Ok(())
}

pub(super) async fn resize(args: ResizeArgs, client: &Client) -> Result<(), CliError> {
    let Sizes { vcpus, memory, disk } = args.sizes;
    let request = ResizeVmRequest {
        vcpu_count: vcpus.map(f64::from),
        mem_size_gb: memory,
        rootfs_size_gb: disk,
    };
    spinner::during("Resizing the VM", client.resize_vm(&args.id, &request)).await?;
    if args.json {
        return print_json(&json!({"id": args.id}));
    }
    print_line(&format!("resized {}", args.id))
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::parse;

    #[test]
    fn a_fork_has_one_child_unless_it_says_how_many() {
        let parsed = parse(&["fork", "id"]).unwrap();
        let Command::Fork(args) = parsed else { panic!("{parsed:?}") };
        assert_eq!(args.count, 1);
        assert!(parse(&["fork", "id", "--count", "128"]).is_ok());
        for bad in ["0", "-1", "129", "x"] {
            assert!(parse(&["fork", "id", "--count", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resize_without_sizes_is_a_mistake() {
        assert!(parse(&["resize", "id"]).is_err());
        assert!(parse(&["resize", "id", "--disk", "40"]).is_ok());
        assert!(parse(&["resize", "id", "--vcpus", "2", "--memory", "4"]).is_ok());
    }
}
