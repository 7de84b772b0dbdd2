//! One request: to whom it goes, and what comes back.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::body::{AnswerBody, Download, RequestBody, Stalled};
use crate::certificates::Certificates;
use crate::headers::{self, Visit};
use crate::host::HostName;
use crate::limits::Limits;
use crate::page::Page;
use crate::pool::{Lease, Pool};
use crate::routes::{Routes, Unavailable};
use crate::upgrade::tunnel;

/// Requests and upgraded connections at once.
const MAX_REQUESTS: usize = 8192;
/// Where certificate authorities look for proof (RFC 8555 section 8.3).
const ACME_PATH: &str = "/.well-known/acme-challenge/";

/// Forwards requests to guests.
pub(crate) struct Proxy<R: Routes> {
    routes: R,
    certificates: Certificates,
    pool: Pool<R>,
    places: Arc<Semaphore>,
    limits: Limits,
    /// Changes when the edge closes.
    closing: watch::Receiver<()>,
}

impl<R: Routes> Proxy<R> {
    pub(crate) fn new(
        routes: R,
        certificates: Certificates,
        pool: Pool<R>,
        limits: Limits,
        closing: watch::Receiver<()>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(MAX_REQUESTS));
        Self { routes, certificates, pool, places, limits, closing }
    }

    pub(crate) fn pool(&self) -> &Pool<R> {
        &self.pool
    }

    /// Answers a request. What goes wrong is answered with a page that says so.
    pub(crate) async fn answer(
        &self,
        visit: &Visit,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        self.forward(visit, request).await.unwrap_or_else(Page::into_response)
    }

    async fn forward(
        &self,
        visit: &Visit,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Page> {
        let (host, host_field) = headers::requested_host(request.headers(), request.uri())?;
        if visit.tls.as_ref().is_some_and(|name| *name != host) {
            let text = format!("This connection was set up for another host than {host}.");
            return Err(Page::new(StatusCode::MISDIRECTED_REQUEST, text));
        }
        if let Some(proof) = self.proof(visit, &host, request.uri()) {
            return Ok(proof);
        }
        if request.method() == Method::CONNECT {
            let text = "This server is no way to other places.";
            return Err(Page::new(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        let found = self.routes.find(&host).await;
        let target =
            found.map_err(|reason| Page::unreachable(&host, &reason))?.ok_or_else(|| {
                Page::new(StatusCode::NOT_FOUND, format!("Nothing is mapped to {host}."))
            })?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let text = "There are too many requests at once.";
            Page::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })?;

        let (mut parts, body) = request.into_parts();
        let body = RequestBody::new(body, self.limits.upload_stall);
        let upload = body.progress();
        let upgrade = headers::requested_upgrade(&parts).filter(|_| upload.is_none());
        let upgraded = parts.extensions.remove::<OnUpgrade>().filter(|_| upgrade.is_some());
        headers::to_guest(&mut parts.headers, visit, host_field, upgrade);
        parts.uri = origin_form(parts.uri)?;
        parts.version = Version::HTTP_11;
        let request = Request::from_parts(parts, body);
        let (mut response, lease) = self.send(visit.worker, &host, &target, request).await?;

        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = upgraded.ok_or_else(|| {
                Page::bad_gateway(&host, "it changed to another protocol, which nobody asked for")
            })?;
            let guest = hyper::upgrade::on(&mut response);
            let protocol = response.headers_mut().remove(UPGRADE);
            headers::to_client(response.headers_mut());
            if let Some(protocol) = protocol {
                headers::set_upgrade(response.headers_mut(), protocol);
            }
            tunnel(client, guest, lease, place, self.closing.clone());
            return Ok(response.map(|_| AnswerBody::nothing()));
        }
        headers::to_client(response.headers_mut());
        Ok(response.map(|body| AnswerBody::Guest(Download::new(body, lease, upload, place))))
    }

    /// The answer to a certificate authority that asks for proof.
    fn proof(&self, visit: &Visit, host: &HostName, uri: &Uri) -> Option<Response<AnswerBody>> {
        if visit.tls.is_some() {
            return None;
        }
        let token = uri.path().strip_prefix(ACME_PATH)?;
        let proof = self.certificates.proof_over_http(host, token)?;
        Some(Response::new(AnswerBody::text(proof)))
    }

    /// Has the guest answer.
    async fn send(
        &self,
        worker: usize,
        host: &HostName,
        target: &R::Target,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Page> {
        let mut fresh = false;
        loop {
            let lease = self.pool.lease(worker, target, fresh).await;
            let mut lease = lease.map_err(|reason| Page::unreachable(host, &reason))?;
            let is_reused = lease.is_reused();
            let copy = is_reused.then(|| repeatable(&request)).flatten();
            let failure = match exchange(&mut lease, request, self.limits.answer).await {
                Ok(response) => return Ok((response, lease)),
                Err(failure) => failure,
            };
            // Guests close connections that have been idle for a while: maybe at this very moment.
            request = match (failure, copy) {
                (Failure::Unsent(request), _) if is_reused => *request,
                (Failure::Broken(_), Some(copy)) => copy,
                (failure, _) => return Err(failure.page(host)),
            };
            fresh = true;
        }
    }
}

/// Why a guest did not answer.
enum Failure {
    /// It closed the connection and has seen nothing of the request.
    Unsent(Box<Request<RequestBody>>),
    /// It closed the connection, or answered something that is not HTTP/1.1.
    Broken(hyper::Error),
    /// The client did not go on with its request.
    ClientStalled,
    /// The guest thought for too long.
    GuestStalled,
}

impl Failure {
    fn page(self, host: &HostName) -> Page {
        match self {
            Self::Unsent(_) => Page::bad_gateway(host, "it closed the connection at once"),
            Self::Broken(error) if error.is_parse() => {
                Page::bad_gateway(host, "its answer is not HTTP/1.1")
            }
            Self::Broken(_) => {
                Page::bad_gateway(host, "it closed the connection before it had answered")
            }
            Self::ClientStalled => {
                let text = "The request was not finished in time.";
                Page::new(StatusCode::REQUEST_TIMEOUT, text)
            }
            Self::GuestStalled => {
                let reason = Unavailable::TimedOut("it did not answer in time".to_owned());
                Page::unreachable(host, &reason)
            }
        }
    }
}

async fn exchange(
    lease: &mut Lease,
    request: Request<RequestBody>,
    limit: Duration,
) -> Result<Response<Incoming>, Failure> {
    let began = Instant::now();
    let upload = request.body().progress();
    let answer = lease.sender().try_send_request(request);
    tokio::pin!(answer);
    let mut deadline = began + limit;
    loop {
        tokio::select! {
            answer = &mut answer => return answer.map_err(|mut error| match error.take_message() {
                Some(request) => Failure::Unsent(Box::new(request)),
                None if is_stalled(error.error()) => Failure::ClientStalled,
                None => Failure::Broken(error.into_error()),
            }),
            () = sleep_until(deadline) => {
                let moved = upload.as_ref().map_or(began, |upload| upload.last());
                deadline = moved + limit;
                if deadline <= Instant::now() {
                    return Err(Failure::GuestStalled);
                }
            }
        }
    }
}

fn is_stalled(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Stalled>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A copy of a request that may be sent a second time without harm, if the first had no answer.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_safe() || request.body().progress().is_some() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The target of a request as servers expect it: without scheme and host.
fn origin_form(uri: Uri) -> Result<Uri, Page> {
    if uri.authority().is_none() && uri.scheme().is_none() {
        return Ok(uri);
    }
    let mut parts = uri.into_parts();
    (parts.scheme, parts.authority) = (None, None);
    Uri::from_parts(parts).map_err(|_| Page::bad_request("The request's target is not understood."))
}
