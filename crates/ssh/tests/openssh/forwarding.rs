//! Ports, sockets and agents, forwarded in either direction.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::{LIMIT, Test, noise, succeed, until};

/// A client that only forwards; it runs until it is dropped.
async fn forward(test: &Test, options: &[&str]) -> Child {
    let login = test.login().await;
    let mut ssh = test.client("ssh", &login);
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"]).args(options).arg("vm");
    ssh.spawn().unwrap()
}

/// A port that is free, as good as.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Answers with what it is sent, backwards, once all of it is there.
async fn reverser() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                bytes.reverse();
                stream.write_all(&bytes).await.unwrap();
            });
        }
    });
    port
}

/// Sends some and half-closes; the other direction is still open, or there would be no answer.
async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let data = noise(700_000);
    let asking = async {
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer.reverse();
        assert!(answer == data, "{} bytes came back", answer.len());
    };
    timeout(LIMIT, asking).await.expect("it answers");
}

async fn connected(port: u16) -> TcpStream {
    let mut stream = None;
    until("a listener", async || {
        stream = TcpStream::connect(("127.0.0.1", port)).await.ok();
        stream.is_some()
    })
    .await;
    stream.unwrap()
}

#[tokio::test]
async fn a_port_of_the_guests_localhost_is_one_of_the_clients() {
    let test = Test::new().await;
    let (local, remote) = (free_port().await, reverser().await);
    let _ssh = forward(&test, &["-L", &format!("127.0.0.1:{local}:localhost:{remote}")]).await;
    let first = connected(local).await;
    let others = (0..5).map(|_| async { ask(connected(local).await).await });
    tokio::join!(ask(first), futures_util::future::join_all(others));
}

#[tokio::test]
async fn a_port_of_the_client_is_one_of_the_guests() {
    let test = Test::new().await;
    let (local, remote) = (reverser().await, free_port().await);
    let _ssh = forward(&test, &["-R", &format!("127.0.0.1:{remote}:localhost:{local}")]).await;
    ask(connected(remote).await).await;
}

#[tokio::test]
async fn a_port_that_the_guest_chooses_is_told_to_the_client() {
    let test = Test::new().await;
    let local = reverser().await;
    let mut ssh = forward(&test, &["-R", &format!("127.0.0.1:0:localhost:{local}")]).await;
    let mut said = String::new();
    let stderr = ssh.stderr.as_mut().unwrap();
    let reading = async {
        while !said.contains('\n') {
            let mut byte = [0];
            stderr.read_exact(&mut byte).await.unwrap();
            said.push(byte[0].into());
        }
    };
    timeout(LIMIT, reading).await.expect("the client says which");
    let port = said.split_whitespace().nth(2).unwrap();
    ask(connected(port.parse().unwrap_or_else(|_| panic!("{said}"))).await).await;
}

#[tokio::test]
async fn a_closed_port_of_the_guest_is_closed_for_the_client() {
    let test = Test::new().await;
    let (local, remote) = (free_port().await, free_port().await);
    let _ssh = forward(&test, &["-L", &format!("127.0.0.1:{local}:localhost:{remote}")]).await;
    let mut stream = connected(local).await;
    let mut byte = [0];
    let read = timeout(LIMIT, stream.read(&mut byte)).await.expect("it is closed");
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn sockets_of_the_guest_are_forwarded_as_well() {
    let test = Test::new().await;
    let (local, remote) = (test.path("local.sock"), test.path("remote.sock"));
    let listener = UnixListener::bind(&remote).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes.reverse();
        stream.write_all(&bytes).await.unwrap();
    });
    let forwarded = format!("{}:{}", local.display(), remote.display());
    let _ssh = forward(&test, &["-L", &forwarded]).await;
    until("the socket", async || local.exists()).await;
    ask(UnixStream::connect(&local).await.unwrap()).await;
}

#[tokio::test]
async fn the_clients_agent_signs_for_the_guest_and_keeps_its_keys() {
    let test = Test::new().await;
    let login = test.login().await;
    let (socket, key) = (test.path("agent.sock"), test.path("own-key"));
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f"])
            .arg(&key),
    )
    .await;
    let mut agent = Command::new("ssh-agent");
    let agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).kill_on_drop(true);
    let _agent = agent.spawn().unwrap();
    until("the agent", async || socket.exists()).await;
    succeed(Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket)).await;
    let mut ssh = test.client("ssh", &login);
    ssh.args(["-A", "vm", "ssh-add -l"]).env("SSH_AUTH_SOCK", Path::new(&socket));
    assert!(succeed(&mut ssh).await.contains("mine (ED25519)"));
}
