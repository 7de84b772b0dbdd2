//! Accepting connections: bounded in number and in how long a request's head may take, and ended
//! in good order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::stalled::Stalled;

const MAX_CONNECTIONS: usize = 4096;
/// A connection that sends its head more slowly, or is idle for so long, is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A client that takes nothing of its answer for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests may go on after a shutdown was asked for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel is out of file descriptors or memory: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown` resolves. Then accepts nothing more, lets requests finish for
/// ten seconds and drops those that have not.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    tokio::select! {
        () = accept_all(&listener, router, &connections, &graceful) => {}
        () = shutdown => {}
    }
    drop(listener);
    if timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await.is_err() {
        warn!("requests were still running at shutdown and are dropped");
    }
}

async fn accept_all(
    listener: &TcpListener,
    router: Router,
    connections: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    loop {
        let permit = Arc::clone(connections).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY");
        }
        let service = TowerToHyperService::new(router.clone());
        let connection =
            http.serve_connection(TokioIo::new(Stalled::after(WRITE_TIMEOUT, stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection");
            }
            drop(permit);
        });
    }
}

/// The peer was gone before it was accepted; the listener is well.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
