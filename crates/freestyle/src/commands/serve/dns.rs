//! The DNS server of `serve`: what it is to others, and the zones that it answers for.

use std::sync::Arc;

use freestyle_dns::{Authority, RecordName, Server, Unavailable, Zone, Zones};
use freestyle_domains::{DomainError, DomainName, Domains};
use freestyle_edge::Certificates;
use tracing::error;

use crate::config::{Config, Listen};
use crate::error::CliError;

/// The label of this server below the platform's domain, where nothing else is said.
const NAME_SERVER: &str = "ns1";

/// Listens, if it is to.
pub(super) async fn bind(config: &Config) -> Result<Option<Server>, CliError> {
    let Listen::At(address) = config.dns_listen else { return Ok(None) };
    let bound = Server::bind(address).await;
    bound.map(Some).map_err(|error| {
        CliError::with_hint(
            format!("cannot listen on {address}, UDP and TCP: {error}"),
            "--dns-listen takes another address; port 0 is any free port",
        )
    })
}

/// What the server is to others; `None` if there is none.
pub(super) fn authority(config: &Config) -> Result<Option<Authority>, CliError> {
    if config.dns_listen == Listen::Off {
        return Ok(None);
    }
    let mut names = config.dns_names.clone();
    if names.is_empty() {
        let domain = config.platform_domain.iter().chain(&config.preview_domains).next();
        let named = domain.map(|domain| domain.child(NAME_SERVER)).transpose();
        names.extend(named.map_err(|error| CliError::new(error.to_string()))?);
    }
    let name = |name: &DomainName| RecordName::parse(name.as_str());
    let name_servers = names.iter().map(name).collect::<Result<_, _>>();
    let name_servers = name_servers.map_err(|why| CliError::new(format!("--dns-name: {why}")))?;
    Ok(Some(Authority { name_servers, addresses: config.public_addresses.clone() }))
}

/// The zones of accounts and the operator's, with what authorities want to see in them.
#[derive(Clone)]
pub(super) struct AllZones {
    pub(super) domains: Domains,
    pub(super) certificates: Certificates,
}

impl Zones for AllZones {
    async fn zone(&self, name: &str) -> Result<Option<Arc<Zone>>, Unavailable> {
        self.domains.zone(name).await.map_err(|cause| unavailable(name, &cause))
    }

    async fn is_site(&self, name: &str) -> Result<bool, Unavailable> {
        self.domains.is_site(name).await.map_err(|cause| unavailable(name, &cause))
    }

    fn proofs(&self, name: &str) -> Vec<String> {
        match self.domains.probe(name) {
            Some(code) => vec![code.to_owned()],
            None => self.certificates.proofs_over_dns(name),
        }
    }
}

fn unavailable(name: &str, cause: &DomainError) -> Unavailable {
    error!(name, %cause, "looking up a name for the DNS");
    Unavailable
}
