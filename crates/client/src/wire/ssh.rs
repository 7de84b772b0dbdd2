//! Where SSH is served; not part of the documented API.

use serde::{Deserialize, Serialize};

/// The reply of `GET /v1/ssh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshResponse {
    /// Address of the gateway; where absent, that of the API.
    pub host: Option<String>,
    /// Port of the gateway.
    pub port: u16,
    /// The key that it proves to have, as in `known_hosts`.
    pub host_key: String,
}
