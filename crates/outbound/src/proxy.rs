//! The way out for a child process that has to fetch what a user named.
//!
//! The child (`git`) would resolve and connect by itself, and follow redirects wherever they lead.
//! So it gets a SOCKS proxy as its only way: each connection it wants, also after a redirect, is
//! made by [`Outbound::connect`] or not at all. SOCKS, because one request serves `http` and
//! `https` alike and nothing of HTTP has to be read. The proxy listens on the loopback with a
//! password that is made for it and dies with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::socks::{self, Reply};
use crate::{Outbound, OutboundError};

const USER: &str = "import";
/// How long a client may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

/// What may pass through one proxy.
#[derive(Debug, Clone, Copy)]
pub struct ProxyLimits {
    /// Bytes received, of all connections.
    pub bytes: u64,
    /// Connections at one time; more wait.
    pub connections: usize,
}

/// A proxy for one child process. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    outbound: Outbound,
    password: String,
    limits: ProxyLimits,
    received: AtomicU64,
    failure: Mutex<Option<OutboundError>>,
}

impl Outbound {
    /// Starts a proxy.
    pub async fn proxy(&self, limits: ProxyLimits) -> io::Result<Proxy> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let password = random_password();
        let url = format!("socks5h://{USER}:{password}@{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            outbound: self.clone(),
            password,
            limits,
            received: AtomicU64::new(0),
            failure: Mutex::default(),
        });
        let task = tokio::spawn(accept_all(listener, Arc::clone(&shared))).abort_handle();
        Ok(Proxy { url, shared, task })
    }
}

impl Proxy {
    /// The URL for the child, which resolves no name itself. Holds the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Why a connection was not made or was cut; the first such reason.
    pub fn failure(&self) -> Option<OutboundError> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// 128 random bits in hexadecimal, which need no quoting anywhere.
fn random_password() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    // Dropped with this task, and then they all end.
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        // The listener's failures are about one connection, or last: then the child gives up.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if let Err(error) = shared.serve(stream).await {
                tracing::debug!(%error, "a connection of an import");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let request = socks::accept(&mut client, USER, &self.password);
        let wanted = tokio::time::timeout(REQUEST_TIME, request).await??;
        match self.outbound.connect(&wanted.host, wanted.port).await {
            Ok(server) => {
                socks::answer(&mut client, Reply::Connected).await?;
                self.pass(client, server).await
            }
            Err(failure) => {
                let reply = match &failure {
                    OutboundError::Refused { .. } => Reply::NotAllowed,
                    OutboundError::Internal(_) => Reply::Failed,
                    _ => Reply::Unreachable,
                };
                self.fail(failure);
                socks::answer(&mut client, reply).await
            }
        }
    }

    /// Passes bytes in both directions until both have ended, one fails, or it was too much.
    async fn pass(&self, mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let up = async {
            tokio::io::copy(&mut from_client, &mut to_server).await?;
            to_server.shutdown().await
        };
        let down = async {
            let mut chunk = vec![0; CHUNK];
            loop {
                let length = from_server.read(&mut chunk).await?;
                if length == 0 {
                    return to_client.shutdown().await;
                }
                let before = self.received.fetch_add(length as u64, Ordering::Relaxed);
                if before + length as u64 > self.limits.bytes {
                    self.fail(OutboundError::TooLarge { limit: self.limits.bytes });
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                to_client.write_all(&chunk[..length]).await?;
            }
        };
        tokio::try_join!(up, down).map(drop)
    }

    fn fail(&self, failure: OutboundError) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }
}
