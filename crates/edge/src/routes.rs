//! What the edge is told by whoever puts the server together.

use std::fmt::Debug;
use std::hash::Hash;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::host::HostName;

/// Knows where hosts lead.
pub trait Routes: Clone + Send + Sync + 'static {
    /// Something that takes connections. Connections to equal ones are as good as each other, and
    /// are used again.
    type Target: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    /// Where requests for this host go; `None` if nowhere. Asked for every request.
    fn find(
        &self,
        host: &HostName,
    ) -> impl Future<Output = Result<Option<Self::Target>, Unavailable>> + Send;

    /// Opens a connection, whatever has to be woken or started for that.
    fn connect(
        &self,
        target: &Self::Target,
    ) -> impl Future<Output = Result<Upstream, Unavailable>> + Send;

    /// Whether this host may have a certificate. The edge asks nobody for one otherwise, so this is
    /// what keeps strangers from having certificates made for names of their choice.
    fn may_have_certificate(&self, host: &HostName) -> impl Future<Output = bool> + Send;

    /// Whether a certificate that there is for all hosts right below this domain may be renewed.
    fn may_have_wildcard(&self, domain: &HostName) -> impl Future<Output = bool> + Send;
}

/// A connection to a target.
pub struct Upstream {
    /// The connection, which speaks HTTP/1.1.
    pub stream: TcpStream,
    /// Resolves when what is at the other end has ended. The connection may not tell: the end of a
    /// machine that is suspended or killed says nothing any more.
    pub ended: BoxFuture<'static, ()>,
}

/// Why a host cannot be reached now, in words for whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing takes connections there: status 502.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached now, but may be later: status 503.
    #[error("{0}")]
    Later(String),
    /// It did not answer in time: status 504.
    #[error("{0}")]
    TimedOut(String),
}
