//! Keeping a repository equal to one at GitHub.

use serde::{Deserialize, Serialize};

/// The body of `POST /git/v1/repo/{repo_id}/github-sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct EnableGithubSyncRequest {
    /// The repository at GitHub, as `owner/name`; the account's GitHub App must be installed on it.
    pub github_repo_name: String,
}

/// The reply of `GET /git/v1/repo/{repo_id}/github-sync`; `null` if it is kept equal to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GithubSync {
    /// The repository at GitHub, as `owner/name`.
    pub github_repo_name: String,
    /// How it is.
    pub state: GithubSyncState,
    /// Branches and tags about which someone has to decide, on either side; all others are synced.
    pub conflicts: Vec<GithubSyncConflict>,
    /// Why the last sync failed; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When both sides were last compared. RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced_at: Option<String>,
}

/// How a sync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GithubSyncState {
    /// Something has changed, and is about to be looked at.
    Pending,
    /// Both sides are equal.
    Synced,
    /// Both sides are equal but for the conflicts.
    Conflict,
    /// GitHub cannot be reached, or refuses the app.
    Failed,
}

/// A branch or tag about which someone has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GithubSyncConflict {
    /// Full name, as `refs/heads/main`.
    pub name: String,
    /// Where it is here.
    pub here: Option<String>,
    /// Where it is at GitHub.
    pub github: Option<String>,
    /// Why nothing was done.
    pub reason: String,
}

/// The body of `PUT /git/v1/github/app`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SetGithubAppRequest {
    /// The number that GitHub gave the app.
    pub app_id: String,
    /// Its private key, RSA in PEM, as GitHub gives it out.
    pub private_key: String,
    /// The secret that its webhooks are signed with.
    pub webhook_secret: String,
    /// Where GitHub's API is; `https://api.github.com` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

/// Shows nothing of the secrets.
impl std::fmt::Debug for SetGithubAppRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetGithubAppRequest").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

/// The GitHub App of an account, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GithubApp {
    /// The number that GitHub gave it.
    pub app_id: String,
    /// Where GitHub's API is.
    pub api_url: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}
