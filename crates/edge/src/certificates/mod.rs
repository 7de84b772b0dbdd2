//! Certificates: from a local authority for development, or by ACME from one that browsers trust.

mod acme;
mod acme_client;
mod challenges;
mod error;
mod files;
mod local_ca;
mod names;
mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::pending;
use rustls::sign::CertifiedKey;

use self::acme::Acme;
use self::challenges::Challenges;
pub use self::error::CertificateError;
use self::local_ca::LocalCa;
pub use self::local_ca::certificate_file as ca_certificate_file;
use crate::host::HostName;
use crate::routes::Routes;

/// Where certificates come from. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Certificates(Authority);

#[derive(Clone)]
enum Authority {
    Local(Arc<LocalCa>),
    Acme(Arc<Acme>),
}

impl Certificates {
    /// From an authority of this server's own, which is made where there is none yet. Browsers know
    /// it only where somebody has told them. Its key and certificate are in `dir`, its other
    /// certificates only in memory.
    pub async fn local(dir: &Path) -> Result<Self, CertificateError> {
        Ok(Self(Authority::Local(Arc::new(LocalCa::open(dir).await?))))
    }

    /// By ACME (RFC 8555), from the authority with this directory URL, whose server is known to this
    /// host or to one of the `roots`, files in PEM. The account, keys and certificates are in `dir`.
    /// Nobody is asked for anything yet.
    pub async fn acme(
        dir: &Path,
        directory: &str,
        roots: &[PathBuf],
    ) -> Result<Self, CertificateError> {
        Ok(Self(Authority::Acme(Arc::new(Acme::open(dir, directory, roots).await?))))
    }

    /// The file with the root certificate, in PEM, which clients have to be told of; `None` if they
    /// know it anyhow.
    pub fn ca_certificate(&self) -> Option<&Path> {
        match &self.0 {
            Authority::Local(ca) => Some(ca.certificate_file()),
            Authority::Acme(_) => None,
        }
    }

    /// Whether somebody else is asked, who wants proof: for a wildcard, that the domain's DNS says
    /// what [`Certificates::proofs_over_dns`] does.
    pub fn needs_proof(&self) -> bool {
        matches!(self.0, Authority::Acme(_))
    }

    /// Has a certificate for all hosts right below this domain. May take as long as the authority
    /// does, and is made even if nobody waits for it any more.
    pub async fn wildcard(&self, domain: &HostName) -> Result<(), CertificateError> {
        match &self.0 {
            Authority::Local(ca) => ca.wildcard(domain),
            Authority::Acme(acme) => acme.wildcard(domain).await,
        }
    }

    /// What TXT records at this name, in lower case and without final dot, have to say now for an
    /// authority that asks the DNS for proof.
    pub fn proofs_over_dns(&self, name: &str) -> Vec<String> {
        self.challenges().map_or(Vec::new(), |challenges| challenges.over_dns(name))
    }

    /// The certificate to show for a host, which must be one that may have a certificate. May take
    /// as long as the authority does.
    pub(crate) async fn certificate(
        &self,
        host: &HostName,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        match &self.0 {
            Authority::Local(ca) => ca.certificate(host),
            Authority::Acme(acme) => acme.certificate(host).await,
        }
    }

    /// What to answer an authority that asks over HTTP for the proof with this token.
    pub(crate) fn proof_over_http(&self, host: &HostName, token: &str) -> Option<String> {
        self.challenges()?.over_http(host, token)
    }

    /// What to show an authority that asks for proof in a TLS handshake (RFC 8737).
    pub(crate) fn proof_over_tls(&self, host: &HostName) -> Option<Arc<CertifiedKey>> {
        self.challenges()?.over_tls(host)
    }

    /// Says that authorities can reach this server by HTTPS only.
    pub(crate) fn prove_over_tls_only(&self) {
        if let Authority::Acme(acme) = &self.0 {
            acme.prove_over_tls_only();
        }
    }

    /// Renews certificates before they end, for as long as it is polled.
    pub(crate) async fn keep_renewed(&self, routes: &impl Routes) {
        match &self.0 {
            Authority::Local(_) => pending().await,
            Authority::Acme(acme) => acme.keep_renewed(routes).await,
        }
    }

    fn challenges(&self) -> Option<&Challenges> {
        match &self.0 {
            Authority::Local(_) => None,
            Authority::Acme(acme) => Some(acme.challenges()),
        }
    }
}
