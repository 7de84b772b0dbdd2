//! `freestyle vm pty`: the user's terminal becomes one of the VM's.

mod terminal;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use freestyle_client::wire::{AttachPtyQuery, OpenPtyQuery, PTY_RESET, PtySessionInfo};
use freestyle_client::{Client, ClientError, Pty, PtyEvent, PtyReader, PtyWriter};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::terminal::{Keys, RawMode, keys, window_size};
use super::printable;
use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

pub(super) const PTY_HELP: &str = "\
Ctrl-] leaves the session, which goes on: its name is shown, and --session comes back to it. The exit
code is that of the program. TERM is not set in a session; set it for programs that use the full
screen.

Examples:
  freestyle vm pty ID                                a login shell
  freestyle vm pty ID --exec 'TERM=xterm-256color htop'
  freestyle vm pty ID --session work                 the session of this name, old or new
  freestyle vm pty list ID
  freestyle vm pty close ID work";

/// For the last keys of a user who leaves a session that takes none.
const LAST_KEYS: Duration = Duration::from_secs(2);
/// What a program may have left in the user's terminal: the alternate screen, mouse reports, a hidden
/// cursor, colours.
const TIDY: &[u8] =
    b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\
    \x1b[?1l\x1b>\x1b[<u\x1b[r\x1b[?7h\x1b[?25h\x1b[m\x1b(B\r";

/// Options of `freestyle vm pty`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct PtyArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Id of the VM
    #[arg(required = true)]
    id: Option<String>,
    /// Name of a session to come back to, or to open if there is none of that name
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Linux user [default: root; any for a session that is there]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A command to run in a new session, given to a shell [default: the user's login shell]
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the terminal sessions of a VM; a suspended one is not woken
    List(ListArgs),
    /// Kill a session's program and forget the session
    Close(CloseArgs),
}

/// Options of `freestyle vm pty list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Id of the VM
    id: String,
    /// Only the sessions of this Linux user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vm pty close`.
#[derive(Debug, clap::Args)]
struct CloseArgs {
    /// Id of the VM
    id: String,
    /// Name of the session
    session: String,
    /// Linux user who must own the session
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: PtyArgs, client: &Client) -> Result<ExitCode, CliError> {
    match args.command {
        Some(Command::List(args)) => list(args, client).await.map(|()| ExitCode::SUCCESS),
        Some(Command::Close(args)) => close(args, client).await.map(|()| ExitCode::SUCCESS),
        None => {
            let vm = args.id.ok_or_else(|| CliError::new("name a VM"))?;
            use_session(&vm, args.session, args.user.as_deref(), args.exec, client).await
        }
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let listed = client.list_ptys(&args.id, args.user.as_deref());
    let listed = spinner::during("Listing sessions", listed).await?;
    if args.json {
        return print_json(&listed);
    }
    if listed.sessions.is_empty() {
        writeln!(io::stderr(), "no sessions; `freestyle vm pty {}` opens one", args.id)?;
        return Ok(());
    }
    let rows: Vec<_> = listed.sessions.iter().map(row).collect();
    Ok(table::print(["SESSION", "STATE", "USER", "VIEWERS", "WINDOW", "COMMAND"], &rows)?)
}

fn row(session: &PtySessionInfo) -> [String; 6] {
    let state = match (session.exit_code, session.suspended) {
        (Some(code), _) => format!("exited {code}"),
        (None, true) => "suspended".to_owned(),
        (None, false) => "running".to_owned(),
    };
    [
        session.session_id.clone(),
        state,
        printable(session.user.as_deref().unwrap_or("-")),
        session.attached_count.to_string(),
        format!("{}x{}", session.cols, session.rows),
        printable(session.exec.as_deref().unwrap_or("login shell")),
    ]
}

async fn close(args: CloseArgs, client: &Client) -> Result<(), CliError> {
    let closed = client.close_pty(&args.id, args.user.as_deref(), &args.session);
    let closed = spinner::during("Closing the session", closed).await?;
    if args.json { print_json(&closed) } else { print_line(&format!("closed {}", args.session)) }
}

/// How the user and a session part.
enum Parting {
    Exited(i32),
    Detached,
    Closed(String),
}

async fn use_session(
    vm: &str,
    session: Option<String>,
    user: Option<&str>,
    exec: Option<String>,
    client: &Client,
) -> Result<ExitCode, CliError> {
    let connecting = connect(vm, session.as_deref(), user, exec, client);
    let (pty, is_new) = spinner::during("Opening the terminal", connecting).await?;
    let resized = signal(SignalKind::window_change())?;
    // Whoever ends this process must find their terminal as it was.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;

    let Pty { mut output, input } = pty;
    let name = match session {
        Some(name) if !is_new => name,
        _ => match output.next().await {
            PtyEvent::Session(name) => name,
            PtyEvent::Closed { reason } => return Err(closed(&reason, vm, None)),
            PtyEvent::Output(_) | PtyEvent::Exited(_) => {
                return Err(CliError::new("the server does not say which session it opened"));
            }
        },
    };
    let parting = {
        let raw = RawMode::of_standard_input()?;
        if raw.is_some() {
            write!(io::stderr(), "session {name}; Ctrl-] leaves it\r\n")?;
        }
        let Keys { typed, left } = keys(raw.is_some());
        tokio::select! {
            parting = show(&mut output) => parting?,
            () = type_keys(input, typed, left.clone(), resized) => Parting::Detached,
            () = wait_and_leave(left) => Parting::Detached,
            _ = interrupt.recv() => Parting::Detached,
            _ = terminate.recv() => Parting::Detached,
            _ = hang_up.recv() => Parting::Detached,
        }
    };
    match parting {
        Parting::Exited(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))),
        Parting::Detached => {
            let come_back = format!("freestyle vm pty {vm} --session {name}");
            writeln!(io::stderr(), "left session {name}; `{come_back}` comes back")?;
            Ok(ExitCode::SUCCESS)
        }
        Parting::Closed(reason) => Err(closed(&reason, vm, Some(&name))),
    }
}

/// Attaches to the session if it is there, else opens it. Answers whether it is new.
async fn connect(
    vm: &str,
    session: Option<&str>,
    user: Option<&str>,
    exec: Option<String>,
    client: &Client,
) -> Result<(Pty, bool), ClientError> {
    let (cols, rows) = window_size();
    let (cols, rows) = (Some(cols), Some(rows));
    if let (Some(session), None) = (session, &exec) {
        let attached = client.attach_pty(vm, user, session, &AttachPtyQuery { cols, rows }).await;
        match attached {
            Err(error) if matches!(error.code(), Some("SESSION_NOT_FOUND" | "SESSION_EXPIRED")) => {
            }
            attached => return attached.map(|pty| (pty, false)),
        }
    }
    let query = OpenPtyQuery { cols, rows, exec, session_id: session.map(str::to_owned) };
    client.open_pty(vm, user, &query).await.map(|pty| (pty, true))
}

fn closed(reason: &str, vm: &str, session: Option<&str>) -> CliError {
    let reason = if reason.is_empty() { "the connection was closed" } else { reason };
    match session {
        Some(session) => CliError::with_hint(
            printable(reason),
            format!("`freestyle vm pty {vm} --session {session}` comes back to it"),
        ),
        None => CliError::new(printable(reason)),
    }
}

/// Prints what the session shows until it has ended.
async fn show(output: &mut PtyReader) -> Result<Parting, CliError> {
    let is_terminal = io::stdout().is_terminal();
    let mut is_first = true;
    let parting = loop {
        match output.next().await {
            PtyEvent::Output(bytes) => {
                let screen = bytes.strip_prefix(PTY_RESET).filter(|_| is_first && is_terminal);
                is_first = false;
                let mut stdout = io::stdout().lock();
                match screen {
                    // What is on the user's screen scrolls away and is not lost.
                    Some(screen) => {
                        let rows = usize::from(window_size().1);
                        stdout.write_all(&b"\n".repeat(rows))?;
                        stdout.write_all(b"\x1b[H")?;
                        stdout.write_all(screen)?;
                    }
                    None => stdout.write_all(&bytes)?,
                }
                stdout.flush()?;
            }
            PtyEvent::Exited(status) => break Parting::Exited(status),
            PtyEvent::Closed { reason } => break Parting::Closed(reason),
            PtyEvent::Session(_) => {}
        }
    };
    Ok(parting)
}

/// Types what the user types until they leave. Input that ends is no reason to leave: the program may
/// still print.
async fn type_keys(
    mut input: PtyWriter,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut left: watch::Receiver<bool>,
    mut resized: Signal,
) {
    let mut is_open = true;
    loop {
        tokio::select! {
            piece = typed.recv(), if is_open => match piece {
                Some(piece) => input.write(piece).await,
                None => {
                    if left.wait_for(|left| *left).await.is_ok() {
                        return input.detach().await;
                    }
                    is_open = false;
                }
            },
            _ = resized.recv() => {
                let (cols, rows) = window_size();
                input.resize(cols, rows).await;
            }
        }
    }
}

/// A user who leaves waits no longer than this for what they typed last to be sent.
async fn wait_and_leave(mut left: watch::Receiver<bool>) {
    match left.wait_for(|left| *left).await {
        Ok(_) => tokio::time::sleep(LAST_KEYS).await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    fn pty(line: &[&str]) -> Result<PtyArgs, clap::Error> {
        match parse(&[&["pty"], line].concat())? {
            super::super::Command::Pty(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_vm_or_a_subcommand_is_named() {
        let args = pty(&["abc", "--session", "work", "--user", "alice"]).unwrap();
        assert_eq!(args.id.as_deref(), Some("abc"));
        assert_eq!((args.session.as_deref(), args.user.as_deref()), (Some("work"), Some("alice")));
        assert!(matches!(pty(&["list", "abc"]).unwrap().command, Some(Command::List(_))));
        assert!(matches!(pty(&["close", "abc", "work"]).unwrap().command, Some(Command::Close(_))));
        assert!(pty(&[]).is_err());
        assert!(pty(&["close", "abc"]).is_err());
    }

    #[test]
    fn a_session_is_one_row() {
        let mut session = PtySessionInfo {
            session_id: "pty-1".into(),
            running: true,
            exit_code: None,
            exited_at_ms: None,
            cols: 80,
            rows: 24,
            exec: Some("a\u{1b}b".into()),
            created_at_ms: 0,
            attached_count: 2,
            user: None,
            suspended: false,
        };
        assert_eq!(row(&session), ["pty-1", "running", "-", "2", "80x24", "a\u{fffd}b"]);
        session.exit_code = Some(130);
        assert_eq!(row(&session)[1], "exited 130");
        session = PtySessionInfo { exit_code: None, suspended: true, ..session };
        assert_eq!(row(&session)[1], "suspended");
    }
}
