//! The server: takes questions over UDP and TCP, and has each of them answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freestyle_inbound::{Visitors, is_about_one_connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::answer::{Transport, answer};
use crate::rates::Rates;
use crate::zone::Zones;

/// Questions over UDP that are looked at at once, so that a flood of them does not hold up who else
/// reads records. What comes while there are as many is asked again by whoever asked.
const MAX_QUESTIONS: usize = 64;
/// Longest question over UDP: the longest name needs 255 bytes, and options some more.
const MAX_QUESTION: usize = 1232;
/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
/// Of these, from one source.
const MAX_OF_SOURCE: usize = 32;
/// How long a client may take for a question, and to take its answer.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may stay.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// The kernel is out of file descriptors or memory: trying again at once would only spin.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a port is looked for that is free for both transports.
const PORT_TRIES: usize = 20;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens at one port by both transports. Port 0 is one that is free.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        let mut bound = Self::bind_once(address).await;
        for _ in 1..tries {
            // Free for the one and taken for the other.
            if !bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
            bound = Self::bind_once(address).await;
        }
        bound
    }

    async fn bind_once(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address).await?;
        Ok(Self { udp, tcp, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers questions about these zones until `shutdown` resolves.
    pub async fn serve(self, zones: impl Zones, shutdown: impl Future<Output = ()>) {
        let Self { udp, tcp, .. } = self;
        tokio::select! {
            () = serve_udp(udp.into(), zones.clone()) => {}
            () = serve_tcp(tcp, zones) => {}
            () = shutdown => {}
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, zones: impl Zones) {
    let turns = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let mut rates = Rates::new(Instant::now());
    let mut questions = JoinSet::new();
    // One byte more than is looked at, so that a longer one is known.
    let mut buffer = [0; MAX_QUESTION + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = questions.join_next() => continue,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "cannot receive DNS questions");
                sleep(PAUSE).await;
                continue;
            }
        };
        if length > MAX_QUESTION {
            continue;
        }
        let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
        let may_be_full = rates.may_be_full(from.ip(), Instant::now());
        let transport = if may_be_full { Transport::Udp } else { Transport::UdpInBrief };
        let (socket, zones, question) = (socket.clone(), zones.clone(), buffer[..length].to_vec());
        questions.spawn(async move {
            let answered = timeout(QUESTION_LIMIT, answer(&question, transport, &zones)).await;
            if let Ok(Some(answer)) = answered {
                // Who does not get it asks again.
                _ = socket.send_to(&answer, from).await;
            }
            drop(turn);
        });
    }
}

async fn serve_tcp(listener: TcpListener, zones: impl Zones) {
    let visitors = Visitors::new(MAX_CONNECTIONS, MAX_OF_SOURCE);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept DNS connections");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(visitor) = visitors.admit(address.ip()) else { continue };
        let zones = zones.clone();
        connections.spawn(async move {
            // However it ends, there is nobody to tell.
            _ = timeout(CONNECTION_LIMIT, converse(stream, zones)).await;
            drop(visitor);
        });
    }
}

/// Answers the questions of one connection, one after the other.
async fn converse(mut stream: TcpStream, zones: impl Zones) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let question = timeout(QUESTION_LIMIT, async {
            let length = stream.read_u16().await?;
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await?;
            Ok::<_, io::Error>(question)
        });
        let question = question.await??;
        let Some(answer) = answer(&question, Transport::Tcp, &zones).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), &answer[..]].concat();
        timeout(QUESTION_LIMIT, stream.write_all(&framed)).await??;
    }
}
