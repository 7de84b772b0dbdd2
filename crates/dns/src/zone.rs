//! A zone: what is said of each of its names.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;

use crate::name::RecordName;
use crate::record::{Data, Record};

/// How long others may keep what is made up here, and what is not there, in seconds. Short: people
/// look first and make the record then.
pub(crate) const OWN_TTL: u32 = 60;

/// Knows which zones there are.
pub trait Zones: Clone + Send + Sync + 'static {
    /// The zone that a name is in; `None` if it is in none. Names are in lower case and without final
    /// dot, here and below.
    fn zone(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Arc<Zone>>, Unavailable>> + Send;

    /// Whether a name is a host that is reached at [`Authority::addresses`] where no record says
    /// something else.
    fn is_site(&self, name: &str) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Texts that are to be seen at this name now, in place of everything else, because somebody asks
    /// for a proof that the zone is here.
    fn proofs(&self, name: &str) -> Vec<String>;
}

/// Records cannot be looked up now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the records cannot be looked up now")]
pub struct Unavailable;

/// What this server is, for all zones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    /// The names of this server, the main one first.
    pub name_servers: Vec<RecordName>,
    /// Where sites are reached.
    pub addresses: Vec<IpAddr>,
}

/// A domain with everything in it. What it cannot say of a name is answered by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    apex: String,
    authority: Arc<Authority>,
    serial: u32,
    records: HashMap<String, Vec<Record>>,
    /// All names that are there, also those that only have others below them.
    names: HashSet<String>,
}

/// What a zone says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// These, of the kind that was asked for.
    Records(Vec<Record>),
    /// It stands for another one.
    Alias(Record),
    /// These servers know more, at the addresses that are known of them here.
    Elsewhere { servers: Vec<Record>, addresses: Vec<Record> },
    /// The name is there, and nothing of this kind.
    Nothing,
    /// There is no such name.
    NoSuchName,
}

impl Zone {
    /// A zone with these records, all of which are at its apex or below it. The serial number is to be
    /// a larger one after every change.
    pub fn new(
        apex: &str,
        authority: Arc<Authority>,
        serial: u32,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        let mut by_name: HashMap<String, Vec<Record>> = HashMap::new();
        let mut names = HashSet::from([apex.to_owned()]);
        for record in records {
            let name = record.name.as_str();
            names.extend(path(apex, name).map(str::to_owned));
            by_name.entry(name.to_owned()).or_default().push(record);
        }
        Self { apex: apex.to_owned(), authority, serial, records: by_name, names }
    }

    /// The domain.
    pub fn apex(&self) -> &str {
        &self.apex
    }

    pub(crate) fn name_servers(&self) -> &[RecordName] {
        &self.authority.name_servers
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// What there is of a kind at a name of this zone. `is_site` as [`Zones::is_site`] says.
    pub(crate) fn look_up(&self, name: &str, kind: RecordType, is_site: bool) -> Found {
        if let Some(cut) = self.cut(name)
            && !(kind == RecordType::DS && cut == name)
        {
            let servers = self.of_kind(cut, RecordType::NS);
            let addresses = servers.iter().flat_map(|server| self.addresses_of(server));
            return Found::Elsewhere { addresses: addresses.collect(), servers };
        }
        if name == self.apex && kind == RecordType::NS {
            return Found::Records(self.name_server_records());
        }
        let known = match self.known(name) {
            Some(known) => known,
            None if is_site => &[],
            None => return Found::NoSuchName,
        };
        if let Some(alias) = known.iter().find(|record| is(record, RecordType::CNAME))
            && kind != RecordType::CNAME
        {
            return Found::Alias(alias.clone());
        }
        let mut found: Vec<_> = known.iter().filter(|record| is(record, kind)).cloned().collect();
        let is_addressed = known.iter().any(is_address);
        if is_site && !is_addressed {
            found.extend(self.site(name).into_iter().filter(|record| is(record, kind)));
        }
        match found.is_empty() {
            true => Found::Nothing,
            false => Found::Records(found),
        }
    }

    /// The records of a name, which may be those of a wildcard; `None` if there is no such name
    /// (RFC 4592).
    fn known(&self, name: &str) -> Option<&[Record]> {
        let at = |name: &str| self.records.get(name).map_or(&[][..], Vec::as_slice);
        if self.names.contains(name) {
            return Some(at(name));
        }
        let mut above = name;
        while let Some((_, parent)) = above.split_once('.') {
            if self.names.contains(parent) {
                return self.records.get(&format!("*.{parent}")).map(Vec::as_slice);
            }
            above = parent;
        }
        None
    }

    /// The highest name, at or above this one, from where on other servers know more.
    fn cut<'a>(&self, name: &'a str) -> Option<&'a str> {
        let is_cut = |name: &&str| {
            *name != self.apex
                && self
                    .records
                    .get(*name)
                    .is_some_and(|all| all.iter().any(|it| is(it, RecordType::NS)))
        };
        path(&self.apex, name).filter(is_cut).last()
    }

    fn of_kind(&self, name: &str, kind: RecordType) -> Vec<Record> {
        let records = self.records.get(name).into_iter().flatten();
        records.filter(|record| is(record, kind)).cloned().collect()
    }

    fn addresses_of(&self, server: &Record) -> Vec<Record> {
        let Data::Ns(host) = &server.data else { return Vec::new() };
        let records = self.records.get(host.as_str()).into_iter().flatten();
        records.filter(|record| is_address(record)).cloned().collect()
    }

    /// The records that say that this zone is here.
    pub fn name_server_records(&self) -> Vec<Record> {
        let own = |server: &RecordName| self.own(&self.apex, Data::Ns(server.clone()));
        self.authority.name_servers.iter().filter_map(own).collect()
    }

    /// The records of a host that is here.
    fn site(&self, name: &str) -> Vec<Record> {
        let own = |address: &IpAddr| self.own(name, Data::from(*address));
        self.authority.addresses.iter().filter_map(own).collect()
    }

    fn own(&self, name: &str, data: Data) -> Option<Record> {
        let name = RecordName::parse(name).ok()?;
        Some(Record { name, ttl: OWN_TTL, data })
    }
}

/// A name and all above it, up to and with the apex.
fn path<'a, 'b>(apex: &'b str, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
    let mut next = Some(name);
    std::iter::from_fn(move || {
        let this = next?;
        next = match this == apex {
            true => None,
            false => this.split_once('.').map(|(_, above)| above),
        };
        Some(this)
    })
}

fn is(record: &Record, kind: RecordType) -> bool {
    record.data.record_type() == kind
}

fn is_address(record: &Record) -> bool {
    matches!(record.data, Data::A(_) | Data::Aaaa(_))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(records: &[(&str, &str, &str)]) -> Zone {
        let authority = Authority {
            name_servers: vec![RecordName::parse("ns1.example.net").unwrap()],
            addresses: vec!["198.51.100.1".parse().unwrap()],
        };
        let records = records.iter().map(|(name, kind, value)| Record {
            name: RecordName::within("example.com", name).unwrap(),
            ttl: 300,
            data: Data::parse(kind, value, (*kind == "MX").then_some(10)).unwrap(),
        });
        Zone::new("example.com", authority.into(), 1, records)
    }

    fn said(zone: &Zone, name: &str, kind: RecordType, is_site: bool) -> String {
        let values = |records: Vec<Record>| {
            let mut values: Vec<_> = records.iter().map(|record| record.data.value()).collect();
            values.sort();
            values.join(" ")
        };
        match zone.look_up(name, kind, is_site) {
            Found::Records(records) => values(records),
            Found::Alias(record) => format!("alias {}", record.data.value()),
            Found::Elsewhere { servers, addresses } => {
                format!("at {} {}", values(servers), values(addresses))
            }
            Found::Nothing => "nothing".to_owned(),
            Found::NoSuchName => "no such name".to_owned(),
        }
    }

    #[test]
    fn a_name_has_its_records_or_those_of_the_wildcard_right_above() {
        let zone = zone(&[
            ("@", "A", "192.0.2.1"),
            ("@", "MX", "mail.example.com"),
            ("app", "A", "192.0.2.2"),
            ("app", "A", "192.0.2.3"),
            ("*", "A", "192.0.2.4"),
            ("*.deep", "CNAME", "app.example.com"),
            ("x.y.z", "TXT", "far"),
        ]);
        use RecordType::*;
        for (name, kind, expected) in [
            ("example.com", A, "192.0.2.1"),
            ("example.com", MX, "mail.example.com"),
            ("example.com", NS, "ns1.example.net"),
            ("example.com", AAAA, "nothing"),
            ("app.example.com", A, "192.0.2.2 192.0.2.3"),
            ("app.example.com", MX, "nothing"),
            // What is there is no wildcard's, also if only others are below it.
            ("any.example.com", A, "192.0.2.4"),
            ("any.example.com", TXT, "nothing"),
            ("more.any.example.com", A, "192.0.2.4"),
            ("more.app.example.com", A, "no such name"),
            ("deep.example.com", A, "nothing"),
            ("x.deep.example.com", A, "alias app.example.com"),
            ("x.deep.example.com", CNAME, "app.example.com"),
            ("y.z.example.com", TXT, "nothing"),
            ("w.y.z.example.com", TXT, "no such name"),
            ("*.example.com", A, "192.0.2.4"),
        ] {
            assert_eq!(said(&zone, name, kind, false), expected, "{name} {kind}");
        }
    }

    #[test]
    fn what_is_delegated_is_known_elsewhere() {
        let zone = zone(&[
            ("sub", "NS", "ns.sub.example.com"),
            ("sub", "NS", "ns.example.org"),
            ("ns.sub", "A", "192.0.2.5"),
            ("x.sub", "A", "192.0.2.6"),
        ]);
        let elsewhere = "at ns.example.org ns.sub.example.com 192.0.2.5";
        for name in ["sub.example.com", "x.sub.example.com", "ns.sub.example.com"] {
            assert_eq!(said(&zone, name, RecordType::A, true), elsewhere);
        }
        assert_eq!(said(&zone, "sub.example.com", RecordType::DS, false), "nothing");
    }

    #[test]
    fn a_site_is_here_unless_a_record_says_where_it_is() {
        let zone = zone(&[
            ("elsewhere", "AAAA", "2001:db8::1"),
            ("alias", "CNAME", "app.example.org"),
            ("text", "TXT", "t"),
        ]);
        for (name, kind, expected) in [
            ("app.example.com", RecordType::A, "198.51.100.1"),
            ("app.example.com", RecordType::AAAA, "nothing"),
            ("example.com", RecordType::A, "198.51.100.1"),
            ("text.example.com", RecordType::A, "198.51.100.1"),
            ("text.example.com", RecordType::TXT, "t"),
            ("elsewhere.example.com", RecordType::A, "nothing"),
            ("alias.example.com", RecordType::A, "alias app.example.org"),
        ] {
            assert_eq!(said(&zone, name, kind, true), expected, "{name} {kind}");
        }
        assert_eq!(said(&zone, "app.example.com", RecordType::A, false), "no such name");
    }

    proptest! {
        /// By the book: a name exists if a record is at it or below it.
        #[test]
        fn a_name_is_there_if_something_is_at_it_or_below_it(
            names in prop::collection::vec("([ab]\\.){0,3}[ab]", 0..5),
            asked in "([ab]\\.){0,3}[ab]",
        ) {
            let records: Vec<_> = names.iter().map(|name| (name.as_str(), "TXT", "t")).collect();
            let zone = zone(&records);
            let exists = names.iter().any(|name| *name == asked || name.ends_with(&format!(".{asked}")));
            let found = zone.look_up(&format!("{asked}.example.com"), RecordType::A, false);
            prop_assert_eq!(found, if exists { Found::Nothing } else { Found::NoSuchName });
        }
    }
}
