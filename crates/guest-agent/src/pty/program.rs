//! The program of a session: on a pseudo-terminal of its own, which it leads.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use freestyle_guest_protocol::message::{Failure, PtyOpen};
use freestyle_guest_protocol::pty::PtySize;
use rustix::process::{PidfdFlags, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use crate::exec::{self, Spawner};
use crate::files::failure;
use crate::sys;
use crate::users::{Login, ROOT};

/// Where a user has no shell.
const SHELL: &str = "/bin/sh";
/// What programs print is taken for UTF-8 by everyone who looks on.
const LANG: &str = "C.UTF-8";

/// A program and the terminal it runs on.
#[derive(Debug)]
pub(super) struct Program {
    /// The side of the terminal that stands for keyboard and screen.
    master: AsyncFd<OwnedFd>,
    /// The program's side. Held so that a program which closes its own does not look ended.
    _terminal: OwnedFd,
    /// Readable once the program has ended.
    exit: AsyncFd<OwnedFd>,
}

impl Program {
    /// Starts what was asked for. The caller reaps the child once [`Program::ended`] says so.
    pub(super) async fn start(spawner: &Spawner, open: &PtyOpen) -> Result<(Self, Child), Failure> {
        let name = open.user.clone().unwrap_or_else(|| ROOT.to_owned());
        let found = spawn_blocking(move || (Login::look_up(&name), name)).await;
        let (login, name) = found.map_err(|panic| failure(&io::Error::other(panic)))?;
        let started = Self::spawn(spawner, &name, login?, open);
        started.map_err(|error| match failure(&error) {
            Failure::NotFound => Failure::Refused(format!("there is no {SHELL}")),
            failure => failure,
        })
    }

    fn spawn(
        spawner: &Spawner,
        name: &str,
        login: Login,
        open: &PtyOpen,
    ) -> io::Result<(Self, Child)> {
        let (master, terminal) = new_terminal(open.size)?;
        // So that the program may open it anew by its name.
        rustix::fs::fchown(&terminal, Some(login.credentials.uid()), None)?;
        let mut command = command(name, &login, open.command.as_deref());
        command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?);
        command.stderr(terminal.try_clone()?);
        sys::lead_session(&mut command);
        sys::run_as(&mut command, login.credentials);
        let mut child = spawner.spawn(&mut command)?;
        // The command holds copies of the terminal.
        drop(command);
        let watched = (|| {
            let pid = rustix::process::Pid::from_child(&child);
            let exit = sys::readable(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)?;
            let master = sys::readable_and_writable(master)?;
            Ok(Self { master, _terminal: terminal, exit })
        })();
        match watched {
            Ok(program) => Ok((program, child)),
            Err(error) => {
                // Nobody could watch it, so it must not run. It has hardly begun: it dies at once.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Waits until the program has ended.
    pub(super) async fn ended(&self) {
        // It fails when the runtime ends, and everything with it.
        let _ = self.exit.readable().await;
    }

    /// Waits until the program prints something, and takes that. Cancelling it loses nothing.
    pub(super) async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let mut ready = self.master.readable().await?;
            if let Ok(read) = ready.try_io(|master| read_into(master.get_ref(), buffer)) {
                return read.map(drop);
            }
        }
    }

    /// Takes what is left of a program that has ended: `false` when there is nothing.
    pub(super) fn read_rest(&self, buffer: &mut Vec<u8>) -> bool {
        read_into(self.master.get_ref(), buffer).is_ok_and(|count| count > 0)
    }

    /// Types some of the bytes, once the program's terminal takes any. Answers how many.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.writable().await?;
            let write = |master: &AsyncFd<OwnedFd>| Ok(rustix::io::write(master.get_ref(), bytes)?);
            if let Ok(written) = ready.try_io(write) {
                return written;
            }
        }
    }

    /// Tells the program how large its window is.
    pub(super) fn resize(&self, size: PtySize) {
        // It fails only for a terminal that was hung up, which nobody looks at any more.
        let _ = rustix::termios::tcsetwinsize(self.master.get_ref(), window(size));
    }

    /// Kills the program. What it started gets a hangup when it leads no more.
    pub(super) fn kill(&self) {
        // It fails when the program has ended, as it should.
        let _ = rustix::process::pidfd_send_signal(self.exit.get_ref(), Signal::KILL);
    }
}

/// A pseudo-terminal: master and terminal.
fn new_terminal(size: PtySize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    rustix::pty::unlockpt(&master)?;
    // Not by its name: the agent may see another /dev/pts than it was made in.
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = rustix::termios::tcgetattr(&terminal)?;
    modes.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &modes)?;
    rustix::termios::tcsetwinsize(&master, window(size))?;
    Ok((master, terminal))
}

fn window(size: PtySize) -> Winsize {
    Winsize { ws_row: size.rows(), ws_col: size.cols(), ws_xpixel: 0, ws_ypixel: 0 }
}

/// A login shell, or a command as `exec` runs it. `TERM` is for the user to set: only they know
/// what looks on (protocol section 9.5).
fn command(name: &str, login: &Login, text: Option<&str>) -> Command {
    let mut command = match text {
        Some(text) => {
            let mut shell = Command::new(SHELL);
            shell.arg("-c").arg(text);
            shell
        }
        None => {
            let shell = login_shell(login);
            let mut name = OsString::from("-");
            name.push(shell.file_name().unwrap_or(shell.as_os_str()));
            let mut command = Command::new(shell);
            command.arg0(name);
            command
        }
    };
    command.env_clear().env("PATH", exec::PATH).env("LANG", LANG);
    command.env("USER", name).env("LOGNAME", name);
    command.env("HOME", &login.home).env("SHELL", login_shell(login));
    command.current_dir(if login.home.is_dir() { &login.home } else { Path::new("/") });
    command
}

fn login_shell(login: &Login) -> &Path {
    if login.shell.is_file() { &login.shell } else { Path::new(SHELL) }
}

fn read_into(master: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    Ok(rustix::io::read(master, rustix::buffer::spare_capacity(buffer))?)
}
