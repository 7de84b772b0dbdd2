//! A certificate authority of this server's own, for development.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use super::error::CertificateError;
use super::files;
use super::names::Names;
use crate::host::HostName;

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";
/// How long the authority is good for.
const CA_LIFE: Duration = Duration::days(3650);
/// How long its certificates are. Browsers refuse such as are good for more than 398 days.
const LIFE: Duration = Duration::days(90);
/// Another one is made when so much is left.
const REST: Duration = Duration::days(30);
/// Clocks differ.
const BACKDATED: Duration = Duration::days(1);
/// Certificates that are kept. Making one takes a fraction of a millisecond.
const MAX_KEPT: usize = 4096;

/// The authority.
pub(super) struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    file: PathBuf,
    issued: Mutex<HashMap<Names, Issued>>,
}

struct Issued {
    key: Arc<CertifiedKey>,
    renewal: OffsetDateTime,
}

/// The file with the root certificate of the authority that is in `dir`.
pub fn certificate_file(dir: &Path) -> PathBuf {
    dir.join(CERTIFICATE_FILE)
}

impl LocalCa {
    pub(super) async fn open(dir: &Path) -> Result<Self, CertificateError> {
        let key_file = dir.join(KEY_FILE);
        let damaged = |path: &Path, reason: String| CertificateError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let key = match files::read(&key_file).await? {
            Some(pem) => std::str::from_utf8(&pem)
                .map_err(|error| error.to_string())
                .and_then(|pem| KeyPair::from_pem(pem).map_err(|error| error.to_string()))
                .map_err(|reason| damaged(&key_file, reason))?,
            None => {
                let key = KeyPair::generate()?;
                files::write(&key_file, key.serialize_pem().into_bytes()).await?;
                key
            }
        };
        let params = params(&key)?;
        let file = certificate_file(dir);
        let certificate = match files::read(&file).await? {
            Some(pem) => CertificateDer::from_pem_slice(&pem)
                .map_err(|error| damaged(&file, error.to_string()))?,
            None => {
                let certificate = params.self_signed(&key)?;
                files::write(&file, certificate.pem().into_bytes()).await?;
                certificate.der().clone()
            }
        };
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, certificate, file, issued: Mutex::default() })
    }

    pub(super) fn certificate_file(&self) -> &Path {
        &self.file
    }

    pub(super) fn certificate(
        &self,
        host: &HostName,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let below = host.parent().and_then(|parent| self.kept(&Names::Below(parent)));
        match below {
            Some(key) => Ok(key),
            None => self.kept_or_new(Names::Host(host.clone())),
        }
    }

    pub(super) fn wildcard(&self, domain: &HostName) -> Result<(), CertificateError> {
        self.kept_or_new(Names::Below(domain.clone())).map(drop)
    }

    fn kept_or_new(&self, names: Names) -> Result<Arc<CertifiedKey>, CertificateError> {
        match self.kept(&names) {
            Some(key) => Ok(key),
            None => self.issue(names),
        }
    }

    fn kept(&self, names: &Names) -> Option<Arc<CertifiedKey>> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = issued.get(names)?;
        (OffsetDateTime::now_utc() < issued.renewal).then(|| issued.key.clone())
    }

    fn issue(&self, names: Names) -> Result<Arc<CertifiedKey>, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![names.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - BACKDATED, now + LIFE);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = files::certified_key(chain, &key)?;

        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= MAX_KEPT {
            issued.clear();
        }
        let renewal = now + LIFE - REST;
        issued.insert(names, Issued { key: key.clone(), renewal });
        Ok(key)
    }
}

/// What the authority is, which follows from its key alone. Its name tells it apart from those of
/// other servers, which one computer may trust as well.
fn params(key: &KeyPair) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(Vec::new())?;
    let id = params.key_identifier(key);
    let id: String = id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Freestyle local CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - BACKDATED, now + CA_LIFE);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn the_authority_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("edge");
        let first = LocalCa::open(&dir).await.unwrap();
        let mode = |name| dir.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(KEY_FILE), 0o600);
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let second = LocalCa::open(&dir).await.unwrap();
        assert_eq!(first.certificate, second.certificate);

        // It is made from the key if it was lost.
        std::fs::remove_file(dir.join(CERTIFICATE_FILE)).unwrap();
        LocalCa::open(&dir).await.unwrap();
        assert!(dir.join(CERTIFICATE_FILE).exists());

        std::fs::write(dir.join(KEY_FILE), "torn").unwrap();
        let refused = LocalCa::open(&dir).await.err().unwrap();
        assert!(matches!(refused, CertificateError::Damaged { .. }), "{refused}");
    }

    #[tokio::test]
    async fn a_host_keeps_its_certificate_and_a_wildcard_stands_for_those_below() {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::open(folder.path()).await.unwrap();
        let of = |name| ca.certificate(&host(name)).unwrap();
        let own = of("a.example.com");
        assert!(Arc::ptr_eq(&own, &of("a.example.com")));
        ca.wildcard(&host("example.com")).unwrap();
        let shared = of("b.example.com");
        assert!(Arc::ptr_eq(&shared, &of("a.example.com")));
        for other in ["example.com", "a.b.example.com", "example.org"] {
            assert!(!Arc::ptr_eq(&shared, &of(other)), "{other}");
        }
    }
}
