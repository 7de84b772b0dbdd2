//! Certificates that somebody asks for. All others are made when a host is first visited.

use axum::Json;
use axum::extract::State;
use freestyle_client::wire::{DomainResponse, ErrorBody};
use freestyle_domains::{DomainError, DomainName, Domains};
use freestyle_edge::{Certificates, HostName};

use crate::authenticate::Account;
use crate::error::{ApiError, Code};
use crate::path::DomainPath;

/// Makes a certificate for all hosts right below a verified domain. An authority that browsers trust
/// wants a DNS record for it, so the domain's DNS must be delegated to this server. Takes as long as
/// the authority does.
#[utoipa::path(
    post,
    path = "/domains/v1/certs/{domain}/wildcard",
    operation_id = "createWildcardCertificate",
    tag = "domains",
    params(("domain" = String, Path, description = "The domain")),
    responses(
        (status = 200, description = "The certificate is in use", body = DomainResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn wildcard(
    Account(account): Account,
    DomainPath(domain): DomainPath,
    State(certificates): State<Certificates>,
    State(domains): State<Domains>,
) -> Result<Json<DomainResponse>, ApiError> {
    const FAILED: Code = Code::FailedToProvisionCertificate;
    let domain = async {
        let domain = DomainName::parse(&domain)?;
        if !domains.has_proven(&account, &domain).await? {
            return Err(DomainError::NotVerified(domain.to_string()));
        }
        Ok(domain)
    };
    let domain = domain.await.map_err(|error| ApiError::from_domain(error, FAILED))?;
    let made = make(&certificates, &domains, &domain).await;
    made.map_err(|reason| ApiError::new(FAILED, format!("no certificate for {domain}: {reason}")))?;
    Ok(Json(DomainResponse { domain: domain.to_string() }))
}

/// Has the certificate made. Fails with the reason.
async fn make(
    certificates: &Certificates,
    domains: &Domains,
    domain: &DomainName,
) -> Result<(), String> {
    let host = HostName::parse(domain.as_str()).ok_or("no host can have this name")?;
    if certificates.needs_proof() {
        // An authority that finds no proof counts that against everybody here.
        domains.check_answered_here(domain).await.map_err(|error| {
            format!(
                "{error}. Without it each host gets a certificate of its own when it is visited"
            )
        })?;
    }
    certificates.wildcard(&host).await.map_err(|error| error.to_string())
}
