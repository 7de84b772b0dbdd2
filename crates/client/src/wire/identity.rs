//! Identities, their tokens, and what they are granted (protocol section 12).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An end user of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Identity {
    /// The identity.
    pub id: String,
    /// Whether the platform made it for itself; this server never does.
    pub managed: bool,
}

/// The query of `GET /identity/v1/identities`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListIdentitiesQuery {
    /// At most so many; 1000 where absent, and never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// So many of the oldest are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Also managed ones, of which there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_managed: Option<bool>,
}

/// The reply of `GET /identity/v1/identities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListIdentitiesResponse {
    /// Oldest first.
    pub identities: Vec<Identity>,
    /// As asked for.
    pub offset: u64,
    /// How many there are.
    pub total: u64,
}

/// The reply of `POST /identity/v1/identities/{identity}/tokens`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateTokenResponse {
    /// The token's name, by which it is revoked.
    pub id: String,
    /// The token itself, which is never shown again.
    pub token: String,
}

/// Shows nothing of the token.
impl fmt::Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reply of `GET /identity/v1/identities/{identity}/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListTokensResponse {
    /// Oldest first.
    pub tokens: Vec<TokenListItem>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct TokenListItem {
    /// The token's name.
    pub id: String,
}

/// The query of the lists of grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListPermissionsQuery {
    /// At most so many; 1000 where absent, and never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// So many of the oldest are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
}

/// The body of `POST` and `PUT /identity/v1/identities/{identity}/permissions/vm/{vm_id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmPermissionRequest {
    /// The Linux users it may act as; any where absent or `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_users: Option<Vec<String>>,
}

/// An identity's right to use a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmPermission {
    /// The right.
    pub id: String,
    /// The VM.
    pub vm_id: String,
    /// The identity.
    pub identity_id: String,
    /// The Linux users it may act as; `null` is any.
    pub allowed_users: Option<Vec<String>>,
    /// RFC 3339, UTC.
    pub granted_at: String,
    /// The id of the API key that was used.
    pub granted_by: String,
}

/// The reply of `GET /identity/v1/identities/{identity}/permissions/vm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListVmPermissionsResponse {
    /// In the order in which they were granted.
    pub permissions: Vec<VmPermission>,
    /// As asked for.
    pub offset: u64,
    /// How many there are.
    pub total: u64,
}

/// What may be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum GitAccessLevel {
    /// Clone, fetch and look.
    Read,
    /// Also push and commit.
    Write,
}

impl GitAccessLevel {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The body of `POST` and `PUT /identity/v1/identities/{identity}/permissions/git/{repo}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitPermissionRequest {
    /// What the identity may do.
    pub permission: GitAccessLevel,
}

/// The reply of `GET /identity/v1/identities/{identity}/permissions/git/{repo}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitPermission {
    /// The identity.
    pub identity: String,
    /// The repository.
    pub repo: String,
    /// What the identity may do.
    pub access_level: Option<GitAccessLevel>,
}

/// The reply of `GET /identity/v1/identities/{identity}/permissions/git`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListGitPermissionsResponse {
    /// In the order in which they were granted.
    pub repositories: Vec<GrantedRepository>,
}

/// A repository that an identity may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GrantedRepository {
    /// The repository.
    pub id: String,
    /// A label for people.
    pub name: Option<String>,
    /// Whose it is.
    pub account_id: String,
    /// What the identity may do.
    pub permissions: GitAccessLevel,
    /// Who may read it.
    pub visibility: Visibility,
}

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Who was granted it.
    Private,
}
