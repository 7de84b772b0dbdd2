//! Commands and shells.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{Kind, LIMIT, Test, ended, finish, noise, stderr, stdout, succeed};

#[tokio::test]
async fn a_command_has_its_own_streams_and_exit_code() {
    let test = Test::new().await;
    let login = test.login().await;
    let output = test.ssh(&login, "echo out; echo err >&2; exit 7").await;
    assert_eq!(stdout(&output), "out\n");
    assert_eq!(stderr(&output), "err\n");
    assert_eq!(output.status.code(), Some(7));
}

#[tokio::test]
async fn a_command_that_a_signal_ended_has_no_exit_code() {
    let test = Test::new().await;
    let output = test.ssh(&test.login().await, "kill -KILL $$").await;
    assert_eq!(output.status.code(), Some(255), "{}", stderr(&output));
}

#[tokio::test]
async fn what_is_sent_arrives_whole_and_so_does_its_end() {
    for kind in [Kind::Healthy, Kind::Rekeying] {
        let test = Test::with(kind).await;
        let login = test.login().await;
        let data = noise(3_000_000);
        let mut ssh = test.client("ssh", &login);
        // The client renews its keys as well, in between.
        let ssh = ssh.args(["-o", "RekeyLimit=150K", "vm", "cat"]);
        let mut child = ssh.stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, sent) = (child.stdin.take().unwrap(), data.clone());
        let sending = tokio::spawn(async move { stdin.write_all(&sent).await });
        let output = ended(child).await;
        sending.await.unwrap().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(output.stdout == data, "{} bytes came back", output.stdout.len());
    }
}

#[tokio::test]
async fn the_environment_passes_as_far_as_sshd_takes_it() {
    let test = Test::new().await;
    let login = test.login().await;
    let mut ssh = test.client("ssh", &login);
    ssh.args(["-o", "SetEnv=LC_WORD=passed OTHER=kept", "vm", "echo $LC_WORD $OTHER"]);
    assert_eq!(succeed(&mut ssh).await, "passed\n");
}

/// A terminal of so many rows and columns, and what a program started in it has as its streams.
fn terminal(rows: u16, columns: u16) -> (OwnedFd, std::fs::File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let inner = std::fs::File::options().read(true).write(true).open(name).unwrap();
    resize(&terminal, rows, columns);
    (terminal, inner)
}

fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

#[tokio::test]
async fn a_terminal_has_the_size_of_the_clients_and_follows_it() {
    let test = Test::new().await;
    let login = test.login().await;
    let (outer, inner) = terminal(33, 77);
    let ssh = test.client("ssh", &login);
    let options: Vec<_> = ssh.as_std().get_args().map(|arg| arg.to_owned()).collect();
    let mut ssh = Command::new("setsid");
    ssh.args(["--ctty", "--wait", "ssh", "-tt"]).args(options).env("TERM", "xterm");
    ssh.args(["vm", "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.1; done"]);
    ssh.stdin(Stdio::from(inner.try_clone().unwrap())).kill_on_drop(true);
    ssh.stdout(Stdio::from(inner.try_clone().unwrap())).stderr(Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    drop((ssh, inner));
    let mut lines = BufReader::new(tokio::fs::File::from_std(outer.try_clone().unwrap().into()));
    assert_eq!(next_line(&mut lines).await, "33 77");
    resize(&outer, 44, 88);
    assert_eq!(next_line(&mut lines).await, "44 88");
    timeout(LIMIT, child.wait()).await.expect("it ends").unwrap();
}

async fn next_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut line = String::new();
    timeout(LIMIT, lines.read_line(&mut line)).await.expect("there is a line").unwrap();
    line.trim_end().to_owned()
}

#[tokio::test]
async fn a_shell_runs_what_is_typed() {
    let test = Test::new().await;
    let login = test.login().await;
    let mut ssh = test.client("ssh", &login);
    let mut child = ssh.arg("vm").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo $((6 * 7))\nexit 3\n").await.unwrap();
    let output = ended(child).await;
    assert_eq!(stdout(&output), "42\n");
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn an_editor_does_many_things_over_one_connection_and_one_that_stalls_holds_up_no_other() {
    let test = Test::new().await;
    let login = test.login().await;
    let socket = test.path("mux");
    let mut master = test.client("ssh", &login);
    master.args(["-M", "-N", "-o", "ControlPersist=no", "-S"]).arg(&socket).arg("vm");
    let mut master = master.spawn().unwrap();
    crate::support::until("the connection", async || socket.exists()).await;
    let multiplexed = |program: &str, arguments: &[&str]| {
        let mut client = test.client(program, &login);
        client.arg("-o").arg(format!("ControlPath={}", socket.display())).args(arguments);
        client
    };

    // Fills its window, the gateway's room and the pipe, and is never read.
    let mut stalled = multiplexed("ssh", &["vm", "echo started; exec cat /dev/zero"]);
    let mut stalled = stalled.spawn().unwrap();
    let mut first = [0; 8];
    stalled.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"started\n");
    let writer = "pgrep -f '^cat /dev/zero$' | head -1";
    let written = async || {
        let command = format!("grep wchar /proc/$({writer})/io");
        succeed(&mut multiplexed("ssh", &["vm", &command])).await
    };
    let mut before = written().await;
    loop {
        let after = written().await;
        if after == before {
            break;
        }
        before = after;
    }

    let commands: Vec<String> =
        (0..12).map(|n| format!("seq {n} 20000 | tail -1; echo {n}")).collect();
    let clients = commands.iter().map(|command| {
        let mut client = multiplexed("ssh", &["vm", command]);
        async move { succeed(&mut client).await }
    });
    let clients = futures_util::future::join_all(clients);
    std::fs::write(test.path("batch"), "ls /etc/hostname\n").unwrap();
    let batch = test.path("batch").display().to_string();
    let mut sftp = multiplexed("sftp", &["-b", &batch, "vm"]);
    let (outputs, listing) = tokio::join!(clients, succeed(&mut sftp));
    for (n, output) in outputs.iter().enumerate() {
        assert_eq!(*output, format!("20000\n{n}\n"));
    }
    assert!(listing.contains("/etc/hostname"), "{listing}");
    assert_eq!(test.opened(), 1, "it was one connection");
    master.kill().await.unwrap();
}

#[tokio::test]
async fn the_guests_host_keys_stay_unknown_to_the_client() {
    let test = Test::new().await;
    let login = test.login().await;
    let known = || std::fs::read_to_string(test.path("known_hosts")).unwrap();
    let before = known();
    let mut ssh = test.client("ssh", &login);
    ssh.args(["-v", "-o", "UpdateHostKeys=yes", "vm", "true"]);
    let output = finish(&mut ssh).await;
    assert!(
        output.status.success() && !stderr(&output).contains("hostkeys"),
        "{}",
        stderr(&output)
    );
    assert_eq!(known(), before);
}

#[tokio::test]
async fn a_gateway_with_another_key_is_not_trusted() {
    let test = Test::new().await;
    let login = test.login().await;
    std::fs::write(
        test.path("known_hosts"),
        "freestyle-vm ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n",
    )
    .unwrap();
    let output = test.ssh(&login, "true").await;
    assert_eq!(output.status.code(), Some(255));
    assert!(stderr(&output).contains("HOST IDENTIFICATION HAS CHANGED"), "{}", stderr(&output));
}
