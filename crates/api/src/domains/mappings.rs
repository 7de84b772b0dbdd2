//! Having a domain lead to a port of a VM.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use freestyle_client::wire::{self, Empty, ErrorBody, ListMappingsQuery, MapDomainRequest};
use freestyle_domains::{DomainId, DomainMapping, Domains, Pattern};
use freestyle_store::VmId;

use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code, excerpt};
use crate::path::DomainPath;
use crate::query::{page, understood};
use crate::timestamp::rfc3339;

const BAD: Code = Code::InvalidRequest;

/// Has a domain lead to a port of a VM, in place of whatever it led to. A verified domain may be
/// mapped with everything below it, `*.` before its name standing for all hosts right below it; a
/// preview by whoever is first.
#[utoipa::path(
    post,
    path = "/domains/v1/mappings/{domain}",
    operation_id = "createDomainMapping",
    tag = "domains",
    params(("domain" = String, Path, description = "The domain")),
    request_body = MapDomainRequest,
    responses(
        (status = 200, description = "The mapping", body = wire::DomainMapping),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn map(
    Account(account): Account,
    DomainPath(domain): DomainPath,
    State(bodies): State<Arc<Bodies>>,
    State(domains): State<Domains>,
    request: Request,
) -> Result<Json<wire::DomainMapping>, ApiError> {
    let failed = |error| ApiError::from_domain(error, Code::FailedInsertDomainMapping);
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let pattern = Pattern::parse(&domain).map_err(failed)?;
    let (vm, port) = decode(body.json(BAD)?, &pattern)?;
    let mapped = domains.map(&account, &pattern, &vm, port).await.map_err(failed)?;
    Ok(Json(encode(mapped)))
}

/// Lists the account's mappings, newest first.
#[utoipa::path(
    get,
    path = "/domains/v1/mappings",
    operation_id = "listDomainMappings",
    tag = "domains",
    params(ListMappingsQuery),
    responses(
        (status = 200, description = "The mappings", body = Vec<wire::DomainMapping>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    State(domains): State<Domains>,
    query: Result<Query<ListMappingsQuery>, QueryRejection>,
) -> Result<Json<Vec<wire::DomainMapping>>, ApiError> {
    let failed = |error| ApiError::from_domain(error, Code::FailedToListDomains);
    let ListMappingsQuery { offset, limit, domain_ownership, domain } = understood(query, BAD)?;
    let (limit, offset) = page(limit, offset);
    let pattern = domain.as_deref().map(Pattern::parse).transpose().map_err(failed)?;
    let ownership = match domain_ownership.map(|id| id.parse::<DomainId>()) {
        None => None,
        Some(Ok(id)) => Some(id),
        // Nothing stands on what is not the id of an ownership.
        Some(Err(_)) => return Ok(Json(Vec::new())),
    };
    let mappings =
        domains.mappings(&account, pattern.as_ref(), ownership.as_ref(), limit, offset).await;
    Ok(Json(mappings.map_err(failed)?.into_iter().map(encode).collect()))
}

/// Has a domain lead nowhere. A verified one stays verified; a preview is everybody's again.
#[utoipa::path(
    delete,
    path = "/domains/v1/mappings/{domain}",
    operation_id = "deleteDomainMapping",
    tag = "domains",
    params(("domain" = String, Path, description = "The domain")),
    responses(
        (status = 200, description = "Unmapped", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn unmap(
    Account(account): Account,
    DomainPath(domain): DomainPath,
    State(domains): State<Domains>,
) -> Result<Json<Empty>, ApiError> {
    let unmapped = async { domains.unmap(&account, &Pattern::parse(&domain)?).await };
    let unmapped = unmapped.await;
    unmapped.map_err(|error| ApiError::from_domain(error, Code::FailedRemoveDomainMapping))?;
    Ok(Json(Empty {}))
}

/// The VM and its port.
fn decode(request: MapDomainRequest, path: &Pattern) -> Result<(VmId, u16), ApiError> {
    let bad = |message: &str| ApiError::new(BAD, message);
    let MapDomainRequest { domain, vm_id, vm_port, deployment_id } = request;
    if let Some(domain) = domain
        && Pattern::parse(&domain).ok().as_ref() != Some(path)
    {
        return Err(bad("the domain of the body is another than that of the path"));
    }
    if let Some(deployment) = deployment_id {
        let deployment = excerpt(&deployment);
        let message = format!("there is no deployment {deployment}: domains lead to VMs here");
        return Err(
            ApiError::new(Code::DeploymentAccessDenied, message).with("deploymentId", deployment)
        );
    }
    let vm = vm_id.ok_or_else(|| bad("vmId is missing"))?;
    // What is not the id of a VM is no VM of the account's either.
    let vm = vm.parse().map_err(|_| {
        let vm = excerpt(&vm);
        let message = format!("there is no VM {vm}");
        ApiError::new(Code::VmAccessDeniedForMapping, message).with("vmId", vm)
    })?;
    let port = vm_port.ok_or_else(|| bad("vmPort is missing"))?;
    match u16::try_from(port) {
        Ok(port @ 1..) => Ok((vm, port)),
        _ => Err(bad("vmPort is no port: it must be between 1 and 65535")),
    }
}

fn encode(mapping: DomainMapping) -> wire::DomainMapping {
    let DomainMapping { id, domain, domain_id, vm_id, port, created_at } = mapping;
    wire::DomainMapping {
        id: id.into(),
        domain,
        deployment_id: None,
        vm_id: Some(vm_id.into()),
        vm_port: Some(port.into()),
        ownership_id: domain_id.into(),
        created_at: rfc3339(created_at),
        unmapped_at: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decoded(body: serde_json::Value) -> Result<(VmId, u16), Code> {
        let path = Pattern::parse("app.example.com").unwrap();
        decode(serde_json::from_value(body).unwrap(), &path).map_err(|error| error.code())
    }

    #[test]
    fn a_mapping_needs_a_vm_and_a_port() {
        let vm = "abcdefghij0123456789";
        let body = json!({"domain": "App.example.com", "vmId": vm, "vmPort": 3000});
        assert_eq!(decoded(body), Ok((vm.parse().unwrap(), 3000)));
        for (body, code) in [
            (json!({}), BAD),
            (json!({"vmId": vm}), BAD),
            (json!({"vmId": vm, "vmPort": 0}), BAD),
            (json!({"vmId": vm, "vmPort": 65536}), BAD),
            (json!({"vmId": vm, "vmPort": 80, "domain": "b.example.com"}), BAD),
            (json!({"vmId": "x", "vmPort": 80}), Code::VmAccessDeniedForMapping),
            (json!({"deploymentId": "x"}), Code::DeploymentAccessDenied),
        ] {
            assert_eq!(decoded(body.clone()), Err(code), "{body}");
        }
    }
}
