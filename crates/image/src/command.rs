//! How this crate runs a program: contained, bounded in time and output, and gone when its caller
//! is gone.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::ImageError;

const TAIL_LINES: usize = 20;
const MAX_LINE_BYTES: usize = 500;

/// The programs a build calls on the host, and the Debian packages that have them.
const HOST_TOOLS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
];

/// Whether this process can build at all, before it spends minutes on finding out.
pub(crate) fn check_host() -> Result<(), ImageError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    check_tools(&search_path())
}

fn check_tools(path: &OsStr) -> Result<(), ImageError> {
    for &(tool, package) in HOST_TOOLS {
        if !env::split_paths(path).any(|dir| dir.join(tool).is_file()) {
            return Err(ImageError::MissingTool { tool, package });
        }
    }
    Ok(())
}

/// `PATH` with the administrator's directories, which a service or `su` may lack.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// One run of one program.
pub(crate) struct Tool {
    name: &'static str,
    command: Command,
    limit: Duration,
    max_stdout: usize,
}

impl Tool {
    /// A program of the host, in mount and process namespaces of its own: whatever it mounts never
    /// shows outside, and when it is killed everything it started dies with it.
    pub(crate) fn on_host(name: &'static str, limit: Duration) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", name])
            .env("PATH", search_path());
        Self { name, command, limit, max_stdout: 0 }
    }

    /// A program of the guest, run inside its directory tree.
    pub(crate) fn in_tree(tree: &Path, name: &'static str, limit: Duration) -> Self {
        let mut tool = Self::on_host("chroot", limit);
        tool.name = name;
        tool.command
            .arg(tree)
            .arg(name)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .current_dir("/");
        tool
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Wants standard output, which otherwise is discarded; more than `bytes` of it is an error.
    pub(crate) fn capture(mut self, bytes: usize) -> Self {
        self.max_stdout = bytes;
        self
    }

    /// Runs the program to its end and returns what [`Self::capture`] asked for. Each line of its
    /// messages (standard error) goes to `on_line`. Dropping the future, or the time limit, kills
    /// the program and its descendants.
    pub(crate) async fn run(
        mut self,
        stdin: File,
        mut on_line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ImageError> {
        let captured = if self.max_stdout > 0 { Stdio::piped() } else { Stdio::null() };
        let mut child = self
            .command
            .env("LC_ALL", "C.UTF-8")
            .stdin(stdin)
            .stdout(captured)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(ImageError::io(self.name))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut tail = Tail::default();
        let work = async {
            let (stdout, ()) = tokio::try_join!(
                read_all(stdout, self.max_stdout),
                read_lines(stderr, |line| {
                    tail.push(line);
                    on_line(line);
                })
            )?;
            io::Result::Ok((stdout, child.wait().await?))
        };
        let Ok(done) = tokio::time::timeout(self.limit, work).await else {
            child.kill().await.map_err(ImageError::io(self.name))?;
            return Err(ImageError::Timeout { what: self.name, limit: self.limit });
        };
        let (stdout, status) = done.map_err(ImageError::io(self.name))?;
        if !status.success() {
            return Err(ImageError::Tool { tool: self.name, status, output: tail.join() });
        }
        if stdout.len() > self.max_stdout {
            let problem = format!("more than {} bytes", self.max_stdout);
            return Err(ImageError::UnexpectedOutput { tool: self.name, problem });
        }
        Ok(stdout)
    }
}

/// Reads to the end but keeps at most one byte more than `limit`: enough to tell that it was more.
async fn read_all(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut pipe).take(limit as u64 + 1).read_to_end(&mut kept).await?;
    // A program that finds nobody reading ends with a misleading error of its own.
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Hands out the lines as they come; both ends of line that progress displays use count.
async fn read_lines(
    pipe: Option<impl AsyncRead + Unpin>,
    mut on_line: impl FnMut(&str),
) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    loop {
        let count = pipe.read(&mut chunk).await?;
        let end = count == 0;
        for &byte in if end { b"\n".as_slice() } else { &chunk[..count] } {
            if byte != b'\n' && byte != b'\r' {
                if line.len() < MAX_LINE_BYTES {
                    line.push(byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                on_line(text.trim());
            }
            line.clear();
        }
        if end {
            return Ok(());
        }
    }
}

/// The last lines of a program's messages, for the error that quotes them.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    fn join(self) -> String {
        Vec::from(self.0).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Plain `sh`: containment needs root, and these tests are about the plumbing.
    fn shell(script: &str, limit: Duration) -> Tool {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Tool { name: "sh", command, limit, max_stdout: 0 }
    }

    fn no_input() -> File {
        File::open("/dev/null").unwrap()
    }

    #[test]
    fn the_first_missing_tool_is_named_with_its_package() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mmdebstrap"), "").unwrap();
        let error = check_tools(dir.path().as_os_str()).unwrap_err();
        let ImageError::MissingTool { tool, package } = error else { panic!("{error}") };
        assert_eq!((tool, package), ("mkfs.ext4", "e2fsprogs"));
    }

    #[tokio::test]
    async fn messages_arrive_line_by_line_and_the_error_quotes_the_last() {
        let script = "seq 1 30 >&2; printf 'part\\rwhole' >&2; exit 3";
        let mut lines = Vec::new();
        let result = shell(script, LIMIT).run(no_input(), |line| lines.push(line.to_owned())).await;
        assert_eq!((lines.len(), lines[0].as_str(), lines[31].as_str()), (32, "1", "whole"));
        let Err(ImageError::Tool { status, output, .. }) = result else { panic!("{result:?}") };
        assert_eq!(status.code(), Some(3));
        assert!(output.starts_with("13\n") && output.ends_with("30\npart\nwhole"), "{output}");
    }

    #[tokio::test]
    async fn output_is_returned_up_to_the_limit() {
        let output = shell("printf abc", LIMIT).capture(3).run(no_input(), |_| ()).await.unwrap();
        assert_eq!(output, b"abc");
        let result = shell("seq 1 100000", LIMIT).capture(3).run(no_input(), |_| ()).await;
        assert!(matches!(result, Err(ImageError::UnexpectedOutput { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn an_endless_line_takes_no_memory() {
        let script = "head -c 10000000 /dev/zero | tr '\\0' x >&2";
        let mut longest = 0;
        shell(script, LIMIT).run(no_input(), |line| longest = line.len()).await.unwrap();
        assert_eq!(longest, MAX_LINE_BYTES);
    }

    #[tokio::test]
    async fn a_program_over_its_time_is_killed() {
        let start = Instant::now();
        let result = shell("exec sleep 600", Duration::from_millis(100)).run(no_input(), |_| ());
        assert!(matches!(result.await, Err(ImageError::Timeout { what: "sh", .. })));
        assert!(start.elapsed() < LIMIT);
    }
}
