//! Commands (design section 4): `sh -c`, a process group of their own, nothing but `PATH` in the
//! environment, output on two pipes.
//!
//! A command does not become the leader of a session: a session leader that opens a terminal device
//! acquires it, and is hung up with it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use freestyle_guest_protocol::message::{ExecRequest, Failure, Reply};
use freestyle_guest_protocol::mux::{Channel, Event, MAX_DATA, Sender};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::files::failure;
use crate::stream::Stream;
use crate::sys;
use crate::users::Credentials;

/// All that a command finds in its environment.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command for the host. If the link goes away the command goes on, unheard; if the host
/// cancels, its process group is killed.
pub(crate) async fn run(spawner: Arc<Spawner>, request: ExecRequest, stream: Stream) {
    let command = match start(&spawner, &request).await {
        Ok(command) => command,
        Err(failure) => return stream.reply(Reply::Failed(failure)).await,
    };
    command.attend(&request, stream).await;
}

async fn start(spawner: &Spawner, request: &ExecRequest) -> Result<Running, Failure> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(&request.command).env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    if let Some(user) = request.user.clone() {
        let found = spawn_blocking(move || Credentials::look_up(&user)).await;
        let credentials = found.unwrap_or_else(|panic| Err(failure(&io::Error::other(panic))))?;
        sys::run_as(&mut command, credentials);
    }
    let running = spawner.spawn(&mut command).and_then(Running::new);
    running.map_err(|error| match failure(&error) {
        Failure::NotFound => Failure::Refused("there is no /bin/sh".to_owned()),
        failure => failure,
    })
}

/// Starts commands. On the agent's one thread, since starting one is a matter of a vfork.
#[derive(Debug)]
pub(crate) struct Spawner {
    oom_score: Option<OomScore>,
}

impl Spawner {
    pub(crate) fn new() -> Self {
        Self { oom_score: OomScore::of_this_process() }
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        match &self.oom_score {
            Some(score) => score.lowered_for(|| command.spawn()),
            None => command.spawn(),
        }
    }
}

/// The agent's protection against the kernel's out-of-memory killer, which commands must not
/// inherit. Changing it around the start of a command is cheaper than a fork in which to change it.
#[derive(Debug)]
struct OomScore {
    file: File,
    own: Vec<u8>,
}

impl OomScore {
    fn of_this_process() -> Option<Self> {
        let path = "/proc/self/oom_score_adj";
        let own = fs::read(path).ok().filter(|score| score.starts_with(b"-"))?;
        Some(Self { file: File::options().write(true).open(path).ok()?, own })
    }

    fn lowered_for<T>(&self, start: impl FnOnce() -> T) -> T {
        let write = |score: &[u8]| {
            if let Err(error) = self.file.write_at(score, 0) {
                tracing::warn!(%error, "cannot change the out-of-memory score");
            }
        };
        write(b"0");
        let started = start();
        write(&self.own);
        started
    }
}

/// How a command's time came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Exited,
    TimedOut,
    OutputTooLarge,
    Cancelled,
}

/// It printed more than it may.
struct TooLarge;

/// A command's shell and what it prints to. Its process is reaped by [`Running::attend`].
struct Running {
    child: Child,
    pid: Pid,
    exit: AsyncFd<OwnedFd>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Running {
    fn new(mut child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let watched = (|| {
            let exit = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            let exit = sys::readable(exit)?;
            let stdout = output_pipe(stdout.map(OwnedFd::from))?;
            let stderr = output_pipe(stderr.map(OwnedFd::from))?;
            Ok((exit, stdout, stderr))
        })();
        match watched {
            Ok((exit, stdout, stderr)) => Ok(Self { child, pid, exit, stdout, stderr }),
            Err(error) => {
                // Nobody could watch it, so it must not run. It has hardly begun: it dies at once.
                kill_group(pid);
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Sends what the command prints until it is over, replies, and reaps the shell.
    async fn attend(mut self, request: &ExecRequest, mut stream: Stream) {
        match self.watch(request, &mut stream).await {
            Ending::Exited => {
                let reply = match self.child.wait() {
                    Ok(status) => Reply::Exited { status: exit_code(status) },
                    Err(error) => Reply::Failed(failure(&error)),
                };
                return stream.reply(reply).await;
            }
            Ending::TimedOut => stream.reply(Reply::TimedOut).await,
            Ending::OutputTooLarge => stream.reply(Reply::OutputTooLarge).await,
            Ending::Cancelled => drop(stream),
        }
        // After the reply, which must not wait for a process that is stuck in the kernel.
        if self.exit.readable().await.is_ok() {
            let _ = self.child.wait();
        }
    }

    /// Sends what the command prints until it is over. If that is not by itself, its process group
    /// has been killed.
    async fn watch(&mut self, request: &ExecRequest, stream: &mut Stream) -> Ending {
        let deadline = request.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut timed_out = pin!(async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        });
        // Dropped when the shell is gone: from then on the pipes are emptied, not waited for.
        let (alive, over) = watch::channel(());
        let (limit, sender) = (request.max_output, &stream.sender);
        let mut output = pin!(async {
            tokio::try_join!(
                forward(&mut self.stdout, sender, Channel::Main, limit, over.clone()),
                forward(&mut self.stderr, sender, Channel::Side, limit, over.clone()),
            )
        });
        let mut printing = true;
        let mut linked = true;
        let ending = loop {
            tokio::select! {
                result = &mut output, if printing => match result {
                    Ok(_) => printing = false,
                    Err(TooLarge) => break Ending::OutputTooLarge,
                },
                _ = self.exit.readable() => break Ending::Exited,
                () = &mut timed_out => break Ending::TimedOut,
                event = stream.receiver.recv(), if linked => match event {
                    Some(Event::Cancel) => break Ending::Cancelled,
                    // Standard input is empty whatever the host sends.
                    Some(_) => {}
                    None => linked = false,
                },
            }
        };
        if ending != Ending::Exited {
            kill_group(self.pid);
        }
        drop(alive);
        let is_wanted = matches!(ending, Ending::Exited | Ending::TimedOut);
        if printing && is_wanted && output.await.is_err() {
            kill_group(self.pid);
            return Ending::OutputTooLarge;
        }
        ending
    }
}

fn output_pipe(pipe: Option<OwnedFd>) -> io::Result<pipe::Receiver> {
    let pipe = pipe.ok_or_else(|| io::Error::other("the command was started without a pipe"))?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    pipe::Receiver::from_file_unchecked(File::from(pipe))
}

/// Kills the shell and all it started, except what has left its process group. Only to be called
/// before the shell is reaped: until then its number is nobody else's.
fn kill_group(pid: Pid) {
    // It fails when everyone in the group is gone, as it should be.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
}

pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Sends what comes out of a pipe until its end; once the command is `over`, what is in the pipe at
/// that moment: a process in the background may hold the pipe open, or fill it, for ever. Without a
/// link the output is thrown away, so that the command is not stopped by a full pipe.
async fn forward(
    pipe: &mut pipe::Receiver,
    sender: &Sender,
    channel: Channel,
    limit: u64,
    mut over: watch::Receiver<()>,
) -> Result<(), TooLarge> {
    let mut left = None;
    let mut total = 0;
    let mut heard = true;
    while left != Some(0) {
        let mut chunk = Vec::with_capacity(MAX_DATA);
        let count = tokio::select! {
            biased;
            _ = over.changed(), if left.is_none() => {
                left = Some(rustix::io::ioctl_fionread(pipe.as_fd()).unwrap_or(0));
                continue;
            }
            read = pipe.read_buf(&mut chunk) => read.unwrap_or(0) as u64,
        };
        if count == 0 {
            break;
        }
        left = left.map(|left: u64| left.saturating_sub(count));
        if !heard {
            continue;
        }
        total += count;
        if total > limit {
            return Err(TooLarge);
        }
        heard = sender.send(channel, chunk).await.is_ok();
    }
    Ok(())
}
