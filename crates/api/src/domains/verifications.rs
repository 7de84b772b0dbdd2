//! Proving that a domain is the account's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use freestyle_client::wire::{
    self, CancelVerification, CompleteVerificationRequest, DomainResponse, ErrorBody,
    PendingVerification, VerifyDomainRequest,
};
use freestyle_domains::{DomainName, DomainVerification, Domains, Which};

use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::timestamp::rfc3339;

const BAD: Code = Code::InvalidRequest;

/// Says what the TXT record `_freestyle_custom_hostname.<domain>` has to say: the same each time,
/// until the verification is completed or cancelled.
#[utoipa::path(
    post,
    path = "/domains/v1/verifications",
    operation_id = "createDomainVerification",
    tag = "domains",
    request_body = VerifyDomainRequest,
    responses(
        (status = 200, description = "What to prove", body = wire::DomainVerification),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn begin(
    Account(account): Account,
    State(bodies): State<Arc<Bodies>>,
    State(domains): State<Domains>,
    request: Request,
) -> Result<Json<wire::DomainVerification>, ApiError> {
    const FAILED: Code = Code::VerificationNotIssued;
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let VerifyDomainRequest { domain } = body.json(BAD)?;
    let begun = async { domains.begin(&account, &DomainName::parse(&domain)?).await };
    let begun = begun.await.map_err(|error| ApiError::from_domain(error, FAILED))?;
    let DomainVerification { id, domain, code, created_at } = begun;
    Ok(Json(wire::DomainVerification {
        id: id.into(),
        domain,
        account_id: account.into(),
        verification_code: code,
        created_at: rfc3339(created_at),
    }))
}

/// Looks at the TXT record. If it says what it should, the domain and all below it are the account's,
/// and nobody else's any more. Takes as long as the DNS does.
#[utoipa::path(
    put,
    path = "/domains/v1/verifications",
    operation_id = "completeDomainVerification",
    tag = "domains",
    request_body = CompleteVerificationRequest,
    responses(
        (status = 200, description = "Verified", body = DomainResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn complete(
    Account(account): Account,
    State(bodies): State<Arc<Bodies>>,
    State(domains): State<Domains>,
    request: Request,
) -> Result<Json<DomainResponse>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let request = body.json(BAD)?;
    let completed = async {
        let which = match request {
            CompleteVerificationRequest::Domain { domain } => {
                Which::Domain(DomainName::parse(&domain)?)
            }
            CompleteVerificationRequest::Id { id } => Which::Id(id),
        };
        domains.complete(&account, &which).await
    };
    let domain = completed
        .await
        .map_err(|error| ApiError::from_domain(error, Code::FailedToVerifyDomain))?;
    Ok(Json(DomainResponse { domain }))
}

/// Lists what is still to be proven, oldest first.
#[utoipa::path(
    get,
    path = "/domains/v1/verifications",
    operation_id = "listDomainVerifications",
    tag = "domains",
    responses(
        (status = 200, description = "What to prove", body = Vec<PendingVerification>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    State(domains): State<Domains>,
) -> Result<Json<Vec<PendingVerification>>, ApiError> {
    let pending = domains.verifications(&account).await;
    let pending =
        pending.map_err(|error| ApiError::from_domain(error, Code::FailedToListVerifications))?;
    let pending = pending.into_iter().map(|pending| PendingVerification {
        verification_code: pending.code,
        domain: pending.domain,
        created_at: rfc3339(pending.created_at),
    });
    Ok(Json(pending.collect()))
}

/// Forgets what was to be proven. The next verification of the domain has another code.
#[utoipa::path(
    delete,
    path = "/domains/v1/verifications",
    operation_id = "cancelDomainVerification",
    tag = "domains",
    request_body = CancelVerification,
    responses(
        (status = 200, description = "Cancelled", body = CancelVerification),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn cancel(
    Account(account): Account,
    State(bodies): State<Arc<Bodies>>,
    State(domains): State<Domains>,
    request: Request,
) -> Result<Json<CancelVerification>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CancelVerification { domain, verification_code } = body.json(BAD)?;
    let cancelled = async {
        let domain = DomainName::parse(&domain)?;
        domains.cancel(&account, &domain, &verification_code).await?;
        Ok(domain)
    };
    let domain = cancelled
        .await
        .map_err(|error| ApiError::from_domain(error, Code::FailedToDeleteVerification))?;
    Ok(Json(CancelVerification { domain: domain.to_string(), verification_code }))
}
