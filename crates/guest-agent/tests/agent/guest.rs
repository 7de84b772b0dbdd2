//! A guest without a virtual machine: an agent, and a port to it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use freestyle_guest_agent::{Generation, Machine, serve};
use freestyle_guest_protocol::message::{Entropy, Nic};
use freestyle_guest_protocol::{
    AgentConnection, ExecEnd, ExecOutcome, ExecRequest, Identity, LinkError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

/// What the agent did to the system. The system that runs the tests is left as it is.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) done: Mutex<Vec<String>>,
    /// Nanoseconds the clock is ahead of the real one.
    pub(crate) clock_ahead: i64,
    pub(crate) generation: Option<Generation>,
    pub(crate) login_key: Mutex<Option<String>>,
    pub(crate) refuses: Option<&'static str>,
}

impl Recorder {
    fn record(&self, what: &'static str, detail: String) -> io::Result<()> {
        if self.refuses == Some(what) {
            return Err(io::Error::other("as the test wants it"));
        }
        self.done.lock().unwrap().push(format!("{what} {detail}").trim_end().to_owned());
        Ok(())
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock().unwrap())
    }
}

impl Machine for Recorder {
    fn generation(&self) -> Option<Generation> {
        self.generation
    }
    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
    fn clock(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        (now + self.clock_ahead) as u64
    }
    fn set_clock(&self, unix_nanos: u64) -> io::Result<()> {
        let off =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 - unix_nanos;
        self.record("clock", if off < 10_000_000_000 { "right" } else { "wrong" }.to_owned())
    }
    fn add_entropy(&self, entropy: &Entropy) -> io::Result<()> {
        let distinct = entropy.as_bytes().windows(2).filter(|pair| pair[0] != pair[1]).count();
        self.record("entropy", if distinct > 40 { "random" } else { "constant" }.to_owned())
    }
    fn set_hostname(&self, hostname: &str) -> io::Result<()> {
        self.record("hostname", hostname.to_owned())
    }
    fn set_machine_id(&self, machine_id: &str) -> io::Result<()> {
        self.record("machine-id", machine_id.to_owned())
    }
    fn set_login_key(&self, line: Option<&str>) -> io::Result<()> {
        *self.login_key.lock().unwrap() = line.map(str::to_owned);
        Ok(())
    }

    fn set_nic(&self, nic: Option<&Nic>) -> io::Result<()> {
        let Some(nic) = nic else { return Ok(()) };
        self.record("nic", nic.address.to_string())
    }
    fn publish_generation(&self, generation: &Generation) -> io::Result<()> {
        self.record("generation", generation[0].to_string())
    }
    fn grow_root(&self) -> io::Result<()> {
        self.record("grow", String::new())
    }
    fn begin_power_off(&self) -> io::Result<()> {
        self.record("shutdown", String::new())
    }
    fn power_off_now(&self) -> io::Result<()> {
        self.record("off", String::new())
    }
}

pub(crate) fn identity(generation: u8) -> Identity {
    Identity {
        generation: [generation; 16],
        hostname: "guest".to_owned(),
        grow_root: false,
        login_key: None,
        nic: None,
    }
}

/// A running agent behind a port that one host after the other may connect to. As with QEMU's
/// character device, bytes go through as they come, a host that leaves may break off anywhere, and
/// what the guest says to nobody is gone.
pub(crate) struct Guest {
    hosts: mpsc::UnboundedSender<UnixStream>,
    unplugged: Arc<Notify>,
    pub(crate) machine: Arc<Recorder>,
}

impl Guest {
    pub(crate) fn start() -> Self {
        Self::on(Recorder::default())
    }

    pub(crate) fn on(machine: Recorder) -> Self {
        let machine = Arc::new(machine);
        let (inside, outside) = UnixStream::pair().unwrap();
        tokio::spawn(serve(inside, Arc::clone(&machine) as Arc<dyn Machine>));
        let (hosts, next_host) = mpsc::unbounded_channel();
        let unplugged = Arc::new(Notify::new());
        tokio::spawn(port(outside, next_host, Arc::clone(&unplugged)));
        Self { hosts, unplugged, machine }
    }

    /// The host's end of the port. Takes the place of the host before once that has left.
    pub(crate) fn plug(&self) -> UnixStream {
        let (host, port) = UnixStream::pair().unwrap();
        self.attach(port);
        host
    }

    /// Joins the other end of a host's transport to the port.
    pub(crate) fn attach(&self, port: UnixStream) {
        self.hosts.send(port).unwrap();
    }

    /// Cuts the connected host off, wherever it is.
    pub(crate) fn unplug(&self) {
        self.unplugged.notify_one();
    }

    pub(crate) async fn connect(&self) -> AgentConnection {
        AgentConnection::connect(self.plug(), identity(1)).await.unwrap().0
    }

    /// Another host takes over; the one before is gone without a word.
    pub(crate) async fn replace_host(
        &self,
        before: AgentConnection,
    ) -> (AgentConnection, LinkError) {
        self.unplug();
        let why = before.closed().await;
        (self.connect().await, why)
    }
}

async fn port(
    mut guest: UnixStream,
    mut hosts: mpsc::UnboundedReceiver<UnixStream>,
    unplugged: Arc<Notify>,
) {
    let (mut from_guest, mut from_host) = ([0; 4096], [0; 4096]);
    loop {
        let mut host = loop {
            tokio::select! {
                host = hosts.recv() => match host {
                    Some(host) => break host,
                    None => return,
                },
                lost = guest.read(&mut from_guest) => if lost.unwrap() == 0 { return },
            }
        };
        let (mut host_in, mut host_out) = host.split();
        let (mut guest_in, mut guest_out) = guest.split();
        let to_guest = async {
            while let Ok(count @ 1..) = host_in.read(&mut from_host).await {
                guest_out.write_all(&from_host[..count]).await.unwrap();
            }
        };
        let to_host = async {
            loop {
                let count = guest_in.read(&mut from_guest).await.unwrap();
                if count == 0 || host_out.write_all(&from_guest[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = to_guest => {}
            () = to_host => {}
            () = unplugged.notified() => {}
        }
    }
}

pub(crate) fn command(command: &str) -> ExecRequest {
    ExecRequest {
        command: command.to_owned(),
        user: None,
        timeout: None,
        max_output: 16 * 1024 * 1024,
    }
}

pub(crate) async fn run(agent: &AgentConnection, text: &str) -> ExecOutcome {
    agent.exec(command(text)).await.unwrap()
}

/// Standard output of a command that must succeed.
pub(crate) async fn output(agent: &AgentConnection, text: &str) -> String {
    let outcome = run(agent, text).await;
    assert_eq!((outcome.end, outcome.stderr.as_slice()), (ExecEnd::Exited(0), b"".as_slice()));
    String::from_utf8(outcome.stdout).unwrap()
}
