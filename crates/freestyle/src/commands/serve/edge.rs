//! The edge in front of the VMs: which VM a host leads to, and what the edge keeps in the data
//! directory, which is keys and certificates.

use std::collections::HashMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freestyle_domains::{DomainName, Domains, Route};
use freestyle_edge::{
    CertificateError, Certificates, Edge, HostName, Limits, Routes, SshConnections, Unavailable,
    Upstream,
};
use freestyle_store::Store;
use freestyle_vm::{VmError, VmService};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{bind, reachable};
use crate::config::{Config, Listen};
use crate::error::CliError;

const FOLDER: &str = "edge";
/// Labels below the platform's domain.
const API: &str = "api";
const GIT: &str = "git";
/// Where SSH is taken, which is at any name of the HTTPS listener: so that nobody maps it.
const SSH: &str = "ssh";

/// Where the edge listens unless something else is said, or if something else listens there, at any
/// free port: it does not matter much where sites are on a computer for development.
const DEFAULT_HTTP: SocketAddr = local(8000);
const DEFAULT_HTTPS: SocketAddr = local(8443);

/// How soon it is tried again to have a certificate for all previews, and how late at last.
const WILDCARD_PAUSE: Duration = Duration::from_secs(5);
const MAX_WILDCARD_PAUSE: Duration = Duration::from_secs(3600);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// An edge that is about to serve, and the services it stands on.
pub(super) struct Sites {
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    pub(super) certificates: Certificates,
    pub(super) domains: Domains,
    own: Own,
}

/// The servers of this process that are reached through the edge too, by their hosts.
type Own = HashMap<String, SocketAddr>;

/// What else of this process listens.
pub(super) struct Listeners {
    pub(super) api: SocketAddr,
    pub(super) git: SocketAddr,
}

impl Sites {
    /// Listens, and reads keys and certificates or makes them at the first start.
    pub(super) async fn open(
        config: &Config,
        store: &Store,
        others: &Listeners,
    ) -> Result<Self, CliError> {
        let http = listen(config.edge_http_listen, DEFAULT_HTTP, "--edge-http-listen").await?;
        let https = listen(config.edge_https_listen, DEFAULT_HTTPS, "--edge-https-listen").await?;
        let folder = folder(&config.data_dir);
        let certificates = match &config.acme_directory {
            Some(directory) => {
                let roots = &config.image.extra_ca_certificates;
                Certificates::acme(&folder, directory, roots).await
            }
            None => Certificates::local(&folder).await,
        };
        let certificates = certificates.map_err(failed)?;
        let own = own(config, others)?;
        let ssh_host = config.platform_domain.as_ref().map(|domain| domain.child(SSH));
        let ssh_host = ssh_host.transpose().map_err(|error| CliError::new(error.to_string()))?;
        let domains = freestyle_domains::Config {
            preview_suffixes: config.preview_domains.clone(),
            reserved: own.iter().map(|(host, _)| host.clone()).chain(ssh_host).collect(),
            vm_domain: config.vm_domain.clone(),
            platform: config.platform_domain.clone(),
            dns: super::dns::authority(config)?,
            resolvers: config.dns_resolvers.clone(),
        };
        let domains = Domains::new(store.clone(), domains);
        let own = own.into_iter().map(|(host, at)| (host.to_string(), at)).collect();
        Ok(Self { http, https, certificates, domains, own })
    }

    /// Where the git host is reached through the edge, if it is.
    pub(super) fn git_url(&self, config: &Config) -> Option<String> {
        let domain = config.platform_domain.as_ref()?;
        match self.https.as_ref()?.local_addr().ok()?.port() {
            443 => Some(format!("https://{GIT}.{domain}")),
            port => Some(format!("https://{GIT}.{domain}:{port}")),
        }
    }

    pub(super) fn http_url(&self) -> Option<String> {
        url("http", self.http.as_ref())
    }

    pub(super) fn https_url(&self) -> Option<String> {
        url("https", self.https.as_ref())
    }

    /// The root certificate that clients have to be told of.
    pub(super) fn ca_certificate(&self) -> Option<&Path> {
        self.certificates.ca_certificate()
    }

    pub(super) fn preview_domains(&self) -> Vec<String> {
        self.domains.preview_suffixes().iter().map(ToString::to_string).collect()
    }

    /// Serves until `shutdown` resolves.
    pub(super) async fn serve(
        self,
        vms: VmService,
        ssh: Option<SshConnections>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), CliError> {
        let Self { http, https, certificates, domains, own } = self;
        if http.is_none() && https.is_none() {
            shutdown.await;
            return Ok(());
        }
        // Whoever issues for everybody counts; the server's own authority does not.
        let only_mapped = certificates.ca_certificate().is_none();
        let routes = SiteRoutes { own: own.into(), domains: domains.clone(), vms, only_mapped };
        let edge = Edge::new(routes, certificates.clone(), Limits::default()).map_err(failed)?;
        let edge = edge.with_ssh(ssh);
        tokio::select! {
            served = edge.serve(http, https, shutdown) => Ok(served?),
            () = wildcards_of_previews(&domains, &certificates) => Ok(()),
        }
    }
}

/// Sees to it that previews, which come and go, need no certificate each, where the suffix is one whose
/// DNS is answered here; which may be so only later. Never resolves.
async fn wildcards_of_previews(domains: &Domains, certificates: &Certificates) {
    let mut without = domains.preview_suffixes().to_vec();
    let mut pause = WILDCARD_PAUSE;
    while certificates.needs_proof() && !without.is_empty() {
        let mut left = Vec::new();
        for suffix in without {
            if !has_wildcard(&suffix, domains, certificates).await {
                left.push(suffix);
            }
        }
        without = left;
        sleep(pause).await;
        pause = (2 * pause).min(MAX_WILDCARD_PAUSE);
    }
    pending().await
}

async fn has_wildcard(suffix: &DomainName, domains: &Domains, certificates: &Certificates) -> bool {
    // No name of a host at all has no certificate at all.
    let Some(host) = HostName::parse(suffix.as_str()) else { return true };
    if domains.check_answered_here(suffix).await.is_err() {
        return false;
    }
    let made = certificates.wildcard(&host).await;
    if let Err(cause) = &made {
        warn!(%suffix, %cause, "previews get a certificate each for now");
    }
    made.is_ok()
}

fn own(config: &Config, others: &Listeners) -> Result<Vec<(DomainName, SocketAddr)>, CliError> {
    let Some(domain) = &config.platform_domain else { return Ok(Vec::new()) };
    let at = |label, address| {
        let host = domain.child(label).map_err(|error| CliError::new(error.to_string()))?;
        Ok((host, reachable(address)))
    };
    [(API, others.api), (GIT, others.git)]
        .map(|(label, address)| at(label, address))
        .into_iter()
        .collect()
}

/// The folder with keys and certificates.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

async fn listen(
    asked: Option<Listen>,
    default: SocketAddr,
    flag: &str,
) -> Result<Option<TcpListener>, CliError> {
    match asked {
        Some(Listen::Off) => Ok(None),
        Some(Listen::At(address)) => bind(address, flag).await.map(Some),
        None => match TcpListener::bind(default).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                let listener = bind(local(0), flag).await?;
                let instead = listener.local_addr()?;
                warn!(%default, %error, %instead, "listening elsewhere; {flag} says where");
                Ok(Some(listener))
            }
        },
    }
}

fn url(scheme: &str, listener: Option<&TcpListener>) -> Option<String> {
    let address = listener?.local_addr().ok()?;
    Some(format!("{scheme}://{}", reachable(address)))
}

fn failed(error: CertificateError) -> CliError {
    CliError::new(error.to_string())
}

/// Finds the VM of a host and wakes it.
#[derive(Clone)]
struct SiteRoutes {
    own: Arc<Own>,
    domains: Domains,
    vms: VmService,
    /// Whether only hosts that lead somewhere may have a certificate, and not all that could.
    only_mapped: bool,
}

/// What a host leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Site {
    Vm(Arc<Route>),
    /// A server of this process.
    Own(SocketAddr),
}

impl Routes for SiteRoutes {
    type Target = Site;

    async fn find(&self, host: &HostName) -> Result<Option<Site>, Unavailable> {
        if let Some(address) = self.own.get(host.as_str()) {
            return Ok(Some(Site::Own(*address)));
        }
        let route = self.domains.route(host.as_str()).await.map_err(|cause| {
            error!(%host, %cause, "finding the VM of a host");
            Unavailable::Later("the server failed; its log has the cause".to_owned())
        })?;
        Ok(route.map(Site::Vm))
    }

    async fn connect(&self, target: &Site) -> Result<Upstream, Unavailable> {
        let route = match target {
            Site::Vm(route) => route,
            Site::Own(address) => {
                let stream = TcpStream::connect(address).await;
                let stream = stream.map_err(|cause| Unavailable::Later(cause.to_string()))?;
                return Ok(Upstream { stream, ended: Box::pin(pending()) });
            }
        };
        let Route { account_id, vm_id, port } = &**route;
        let connected = self.vms.connect(account_id, vm_id, *port).await;
        let connection = connected.map_err(|cause| unavailable(&cause))?;
        let (vms, instance) = (self.vms.clone(), connection.instance);
        let ended = Box::pin(async move { vms.ended(&instance).await });
        Ok(Upstream { stream: connection.stream, ended })
    }

    async fn may_have_certificate(&self, host: &HostName) -> bool {
        if self.own.contains_key(host.as_str()) {
            return true;
        }
        let may = if self.only_mapped {
            self.domains.route(host.as_str()).await.map(|route| route.is_some())
        } else {
            self.domains.is_known(host.as_str()).await
        };
        may.unwrap_or_else(|cause| {
            error!(%host, %cause, "asking whether a host may have a certificate");
            false
        })
    }

    async fn may_have_wildcard(&self, domain: &HostName) -> bool {
        let may = self.domains.may_have_wildcard(domain.as_str()).await;
        may.unwrap_or_else(|cause| {
            error!(%domain, %cause, "asking whether a domain may have a certificate");
            false
        })
    }
}

/// What a visitor, who need not be the VM's owner, is told.
fn unavailable(cause: &VmError) -> Unavailable {
    match cause {
        VmError::PortClosed { port, .. } => {
            Unavailable::Refused(format!("nothing listens on port {port} of its VM"))
        }
        VmError::StartTimeout { .. } => {
            Unavailable::TimedOut("its VM did not start in time".to_owned())
        }
        cause => {
            info!(%cause, "a visitor's VM cannot run");
            Unavailable::Later("its VM cannot run now".to_owned())
        }
    }
}
