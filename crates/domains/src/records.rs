//! DNS records of the domains of an account, and the zones that they make.

use std::sync::Arc;
use std::time::SystemTime;

use freestyle_dns::{Authority, Data, MAX_TTL, Record, RecordName, Zone};
use freestyle_store::{AccountId, DnsRecord, DomainId, Store};

use crate::error::DomainError;
use crate::kept::Kept;
use crate::name::DomainName;
use crate::service::Domains;

/// How long a record may be kept by others if nothing is said, in seconds.
pub const DEFAULT_TTL: u32 = 300;
/// Zones that are kept.
const MAX_KEPT: usize = 256;
/// At a name that begins so the DNS says, below every domain that is answered for here, which server
/// answers.
const PROBE: &str = "_freestyle_dns_";

/// A record as somebody writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRecord {
    /// Its kind, as `CNAME`.
    pub kind: String,
    /// Whose it is, in the domain: `@` is the domain itself.
    pub name: String,
    /// What it says.
    pub value: String,
    /// Of an MX record.
    pub priority: Option<u16>,
    /// How long others may keep it, in seconds.
    pub ttl: Option<u32>,
}

/// A record in a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDnsRecord {
    /// The record.
    pub record: Record,
    /// Whether the server made it, and nobody can change it.
    pub managed: bool,
}

/// The zones that this server answers for.
pub(crate) struct ZoneBook {
    store: Store,
    authority: Arc<Authority>,
    /// Those that are the operator's.
    own: Vec<Arc<Zone>>,
    kept: Kept<Arc<Zone>>,
    /// Tells this server from others that answer the same names.
    code: String,
}

impl ZoneBook {
    /// Zones of accounts, and of these domains, all hosts of which are here.
    pub(crate) fn new<'a>(
        store: Store,
        authority: Authority,
        own: impl Iterator<Item = &'a DomainName>,
    ) -> Self {
        let (authority, kept) = (Arc::new(authority), Kept::new(&store, MAX_KEPT));
        let own = own.map(|domain| Arc::new(own_zone(domain, &authority))).collect();
        // An identifier that no one can guess.
        let code = DomainId::random().into();
        Self { store, authority, own, kept, code }
    }

    fn own_zone_of(&self, name: &str) -> Option<&Arc<Zone>> {
        let zones = self.own.iter().filter(|zone| is_within(name, zone.apex()));
        zones.max_by_key(|zone| zone.apex().len())
    }

    async fn zone(&self, name: &str) -> Result<Option<Arc<Zone>>, DomainError> {
        if let Some(zone) = self.own_zone_of(name) {
            return Ok(Some(zone.clone()));
        }
        let system = self.store.system();
        let Some((apex, account)) = system.zone_of(name).await? else { return Ok(None) };
        let turn = match self.kept.get(&apex) {
            Ok(zone) => return Ok(Some(zone)),
            Err(turn) => turn,
        };
        let records = system.records_of_zone(&apex, &account).await?;
        let records = records.into_iter().filter_map(read);
        let zone = Arc::new(Zone::new(&apex, self.authority.clone(), serial(), records));
        self.kept.keep(turn, &apex, zone.clone());
        Ok(Some(zone))
    }
}

impl Domains {
    /// Has the DNS of a domain that the account has proven, or of one below such a one, say something
    /// more. Where it says so already, the record takes the new time and priority.
    pub async fn put_record(
        &self,
        account: &AccountId,
        domain: &DomainName,
        written: WrittenRecord,
    ) -> Result<DomainDnsRecord, DomainError> {
        let book = self.zones().ok_or(DomainError::NoDns)?;
        self.refuse_foreign(account, domain).await?;
        let WrittenRecord { kind, name, value, priority, ttl } = written;
        let bad = |field, reason| {
            DomainError::InvalidRecord(freestyle_dns::InvalidRecord { field, reason })
        };
        let name = RecordName::within(domain.as_str(), &name).map_err(|why| bad("name", why))?;
        if book.own_zone_of(name.as_str()).is_some() {
            return Err(bad("name", "it is this server's own"));
        }
        let data = Data::parse(&kind, &value, priority).map_err(DomainError::InvalidRecord)?;
        if name.is_wildcard() && matches!(data, Data::Ns(_)) {
            return Err(bad("name", "what is below a star cannot be delegated"));
        }
        let ttl = ttl.unwrap_or(DEFAULT_TTL);
        if ttl > MAX_TTL {
            return Err(bad("ttl", "it is at most 604800 seconds, a week"));
        }
        let record = Record { name, ttl, data };
        self.store().account_scope(account).put_dns_record(&write(&record)).await?;
        Ok(DomainDnsRecord { record, managed: false })
    }

    /// Has the DNS of a domain of the account say something no more.
    pub async fn remove_record(
        &self,
        account: &AccountId,
        domain: &DomainName,
        written: WrittenRecord,
    ) -> Result<(), DomainError> {
        self.refuse_foreign(account, domain).await?;
        let WrittenRecord { kind, name, value, priority, .. } = written;
        let record = format!("{kind} {name}").chars().take(100).collect();
        let missing = || DomainError::NoSuchRecord { domain: domain.to_string(), record };
        // What is none that could be there is not there.
        let name = RecordName::within(domain.as_str(), &name);
        let data = Data::parse(&kind, &value, priority);
        let (Ok(name), Ok(data)) = (name, data) else { return Err(missing()) };
        let scope = self.store().account_scope(account);
        match scope.remove_dns_record(name.as_str(), data.kind(), &data.value()).await? {
            true => Ok(()),
            false => Err(missing()),
        }
    }

    /// What the DNS of a domain of the account says of it and of what is below it.
    pub async fn records(
        &self,
        account: &AccountId,
        domain: &DomainName,
    ) -> Result<Vec<DomainDnsRecord>, DomainError> {
        self.refuse_foreign(account, domain).await?;
        let mut records = Vec::new();
        if let Some(book) = self.zones()
            && let Some(zone) = book.zone(domain.as_str()).await?
            && zone.apex() == domain.as_str()
        {
            let made = zone.name_server_records().into_iter();
            records.extend(made.map(|record| DomainDnsRecord { record, managed: true }));
        }
        let kept = self.store().account_scope(account).dns_records(domain.as_str()).await?;
        let kept = kept.into_iter().filter_map(read);
        records.extend(kept.map(|record| DomainDnsRecord { record, managed: false }));
        Ok(records)
    }

    /// The zone that a name is in, if it is one that this server answers for. For whoever answers
    /// questions: across accounts.
    pub async fn zone(&self, name: &str) -> Result<Option<Arc<Zone>>, DomainError> {
        match self.zones() {
            Some(book) => book.zone(name).await,
            None => Ok(None),
        }
    }

    /// Whether a name is a host that leads to a VM.
    pub async fn is_site(&self, name: &str) -> Result<bool, DomainError> {
        let is_own = self.zones().is_some_and(|book| book.own_zone_of(name).is_some());
        // Of those the zone says where they are.
        Ok(!is_own && self.route(name).await?.is_some())
    }

    /// What the DNS says at this name for [`Domains::check_answered_here`].
    pub fn probe(&self, name: &str) -> Option<&str> {
        name.starts_with(PROBE).then_some(())?;
        self.zones().map(|book| book.code.as_str())
    }

    /// Fails unless everybody is told of a domain what this server says of it. Waits for the DNS.
    pub async fn check_answered_here(&self, domain: &DomainName) -> Result<(), DomainError> {
        let book = self.zones().ok_or(DomainError::NoDns)?;
        // Another name each time: that there was none may be kept for hours.
        let unique: String = DomainId::random().into();
        let name = format!("{PROBE}{unique}.{domain}");
        let said = self.txt(&name).await;
        if said.as_ref().is_ok_and(|texts| texts.contains(&book.code)) {
            return Ok(());
        }
        let servers = book.authority.name_servers.iter().map(ToString::to_string);
        let servers = servers.collect::<Vec<_>>().join(", ");
        Err(DomainError::NotAnsweredHere { domain: domain.to_string(), servers })
    }

    async fn refuse_foreign(
        &self,
        account: &AccountId,
        domain: &DomainName,
    ) -> Result<(), DomainError> {
        match self.has_proven(account, domain).await? {
            true => Ok(()),
            false => Err(DomainError::NotVerified(domain.to_string())),
        }
    }
}

/// A zone all hosts of which are here.
fn own_zone(domain: &DomainName, authority: &Arc<Authority>) -> Zone {
    let names = [domain.to_string(), format!("*.{domain}")];
    let names = names.iter().filter_map(|name| RecordName::parse(name).ok());
    let records = names.flat_map(|name| {
        authority.addresses.iter().map(move |address| Record {
            name: name.clone(),
            ttl: DEFAULT_TTL,
            data: Data::from(*address),
        })
    });
    Zone::new(domain.as_str(), authority.clone(), serial(), records)
}

fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Larger after every change, which makes a new zone of it.
fn serial() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}

fn write(Record { name, ttl, data }: &Record) -> DnsRecord {
    DnsRecord {
        name: name.to_string(),
        kind: data.kind().to_owned(),
        value: data.value(),
        priority: data.priority(),
        ttl: *ttl,
    }
}

/// A record that was kept, which was read once already.
fn read(DnsRecord { name, kind, value, priority, ttl }: DnsRecord) -> Option<Record> {
    let data = Data::parse(&kind, &value, priority);
    let (Ok(name), Ok(data)) = (RecordName::parse(&name), data) else {
        tracing::error!(name, kind, "a DNS record that cannot be read is left out");
        return None;
    };
    Some(Record { name, ttl, data })
}
