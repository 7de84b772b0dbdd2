//! A network of a test's own: 11.0.0.0/24 is reached and is public, 12.0.0.0/24 is the host's own
//! subnet, and names come from a DNS server that answers what the test says.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use freestyle_outbound::Outbound;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::UnshareFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// Runs a test in namespaces that nobody else sees.
pub(crate) fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce(Names) -> F + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare();
            ip("link set lo up");
            ip("address add 12.0.0.1/24 dev lo");
            // Addresses that are no one's, and yet arrive here.
            ip("route add local 11.0.0.0/24 dev lo");
            let resolver = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(resolver.path(), "nameserver 127.0.0.1\noptions timeout:1\n").unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind(resolver.path(), std::fs::canonicalize("/etc/resolv.conf").unwrap())
                .unwrap();
            // One thread: those that it starts are in the same namespaces.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { test(Names::serve().await).await });
        });
        thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
}

#[expect(deprecated, reason = "its unsafe successor is about CLONE_FILES, which is not used here")]
fn unshare() {
    rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).unwrap();
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn outbound(allowed: &[&str]) -> Outbound {
    Outbound::new(allowed.iter().map(|net| net.parse().unwrap()).collect())
}

/// What names resolve to. A name with several answers gives them in turn, one to each question.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, (usize, Answers)>>>);

type Answers = Vec<Vec<Ipv4Addr>>;

impl Names {
    async fn serve() -> Self {
        let this = Self::default();
        let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
        let names = this.clone();
        tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut question).await.unwrap();
                socket.send_to(&names.answer(&question[..length]), peer).await.unwrap();
            }
        });
        this
    }

    /// `answers` are the addresses of the first answer, of the second, and so on around.
    pub(crate) fn set(&self, name: &str, answers: &[&[[u8; 4]]]) {
        let answers = answers.iter().map(|set| set.iter().copied().map(Into::into).collect());
        self.0.lock().unwrap().insert(name.to_owned(), (0, answers.collect()));
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut at, mut labels) = (12, Vec::new());
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(std::str::from_utf8(&question[at + 1..end]).unwrap());
            at = end;
        }
        let is_ipv4 = question[at + 1..at + 3] == [0, 1];
        let addresses = match self.0.lock().unwrap().get_mut(&labels.join(".")) {
            Some((turn, answers)) if is_ipv4 => {
                *turn += 1;
                answers[(*turn - 1) % answers.len()].clone()
            }
            Some(_) => Vec::new(),
            None => {
                return [
                    &question[..2],
                    &[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0],
                    &question[12..at + 5],
                ]
                .concat();
            }
        };
        let count = u8::try_from(addresses.len()).unwrap();
        let head = [0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
        let mut answer = [&question[..2], &head, &question[12..at + 5]].concat();
        for address in addresses {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }
}

/// A server on all addresses of the test's network that gives every request the same answer.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// `answer` is sent as it is; the connection is closed after it.
    pub(crate) async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
                tokio::spawn(async move {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        Self { port, requests }
    }

    /// How many connections it was given.
    pub(crate) fn connections(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
