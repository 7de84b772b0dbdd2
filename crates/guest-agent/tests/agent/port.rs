use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use freestyle_guest_agent::{Port, serve};
use freestyle_guest_protocol::{AgentConnection, FileOrDir};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::guest::{Recorder, identity, output};

/// A pseudo-terminal in raw mode is the character device most like a port that a machine without
/// one has: it takes a few kilobytes at a time, and says so by the same edges.
#[tokio::test]
async fn an_agent_serves_a_character_device() {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    let mut mode = tcgetattr(&terminal).unwrap();
    mode.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &mode).unwrap();

    tokio::spawn(serve(Port::open(path).unwrap(), Arc::new(Recorder::default())));
    let host = join_to_a_socket(master);
    let (agent, _) = AgentConnection::connect(host, identity(1)).await.unwrap();
    assert_eq!(output(&agent, "echo through a terminal").await, "through a terminal\n");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file").display().to_string();
    let content: Vec<u8> = (0..1_000_000u32).map(|i| (i.wrapping_mul(40_503) >> 8) as u8).collect();
    agent.write_file(None, &path, &content).await.unwrap();
    let read = agent.read_path(None, &path, 1_000_000).await;
    assert_eq!(read, Ok(FileOrDir::File(content)));
}

fn join_to_a_socket(device: OwnedFd) -> tokio::net::UnixStream {
    let (host, inner) = UnixStream::pair().unwrap();
    let device = File::from(device);
    let (from, to) = (device.try_clone().unwrap(), inner.try_clone().unwrap());
    thread::spawn(move || carry(from, to));
    thread::spawn(move || carry(inner, device));
    host.set_nonblocking(true).unwrap();
    tokio::net::UnixStream::from_std(host).unwrap()
}

fn carry(mut from: impl Read, mut to: impl Write) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}
