//! `freestyle doctor`: what this host has and lacks for `freestyle serve`, and what to do about it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use freestyle_qemu::{Accelerator, AcceleratorChoice, Qemu, QemuError};
use serde::Serialize;

use super::{print_json, print_line};
use crate::config::{Config, Options};
use crate::environment::Environment;
use crate::error::CliError;

/// A base image and a few VMs.
const MIN_FREE_DISK_MIB: u64 = 10 * 1024;
/// The server, a base image's snapshot and a few VMs.
const MIN_FREE_MEMORY_MIB: u64 = 2 * 1024;

/// Options of `freestyle doctor`: those of `serve`, so that what is checked is what would run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    /// Configuration file of the server [default: freestyle.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether a part of the host will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Nothing to do.
    Ok,
    /// It works, with a drawback.
    Note,
    /// `freestyle serve` will not work.
    Problem,
}

/// One part of the host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do, unless it is in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn note(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, verdict: Verdict::Note, found: found.into(), advice }
    }

    fn problem(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, verdict: Verdict::Problem, found: found.into(), advice }
    }
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<ExitCode, CliError> {
    let config = Config::load(args.options, environment, args.config.as_deref())?;
    let mut checks = vec![qemu(&config.qemu, config.accelerator)];
    checks.extend(freestyle_network::checks().into_iter().map(network));
    checks.extend([
        tool("mkfs.ext4", "e2fsprogs"),
        tool("mmdebstrap", "mmdebstrap"),
        git(&config.git),
        guest_agent(&config.image.agent),
        disk("data disk", &config.data_dir),
        disk("cache disk", &config.cache_dir),
        memory(),
    ]);
    if args.json {
        print_json(&checks)?;
    } else {
        for check in &checks {
            print_line(&describe(check))?;
        }
    }
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Problem);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Problem => "PROBLEM",
    };
    let mut text = format!("{verdict:8}{:20}{}", check.name, check.found);
    if let Some(advice) = &check.advice {
        text.push_str(&format!("\n{:28}-> {advice}", ""));
    }
    text
}

/// Version and accelerator, as the server will find them.
fn qemu(path: &Path, choice: AcceleratorChoice) -> Check {
    const INSTALL: &str = "install qemu-system-x86 7.2 or later, or name one with --qemu";
    const NO_KVM: &str = "--accel auto runs VMs in software here; for kvm, use a host with \
                          hardware virtualisation";
    const SLOW: &str = "VMs run in software, many times slower: /dev/kvm and a CPU that shows vmx \
                        or svm would make them fast";
    let qemu = match Qemu::probe(path, choice) {
        Ok(qemu) => qemu,
        Err(error @ QemuError::NoKvm(_)) => {
            return Check::problem("QEMU", error.to_string(), NO_KVM);
        }
        Err(error) => return Check::problem("QEMU", error.to_string(), INSTALL),
    };
    let found = format!("{} {} with {}", qemu.path.display(), qemu.version, qemu.accelerator);
    match qemu.accelerator {
        Accelerator::Tcg if choice == AcceleratorChoice::Auto => Check::note("QEMU", found, SLOW),
        _ => Check::ok("QEMU", found),
    }
}

fn network(check: freestyle_network::Check) -> Check {
    if check.ok {
        Check::ok(check.name, "usable")
    } else {
        Check::problem(check.name, "not usable", check.advice)
    }
}

/// What builds the base image.
fn tool(name: &'static str, package: &str) -> Check {
    match find(name) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::problem(
            name,
            "not found, and no base image can be built without it",
            format!("install the package {package}"),
        ),
    }
}

/// Its version, as the server will find it.
fn git(path: &Path) -> Check {
    match freestyle_git::probe(path) {
        Ok(version) => Check::ok("git", version),
        Err(error) => Check::problem(
            "git",
            error.to_string(),
            "install the package git, or name one with --git",
        ),
    }
}

fn guest_agent(path: &Path) -> Check {
    const NAME: &str = "guest agent";
    if path.is_file() {
        Check::ok(NAME, path.display().to_string())
    } else {
        let found = format!("there is no {}", path.display());
        Check::problem(NAME, found, "name the agent's file with --guest-agent")
    }
}

/// Administrators' tools are often missing from a user's PATH and present all the same.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn disk(name: &'static str, folder: &Path) -> Check {
    // The folder need not exist yet: what counts is the filesystem it will be on.
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let free_mib = match rustix::fs::statvfs(existing) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024),
        Err(error) => {
            let found = format!("{}: {}", existing.display(), io::Error::from(error));
            return Check::problem(name, found, "name another directory");
        }
    };
    let found = format!("{} MiB free for {}", free_mib, folder.display());
    if free_mib < MIN_FREE_DISK_MIB {
        let advice = format!("make room: {MIN_FREE_DISK_MIB} MiB hold a base image and a few VMs");
        return Check::note(name, found, advice);
    }
    Check::ok(name, found)
}

fn memory() -> Check {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(free_mib) = available_mib(&meminfo) else {
        return Check::note("memory", "/proc/meminfo cannot be read", "mount /proc");
    };
    let found = format!("{free_mib} MiB available");
    if free_mib < MIN_FREE_MEMORY_MIB {
        return Check::note("memory", found, "VMs with less memory each, or more memory");
    }
    Check::ok("memory", found)
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_not_free_memory() {
        assert_eq!(available_mib("MemFree: 1 kB\nMemAvailable:   2097152 kB\n"), Some(2048));
        assert_eq!(available_mib("nothing"), None);
    }

    #[test]
    fn a_qemu_that_is_not_there_is_a_problem_with_advice() {
        let check = qemu(Path::new("/nonexistent/qemu"), AcceleratorChoice::Auto);
        assert_eq!(check.verdict, Verdict::Problem);
        assert!(describe(&check).contains("--qemu"));
    }

    #[test]
    fn a_disk_that_will_be_made_counts_as_the_one_it_will_be_on() {
        let folder = tempfile::tempdir().unwrap();
        let check = disk("data disk", &folder.path().join("not/yet/there"));
        assert!(check.found.contains("MiB free"), "{}", check.found);
    }
}
