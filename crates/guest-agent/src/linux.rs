//! The real system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use freestyle_guest_protocol::message::{Entropy, Nic};
use rustix::fs::{major, minor};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use crate::identity::{Generation, Machine, hex};
use crate::{exec, nic, sys};

/// What programs of the guest may read of the agent.
const PUBLISHED: &str = "/run/freestyle";
const GENERATION: &str = "generation";
/// What `/usr/local/bin/fetch-ssh-keys` gives sshd to read.
const LOGIN_KEY: &str = "authorized_keys";
/// The place in a VPC that the system was given last. It is in memory, as the address itself is:
/// neither is there after a boot, both are in a clone.
const VPC_NIC: &str = "vpc-nic";
/// What the image does for its network when it boots, for a system that has not come so far.
const BASE_NETWORK: &str = "/etc/freestyle/network";
const SECTOR: u64 = 512;
const NANOS: u64 = 1_000_000_000;

/// The Linux system the agent runs on. Needs root.
#[derive(Debug)]
pub struct LinuxMachine;

impl Machine for LinuxMachine {
    fn generation(&self) -> Option<Generation> {
        let text = fs::read_to_string(Path::new(PUBLISHED).join(GENERATION)).ok()?;
        let number = u128::from_str_radix(text.trim_end(), 16).ok()?;
        Some(number.to_be_bytes())
    }

    fn boot_id(&self) -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim_end().to_owned()
    }

    fn clock(&self) -> u64 {
        let now = rustix::time::clock_gettime(ClockId::Realtime);
        let (seconds, nanos) =
            (now.tv_sec.max(0).unsigned_abs(), now.tv_nsec.max(0).unsigned_abs());
        seconds.saturating_mul(NANOS).saturating_add(nanos)
    }

    fn set_clock(&self, unix_nanos: u64) -> io::Result<()> {
        // A u64 of nanoseconds is far fewer seconds than an i64 holds.
        let tv_sec = (unix_nanos / NANOS).cast_signed();
        let tv_nsec = (unix_nanos % NANOS).cast_signed();
        rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec })?;
        Ok(())
    }

    fn add_entropy(&self, entropy: &Entropy) -> io::Result<()> {
        let random = OpenOptions::new().write(true).open("/dev/urandom")?;
        let mut bytes = [0; 64];
        bytes.copy_from_slice(entropy.as_bytes());
        sys::add_entropy(&random, bytes)?;
        sys::reseed(&random)
    }

    fn set_hostname(&self, hostname: &str) -> io::Result<()> {
        rustix::system::sethostname(hostname.as_bytes())?;
        overwrite("/etc/hostname", &format!("{hostname}\n"))
    }

    fn set_machine_id(&self, machine_id: &str) -> io::Result<()> {
        overwrite("/etc/machine-id", &format!("{machine_id}\n"))
    }

    fn set_login_key(&self, line: Option<&str>) -> io::Result<()> {
        if let Some(line) = line {
            return publish(LOGIN_KEY, line);
        }
        withdraw(LOGIN_KEY)
    }

    fn set_nic(&self, nic: Option<&Nic>) -> io::Result<()> {
        let had = fs::read_to_string(Path::new(PUBLISHED).join(VPC_NIC)).unwrap_or_default();
        let had = had.trim_end();
        if nic.is_none_or(|nic| nic::line(nic) != had)
            && let Some(address) = nic::address_of(had)
        {
            // The owner may have removed it.
            let _ = ip(&nic::commands_to_leave(address));
            withdraw(VPC_NIC)?;
        }
        let Some(nic) = nic else { return Ok(()) };
        // A guest that boots may be as far or not: both do what is not done yet.
        ip(&fs::read_to_string(BASE_NETWORK)?)?;
        ip(&nic::commands_to_join(nic))?;
        publish(VPC_NIC, &nic::line(nic))
    }

    fn publish_generation(&self, generation: &Generation) -> io::Result<()> {
        publish(GENERATION, &hex(generation))
    }

    /// Only the kernel's own resize of ext4, as the images of this platform have it.
    fn grow_root(&self) -> io::Result<()> {
        let root = File::open("/")?;
        let device = root.metadata()?.dev();
        let sectors =
            fs::read_to_string(format!("/sys/dev/block/{}:{}/size", major(device), minor(device)))?;
        let sectors: u64 = sectors.trim_end().parse().map_err(io::Error::other)?;
        let block = u64::try_from(rustix::fs::fstatfs(&root)?.f_bsize).map_err(io::Error::other)?;
        let blocks = sectors.saturating_mul(SECTOR).checked_div(block);
        sys::resize_ext4(&root, blocks.ok_or_else(|| io::Error::other("no block size"))?)
    }

    fn begin_power_off(&self) -> io::Result<()> {
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("poweroff").env("PATH", exec::PATH).stdin(Stdio::null());
        let output = systemctl.output()?;
        if output.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("systemctl poweroff: {reason}")))
    }

    fn power_off_now(&self) -> io::Result<()> {
        rustix::fs::sync();
        rustix::system::reboot(RebootCommand::PowerOff)?;
        Ok(())
    }
}

/// Puts a line where programs find it: whoever looks sees the old one or the new one.
fn publish(name: &str, line: &str) -> io::Result<()> {
    let (file, next) = (Path::new(PUBLISHED).join(name), format!("{PUBLISHED}/.{name}"));
    fs::create_dir_all(PUBLISHED)?;
    fs::write(&next, format!("{line}\n"))?;
    fs::rename(next, file)
}

/// Undoes that, also where it was not done.
fn withdraw(name: &str) -> io::Result<()> {
    match fs::remove_file(Path::new(PUBLISHED).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs commands of `ip`.
fn ip(commands: &str) -> io::Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).env("PATH", exec::PATH);
    let mut child =
        ip.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // It reads all before it ends, or ends early and says why; dropping the pipe ends its input.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(commands.as_bytes()));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("ip: {reason}")));
    }
    written.unwrap_or(Ok(()))
}

/// Replaces a small file's content where it is: truncating it first would make the filesystem write
/// it out at once, and leave it empty if the machine ended there.
fn overwrite(path: &str, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(content.as_bytes())?;
    file.set_len(content.len() as u64)
}
