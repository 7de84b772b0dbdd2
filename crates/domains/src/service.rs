//! The calls of the domain service, each for an account.

use std::net::SocketAddr;
use std::sync::Arc;

use freestyle_dns::Authority;
use freestyle_store::{
    AccountId, DomainId, DomainMapping, DomainRecord, DomainVerification, DomainVerificationId,
    MappedName, Route, Store, VmId,
};

use crate::dns::Dns;
use crate::error::DomainError;
use crate::name::{DomainName, Pattern, invalid};
use crate::records::ZoneBook;
use crate::routes::Routes;

/// The label in front of a domain whose TXT record proves it (protocol section 13).
pub const TXT_LABEL: &str = "_freestyle_custom_hostname";
/// How much of a wrong TXT record is repeated.
const MAX_FOUND: usize = 200;

/// What the service needs to know.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Names right below one of these need no proof.
    pub preview_suffixes: Vec<DomainName>,
    /// Hosts that are this server's own: nobody maps or verifies them.
    pub reserved: Vec<DomainName>,
    /// Every VM has a host below this domain, and nobody maps or verifies anything there.
    pub vm_domain: Option<DomainName>,
    /// The domain that the platform itself is at.
    pub platform: Option<DomainName>,
    /// What this server is to others if it answers questions of DNS.
    pub dns: Option<Authority>,
    /// DNS servers to ask for proofs. None: those of this host.
    pub resolvers: Vec<SocketAddr>,
}

/// Which verification is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one of this domain.
    Domain(DomainName),
    /// The one with this id, as it was sent.
    Id(String),
}

/// The domain service. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Domains(Arc<Inner>);

struct Inner {
    store: Store,
    previews: Vec<DomainName>,
    reserved: Vec<DomainName>,
    dns: Dns,
    routes: Routes,
    zones: Option<ZoneBook>,
}

impl Domains {
    /// A service on this store.
    pub fn new(store: Store, config: Config) -> Self {
        let Config { preview_suffixes: previews, reserved, vm_domain, platform, dns, resolvers } =
            config;
        let zones = dns.map(|authority| {
            let own = previews.iter().chain(&vm_domain).chain(&platform);
            ZoneBook::new(store.clone(), authority, own)
        });
        let (dns, routes) = (Dns::new(resolvers), Routes::new(store.clone(), vm_domain));
        Self(Arc::new(Inner { store, previews, reserved, dns, routes, zones }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The zones that this server answers for, if it answers for any.
    pub(crate) fn zones(&self) -> Option<&ZoneBook> {
        self.0.zones.as_ref()
    }

    /// Whether this server answers questions of DNS.
    pub fn answers_dns(&self) -> bool {
        self.0.zones.is_some()
    }

    pub(crate) async fn txt(&self, name: &str) -> Result<Vec<String>, String> {
        self.0.dns.txt(name).await
    }

    /// The suffixes of previews.
    pub fn preview_suffixes(&self) -> &[DomainName] {
        &self.0.previews
    }

    /// What the account has to prove of a domain; the same every time until it is proven.
    pub async fn begin(
        &self,
        account: &AccountId,
        domain: &DomainName,
    ) -> Result<DomainVerification, DomainError> {
        if self.is_of_previews(domain) {
            let reason = "it is for previews, which need no verification";
            return Err(invalid(domain.as_str(), reason));
        }
        self.refuse_reserved(domain)?;
        Ok(self.0.store.account_scope(account).begin_verification(domain.as_str()).await?)
    }

    /// Looks whether a domain's TXT record says what it should; if so, the account is its owner from
    /// now on. Waits for the DNS. Answers the domain, also if it was the account's before.
    pub async fn complete(
        &self,
        account: &AccountId,
        which: &Which,
    ) -> Result<String, DomainError> {
        let scope = self.0.store.account_scope(account);
        let begun = match which {
            Which::Domain(domain) => scope.verification(domain.as_str()).await?,
            Which::Id(id) => match id.parse::<DomainVerificationId>() {
                Ok(id) => scope.verification_by_id(&id).await?,
                Err(_) => None,
            },
        };
        let Some(begun) = begun else {
            return match which {
                Which::Domain(domain) if self.has_proven(account, domain).await? => {
                    Ok(domain.to_string())
                }
                Which::Domain(domain) => Err(DomainError::NoSuchVerification(domain.to_string())),
                Which::Id(id) => {
                    let id = id.chars().take(MAX_FOUND).collect();
                    Err(DomainError::NoSuchVerification(id))
                }
            };
        };
        self.look_up(&begun).await?;
        if !scope.own_domain(&begun).await? {
            return Err(DomainError::NoSuchVerification(begun.domain));
        }
        Ok(begun.domain)
    }

    /// What the account has to prove, oldest first.
    pub async fn verifications(
        &self,
        account: &AccountId,
    ) -> Result<Vec<DomainVerification>, DomainError> {
        Ok(self.0.store.account_scope(account).verifications().await?)
    }

    /// Forgets what was to be proven.
    pub async fn cancel(
        &self,
        account: &AccountId,
        domain: &DomainName,
        code: &str,
    ) -> Result<(), DomainError> {
        let scope = self.0.store.account_scope(account);
        match scope.cancel_verification(domain.as_str(), code).await? {
            true => Ok(()),
            false => Err(DomainError::NoSuchVerification(domain.to_string())),
        }
    }

    /// The account's domains, oldest first: those it has proven, or also its previews.
    pub async fn owned(
        &self,
        account: &AccountId,
        with_previews: bool,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DomainRecord>, DomainError> {
        Ok(self.0.store.account_scope(account).domains(with_previews, limit, offset).await?)
    }

    /// Fails as [`Domains::map`] would, as far as that can be told before there is a VM.
    pub async fn may_map(&self, account: &AccountId, pattern: &Pattern) -> Result<(), DomainError> {
        let scope = self.0.store.account_scope(account);
        match self.mapped_name(pattern)? {
            MappedName::Preview(host) => {
                let is_free = !self.0.store.system().is_owned(host).await?;
                let may = is_free || scope.owns(host).await?;
                may.then_some(()).ok_or_else(|| DomainError::Taken(host.to_owned()))
            }
            MappedName::Host(name) | MappedName::HostsBelow(name) => {
                let owns = scope.owns(name).await?;
                owns.then_some(()).ok_or_else(|| DomainError::NotVerified(pattern.to_string()))
            }
        }
    }

    /// Has a domain lead to a port of a VM, in place of whatever it led to.
    pub async fn map(
        &self,
        account: &AccountId,
        pattern: &Pattern,
        vm: &VmId,
        port: u16,
    ) -> Result<DomainMapping, DomainError> {
        let name = self.mapped_name(pattern)?;
        Ok(self.0.store.account_scope(account).map_domain(name, vm, port).await?)
    }

    /// Has a domain lead nowhere. It stays the account's if it was proven.
    pub async fn unmap(&self, account: &AccountId, pattern: &Pattern) -> Result<(), DomainError> {
        let domain = pattern.to_string();
        match self.0.store.account_scope(account).unmap_domain(&domain).await? {
            true => Ok(()),
            false => Err(DomainError::NoSuchMapping(domain)),
        }
    }

    /// The account's mappings, newest first: all, or those of one domain or ownership.
    pub async fn mappings(
        &self,
        account: &AccountId,
        pattern: Option<&Pattern>,
        ownership: Option<&DomainId>,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<DomainMapping>, DomainError> {
        let domain = pattern.map(ToString::to_string);
        let scope = self.0.store.account_scope(account);
        Ok(scope.mappings(domain.as_deref(), ownership, limit, offset).await?)
    }

    /// The domains that lead to a VM of the account: those that were mapped, oldest first, and its own.
    pub async fn of_vm(&self, account: &AccountId, vm: &VmId) -> Result<Vec<String>, DomainError> {
        let mut domains = self.0.store.account_scope(account).domains_of_vm(vm).await?;
        domains.extend(self.own_host(vm));
        Ok(domains)
    }

    /// The host that a VM has by itself, if VMs have one. It leads to the VM's port 3000.
    pub fn own_host(&self, vm: &VmId) -> Option<String> {
        self.0.routes.vm_domain().map(|domain| format!("{vm}.{domain}"))
    }

    /// Whether the account has proven this domain or one above it.
    pub async fn has_proven(
        &self,
        account: &AccountId,
        domain: &DomainName,
    ) -> Result<bool, DomainError> {
        let owns = self.0.store.account_scope(account).owns(domain.as_str()).await?;
        Ok(owns && !self.is_of_previews(domain))
    }

    /// Where a host leads; `None` if nowhere. For whoever serves requests: across accounts.
    pub async fn route(&self, host: &str) -> Result<Option<Arc<Route>>, DomainError> {
        Ok(self.0.routes.find(host).await?)
    }

    /// Whether a host is somebody's, or could be by being mapped: what it may have a certificate for.
    pub async fn is_known(&self, host: &str) -> Result<bool, DomainError> {
        let Ok(name) = DomainName::parse(host) else { return Ok(false) };
        if self.is_of_vms(&name) {
            return Ok(self.route(host).await?.is_some());
        }
        if self.is_preview(&name) {
            return Ok(true);
        }
        Ok(!self.is_of_previews(&name) && self.0.store.system().is_owned(host).await?)
    }

    /// Whether this server may go on having a certificate for all hosts right below a domain by what
    /// the domain's DNS says, which it then answers itself.
    pub async fn may_have_wildcard(&self, domain: &str) -> Result<bool, DomainError> {
        let is_of_previews = self.0.previews.iter().any(|suffix| suffix.as_str() == domain);
        let is_answered = is_of_previews || self.0.store.system().zone_of(domain).await?.is_some();
        Ok(self.answers_dns() && is_answered)
    }

    async fn look_up(&self, begun: &DomainVerification) -> Result<(), DomainError> {
        let record = format!("{TXT_LABEL}.{}", begun.domain);
        let found = match self.0.dns.txt(&record).await {
            Ok(found) => found,
            Err(reason) => return Err(DomainError::LookupFailed { record, reason }),
        };
        if found.iter().any(|text| text.trim() == begun.code) {
            return Ok(());
        }
        let found = match found.first() {
            None => "there is no such TXT record".to_owned(),
            Some(text) => {
                let text: String = text.chars().take(MAX_FOUND).collect();
                format!("it says {text:?}")
            }
        };
        Err(DomainError::NotProven { record, found })
    }

    fn mapped_name<'a>(&self, pattern: &'a Pattern) -> Result<MappedName<'a>, DomainError> {
        let refuse = |reason| Err(invalid(&pattern.to_string(), reason));
        match pattern {
            Pattern::Host(name) => self.refuse_reserved(name)?,
            Pattern::HostsBelow(name) => self.refuse_of_vms(name)?,
        }
        match pattern {
            Pattern::Host(name) if self.is_preview(name) => Ok(MappedName::Preview(name.as_str())),
            Pattern::Host(name) | Pattern::HostsBelow(name) if self.is_of_previews(name) => {
                refuse("a preview is a single name right below the suffix")
            }
            Pattern::Host(name) => Ok(MappedName::Host(name.as_str())),
            Pattern::HostsBelow(name) => Ok(MappedName::HostsBelow(name.as_str())),
        }
    }

    fn refuse_reserved(&self, name: &DomainName) -> Result<(), DomainError> {
        self.refuse_of_vms(name)?;
        if self.0.reserved.contains(name) {
            return Err(invalid(name.as_str(), "it is this server's own"));
        }
        Ok(())
    }

    fn refuse_of_vms(&self, name: &DomainName) -> Result<(), DomainError> {
        match self.is_of_vms(name) {
            true => Err(invalid(name.as_str(), "it is where VMs have hosts of their own")),
            false => Ok(()),
        }
    }

    /// Whether it can be a preview: one label below a suffix.
    fn is_preview(&self, name: &DomainName) -> bool {
        let mut labels = self.0.previews.iter().filter_map(|suffix| name.below(suffix.as_str()));
        labels.any(|label| !label.contains('.'))
    }

    /// Whether it is the domain of VMs' own hosts or anything below it.
    fn is_of_vms(&self, name: &DomainName) -> bool {
        let domain = self.0.routes.vm_domain();
        domain.is_some_and(|domain| name == domain || name.below(domain.as_str()).is_some())
    }

    /// Whether it is a suffix of previews or anything below one.
    fn is_of_previews(&self, name: &DomainName) -> bool {
        let mut previews = self.0.previews.iter();
        previews.any(|suffix| name == suffix || name.below(suffix.as_str()).is_some())
    }
}
