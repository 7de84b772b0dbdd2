//! Certificates by ACME: ordered when a host is first visited, renewed before they end.
//!
//! A host is ordered for when someone sets up TLS with its name, which as a rule means that its DNS
//! leads here; before that, the authority would not find the proof. What fails is not tried again
//! at once, because authorities count failures and lock out who has too many.
//!
//! A host is proven over HTTP or TLS. All hosts below a domain are proven by its DNS, which must be
//! answered by this server for that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::{Notify, OnceCell, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::acme_client::AcmeClient;
use super::challenges::{Challenges, Proof, Published};
use super::error::CertificateError;
use super::files;
use super::names::Names;
use super::validity::Validity;
use crate::host::HostName;
use crate::routes::Routes;

const ACCOUNT_FILE: &str = "acme-account.json";
const CERTIFICATES: &str = "certificates";
const EXTENSION: &str = "pem";

/// Orders at once.
const MAX_ORDERS: usize = 4;
/// From the first request of an order to the certificate.
const ORDER_LIMIT: Duration = Duration::from_secs(180);
/// How long the authority may take to look for the proof, and then to make the certificate.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(120);
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);
/// How often to look for certificates to renew.
const LOOK_AT_MOST: Duration = Duration::from_secs(3600);
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// The certificates of one authority.
pub(super) struct Acme {
    directory: String,
    dir: PathBuf,
    client: AcmeClient,
    account: OnceCell<Account>,
    challenges: Challenges,
    /// Whether nobody answers by HTTP.
    tls_only: AtomicBool,
    orders: Semaphore,
    known: Mutex<HashMap<Names, Known>>,
    /// Told when there is another certificate to be kept renewed.
    changed: Notify,
}

/// What is known of a certificate.
#[derive(Default)]
struct Known {
    certificate: Option<Certificate>,
    /// The order that is under way. Changes, to nothing, when it has ended.
    order: Option<watch::Receiver<()>>,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Certificate {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

/// Orders that failed, one after the other.
struct Failure {
    count: u32,
    reason: String,
    until: Instant,
}

impl Certificate {
    fn new(key: Arc<CertifiedKey>) -> Result<Self, CertificateError> {
        let validity = key.cert.first().and_then(|first| Validity::of(first));
        let none =
            || CertificateError::Unusable("the certificate has no period of validity".into());
        Ok(Self { validity: validity.ok_or_else(none)?, key })
    }

    fn is_good(&self) -> bool {
        OffsetDateTime::now_utc() < self.validity.until
    }
}

impl Acme {
    pub(super) async fn open(
        dir: &Path,
        directory: &str,
        roots: &[PathBuf],
    ) -> Result<Self, CertificateError> {
        let mut known = HashMap::new();
        for file in files::list(&dir.join(CERTIFICATES)).await? {
            match load(&file).await {
                Ok(Some((names, certificate))) => {
                    known.insert(
                        names,
                        Known { certificate: Some(certificate), ..Known::default() },
                    );
                }
                Ok(None) => {}
                // It is ordered again when it is needed.
                Err(error) => warn!(%error, "a stored certificate cannot be used"),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            dir: dir.to_owned(),
            client: AcmeClient::new(roots).await?,
            account: OnceCell::new(),
            challenges: Challenges::default(),
            tls_only: AtomicBool::new(false),
            orders: Semaphore::new(MAX_ORDERS),
            known: Mutex::new(known),
            changed: Notify::new(),
        })
    }

    pub(super) fn prove_over_tls_only(&self) {
        self.tls_only.store(true, Ordering::Relaxed);
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// The host's certificate, ordered if there is none. One for all hosts beside it does as well.
    pub(super) async fn certificate(
        self: &Arc<Self>,
        host: &HostName,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        let beside = host.parent().and_then(|parent| self.good(&Names::Below(parent)));
        match beside {
            Some(certificate) => Ok(certificate),
            None => self.good_or_ordered(Names::Host(host.clone())).await,
        }
    }

    /// Has a certificate for all hosts right below a domain, whose DNS must be answered here.
    pub(super) async fn wildcard(
        self: &Arc<Self>,
        domain: &HostName,
    ) -> Result<(), CertificateError> {
        self.good_or_ordered(Names::Below(domain.clone())).await.map(drop)
    }

    async fn good_or_ordered(
        self: &Arc<Self>,
        names: Names,
    ) -> Result<Arc<CertifiedKey>, CertificateError> {
        if let Some(certificate) = self.good(&names) {
            return Ok(certificate);
        }
        // Its end is seen as a change, or as the end of who would have told.
        _ = self.order(&names)?.changed().await;
        match self.good(&names) {
            Some(certificate) => Ok(certificate),
            None => Err(self.not_yet(&names).unwrap_or_else(|| {
                CertificateError::Authority("the order came to no end".to_owned())
            })),
        }
    }

    /// Renews what is about to end, and forgets what has ended and is not wanted any more.
    pub(super) async fn keep_renewed(self: &Arc<Self>, routes: &impl Routes) {
        loop {
            let now = OffsetDateTime::now_utc();
            for names in self.due(now) {
                let is_wanted = match &names {
                    Names::Host(host) => routes.may_have_certificate(host).await,
                    Names::Below(domain) => routes.may_have_wildcard(domain).await,
                };
                if is_wanted {
                    // Already under way, or to be left alone for a while, which was said before.
                    _ = self.order(&names);
                } else if self.good(&names).is_none() {
                    self.forget(&names).await;
                }
            }
            let next = self.next_due().map_or(LOOK_AT_MOST, |due| {
                let left = due - OffsetDateTime::now_utc();
                left.try_into().unwrap_or_default()
            });
            tokio::select! {
                () = sleep(next.clamp(LOOK_AT_LEAST, LOOK_AT_MOST)) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn good(&self, names: &Names) -> Option<Arc<CertifiedKey>> {
        let all = self.known();
        let certificate = all.get(names)?.certificate.as_ref()?;
        certificate.is_good().then(|| certificate.key.clone())
    }

    fn due(&self, now: OffsetDateTime) -> Vec<Names> {
        let is_due = |known: &Known| {
            known.certificate.as_ref().is_some_and(|it| it.validity.renewal() <= now)
        };
        self.known().iter().filter(|(_, known)| is_due(known)).map(|(it, _)| it.clone()).collect()
    }

    /// When to look again: the first renewal that is not tried already or held up by a failure.
    fn next_due(&self) -> Option<OffsetDateTime> {
        let all = self.known();
        let waiting = all.values().filter(|known| known.order.is_none() && known.failure.is_none());
        waiting.filter_map(|known| Some(known.certificate.as_ref()?.validity.renewal())).min()
    }

    async fn forget(&self, names: &Names) {
        if let Err(error) = files::remove(&self.file(names)).await {
            warn!(%error, "a certificate that ended");
        }
        self.known().remove(names);
    }

    /// Why an order is not to be made now.
    fn not_yet(&self, names: &Names) -> Option<CertificateError> {
        let name = names.to_string();
        if let Some(wait) = self.client.asked_to_wait() {
            let reason = "the certificate authority has too many requests".to_owned();
            return Some(CertificateError::NotYet { name, wait, reason });
        }
        let all = self.known();
        let failure = all.get(names)?.failure.as_ref()?;
        let wait = failure.until.saturating_duration_since(Instant::now());
        let reason = failure.reason.clone();
        (!wait.is_zero()).then_some(CertificateError::NotYet { name, wait, reason })
    }

    /// The order for these that is under way, or a new one, which goes on by itself.
    fn order(self: &Arc<Self>, names: &Names) -> Result<watch::Receiver<()>, CertificateError> {
        if let Some(under_way) = self.known().get(names).and_then(|known| known.order.clone()) {
            return Ok(under_way);
        }
        if let Some(error) = self.not_yet(names) {
            return Err(error);
        }
        let mut all = self.known();
        let known = all.entry(names.clone()).or_default();
        if let Some(under_way) = &known.order {
            return Ok(under_way.clone());
        }
        let (ended, order) = watch::channel(());
        known.order = Some(order.clone());
        let attempt = known.failure.as_ref().map_or(0, |failure| failure.count);
        drop(all);
        let (acme, names) = (self.clone(), names.clone());
        tokio::spawn(async move {
            let done = timeout(ORDER_LIMIT, acme.obtain(&names, attempt)).await;
            let done = done.unwrap_or_else(|_| {
                Err(CertificateError::Authority("it took too long".to_owned()))
            });
            acme.settle(&names, attempt, done);
            drop(ended);
        });
        Ok(order)
    }

    fn settle(&self, names: &Names, attempt: u32, done: Result<Certificate, CertificateError>) {
        let mut all = self.known();
        let known = all.entry(names.clone()).or_default();
        known.order = None;
        match done {
            Ok(certificate) => {
                info!(%names, until = %certificate.validity.until, "certificate");
                known.certificate = Some(certificate);
                known.failure = None;
            }
            Err(error) => {
                let wait =
                    FIRST_WAIT.saturating_mul(2u32.saturating_pow(attempt)).min(LONGEST_WAIT);
                error!(%names, %error, wait = wait.as_secs(), "no certificate");
                let (count, reason) = (attempt + 1, error.to_string());
                known.failure = Some(Failure { count, reason, until: Instant::now() + wait });
            }
        }
        self.changed.notify_one();
    }

    /// Has the authority make a certificate, and stores it.
    async fn obtain(&self, names: &Names, attempt: u32) -> Result<Certificate, CertificateError> {
        let _turn = self.orders.acquire().await;
        let account = self.account.get_or_try_init(|| self.account()).await?;
        let identifiers = [Identifier::Dns(names.to_string())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        let patience = RetryPolicy::new().timeout(STEP_LIMIT);

        // To be seen until the authority has made up its mind.
        let mut published = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            published.push(self.prove(names, attempt, authorization).await?);
        }
        let status = order.poll_ready(&patience).await?;
        drop(published);
        if status != OrderStatus::Ready {
            return Err(CertificateError::Authority(refusal(&mut order).await));
        }

        let key = KeyPair::generate()?;
        let mut request = CertificateParams::new(vec![names.to_string()])?;
        request.distinguished_name = DistinguishedName::new();
        order.finalize_csr(request.serialize_request(&key)?.der()).await?;
        let chain = order.poll_certificate(&patience).await?;
        let pem = format!("{}{chain}", key.serialize_pem()).into_bytes();
        let certificate = Certificate::new(files::parse(&pem)?)?;
        files::write(&self.file(names), pem).await?;
        Ok(certificate)
    }

    /// Shows that the host, or the domain of all of them, is here, and has the authority look.
    /// Attempts for a host take turns between the two ways, in case only one of the listeners can be
    /// reached from there.
    async fn prove(
        &self,
        names: &Names,
        attempt: u32,
        mut authorization: AuthorizationHandle<'_>,
    ) -> Result<Published, CertificateError> {
        let (http, tls) = (ChallengeType::Http01, ChallengeType::TlsAlpn01);
        let tls_only = self.tls_only.load(Ordering::Relaxed);
        let ways = match (names, attempt % 2) {
            (Names::Below(_), _) => vec![ChallengeType::Dns01],
            _ if tls_only => vec![tls],
            (Names::Host(_), 0) => vec![http, tls],
            (Names::Host(_), _) => vec![tls, http],
        };
        let offered = |way: &ChallengeType| {
            authorization.challenges.iter().any(|challenge| challenge.r#type == *way)
        };
        let none = || CertificateError::Authority("it offers no way of proof that we know".into());
        let way = ways.into_iter().find(|way| offered(way)).ok_or_else(none)?;
        let mut challenge = authorization.challenge(way.clone()).ok_or_else(none)?;
        let authorized = challenge.key_authorization();
        let proof = match way {
            ChallengeType::Dns01 => Proof::Dns(authorized.dns_value()),
            ChallengeType::TlsAlpn01 => {
                Proof::Tls(proving_certificate(names.domain(), authorized.digest().as_ref())?)
            }
            _ => {
                Proof::Http { token: challenge.token.clone(), text: authorized.as_str().to_owned() }
            }
        };
        let published = self.challenges.publish(names, proof);
        challenge.set_ready().await?;
        Ok(published)
    }

    /// The account at the authority, made with the first order.
    async fn account(&self) -> Result<Account, CertificateError> {
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let file = self.dir.join(ACCOUNT_FILE);
        if let Some(json) = files::read(&file).await? {
            let damaged = |error: serde_json::Error| CertificateError::Damaged {
                path: file.clone(),
                reason: error.to_string(),
            };
            let stored: serde_json::Value = serde_json::from_slice(&json).map_err(damaged)?;
            // An account is good at its own authority only.
            if stored["directory"] == self.directory.as_str() {
                let credentials = serde_json::from_value(stored).map_err(damaged)?;
                return Ok(builder().from_credentials(credentials).await?);
            }
        }
        let new =
            NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder().create(&new, self.directory.clone(), None).await?;
        let json = serde_json::to_vec_pretty(&credentials)
            .map_err(|error| CertificateError::Unusable(error.to_string()))?;
        files::write(&file, json).await?;
        Ok(account)
    }

    fn file(&self, names: &Names) -> PathBuf {
        self.dir.join(CERTIFICATES).join(format!("{names}.{EXTENSION}"))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Names, Known>> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a stored certificate; `None` if the file is something else.
async fn load(file: &Path) -> Result<Option<(Names, Certificate)>, CertificateError> {
    let is_ours = file.extension().is_some_and(|extension| extension == EXTENSION);
    let names = file.file_stem().and_then(|name| Names::parse(name.to_str()?));
    let Some(names) = names.filter(|_| is_ours) else { return Ok(None) };
    let Some(pem) = files::read(file).await? else { return Ok(None) };
    let damaged = |error: CertificateError| CertificateError::Damaged {
        path: file.to_owned(),
        reason: error.to_string(),
    };
    let certificate = files::parse(&pem).and_then(Certificate::new).map_err(damaged)?;
    Ok(Some((names, certificate)))
}

/// What the authority had against the proofs.
async fn refusal(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_ok() {
            let errors = authorization.challenges.iter().filter_map(|tried| tried.error.as_ref());
            reasons.extend(errors.map(ToString::to_string));
        }
    }
    if reasons.is_empty() { "it refused the order".to_owned() } else { reasons.join("; ") }
}

/// The certificate of RFC 8737 section 3.
fn proving_certificate(
    host: &HostName,
    digest: &[u8],
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_string()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    files::certified_key(vec![certificate.der().clone()], &key)
}
