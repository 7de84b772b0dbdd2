//! The one place where a connection to a user's address is opened.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::OutboundError;
use crate::policy::Policy;

/// How long a name may take to resolve.
const RESOLVE_TIME: Duration = Duration::from_secs(10);
/// Names resolved at one time. Each is a thread that waits for a DNS server.
const LOOKUPS: usize = 32;
/// How long one address may take to answer.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ATTEMPTS: usize = 4;

/// Opens connections for users, to where users may send this server. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    shared: Arc<Shared>,
}

struct Shared {
    policy: Policy,
    lookups: Semaphore,
    /// Or why there is no TLS.
    tls: Result<Arc<ClientConfig>, String>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outbound(..)")
    }
}

impl Outbound {
    /// `allowed` are networks that may be reached although they are not public. Reads the system's
    /// root certificates, so it blocks; where there are none, only `https` fails.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        let policy = Policy::new(allowed);
        let shared = Shared { policy, lookups: Semaphore::new(LOOKUPS), tls: tls_config() };
        Self { shared: Arc::new(shared) }
    }

    /// Whether a URL's host may be connected to, as it resolves now. What it resolves to later is
    /// judged when it is connected to.
    pub async fn check(&self, host: &str, port: u16) -> Result<(), OutboundError> {
        self.resolve(host, port).await.map(drop)
    }

    /// Resolves a name and connects to one of the addresses it has at this moment.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, OutboundError> {
        let unreachable =
            |reason: String| OutboundError::Unreachable { host: host.to_owned(), reason };
        let mut failure = None;
        for address in self.resolve(host, port).await?.into_iter().take(ATTEMPTS) {
            match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = Some(unreachable(error.kind().to_string())),
                Err(_) => {
                    let (host, time) = (host.to_owned(), CONNECT_TIME);
                    failure = Some(OutboundError::TimedOut { host, time });
                }
            }
        }
        Err(failure.unwrap_or_else(|| OutboundError::UnknownHost { host: host.to_owned() }))
    }

    /// The addresses of a name, all of them judged. A name that also has an address that is not
    /// accepted is refused: nobody's honest name is in two such places.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, OutboundError> {
        let unknown = || OutboundError::UnknownHost { host: host.to_owned() };
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let _place = self.shared.lookups.acquire().await.map_err(|_| unknown())?;
                let lookup = timeout(RESOLVE_TIME, tokio::net::lookup_host((host, port))).await;
                lookup.map_err(|_| unknown())?.map_err(|_| unknown())?.collect()
            }
        };
        for address in &addresses {
            let accepted = self.shared.policy.accepts(address.ip());
            if !accepted.map_err(|error| OutboundError::Internal(error.to_string()))? {
                return Err(OutboundError::Refused { host: host.to_owned() });
            }
        }
        match addresses.is_empty() {
            true => Err(unknown()),
            // Connected to as what it was judged as.
            false => Ok(addresses
                .into_iter()
                .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
                .collect()),
        }
    }

    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, OutboundError> {
        self.shared.tls.clone().map_err(OutboundError::Internal)
    }
}

fn tls_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this server has no root certificates, so it cannot use https".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
