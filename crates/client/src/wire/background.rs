//! Calls that go on after their answer (protocol section 4).

use serde::{Deserialize, Serialize};

/// Asks for an answer after so many seconds, whether or not the call is done by then.
pub const BACKGROUND_AFTER_HEADER: &str = "x-freestyle-background-after-secs";
/// On an answer with status 202: the id of [`BackgroundRequest`] once more.
pub const BACKGROUND_REQUEST_HEADER: &str = "x-freestyle-background-request-id";

/// The body of an answer with status 202: the call goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct BackgroundRequest {
    /// Names the call to `GET /auth/v1/background-requests/{request_id}`.
    pub request_id: String,
    /// Always `running`.
    pub status: String,
}

/// The reply of `GET /observability/v1/logs?requestId=...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsResponse {
    /// What the call has reported so far, oldest first; of many lines the last ones.
    pub logs: Vec<LogLine>,
}

/// One line of a log. No two lines of a call have the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// For people.
    pub message: String,
}
