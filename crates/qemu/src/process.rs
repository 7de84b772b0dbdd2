//! A running QEMU, whoever started it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::QemuError;

/// What every machine's `-name` starts with, so that the processes of this product are found.
pub(crate) const NAME_PREFIX: &str = "freestyle-";

/// A QEMU process. Dropping it does not end the process: guests outlive the server.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// Refers to the process and never to a later one with the same id.
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        #[expect(deprecated, reason = "the successor is unsafe; an OwnedFd keeps its promise")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { pid, pidfd })
    }

    /// Every QEMU of this product on the host, by the name its [`Launch`](crate::Launch) gave it,
    /// with the user it runs as. Reads all of `/proc`: for start-up. Needs a running tokio.
    pub fn scan() -> Result<HashMap<String, (Self, u32)>, QemuError> {
        let mut found = HashMap::new();
        let entries = fs::read_dir("/proc").map_err(QemuError::io("reading /proc"))?;
        for entry in entries.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
            // A process may end at any moment here; it then is not one of those that run.
            let Ok(process) = Self::open(pid) else { continue };
            let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
            if let (Some(name), Some(uid)) = (machine_name(&command), effective_uid(&status)) {
                found.insert(name, (process, uid));
            }
        }
        Ok(found)
    }

    /// The process id; it may be recycled once the process has ended.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        let mut poll = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        matches!(rustix::event::poll(&mut poll, Some(&Default::default())), Ok(0))
    }

    /// Waits until the process has ended; answers how in words. Reaps it if it is our child.
    pub async fn exited(&self) -> String {
        // An error can only mean that the descriptor cannot be polled, which a pidfd can.
        let _ = self.pidfd.readable().await;
        self.reap()
    }

    /// How the process ended, if it is a child of this one; a successor server cannot know.
    fn reap(&self) -> String {
        match rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
            _ => "ended".to_owned(),
        }
    }

    /// Ends the process at once and waits until it is gone.
    pub async fn kill(&self) -> Result<(), QemuError> {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(QemuError::io("killing QEMU")(error)),
        }
        tokio::time::timeout(Duration::from_secs(10), self.exited())
            .await
            .map(drop)
            .map_err(|_| QemuError::Timeout("the end of a killed QEMU"))
    }

    /// CPU time used so far, user and system, in the kernel's ticks of 10 ms.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let ticks = cpu_ticks(&stat)?;
        self.is_alive().then(|| Duration::from_millis(ticks * 10))
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second field may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The machine's name if this is the command line of a QEMU of ours.
fn machine_name(command: &[u8]) -> Option<String> {
    let mut arguments = command.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == b"-name")?;
    let name = std::str::from_utf8(arguments.next()?).ok()?;
    name.strip_prefix(NAME_PREFIX).map(str::to_owned)
}

fn effective_uid(status: &str) -> Option<u32> {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_recognised_by_its_name_argument() {
        let ours = b"qemu\0-name\0freestyle-abc\0-M\0q35\0";
        assert_eq!(machine_name(ours).as_deref(), Some("abc"));
        assert_eq!(machine_name(b"qemu\0-name\0other\0"), None);
        assert_eq!(machine_name(b"freestyle-abc\0"), None);
    }

    #[test]
    fn cpu_time_is_read_past_a_name_with_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(200));
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_to_end() {
        #[expect(clippy::zombie_processes, reason = "Process reaps it")]
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(Pid::from_child(&child)).unwrap();
        assert!(process.is_alive());
        process.kill().await.unwrap();
        assert!(!process.is_alive());
        assert_eq!(process.cpu_time(), None);
    }
}
