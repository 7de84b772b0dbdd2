use std::path::Path;
use std::time::{Duration, Instant};

use freestyle_guest_protocol::message::Request;
use freestyle_guest_protocol::{CallError, ExecEnd, ExecRequest};

use crate::guest::{Guest, command, output, run};

/// Waits for a file's first line to be complete, and takes it as a process id.
async fn pid_in(path: &Path) -> u32 {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim_end().parse().unwrap(),
            _ => tokio::task::yield_now().await,
        }
    }
}

fn is_running(pid: u32) -> bool {
    // A process that nobody has reaped yet does not run.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

async fn until_gone(pid: u32) {
    while is_running(pid) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn standard_output_and_error_are_apart_and_binary() {
    let agent = Guest::start().connect().await;
    let outcome = run(&agent, r"printf '\000\377out'; printf '\000err' >&2; exit 7").await;
    assert_eq!(outcome.stdout, b"\0\xFFout");
    assert_eq!(outcome.stderr, b"\0err");
    assert_eq!(outcome.end, ExecEnd::Exited(7));
}

#[tokio::test]
async fn a_signal_is_128_and_its_number() {
    let agent = Guest::start().connect().await;
    assert_eq!(run(&agent, "kill -TERM $$").await.end, ExecEnd::Exited(128 + 15));
    assert_eq!(run(&agent, "sh -c 'kill -9 $$'").await.end, ExecEnd::Exited(128 + 9));
}

#[tokio::test]
async fn the_environment_is_bare() {
    let agent = Guest::start().connect().await;
    // The shell itself adds PWD and its like; what it was given is in /proc.
    assert_eq!(
        output(&agent, "tr '\\0' '\\n' < /proc/$$/environ; pwd; readlink /proc/$$/fd/0").await,
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/\n/dev/null\n"
    );
    let group = output(&agent, "echo $$ $(cut -d' ' -f5 /proc/$$/stat)").await;
    let (pid, group) = group.trim_end().split_once(' ').unwrap();
    assert_eq!(pid, group, "the shell leads its process group");
}

#[tokio::test]
async fn no_descriptor_of_the_agent_leaks() {
    let list = "ls /proc/self/fd";
    let without_agent = std::process::Command::new("sh").args(["-c", list]).output().unwrap();
    let agent = Guest::start().connect().await;
    let beside = agent.open(&Request::Exec(command("sleep 600"))).await.unwrap();
    assert_eq!(output(&agent, list).await.into_bytes(), without_agent.stdout);
    drop(beside);
    agent.ping().await.unwrap();
}

#[tokio::test]
async fn a_command_that_cannot_start_says_why() {
    let agent = Guest::start().connect().await;
    let too_long = agent.exec(command(&"x".repeat(140 * 1024))).await.unwrap_err();
    assert_eq!(too_long, CallError::Refused("argument list too long".to_owned()));
    let longer = agent.exec(command(&"x".repeat(200 * 1024))).await.unwrap_err();
    assert_eq!(longer, CallError::RequestTooLong);
    let nul = agent.exec(command("echo \0")).await.unwrap_err();
    assert!(matches!(nul, CallError::Refused(_)), "{nul}");
}

#[tokio::test]
async fn a_megabyte_comes_through_on_both_at_once() {
    let agent = Guest::start().connect().await;
    let outcome =
        run(&agent, "head -c 1000000 /dev/zero | tr '\\0' o & head -c 1200000 /dev/zero >&2; wait")
            .await;
    assert_eq!(outcome.end, ExecEnd::Exited(0));
    assert_eq!(outcome.stdout, vec![b'o'; 1_000_000]);
    assert_eq!(outcome.stderr, vec![0; 1_200_000]);
}

#[tokio::test]
async fn a_timeout_kills_the_process_group_and_keeps_what_was_printed() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let text = format!("printf before; sleep 600 & echo $! > {}; wait", child.display());
    let request = ExecRequest { timeout: Some(Duration::from_millis(500)), ..command(&text) };
    let outcome = agent.exec(request).await.unwrap();
    assert_eq!(outcome.end, ExecEnd::TimedOut);
    assert_eq!(outcome.stdout, b"before");
    until_gone(pid_in(&child).await).await;
}

#[tokio::test]
async fn too_much_output_kills_the_command() {
    let agent = Guest::start().connect().await;
    for text in ["yes", "yes >&2"] {
        let request = ExecRequest { max_output: 100_000, ..command(text) };
        let outcome = agent.exec(request).await.unwrap();
        assert_eq!(outcome.end, ExecEnd::OutputTooLarge);
        assert!(outcome.stdout.len() <= 100_000);
    }
    let exactly = ExecRequest { max_output: 100_000, ..command("head -c 100000 /dev/zero") };
    assert_eq!(agent.exec(exactly).await.unwrap().end, ExecEnd::Exited(0));
}

#[tokio::test]
async fn a_background_process_that_holds_the_pipe_is_not_waited_for() {
    let agent = Guest::start().connect().await;
    let started = Instant::now();
    let text = "sleep 600 & echo $!; head -c 50000 /dev/zero >&2";
    let outcome = run(&agent, text).await;
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(outcome.end, ExecEnd::Exited(0));
    assert_eq!(outcome.stderr.len(), 50_000, "what was printed before the end counts");
    let pid: u32 = String::from_utf8(outcome.stdout).unwrap().trim_end().parse().unwrap();
    assert!(is_running(pid), "the background process lives on");
    output(&agent, &format!("kill {pid}")).await;
}

#[tokio::test]
async fn a_background_process_that_floods_the_pipe_is_not_waited_for() {
    let agent = Guest::start().connect().await;
    let outcome = run(&agent, "while :; do echo y; done & echo $! >&2; sleep 0.1").await;
    assert_eq!(outcome.end, ExecEnd::Exited(0));
    let pid: u32 = String::from_utf8(outcome.stderr).unwrap().trim_end().parse().unwrap();
    // Nobody holds the other end of its pipe any more.
    until_gone(pid).await;
}

#[tokio::test]
async fn many_commands_run_at_once() {
    let agent = Guest::start().connect().await;
    // Each waits until all of them run.
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<_> = (0..64)
        .map(|number| {
            let agent = agent.clone();
            let folder = folder.path().display().to_string();
            tokio::spawn(async move {
                let text = format!(
                    "touch {folder}/{number}; while [ $(ls {folder} | wc -l) -lt 64 ]; do sleep 0.1; done; echo {number}"
                );
                assert_eq!(output(&agent, &text).await, format!("{number}\n"));
            })
        })
        .collect();
    for command in commands {
        command.await.unwrap();
    }
}

#[tokio::test]
async fn dropping_the_call_kills_the_process_group() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let (shell, child) = (folder.path().join("shell"), folder.path().join("child"));
    let text =
        format!("sleep 600 & echo $! > {}; echo $$ > {}; wait", child.display(), shell.display());
    let (shell, child) = tokio::select! {
        outcome = agent.exec(command(&text)) => panic!("the command ended: {outcome:?}"),
        pids = async { (pid_in(&shell).await, pid_in(&child).await) } => pids,
    };
    until_gone(child).await;
    until_gone(shell).await;
    agent.ping().await.unwrap();
}

#[tokio::test]
async fn a_host_that_leaves_does_not_stop_a_command() {
    let guest = Guest::start();
    let agent = guest.connect().await;
    let folder = tempfile::tempdir().unwrap();
    let (begun, go, done) =
        (folder.path().join("begun"), folder.path().join("go"), folder.path().join("done"));
    // Prints far more than any window and limit while nobody listens.
    let text = format!(
        "echo $$ > {}; while ! [ -e {} ]; do sleep 0.05; done; head -c 40000000 /dev/zero; echo 1 > {}",
        begun.display(),
        go.display(),
        done.display()
    );
    let request = Request::Exec(command(&text));
    let stream = agent.open(&request).await.unwrap();
    pid_in(&begun).await;
    // As if the server had been killed: no goodbye on the stream.
    std::mem::forget(stream);
    let (host, _) = guest.replace_host(agent).await;
    std::fs::write(&go, "").unwrap();
    pid_in(&done).await;
    host.ping().await.unwrap();
}

#[tokio::test]
async fn a_user_has_its_ids_and_nothing_else() {
    let agent = Guest::start().connect().await;
    let request = ExecRequest {
        user: Some("nobody".to_owned()),
        ..command(
            "id -un; id -gn; id -Gn; pwd; tr '\\0' '\\n' < /proc/$$/environ; grep -E '^(Uid|CapEff|CapPrm)' /proc/self/status; cat /etc/shadow",
        )
    };
    let outcome = agent.exec(request).await.unwrap();
    let stdout = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!(
        stdout,
        "nobody\nnogroup\nnogroup\n/\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         Uid:\t65534\t65534\t65534\t65534\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
    );
    assert!(String::from_utf8(outcome.stderr).unwrap().contains("Permission denied"));
    assert_eq!(outcome.end, ExecEnd::Exited(1));
}

#[tokio::test]
async fn an_unknown_user_is_said_to_be_unknown() {
    let agent = Guest::start().connect().await;
    for user in ["mallory-not-there", "", "root:x", "../etc"] {
        let request = ExecRequest { user: Some(user.to_owned()), ..command("true") };
        assert_eq!(agent.exec(request).await, Err(CallError::UnknownUser), "{user:?}");
        assert_eq!(agent.read_path(Some(user), "/", 0).await, Err(CallError::UnknownUser));
        assert_eq!(agent.write_file(Some(user), "/x", b"").await, Err(CallError::UnknownUser));
    }
}
