//! The one way in which this crate starts `git`.
//!
//! A child gets an environment of ours and nothing of the server's, the configuration below instead
//! of any file but the repository's own, a process group of its own, and resource limits before it
//! reads its first byte of input.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::CommandFdExt;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::GitError;

/// How long a child that was told to end may clean up its lock files and temporary objects.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a child's standard error is kept for the log.
const STDERR_KEPT: usize = 4096;

/// Bytes of a child's standard output that are kept, where it is not a stream for a client.
pub(crate) const LONGEST_OUTPUT: u64 = 64 << 10;

/// Settings that are the same for every repository. They are given on each start rather than
/// written to each repository, so that a new version of the server changes them for all.
const CONFIGURATION: &[(&str, &str)] = &[
    // The server may run as another user than the one who created the data directory.
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsync", "all"),
    ("core.fsyncMethod", "fsync"),
    // Larger blobs are streamed to disk and never held in memory for deltas.
    ("core.bigFileThreshold", "16m"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.allow", "never"),
    ("transfer.fsckObjects", "true"),
    // Each push is one pack file: one flush makes it durable, whatever its number of objects.
    ("transfer.unpackLimit", "1"),
    ("transfer.hideRefs", "refs/internal"),
    ("receive.autogc", "false"),
    ("receive.advertisePushOptions", "false"),
    // Mistakes of old tools that are in the history of well-known projects and harm no one.
    ("receive.fsck.badTimezone", "ignore"),
    ("receive.fsck.missingSpaceBeforeDate", "ignore"),
    ("receive.fsck.zeroPaddedFilemode", "ignore"),
    // Partial clones as clients make them. Other filters can cost the server any time.
    ("uploadpack.allowFilter", "true"),
    ("uploadpackfilter.allow", "false"),
    ("uploadpackfilter.blob:none.allow", "true"),
    ("uploadpackfilter.blob:limit.allow", "true"),
    ("uploadpackfilter.tree.allow", "true"),
    ("uploadpackfilter.tree.maxDepth", "8"),
    ("uploadpack.allowAnySHA1InWant", "false"),
    ("uploadpack.advertiseBundleURIs", "false"),
    ("pack.threads", "2"),
    ("pack.windowMemory", "128m"),
    ("pack.deltaCacheSize", "64m"),
    ("core.deltaBaseCacheLimit", "64m"),
];

/// What one child may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessLimits {
    /// Bytes of private memory. Pack files are mapped and do not count.
    pub(crate) memory: u64,
    /// Bytes of the largest file it may write.
    pub(crate) file_size: u64,
    /// Processor time.
    pub(crate) cpu: Duration,
}

/// A `git` that was found and is new enough.
#[derive(Debug)]
pub(crate) struct GitProgram {
    program: PathBuf,
    limits: ProcessLimits,
    /// Every process has it open, so that it stays locked until the last of them has ended, even
    /// when the server is killed before.
    lock: File,
}

/// The version of a git, if it has everything used here (2.36, for `core.fsync`). Runs it, and blocks
/// meanwhile.
pub fn probe(program: &Path) -> Result<String, GitError> {
    let output = std::process::Command::new(program).arg("version").env("LC_ALL", "C").output();
    let failed = || format!("cannot run {}", program.display());
    let output = output.map_err(|error| GitError::Internal(format!("{}: {error}", failed())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("git version ").unwrap_or_default();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < (2, 36) {
        return Err(GitError::Internal(format!(
            "git 2.36 or newer is needed; {} says {:?}",
            program.display(),
            text.trim()
        )));
    }
    Ok(version.to_owned())
}

impl GitProgram {
    /// Checks `program` with [`probe`]. `lock` is a locked file that each process inherits.
    pub(crate) async fn find(
        program: PathBuf,
        limits: ProcessLimits,
        lock: File,
    ) -> Result<Self, GitError> {
        let probed = program.clone();
        let probed = tokio::task::spawn_blocking(move || probe(&probed)).await;
        probed.map_err(|error| GitError::Internal(format!("a task failed: {error}")))??;
        Ok(Self { program, limits, lock })
    }

    /// `git` with a fixed environment and configuration, its standard streams closed.
    fn command(&self, settings: &[(&str, &str)]) -> Result<Command, GitError> {
        let lock = self.lock.try_clone().map_err(GitError::io("cannot start git"))?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1");
        let all = CONFIGURATION.iter().chain(settings);
        let mut count = 0;
        for (at, (key, value)) in all.enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
            count = at + 1;
        }
        command
            .env("GIT_CONFIG_COUNT", count.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .preserved_fds(vec![lock.into()]);
        Ok(command)
    }

    /// Starts `git <arguments>` for the repository in `directory`, its three streams piped.
    pub(crate) fn start<'a>(
        &self,
        directory: &Path,
        settings: &[(&str, &str)],
        protocol: Option<&str>,
        arguments: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<GitProcess, GitError> {
        let mut command = self.command(settings)?;
        command.args(arguments).env("GIT_DIR", directory).current_dir(directory);
        if let Some(protocol) = protocol {
            command.env("GIT_PROTOCOL", protocol);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::io("cannot start git"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(|| GitError::Internal("git ended at once".into()))?;
        // It has read nothing yet, and what it starts inherits the limits.
        self.limits.apply(group).map_err(GitError::io("cannot limit git"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(GitError::Internal("git has no standard streams".into()));
        };
        let stderr = tokio::spawn(read_last(stderr));
        Ok(GitProcess {
            child,
            group,
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr,
            ended: false,
        })
    }
}

impl ProcessLimits {
    fn apply(&self, process: Pid) -> std::io::Result<()> {
        let limits = [
            (Resource::Data, self.memory),
            (Resource::Fsize, self.file_size),
            (Resource::Cpu, self.cpu.as_secs()),
            (Resource::Core, 0),
            (Resource::Nofile, 4096),
        ];
        for (resource, limit) in limits {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            rustix::process::prlimit(Some(process), resource, limit)?;
        }
        Ok(())
    }
}

/// The end of what a child says on standard error; reading on keeps it from blocking.
async fn read_last(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length]);
        kept.drain(..kept.len().saturating_sub(STDERR_KEPT));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// A running `git` with everything it started. Dropping it kills them all.
#[derive(Debug)]
pub(crate) struct GitProcess {
    child: Child,
    group: Pid,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    stderr: tokio::task::JoinHandle<String>,
    ended: bool,
}

/// What came of a `git` that had nothing to be told.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// Its beginning, up to [`LONGEST_OUTPUT`].
    pub(crate) stdout: Vec<u8>,
    /// Its last lines.
    pub(crate) stderr: String,
}

impl GitProcess {
    /// Waits for the end and answers the exit status and the last lines of standard error.
    /// Nothing of its group is left then.
    pub(crate) async fn wait(mut self) -> Result<(ExitStatus, String), GitError> {
        drop((self.stdin.take(), self.stdout.take()));
        let status = self.child.wait().await.map_err(GitError::io("cannot wait for git"))?;
        // Grandchildren that outlived it hold standard error open.
        self.signal(Signal::KILL);
        self.ended = true;
        let stderr = (&mut self.stderr).await.unwrap_or_default();
        Ok((status, stderr))
    }

    /// Lets it run to its end, without any input, and answers what came of it. `TimedOut` when that
    /// takes longer than `time`.
    pub(crate) async fn finish(mut self, time: Duration) -> Result<Finished, GitError> {
        drop(self.stdin.take());
        let mut stdout = Vec::new();
        let read = async {
            if let Some(mut stream) = self.stdout.take() {
                (&mut stream).take(LONGEST_OUTPUT).read_to_end(&mut stdout).await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(time, read).await {
            Ok(read) => read.map_err(GitError::io("cannot read what git says"))?,
            Err(_) => {
                self.terminate().await;
                return Err(GitError::TimedOut);
            }
        }
        let (status, stderr) = self.wait().await?;
        Ok(Finished { status, stdout, stderr })
    }

    /// Ends it, first gently: git removes its lock files and temporary objects then.
    pub(crate) async fn terminate(mut self) {
        drop((self.stdin.take(), self.stdout.take()));
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        // What is left of the group, if anything, ends when `self` is dropped.
    }

    /// Lets everything else on the host go first.
    pub(crate) fn yield_to_others(&self) {
        const NICENESS: i32 = 10;
        let lowered = rustix::process::setpriority_process(Some(self.group), NICENESS);
        if let Err(error) = lowered {
            tracing::debug!(%error, "the priority of a git stays as it is");
        }
    }

    fn signal(&self, signal: Signal) {
        // The group's id cannot be another's yet when a member is left; when none is left, the
        // worst is an error.
        let _ = rustix::process::kill_process_group(self.group, signal);
    }
}

impl Drop for GitProcess {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}
