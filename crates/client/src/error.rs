//! How a call fails.

use serde_json::{Map, Value};

use crate::wire::ErrorBody;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is not one.
    #[error("{url:?} is not the URL of an API: {reason}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API key holds characters that no header may hold.
    #[error("the API key holds characters that cannot be sent")]
    BadApiKey,
    /// The name of the Linux user holds characters that no header may hold.
    #[error("{0:?} is not the name of a Linux user")]
    BadUser(String),
    /// No TLS root certificates could be loaded.
    #[error("the root certificates of this system cannot be read: {0}")]
    RootCertificates(String),
    /// The server could not be reached or the connection broke.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// The chain of causes.
        reason: String,
    },
    /// The server answered something that is not this API.
    #[error("the server's answer (HTTP {status}) is not one of this API: {reason}")]
    BadAnswer {
        /// HTTP status.
        status: u16,
        /// What was wrong.
        reason: String,
    },
    /// The server refused or failed.
    #[error(transparent)]
    Api(Box<ApiFailure>),
}

impl ClientError {
    /// The API's error code, when the failure is the server's word.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api(failure) => Some(&failure.code),
            _ => None,
        }
    }
}

/// A failure in the server's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ApiFailure {
    /// HTTP status; 200 when the failure came after the response had been started.
    pub status: u16,
    /// One of the documented codes.
    pub code: String,
    /// For people.
    pub message: String,
    /// What belongs to the code.
    pub fields: Map<String, Value>,
    /// Names the request in the server's log.
    pub trace_id: Option<String>,
}

impl ApiFailure {
    pub(crate) fn new(status: u16, body: ErrorBody, trace_id: Option<String>) -> Self {
        let ErrorBody { code, error: _, message, fields } = body;
        Self { status, code, message, fields, trace_id }
    }
}
