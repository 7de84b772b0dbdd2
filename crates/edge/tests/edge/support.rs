//! An edge in front of servers of the test's own, and the clients that visit it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use freestyle_edge::{Certificates, Edge, HostName, Limits, Routes, Unavailable, Upstream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Sites by host, each a port of this host.
#[derive(Clone, Default)]
pub(crate) struct Sites(Arc<Mutex<HashMap<String, Site>>>);

#[derive(Clone)]
struct Site {
    address: SocketAddr,
    running: watch::Receiver<()>,
}

impl Sites {
    /// Maps a host. The site ends when the answer is dropped.
    pub(crate) fn map(&self, host: &str, address: SocketAddr) -> watch::Sender<()> {
        let (sender, running) = watch::channel(());
        self.0.lock().unwrap().insert(host.to_owned(), Site { address, running });
        sender
    }

    fn site(&self, host: &str) -> Option<Site> {
        self.0.lock().unwrap().get(host).cloned()
    }
}

impl Routes for Sites {
    type Target = String;

    async fn find(&self, host: &HostName) -> Result<Option<String>, Unavailable> {
        match host.as_str() {
            "later.test" => Err(Unavailable::Later("it is being moved".to_owned())),
            host => Ok(self.site(host).map(|_| host.to_owned())),
        }
    }

    async fn connect(&self, target: &String) -> Result<Upstream, Unavailable> {
        let site = self.site(target).ok_or_else(|| Unavailable::Later("it went".to_owned()))?;
        let stream = TcpStream::connect(site.address)
            .await
            .map_err(|error| Unavailable::Refused(error.to_string()))?;
        let mut running = site.running;
        let ended = Box::pin(async move { while running.changed().await.is_ok() {} });
        Ok(Upstream { stream, ended })
    }

    async fn may_have_wildcard(&self, domain: &HostName) -> bool {
        self.may_have_certificate(domain).await
    }

    async fn may_have_certificate(&self, host: &HostName) -> bool {
        host.as_str().ends_with(".test") && host.as_str() != "secret.test"
    }
}

/// An edge that serves until it is dropped.
pub(crate) struct TestEdge {
    pub(crate) sites: Sites,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) ca: PathBuf,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    _folder: Option<TempDir>,
}

impl TestEdge {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::local(folder.path()).await.unwrap();
        let ca = certificates.ca_certificate().unwrap().to_owned();
        let listeners = (Some(listener().await), listener().await);
        let edge = Self::serve(Sites::default(), certificates, limits, listeners, ca);
        Self { _folder: Some(folder), ..edge }
    }

    /// Serves with these certificates, which clients know by `ca`.
    pub(crate) fn serve(
        sites: Sites,
        certificates: Certificates,
        limits: Limits,
        listeners: (Option<TcpListener>, TcpListener),
        ca: PathBuf,
    ) -> Self {
        let edge = Edge::new(sites.clone(), certificates, limits).unwrap();
        Self::run(edge, sites, listeners, ca)
    }

    /// One that hands SSH over.
    pub(crate) async fn with_ssh() -> (Self, mpsc::Receiver<(TcpStream, SocketAddr)>) {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::local(folder.path()).await.unwrap();
        let ca = certificates.ca_certificate().unwrap().to_owned();
        let (sites, (ssh, handed_over)) = (Sites::default(), mpsc::channel(1));
        let edge = Edge::new(sites.clone(), certificates, Limits::default()).unwrap();
        let listeners = (Some(listener().await), listener().await);
        let edge = Self::run(edge.with_ssh(Some(ssh)), sites, listeners, ca);
        (Self { _folder: Some(folder), ..edge }, handed_over)
    }

    fn run(
        edge: Edge<Sites>,
        sites: Sites,
        (http_listener, https_listener): (Option<TcpListener>, TcpListener),
        ca: PathBuf,
    ) -> Self {
        let https = https_listener.local_addr().unwrap();
        let http = http_listener.as_ref().map_or(https, |http| http.local_addr().unwrap());
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(async move {
            let asked = async { drop(asked.await) };
            edge.serve(http_listener, Some(https_listener), asked).await.unwrap();
        });
        Self { sites, http, https, ca, shutdown: Some(shutdown), served, _folder: None }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn end(mut self) {
        drop(self.shutdown.take());
        self.served.await.unwrap();
    }

    /// What curl prints: the answer, then `status version`. `target` is `host/path`.
    pub(crate) async fn curl(&self, scheme: &str, target: &str, options: &[&str]) -> String {
        let port = if scheme == "https" { self.https.port() } else { self.http.port() };
        let (host, path) = target.split_once('/').unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
            .args(["--connect-to", &format!("::127.0.0.1:{port}")])
            .args(["--write-out", "\n%{http_code} %{http_version}"])
            .arg("--cacert")
            .arg(&self.ca)
            .args(options)
            .arg(format!("{scheme}://{host}:{port}/{path}"))
            .stdin(Stdio::null());
        let output = curl.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => text,
            _ => format!("curl: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// A connection to the HTTP listener, for bytes that no client would send.
    pub(crate) async fn raw(&self) -> Raw {
        Raw(TcpStream::connect(self.http).await.unwrap())
    }
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// Bytes as they come.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until this text has come.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(text) {
            let byte = self.0.read_u8().await;
            read.push(
                byte.unwrap_or_else(|_| {
                    panic!("no {text:?} in {:?}", String::from_utf8_lossy(&read))
                }),
            );
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// What comes until the other end closes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        // A reset is an end as well.
        _ = self.0.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }
}

/// A web server that tells what it was asked.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    events: Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>,
    task: JoinHandle<()>,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let events = Arc::new(Mutex::new(None));
        let (count, events_of) = (connections.clone(), events.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let events = events_of.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(request, &events));
                    let http = hyper::server::conn::http1::Builder::new();
                    _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, connections, events, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What `/events` sends, one piece after the other.
    pub(crate) fn events(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(1);
        *self.events.lock().unwrap() = Some(receiver);
        sender
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    events: &Mutex<Option<mpsc::Receiver<Bytes>>>,
) -> Result<Response<Body>, Infallible> {
    let text = |text: String| {
        Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
    };
    Ok(match request.uri().path() {
        // The body, as it comes.
        "/echo" => Response::new(request.into_body().boxed()),
        "/length" => {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                length += frame.unwrap().data_ref().map_or(0, Bytes::len);
            }
            text(length.to_string())
        }
        "/events" => {
            let receiver = events.lock().unwrap().take().unwrap();
            let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
                Some((Ok(Frame::data(receiver.recv().await?)), receiver))
            });
            let mut response = Response::new(StreamBody::new(frames).boxed());
            let kind = hyper::header::HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
            response
        }
        "/never" => std::future::pending().await,
        "/teapot" => {
            let mut response = text("short and stout".to_owned());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response.headers_mut().insert("x-lid", hyper::header::HeaderValue::from_static("on"));
            response
        }
        _ => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            let headers = request.headers().iter();
            lines.extend(headers.map(|(name, value)| {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            }));
            lines[1..].sort();
            text(lines.join("\n"))
        }
    })
}

/// A server that answers every connection with the same bytes, and tells what it was sent.
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl RawServer {
    /// Each connection gets `answer` once the end of a head was heard, and is then closed or kept.
    pub(crate) async fn start(answer: &str, keeps_open: bool) -> Self {
        let answer: Arc<str> = answer.into();
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
        let hears = heard.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (hears, answer) = (hears.clone(), answer.clone());
                let at = {
                    let mut heard = hears.lock().unwrap();
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(async move {
                    let mut has_answered = false;
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let has_head = {
                            let mut heard = hears.lock().unwrap();
                            heard[at].extend_from_slice(&buffer[..count]);
                            heard[at].windows(4).any(|bytes| bytes == b"\r\n\r\n")
                        };
                        if has_head && !has_answered {
                            has_answered = true;
                            _ = stream.write_all(answer.as_bytes()).await;
                            if !keeps_open {
                                break;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heard, task }
    }

    /// What came over each connection so far.
    pub(crate) fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
