//! Triggers: webhooks that are told when a branch has moved.

use serde::{Deserialize, Serialize};

/// What sets a trigger off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitTrigger {
    /// What happens; a push is every move of a branch, whoever made it.
    pub event: GitTriggerEvent,
    /// Names or patterns of branches; every branch where absent or empty. `*` does not match a
    /// slash, `**` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
    /// Patterns of files, one of which must have changed; whatever changed where absent or empty. A
    /// pattern without a slash means a name in any directory. Of a new branch every file counts as
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globs: Option<Vec<String>>,
}

/// What can set a trigger off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitTriggerEvent {
    /// A branch was made or moved.
    #[default]
    Push,
}

/// What a trigger does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum WebhookAction {
    /// Sends a request.
    Webhook {
        /// An `http` or `https` URL at a public address.
        endpoint: String,
    },
}

/// The body of `POST /git/v1/repo/{repo}/trigger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateTriggerRequest {
    /// What sets it off.
    pub trigger: GitTrigger,
    /// What it does.
    pub action: WebhookAction,
}

/// The reply of `POST /git/v1/repo/{repo}/trigger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateTriggerResponse {
    /// The trigger.
    pub trigger_id: String,
}

/// The reply of `GET /git/v1/repo/{repo}/trigger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListTriggersResponse {
    /// Oldest first.
    pub triggers: Vec<GitTriggerItem>,
}

/// A trigger in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitTriggerItem {
    /// The trigger.
    pub id: String,
    /// The repository that it watches.
    pub repository_id: String,
    /// What sets it off.
    pub trigger: GitTrigger,
    /// What it does.
    pub action: WebhookAction,
    /// Whether the platform itself made it; always `false`.
    pub managed: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The query of `GET /git/v1/repo/{repo}/trigger/{trigger}/deliveries`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListDeliveriesQuery {
    /// Deliveries listed at most; 20 where absent, and never more than 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Deliveries left out at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// The reply of `GET /git/v1/repo/{repo}/trigger/{trigger}/deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListDeliveriesResponse {
    /// Newest first. Finished ones are kept for a week, at most 1000 of a trigger.
    pub deliveries: Vec<GitDelivery>,
}

/// The reply of `POST /git/v1/repo/{repo}/trigger/{trigger}/deliveries/{delivery}/redeliver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RedeliverResponse {
    /// The new delivery.
    pub delivery_id: String,
}

/// One message to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitDelivery {
    /// The delivery; also sent, as the header `x-freestyle-delivery`.
    pub id: String,
    /// The branch that moved.
    pub branch: String,
    /// The commit that it went to.
    pub commit: String,
    /// How far it is.
    pub state: GitDeliveryState,
    /// Oldest first.
    pub attempts: Vec<GitDeliveryAttempt>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The delivery that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redelivery_of: Option<String>,
    /// When it is attempted next. RFC 3339, UTC, as all times here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// When the branch moved.
    pub created_at: String,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitDeliveryState {
    /// It is to be made, now or later.
    Pending,
    /// The endpoint has answered 2xx.
    Delivered,
    /// It was given up.
    Dead,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitDeliveryAttempt {
    /// When it began.
    pub at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The status of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it does not count as delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The reply of `GET /git/v1/host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitHostResponse {
    /// Where native git finds repositories: `git clone <url>/<repository>`.
    pub url: String,
}
