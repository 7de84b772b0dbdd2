//! The family `domains`: proving that a domain is the account's, and having it lead to a VM (protocol
//! section 13).

mod certificates;
mod mappings;
mod verifications;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, State};
use freestyle_access::Access;
use freestyle_client::wire::{ErrorBody, ListDomainsQuery, OwnedDomain};
use freestyle_domains::{DomainRecord, Domains};
use freestyle_edge::Certificates;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::body::Bodies;
use crate::error::{ApiError, Code};
use crate::query::{page, understood};
use crate::timestamp::rfc3339;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
    Certificates: FromRef<S>,
    Domains: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(
            verifications::list,
            verifications::begin,
            verifications::complete,
            verifications::cancel
        ))
        .routes(routes!(mappings::list))
        .routes(routes!(mappings::map, mappings::unmap))
        .routes(routes!(certificates::wildcard))
}

/// Lists the account's domains, oldest first: those that were verified, or also its previews.
#[utoipa::path(
    get,
    path = "/domains/v1/domains",
    operation_id = "listDomains",
    tag = "domains",
    params(ListDomainsQuery),
    responses(
        (status = 200, description = "The domains", body = Vec<OwnedDomain>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn list(
    Account(account): Account,
    State(domains): State<Domains>,
    query: Result<Query<ListDomainsQuery>, QueryRejection>,
) -> Result<Json<Vec<OwnedDomain>>, ApiError> {
    let ListDomainsQuery { limit, offset, implicitly_owned } =
        understood(query, Code::InvalidRequest)?;
    let (limit, offset) = page(limit, offset);
    let with_previews = implicitly_owned.unwrap_or(false);
    let owned = domains.owned(&account, with_previews, limit, offset).await;
    let owned = owned.map_err(|error| ApiError::from_domain(error, Code::FailedToListDomains))?;
    let manage_dns = domains.answers_dns();
    Ok(Json(owned.into_iter().map(|domain| encode(domain, manage_dns)).collect()))
}

fn encode(domain: DomainRecord, manage_dns: bool) -> OwnedDomain {
    let DomainRecord { id, account_id, domain, preview, created_at } = domain;
    OwnedDomain {
        domain,
        account_id: account_id.into(),
        created_at: rfc3339(created_at),
        id: id.into(),
        verified_dns: !preview,
        implicitly_owned: preview,
        deploy_to_domain: true,
        manage_dns: manage_dns && !preview,
        deploy_to_subdomains: !preview,
    }
}
