//! The server: takes connections, and has each request answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freestyle_inbound::{Visitors, is_about_one_connection};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, warn};

use crate::certificates::{CertificateError, Certificates};
use crate::headers::Visit;
use crate::idle::Idle;
use crate::limits::{BUFFER, Limits, MAX_HEAD};
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::routes::Routes;
use crate::tls::Tls;
use crate::workers::{Workers, moved};

/// How long requests may go on after a shutdown was asked for.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// The kernel is out of file descriptors or memory: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often idle connections to guests are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(15);
/// A client that has been silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a client may take to say anything, where that tells what it speaks.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(10);

/// Requests at once on one connection, by HTTP/2.
const MAX_STREAMS: u32 = 128;
/// What a client may send ahead, for one request and for all of a connection, by HTTP/2.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What is held of an answer that the client does not take, by HTTP/2.
const SEND_BUFFER: usize = 128 << 10;

/// Takes connections that turn out to be SSH, with where they are from.
pub type SshConnections = mpsc::Sender<(TcpStream, SocketAddr)>;

/// The edge: an HTTP server and an HTTPS server for the sites behind it.
pub struct Edge<R: Routes> {
    ssh: Option<SshConnections>,
    routes: R,
    certificates: Certificates,
    limits: Limits,
    tls: Tls,
}

/// What all connections share.
struct Shared<R: Routes> {
    ssh: Option<SshConnections>,
    proxy: Proxy<R>,
    routes: R,
    certificates: Certificates,
    limits: Limits,
    tls: Tls,
    /// Where the edge was started, and where SSH goes on.
    home: Handle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl<R: Routes> Edge<R> {
    /// An edge in front of what `routes` leads to.
    ///
    /// # Errors
    /// If TLS cannot be set up at all.
    pub fn new(
        routes: R,
        certificates: Certificates,
        limits: Limits,
    ) -> Result<Self, CertificateError> {
        Ok(Self { ssh: None, routes, certificates, limits, tls: Tls::new()? })
    }

    /// Has the HTTPS listener take SSH as well: who begins with it is handed over, and is counted and
    /// limited by whoever takes it from then on.
    pub fn with_ssh(self, ssh: Option<SshConnections>) -> Self {
        Self { ssh, ..self }
    }

    /// Serves both listeners until `shutdown` resolves. Then accepts nothing more, lets requests
    /// finish for ten seconds and drops those that have not. Connections are served by threads of
    /// the edge's own, [`Routes::connect`] works where this runs.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub async fn serve(
        self,
        http: Option<TcpListener>,
        https: Option<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { ssh, routes, certificates, limits, tls } = self;
        if http.is_none() {
            certificates.prove_over_tls_only();
        }
        let workers = Workers::start()?;
        let (close, closing) = watch::channel(());
        let pool = Pool::new(routes.clone(), workers.count());
        let proxy = Proxy::new(routes.clone(), certificates.clone(), pool, limits, closing.clone());
        let visitors = Visitors::new(limits.connections, limits.connections_of_source);
        let home = Handle::current();
        let shared = Arc::new(Shared { ssh, proxy, routes, certificates, limits, tls, home });
        let mut connections = JoinSet::new();
        {
            let accept = async {
                loop {
                    let (scheme, accepted) = tokio::select! {
                        accepted = accept(http.as_ref()) => (Scheme::Http, accepted),
                        accepted = accept(https.as_ref()) => (Scheme::Https, accepted),
                        Some(_) = connections.join_next() => continue,
                    };
                    let (stream, address) = accepted;
                    let Some(visitor) = visitors.admit(address.ip()) else {
                        debug!(%address, "turned away: too many connections");
                        continue;
                    };
                    let (place, thread) = workers.place();
                    let (shared, closing) = (shared.clone(), closing.clone());
                    let connection = async move {
                        shared.receive(place.worker, scheme, (stream, address), closing).await;
                        drop((place, visitor));
                    };
                    connections.spawn_on(connection, thread);
                }
            };
            tokio::select! {
                () = accept => {}
                () = shared.tidy() => {}
                () = shared.certificates.keep_renewed(&shared.routes) => {}
                () = shutdown => {}
            }
        }
        drop((http, https, close));
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_LIMIT, ended).await.is_err() {
            warn!("requests to sites were still running at shutdown and are dropped");
        }
        Ok(())
    }
}

impl<R: Routes> Shared<R> {
    async fn tidy(&self) {
        let mut turn = interval(TIDY_EVERY);
        loop {
            turn.tick().await;
            self.proxy.pool().tidy();
        }
    }

    async fn receive(
        self: Arc<Self>,
        worker: usize,
        scheme: Scheme,
        (stream, address): (TcpStream, SocketAddr),
        closing: watch::Receiver<()>,
    ) {
        let stream = match moved(stream, &Handle::current()) {
            Ok(stream) => stream,
            Err(error) => return warn!(%error, "cannot serve a connection"),
        };
        if let Err(error) = prepare(&stream, self.limits.download_stall) {
            debug!(%error, "options of a connection");
        }
        // An address has no character that a field may not hold.
        let from = HeaderValue::try_from(address.ip().to_canonical().to_string());
        let Ok(from) = from else { return };
        let served = match scheme {
            Scheme::Http => {
                let visit = Visit { from, tls: None, worker };
                self.serve_http_1(stream, visit, closing).await
            }
            Scheme::Https => {
                if let Some(ssh) = &self.ssh {
                    match begins_with_ssh(&stream).await {
                        Ok(false) => {}
                        Ok(true) => {
                            if let Ok(stream) = moved(stream, &self.home) {
                                // Full: there are many at once, and SSH clients try again.
                                _ = ssh.try_send((stream, address));
                            }
                            return;
                        }
                        Err(error) => return debug!(%error, "connection"),
                    }
                }
                let secured = self.tls.accept(stream, &self.routes, &self.certificates).await;
                let Some(secured) = secured else { return };
                let visit = Visit { from, tls: Some(secured.host), worker };
                if secured.is_http_2 {
                    self.serve_http_2(secured.stream, visit, closing).await
                } else {
                    self.serve_http_1(secured.stream, visit, closing).await
                }
            }
        };
        if let Err(error) = served {
            debug!(%error, "connection");
        }
    }

    async fn serve_http_1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        visit: Visit,
        mut closing: watch::Receiver<()>,
    ) -> hyper::Result<()> {
        let answer = async |request: Request<Incoming>| {
            Ok::<_, Infallible>(self.proxy.answer(&visit, request).await)
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_header_size(MAX_HEAD)
            .max_buf_size(BUFFER);
        let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
        let connection = connection.with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            served = connection.as_mut() => return served,
            _ = closing.changed() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn serve_http_2(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        visit: Visit,
        mut closing: watch::Receiver<()>,
    ) -> hyper::Result<()> {
        let idle = Idle::default();
        let visit = Arc::new(visit);
        let answer = |request: Request<Incoming>| {
            let busy = idle.busy();
            let (shared, visit) = (self.clone(), visit.clone());
            async move {
                let answer = shared.proxy.answer(&visit, request).await;
                Ok::<_, Infallible>(answer.map(|body| busy.until_end_of(body)))
            }
        };
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::pin!(connection);
        let stall = self.limits.download_stall;
        tokio::select! {
            served = connection.as_mut() => return served,
            () = idle.stalled_for(stall) => return Ok(()),
            _ = closing.changed() => {}
            () = idle.for_longer_than(self.limits.head) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            served = connection.as_mut() => served,
            () = idle.stalled_for(stall) => Ok(()),
            // What has been answered in full may still wait for the client to take it.
            () = idle.for_longer_than(stall) => Ok(()),
        }
    }
}

/// Whether a client speaks SSH, which begins with "SSH-"; no record of TLS begins with this letter.
/// Nothing is taken from what it sent.
async fn begins_with_ssh(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let read = timeout(FIRST_BYTE_LIMIT, stream.peek(&mut first)).await??;
    Ok(first[..read] == *b"S")
}

/// The next connection; never, without a listener.
async fn accept(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// So that a client that vanished is noticed, and one that takes nothing does not stay for ever.
fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_user_timeout(stream, stall.as_millis() as u32)?;
    Ok(())
}
