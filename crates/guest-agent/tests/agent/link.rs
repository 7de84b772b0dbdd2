use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freestyle_guest_agent::{Machine, serve};
use freestyle_guest_protocol::message::Request;
use freestyle_guest_protocol::mux::Ended;
use freestyle_guest_protocol::{
    AgentConnection, ExecEnd, ExecRequest, FileOrDir, LinkError, StreamEvent,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::guest::{Guest, Recorder, command, identity, output};

#[tokio::test]
async fn a_new_host_takes_over_in_the_middle_of_transfers() {
    let guest = Guest::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file").display().to_string();
    for round in 0..20u8 {
        let host = guest.connect().await;
        // One transfer each way, and neither gets far.
        let read = Request::Exec(command("yes"));
        let mut output_stream = host.open(&read).await.unwrap();
        let upload =
            host.open(&Request::WriteFile { user: None, path: path.clone() }).await.unwrap();
        for _ in 0..=round {
            output_stream.recv().await.unwrap();
            upload.send(vec![0xFF; 30_000]).await.unwrap();
        }
        let (next, why) = guest.replace_host(host).await;
        assert_eq!(why, LinkError::Closed);
        assert_eq!(upload.send(vec![1; 30_000]).await, Err(Ended));
        while let Ok(StreamEvent::Data(..)) = output_stream.recv().await {}
        assert_eq!(output_stream.recv().await, Err(LinkError::Closed));

        assert_eq!(output(&next, "echo new").await, "new\n");
        guest.unplug();
        next.closed().await;
    }
}

/// What a parent's host sent, cut at every byte, and then a clone's host. Nothing of the parent's
/// comes to the clone, and the clone's requests are served.
#[tokio::test]
async fn a_clone_is_served_wherever_its_parents_connection_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let sent = record(&Guest::start(), folder.path()).await;
    assert!(sent.len() > 300, "{} bytes", sent.len());
    for cut in 0..=sent.len() {
        let guest = Guest::start();
        let mut parent = guest.plug();
        parent.write_all(&sent[..cut]).await.unwrap();
        // Only its write side: whatever the agent answers is in the way of the next host.
        parent.shutdown().await.unwrap();
        let clone = guest.connect().await;
        clone.ping().await.unwrap();
        assert_eq!(output(&clone, "echo clone").await, "clone\n", "cut at {cut}");
    }
}

/// The bytes a host sends for a few requests.
async fn record(guest: &Guest, folder: &Path) -> Vec<u8> {
    let (host, mut tap) = UnixStream::pair().unwrap();
    let mut port = guest.plug();
    let recorder = tokio::spawn(async move {
        let (mut sent, mut from_host, mut from_guest) = (Vec::new(), [0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                count = tap.read(&mut from_host) => {
                    let count = count.unwrap();
                    if count == 0 {
                        return sent;
                    }
                    sent.extend_from_slice(&from_host[..count]);
                    port.write_all(&from_host[..count]).await.unwrap();
                }
                count = port.read(&mut from_guest) => {
                    tap.write_all(&from_guest[..count.unwrap()]).await.unwrap();
                }
            }
        }
    });
    let (host, _) = AgentConnection::connect(host, identity(2)).await.unwrap();
    let path = folder.join("file").display().to_string();
    host.write_file(None, &path, &[0xFF; 200]).await.unwrap();
    assert_eq!(output(&host, "echo parent").await, "parent\n");
    drop(host);
    recorder.await.unwrap()
}

/// A restored guest goes on sending what its parent was sending.
#[tokio::test]
async fn a_host_ignores_what_was_meant_for_another() {
    let guest = Guest::start();
    let mut port = guest.plug();
    let stale = {
        // A whole Welcome of another epoch and the beginning of a frame.
        let (host, mut tap) = UnixStream::pair().unwrap();
        let connecting = tokio::spawn(AgentConnection::connect(host, identity(1)));
        let mut bytes = vec![0; 4096];
        let count = tap.read(&mut bytes).await.unwrap();
        port.write_all(&bytes[..count]).await.unwrap();
        let count = port.read(&mut bytes).await.unwrap();
        connecting.abort();
        bytes.truncate(count);
        bytes
    };
    drop(port);
    for cut in 0..=stale.len() {
        let (host, mut tap) = UnixStream::pair().unwrap();
        tap.write_all(&stale[..cut]).await.unwrap();
        guest.attach(tap);
        let (host, _) = AgentConnection::connect(host, identity(1)).await.unwrap();
        host.ping().await.unwrap();
        guest.unplug();
        host.closed().await;
    }
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_nobody_else() {
    let agent = Guest::start().connect().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(agent.open(&Request::Exec(command("yes stalled"))).await.unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file").display().to_string();
    let content = vec![5; 2_000_000];
    agent.write_file(None, &path, &content).await.unwrap();
    let read = agent.read_path(None, &path, 2_000_000).await;
    assert_eq!(read, Ok(FileOrDir::File(content)));

    // They have all that was sent, and go on when they are read again.
    for stream in &mut stalled {
        let mut received = 0;
        while received < 3_000_000 {
            let StreamEvent::Data(_, bytes) = stream.recv().await.unwrap() else {
                panic!("the command goes on")
            };
            received += bytes.len();
        }
    }
}

#[tokio::test]
async fn streams_are_reused_without_end() {
    let agent = Guest::start().connect().await;
    let calls: Vec<_> = (0..2000)
        .map(|_| {
            let agent = agent.clone();
            tokio::spawn(async move { agent.ping().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_restarts_is_noticed_and_asks_for_the_greeting() {
    let (host, agent_side) = UnixStream::pair().unwrap();
    let keep = agent_side.into_std().unwrap();
    let start = || {
        let io = UnixStream::from_std(keep.try_clone().unwrap()).unwrap();
        tokio::spawn(serve(io, Arc::new(Recorder::default())))
    };
    let first = start();
    let (connection, _) = AgentConnection::connect(host, identity(1)).await.unwrap();
    let pending = tokio::spawn({
        let connection = connection.clone();
        async move { connection.exec(command("sleep 30")).await }
    });
    connection.ping().await.unwrap();
    first.abort();
    let _ = first.await;
    let _second = start();
    assert_eq!(connection.closed().await, LinkError::AgentRestarted);
    assert_eq!(pending.await.unwrap(), Err(LinkError::AgentRestarted.into()));
    assert_eq!(connection.ping().await, Err(LinkError::AgentRestarted.into()));
}

/// While a guest boots, the greeting waits in the port. The agent must not take its time for the
/// present one.
#[tokio::test]
async fn a_greeting_that_waited_for_the_boot_is_repeated() {
    let (host, agent_side) = UnixStream::pair().unwrap();
    let connecting = tokio::spawn(AgentConnection::connect(host, identity(1)));
    agent_side.readable().await.unwrap();
    let recorder = Arc::new(Recorder {
        // The clock of this machine never follows, so each greeting sets it.
        clock_ahead: 3_600_000_000_000,
        ..Default::default()
    });
    tokio::spawn(serve(agent_side, Arc::clone(&recorder) as Arc<dyn Machine>));
    let (connection, welcome) = connecting.await.unwrap().unwrap();
    assert_eq!(welcome.boot_id, "boot");
    connection.ping().await.unwrap();
    let clocks = recorder.take().iter().filter(|done| done.starts_with("clock")).count();
    assert_eq!(clocks, 2);
}

/// While a guest is restored, too, and its agent, which has been running, does not ask for another.
#[tokio::test(start_paused = true)]
async fn a_greeting_that_waited_for_the_restore_is_repeated() {
    let guest = Guest::on(Recorder { clock_ahead: 3_600_000_000_000, ..Default::default() });
    let before = guest.connect().await;
    guest.unplug();
    before.closed().await;
    guest.machine.take();

    let (host, mut tap) = UnixStream::pair().unwrap();
    let connecting = tokio::spawn(AgentConnection::connect(host, identity(2)));
    tap.readable().await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut port = guest.plug();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tap, &mut port).await });
    let (connection, _) = connecting.await.unwrap().unwrap();
    connection.ping().await.unwrap();
    let clocks = guest.machine.take().iter().filter(|done| done.starts_with("clock")).count();
    assert_eq!(clocks, 2);
}

#[tokio::test]
async fn pending_calls_fail_when_the_transport_dies() {
    let guest = Guest::start();
    let agent = guest.connect().await;
    let pending = tokio::spawn({
        let agent = agent.clone();
        async move { agent.exec(command("sleep 30")).await }
    });
    agent.ping().await.unwrap();
    guest.unplug();
    assert_eq!(agent.closed().await, LinkError::Closed);
    assert_eq!(pending.await.unwrap(), Err(LinkError::Closed.into()));
}

#[tokio::test]
async fn dropping_every_handle_closes_the_transport() {
    let guest = Guest::start();
    let (host, mut tap) = UnixStream::pair().unwrap();
    let (mut inner, port) = (guest.plug(), &mut tap);
    let connection = {
        let connecting = AgentConnection::connect(host, identity(1));
        tokio::select! {
            connected = connecting => connected.unwrap().0,
            _ = tokio::io::copy_bidirectional(port, &mut inner) => panic!("nobody closed it"),
        }
    };
    drop(connection);
    let mut rest = Vec::new();
    tap.read_to_end(&mut rest).await.unwrap();
}

/// The guest is frozen after the welcome: the call ends nevertheless.
#[tokio::test(start_paused = true)]
async fn a_frozen_guest_cannot_hang_a_call() {
    let guest = Guest::start();
    let (host, mut tap) = UnixStream::pair().unwrap();
    let mut port = guest.plug();
    let connection = {
        let connecting = AgentConnection::connect(host, identity(1));
        tokio::select! {
            connected = connecting => connected.unwrap().0,
            _ = tokio::io::copy_bidirectional(&mut tap, &mut port) => panic!("nobody closed it"),
        }
    };
    let request = ExecRequest { timeout: Some(Duration::from_secs(3)), ..command("true") };
    let outcome = connection.exec(request).await.unwrap();
    assert_eq!(outcome.end, ExecEnd::TimedOut);
    assert_eq!(connection.ping().await, Err(LinkError::TimedOut.into()));
    assert_eq!(connection.read_path(None, "/", 1).await, Err(LinkError::TimedOut.into()));
    let large = vec![0; 10_000_000];
    assert_eq!(connection.write_file(None, "/x", &large).await, Err(LinkError::TimedOut.into()));
}
