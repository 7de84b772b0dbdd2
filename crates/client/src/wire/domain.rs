//! Domains: proving them, and mapping them to VMs (protocol section 13).

use serde::{Deserialize, Serialize};

/// The body of `POST /domains/v1/verifications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VerifyDomainRequest {
    /// The domain. What is below it is proven with it.
    pub domain: String,
}

/// What has to be proven: that the TXT record `_freestyle_custom_hostname.<domain>` says the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DomainVerification {
    /// The verification.
    pub id: String,
    /// The domain, in ASCII and lower case.
    pub domain: String,
    /// Who has to prove it.
    pub account_id: String,
    /// What the record has to say.
    pub verification_code: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The body of `PUT /domains/v1/verifications`: which one to complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum CompleteVerificationRequest {
    /// The one of a domain.
    Domain {
        /// The domain.
        domain: String,
    },
    /// The one with an id.
    Id {
        /// The verification.
        id: String,
    },
}

/// The reply of `PUT /domains/v1/verifications`, and of a wildcard certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DomainResponse {
    /// The domain, in ASCII and lower case.
    pub domain: String,
}

/// One item of the reply of `GET /domains/v1/verifications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PendingVerification {
    /// What the record has to say.
    pub verification_code: String,
    /// The domain, in ASCII and lower case.
    pub domain: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The body of `DELETE /domains/v1/verifications`, and its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CancelVerification {
    /// The domain.
    pub domain: String,
    /// What its record had to say.
    pub verification_code: String,
}

/// The query of `GET /domains/v1/domains`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListDomainsQuery {
    /// At most so many; 1000 where absent, and never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// So many of the oldest are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Also previews, which are owned for as long as they are mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicitly_owned: Option<bool>,
}

/// A domain of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct OwnedDomain {
    /// The domain, in ASCII and lower case.
    pub domain: String,
    /// Whose it is.
    pub account_id: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// The ownership.
    pub id: String,
    /// Whether it was proven by DNS.
    pub verified_dns: bool,
    /// Whether it is a preview.
    pub implicitly_owned: bool,
    /// Whether it can be mapped.
    pub deploy_to_domain: bool,
    /// Whether this server answers for its DNS, once that is delegated here.
    pub manage_dns: bool,
    /// Whether what is below it can be mapped.
    pub deploy_to_subdomains: bool,
}

/// The body of `POST /domains/v1/mappings/{domain}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct MapDomainRequest {
    /// The same as in the path, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// The port in the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_port: Option<u32>,
    /// There are no deployments here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}

/// What a domain leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DomainMapping {
    /// The mapping.
    pub id: String,
    /// The host, or `*.` and the domain that all hosts are right below of.
    pub domain: String,
    /// Always `null`.
    pub deployment_id: Option<String>,
    /// The VM.
    pub vm_id: Option<String>,
    /// The port in the VM.
    pub vm_port: Option<u32>,
    /// The ownership that the mapping stands on.
    pub ownership_id: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Always `null`: what was unmapped is not remembered.
    pub unmapped_at: Option<String>,
}

/// The query of `GET /domains/v1/mappings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct ListMappingsQuery {
    /// So many of the newest are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// At most so many; 1000 where absent, and never more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those that stand on this ownership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_ownership: Option<String>,
    /// Only the one of this domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}
