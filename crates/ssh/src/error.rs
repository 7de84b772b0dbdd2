//! Why a connection ends.

use std::io;

use crate::wire::Malformed;

/// Reason codes of a disconnect (RFC 4253 section 11.1).
pub(crate) mod reason {
    pub(crate) const PROTOCOL_ERROR: u32 = 2;
    pub(crate) const KEY_EXCHANGE_FAILED: u32 = 3;
    pub(crate) const BY_APPLICATION: u32 = 11;
    pub(crate) const NO_MORE_AUTH_METHODS: u32 = 14;
}

/// Why a connection to one peer ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("{0}")]
    Protocol(&'static str),
    #[error("there is no {0} that both sides know")]
    NoCommon(&'static str),
    #[error("it does not speak SSH 2: {0:?}")]
    NotSsh(String),
    #[error("it said good-bye: {description}")]
    Disconnected { reason: u32, description: String },
    #[error("{description}")]
    TurnedAway { reason: u32, description: String },
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Protocol("a message is malformed")
    }
}

impl Error {
    /// What the peer is told, unless it is gone.
    pub(crate) fn disconnect(&self) -> Option<(u32, String)> {
        match self {
            Self::Io(_) | Self::Closed | Self::NotSsh(_) | Self::Disconnected { .. } => None,
            Self::Protocol(_) => Some((reason::PROTOCOL_ERROR, self.to_string())),
            Self::NoCommon(_) => Some((reason::KEY_EXCHANGE_FAILED, self.to_string())),
            Self::TurnedAway { reason, description } => Some((*reason, description.clone())),
        }
    }
}
