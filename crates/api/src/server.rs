//! Accepting connections: bounded in number and in how long a request's head may take, and ended
//! in good order. Those that become something else than HTTP count like all others.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::Request;
use axum::http::request::Parts;
use freestyle_inbound::is_about_one_connection;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::error::{ApiError, Code};
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (close, closing) = watch::channel(false);
    // Nothing is ever sent: it ends when nobody is left who could.
    let (open, mut all_closed) = mpsc::channel(1);
    tokio::select! {
        () = accept_all(&listener, router, &places, &closing, open) => {}
        () = shutdown => {}
    }
    drop(listener);
    close.send_replace(true);
    if timeout(SHUTDOWN_TIMEOUT, all_closed.recv()).await.is_err() {
        warn!("requests were still running at shutdown and are dropped");
    }
}

/// The connection that a request came on. Whoever takes it over, for a WebSocket, keeps this for as
/// long.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    closing: watch::Receiver<bool>,
    _place: Arc<OwnedSemaphorePermit>,
    _open: mpsc::Sender<()>,
}

impl Connection {
    /// Waits until the server ends.
    pub(crate) async fn closing(&self) {
        // Without a server it has ended.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = || ApiError::internal(Code::InternalError, &"a request without a connection");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

async fn accept_all(
    listener: &TcpListener,
    router: Router,
    places: &Arc<Semaphore>,
    closing: &watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    loop {
        let place = Arc::clone(places).acquire_owned().await;
        let place = Arc::new(place.expect("the semaphore is never closed"));
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
        let connection =
            Connection { closing: closing.clone(), _place: place, _open: open.clone() };
        let (service, requests) = (TowerToHyperService::new(router.clone()), connection.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(requests.clone());
            service.call(request)
        });
        let stream = TokioIo::new(Stalled::after(WRITE_TIMEOUT, stream));
        let served = http.serve_connection(stream, service).with_upgrades();
        tokio::spawn(async move {
            let mut served = pin!(served);
            let served = tokio::select! {
                served = served.as_mut() => served,
                () = connection.closing() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = served {
                debug!(%error, "connection");
            }
        });
    }
}
