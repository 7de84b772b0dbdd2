//! Asking the DNS what a TXT record says.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::time::timeout;

/// How long one server may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long all of it may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(15);
/// Records that are looked at.
const MAX_RECORDS: usize = 100;

/// Asks certain DNS servers, or those of this host.
pub(crate) struct Dns {
    servers: Vec<SocketAddr>,
}

impl Dns {
    /// `servers` are those to ask; none means the host's own, as they are when they are asked.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// What the TXT records of a name say; nothing if there are none. Each lookup asks anew: whoever
    /// corrects a record must not be told of the one before.
    pub(crate) async fn txt(&self, name: &str) -> Result<Vec<String>, String> {
        let resolver = self.resolver().map_err(|error| error.to_string())?;
        // Absolute, so that no search domain is appended.
        let lookup = timeout(LOOKUP_LIMIT, resolver.txt_lookup(format!("{name}.")));
        let answer = lookup.await.map_err(|_| "the DNS servers do not answer".to_owned())?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let texts = answer.answers().iter().filter_map(|record| match &record.data {
            // A long text comes in pieces.
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.take(MAX_RECORDS).collect())
    }

    fn resolver(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|address| {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                (udp.port, tcp.port) = (address.port(), address.port());
                NameServerConfig::new(address.ip(), true, vec![udp, tcp])
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = ANSWER_LIMIT;
        options.attempts = 2;
        options.cache_size = 0;
        builder.build()
    }
}
