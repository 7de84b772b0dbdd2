//! `freestyle doctor`: what this host has and lacks for `freestyle serve`, and what to do about it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;

use super::{print_json, print_line};
use crate::config::{Accel, Config, Options};
use crate::environment::Environment;
use crate::error::CliError;

/// Oldest QEMU that is known to work.
const MIN_QEMU: (u32, u32) = (7, 2);
/// A base image and a few VMs.
const MIN_FREE_DISK_MIB: u64 = 10 * 1024;
/// The server, a base image's snapshot and a few VMs.
const MIN_FREE_MEMORY_MIB: u64 = 2 * 1024;

/// Options of `freestyle doctor`.
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
    let checks = [
        root(),
        qemu(&config.qemu),
        tool("qemu-img", "qemu-utils", "makes disks"),
        kvm(config.accel),
        tool("ip", "iproute2", "shows and makes networks"),
        tool("nft", "nftables", "filters the network of VMs"),
        tool("mkfs.ext4", "e2fsprogs", "makes the base image"),
        tool("mmdebstrap", "mmdebstrap", "makes the base image"),
        tun(),
        disk("data disk", &config.data_dir),
        disk("cache disk", &config.cache_dir),
        memory(),
    ];
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
    let mut text = format!("{verdict:8}{:12}{}", check.name, check.found);
    if let Some(advice) = &check.advice {
        text.push_str(&format!("\n{:20}-> {advice}", ""));
    }
    text
}

fn root() -> Check {
    if rustix::process::geteuid().is_root() {
        Check::ok("root", "running as root")
    } else {
        Check::problem(
            "root",
            "not running as root",
            "run `freestyle serve` as root: it makes network namespaces, and a user for each VM",
        )
    }
}

fn qemu(path: &Path) -> Check {
    const ADVICE: &str = "install qemu-system-x86 7.2 or newer, or name one with --qemu";
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            return Check::problem(
                "qemu",
                format!("{}: {}", path.display(), output.status),
                ADVICE,
            );
        }
        Err(error) => {
            return Check::problem("qemu", format!("{}: {error}", path.display()), ADVICE);
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().to_owned();
    match qemu_version(&line) {
        Some(version) if version >= MIN_QEMU => Check::ok("qemu", line),
        _ => Check::problem("qemu", line, ADVICE),
    }
}

/// Major and minor number out of `QEMU emulator version 7.2.19 (Debian ...)`.
fn qemu_version(line: &str) -> Option<(u32, u32)> {
    let version = line.strip_prefix("QEMU emulator version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// KVM needs both: some hosts expose a `/dev/kvm` that cannot run an ordinary kernel.
fn kvm(accel: Accel) -> Check {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let missing = match device {
        Err(error) => format!("/dev/kvm: {error}"),
        Ok(_) if !has_virtualization(&flags) => "the CPU shows neither vmx nor svm".to_owned(),
        Ok(_) => return Check::ok("kvm", "usable"),
    };
    let advice = "VMs run in software, some ten times slower; use a host with hardware \
                  virtualization for speed";
    if accel == Accel::Kvm {
        Check::problem("kvm", missing, "--accel kvm asks for it; use auto or tcg on this host")
    } else {
        Check::note("kvm", missing, advice)
    }
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

fn tool(name: &'static str, package: &str, purpose: &str) -> Check {
    match find(name) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::problem(
            name,
            format!("not found; it {purpose}"),
            format!("install the package {package}"),
        ),
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

fn tun() -> Check {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Check::ok("tun", "/dev/net/tun opens"),
        Err(error) => Check::problem(
            "tun",
            format!("/dev/net/tun: {error}"),
            "load the kernel module tun, or give this container the device",
        ),
    }
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
    fn versions_are_read_off_the_first_line() {
        let debian = "QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u15)";
        assert_eq!(qemu_version(debian), Some((7, 2)));
        assert_eq!(qemu_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(qemu_version("something else"), None);
    }

    #[test]
    fn virtualization_is_a_flag_and_no_part_of_one() {
        assert!(has_virtualization("flags\t\t: fpu vmx sse\n"));
        assert!(has_virtualization("flags\t\t: fpu svm\n"));
        assert!(!has_virtualization("flags\t\t: fpu svm_lock\nmodel name: vmx\n"));
    }

    #[test]
    fn available_memory_is_not_free_memory() {
        assert_eq!(available_mib("MemFree: 1 kB\nMemAvailable:   2097152 kB\n"), Some(2048));
        assert_eq!(available_mib("nothing"), None);
    }

    #[test]
    fn a_qemu_that_is_not_there_is_a_problem_with_advice() {
        let check = qemu(Path::new("/nonexistent/qemu"));
        assert_eq!(check.verdict, Verdict::Problem);
        assert!(describe(&check).contains("--qemu"));
    }
}
