//! Who gets in, who does not, and what they are told.

use std::process::Stdio;
use std::time::{Duration, Instant};

use freestyle_ssh::Patience;
use freestyle_store::VmId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;

use crate::support::{
    Kind, LIMIT, Someone, Test, ended, finish, foreign_vm, script, stderr, stdout, until,
};

#[tokio::test]
async fn every_form_of_the_login_name_opens_the_vm() {
    let test = Test::new().await;
    let Someone { token, .. } = test.someone(Some(&["root"])).await;
    let vm = &test.vm;
    let (vm_root, key) = (format!("{vm}+root"), &test.api_key);
    for login in [
        format!("{vm_root}:{token}"),
        format!("{vm_root},{token}"),
        format!("{vm}:{token}"),
        format!("{vm},{token}"),
        format!("{vm}:{key}"),
    ] {
        assert_eq!(test.run(&login, "id -un").await, "root\n");
    }
}

#[tokio::test]
async fn a_token_may_be_the_password() {
    let test = Test::new().await;
    let Someone { token, .. } = test.someone(None).await;
    let ask = |password: &str| {
        let helper =
            script(&test.path("askpass"), &format!("echo asked >> \"$0.log\"; echo '{password}'"));
        let mut ssh = test.client("ssh", test.vm.as_str());
        ssh.env("SSH_ASKPASS", helper).env("SSH_ASKPASS_REQUIRE", "force");
        ssh.args(["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=2", "vm", "echo in"]);
        ssh
    };
    assert_eq!(stdout(&finish(&mut ask(&token)).await), "in\n");
    let refused = finish(&mut ask("fsi_wrong")).await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(stderr(&refused).contains("Permission denied"), "{}", stderr(&refused));
    let asked = std::fs::read_to_string(test.path("askpass.log")).unwrap();
    assert_eq!(asked.lines().count(), 3, "once, and twice");
}

#[tokio::test]
async fn a_wrong_token_in_the_name_is_refused_and_nobody_is_asked_for_a_password() {
    let test = Test::new().await;
    let helper = script(&test.path("askpass"), "touch \"$0.log\"");
    let mut ssh = test.client("ssh", &format!("{}:fsi_wrong", test.vm));
    ssh.env("SSH_ASKPASS", helper).env("SSH_ASKPASS_REQUIRE", "force");
    let refused = finish(ssh.args(["-o", "BatchMode=no", "vm", "true"])).await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(stderr(&refused).contains("this token does not open this VM"), "{}", stderr(&refused));
    assert!(!test.path("askpass.log").exists());
    assert_eq!(test.opened(), 0, "the VM is not woken for it");
}

#[tokio::test]
async fn a_vm_that_is_foreign_or_was_not_granted_is_like_one_that_never_was() {
    let test = Test::new().await;
    let (someone, nobody) = (test.someone(None).await, test.nobody().await);
    let foreign = foreign_vm(&test.store).await;
    let answer = async |vm: &VmId, token: &str| {
        let output = test.ssh(&format!("{vm}:{token}"), "true").await;
        assert_eq!(output.status.code(), Some(255));
        stderr(&output).replace(vm.as_str(), "VM").replace(token, "TOKEN")
    };
    let unknown = answer(&VmId::random(), &someone.token).await;
    assert_eq!(answer(&foreign, &someone.token).await, unknown);
    assert_eq!(answer(&foreign, &test.api_key).await, unknown);
    assert_eq!(answer(&test.vm, &nobody.token).await, unknown);
    assert_eq!(answer(&test.vm, "fsi_wrong").await, unknown);
}

#[tokio::test]
async fn a_grant_for_some_linux_users_is_good_for_no_other() {
    let test = Test::new().await;
    let Someone { token, .. } = test.someone(Some(&["alice"])).await;
    let refused = test.ssh(&format!("{}+root:{token}", test.vm), "true").await;
    assert!(
        stderr(&refused).contains("was not granted the Linux user root"),
        "{}",
        stderr(&refused)
    );
    let refused = test.ssh(&format!("{}:{token}", test.vm), "true").await;
    assert!(stderr(&refused).contains("<vmId>+<linuxUser>"), "{}", stderr(&refused));
    assert_eq!(test.opened(), 0);
}

#[tokio::test]
async fn a_name_of_another_form_is_explained() {
    let test = Test::new().await;
    let refused = test.ssh("root", "true").await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(stderr(&refused).contains("the login name is <vmId>"), "{}", stderr(&refused));
}

/// A session that is in the VM and stays.
async fn session(test: &Test, login: &str) -> Child {
    let mut ssh = test.client("ssh", login);
    ssh.args(["vm", "echo in; cat"]).stdin(Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let mut said = [0; 3];
    let reading = child.stdout.as_mut().unwrap().read_exact(&mut said);
    timeout(LIMIT, reading).await.expect("it gets in").unwrap();
    assert_eq!(&said, b"in\n");
    child
}

/// Looks that a session ends by itself, and why the user is told that it did.
async fn is_ended(mut child: Child, why: &str) {
    // Closed, it would end the session as well.
    let _input = child.stdin.take();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
}

#[tokio::test]
async fn a_session_ends_at_once_when_its_right_does() {
    let test = Test::new().await;
    let scope = test.store.account_scope(&test.account);
    let (revoked, other) = (test.someone(None).await, test.someone(None).await);
    let first = session(&test, &format!("{}:{}", test.vm, revoked.token)).await;
    let mut second = session(&test, &format!("{}:{}", test.vm, other.token)).await;
    scope.revoke_vm_grant(&revoked.identity, &test.vm).await.unwrap();
    is_ended(first, "the right to use this VM has ended").await;
    assert!(second.try_wait().unwrap().is_none(), "another's goes on");
    scope.delete_identity(&other.identity).await.unwrap();
    is_ended(second, "the right to use this VM has ended").await;
}

#[tokio::test]
async fn a_session_ends_with_its_guest() {
    let test = Test::new().await;
    let child = session(&test, &test.login().await).await;
    test.end_guest();
    is_ended(child, "the VM was stopped or suspended").await;
}

#[tokio::test]
async fn a_server_that_shuts_down_says_so() {
    let mut test = Test::new().await;
    let child = session(&test, &test.login().await).await;
    test.shut_down().await;
    is_ended(child, "the server is shutting down").await;
}

#[tokio::test]
async fn a_guest_that_does_not_let_anyone_in_is_explained() {
    for (kind, expected) in [
        (Kind::KnowsNoKey, "the VM's sshd did not let root in"),
        (Kind::HangsUp, "Exceeded MaxStartups"),
        (Kind::SpeaksHttp, "HTTP/1.1 400 Bad Request"),
        (Kind::Down, "port 22 of the VM takes no connections"),
    ] {
        let test = Test::with(kind).await;
        let output = test.ssh(&test.login().await, "true").await;
        assert_eq!(output.status.code(), Some(255));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let test = Test::new().await;
    let Someone { token, .. } = test.someone(None).await;
    let output = test.ssh(&format!("{}+nosuchuser:{token}", test.vm), "true").await;
    assert!(stderr(&output).contains("did not let nosuchuser in"), "{}", stderr(&output));
}

/// Short enough to wait for.
const IMPATIENT: Patience =
    Patience { login: Duration::from_secs(2), guest: Duration::from_secs(2) };

#[tokio::test]
async fn a_guest_that_hangs_is_waited_for_so_long_and_no_longer() {
    let test = Test::with_patience(Kind::Hangs, IMPATIENT).await;
    let output = test.ssh(&test.login().await, "true").await;
    let expected = "did not finish the login within 2 s";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[tokio::test]
async fn who_connects_and_does_not_log_in_is_waited_for_so_long_and_no_longer() {
    let test = Test::with_patience(Kind::Healthy, IMPATIENT).await;
    for words in [&b""[..], b"SSH-2.0-x", b"SSH-2.0-x\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", test.port())).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut said = Vec::new();
        let closed = timeout(LIMIT, stream.read_to_end(&mut said)).await;
        closed.expect("it is closed").unwrap();
    }
}

#[tokio::test]
async fn who_gives_up_while_the_guest_is_waited_for_leaves_nothing_behind() {
    let mut test = Test::with(Kind::Hangs).await;
    let login = test.login().await;
    let mut ssh = test.client("ssh", &login);
    let mut child = ssh.args(["vm", "true"]).spawn().unwrap();
    until("the login", async || test.opened() == 1).await;
    child.kill().await.unwrap();
    // Or the server would have to wait for it.
    test.shut_down().await;
}

#[tokio::test]
async fn nothing_but_the_gateways_key_enters_the_guest() {
    let test = Test::new().await;
    let Someone { token, .. } = test.someone(None).await;
    let login = format!("{}:{token}", test.vm);
    let environment = test.run(&login, "env; cat /proc/$PPID/environ | tr '\\0' '\\n'").await;
    assert!(!environment.contains(&token) && !test.sshd_log().contains(&token));
}

#[tokio::test]
async fn whoever_guesses_is_made_to_wait() {
    let test = Test::new().await;
    let guess = async |source: &str| {
        let mut ssh = test.client("ssh", &format!("{}:fsi_wrong", test.vm));
        finish(ssh.args(["-b", source, "vm", "true"])).await
    };
    let started = Instant::now();
    let guesses = futures_util::future::join_all((0..14).map(|_| guess("127.0.0.2"))).await;
    assert!(started.elapsed().as_millis() >= 1000, "a wrong guess takes a second");
    assert!(guesses.iter().all(|output| output.status.code() == Some(255)));
    let turned_away = stderr(&guess("127.0.0.2").await);
    assert!(!turned_away.contains("does not open"), "{turned_away}");
    // Others are not held up.
    assert_eq!(test.run(&test.login().await, "echo in").await, "in\n");
}

#[tokio::test]
async fn one_connection_has_few_guesses() {
    let test = Test::new().await;
    let helper = script(&test.path("askpass"), "echo fsi_wrong");
    let mut ssh = test.client("ssh", test.vm.as_str());
    ssh.env("SSH_ASKPASS", helper).env("SSH_ASKPASS_REQUIRE", "force");
    ssh.args(["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=50", "vm", "true"]);
    let output = finish(&mut ssh).await;
    assert_eq!(stderr(&output).matches("does not open this VM").count(), 6, "{}", stderr(&output));
}

#[tokio::test]
async fn who_speaks_no_ssh_is_hung_up_on() {
    let test = Test::new().await;
    for words in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[b'x'; 4096],
        b"SSH-2.0-x\r\n\0\0\0\x01",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff",
        b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", test.port())).await.unwrap();
        // It may be hung up on before all is said.
        let _ = stream.write_all(words).await;
        let mut said = Vec::new();
        let closed = timeout(LIMIT, stream.read_to_end(&mut said)).await;
        closed.expect("it is closed").unwrap_or_default();
    }
    until("the port", async || TcpStream::connect(("127.0.0.1", test.port())).await.is_ok()).await;
}
