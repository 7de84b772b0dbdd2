//! The family `dns`: what the DNS of the account's domains says (protocol section 13).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRef, Query, Request, State};
use freestyle_access::Access;
use freestyle_client::wire::{
    CreateDnsRecordRequest, CreateDnsRecordResponse, DeleteDnsRecordQuery, DeleteDnsRecordResponse,
    DnsRecord, DnsRecordInput, DnsRecordKind, ErrorBody, ListDnsRecordsQuery,
    ListDnsRecordsResponse,
};
use freestyle_domains::{DomainDnsRecord, DomainName, Domains, WrittenRecord};
use serde::Deserialize;
use serde::de::IgnoredAny;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code, cut};
use crate::query::understood;

const BAD: Code = Code::InvalidRequest;
/// What JavaScript makes of a record that is put into a query as it is.
const LOST: &str = "[object Object]";

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
    Domains: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list, create, delete))
}

/// Has the DNS of a domain say something more. The domain must be verified, or be below one that is.
/// A record that says the same already takes the new time and priority.
#[utoipa::path(
    post,
    path = "/dns/v1/records",
    operation_id = "createDnsRecord",
    tag = "dns",
    request_body = CreateDnsRecordRequest,
    responses(
        (status = 200, description = "The record, which is answered from now on", body = CreateDnsRecordResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn create(
    Account(account): Account,
    State(bodies): State<Arc<Bodies>>,
    State(domains): State<Domains>,
    request: Request,
) -> Result<Json<CreateDnsRecordResponse>, ApiError> {
    let failed = |error| ApiError::from_dns(error, &account, Code::ErrorCreatingRecord);
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CreateDnsRecordRequest { domain, record } = body.json(BAD)?;
    let domain = DomainName::parse(&domain).map_err(failed)?;
    let made = domains.put_record(&account, &domain, decode(record)?).await.map_err(failed)?;
    Ok(Json(CreateDnsRecordResponse { record: encode(&made, &domain) }))
}

/// Lists what the DNS of a domain says of it and of what is below it: the records that were made, and
/// the names of the servers that answer for it.
#[utoipa::path(
    get,
    path = "/dns/v1/records",
    operation_id = "listDnsRecords",
    tag = "dns",
    params(ListDnsRecordsQuery),
    responses(
        (status = 200, description = "The records", body = ListDnsRecordsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn list(
    Account(account): Account,
    State(domains): State<Domains>,
    query: Result<Query<ListDnsRecordsQuery>, QueryRejection>,
) -> Result<Json<ListDnsRecordsResponse>, ApiError> {
    let failed = |error| ApiError::from_dns(error, &account, Code::DatabaseError);
    let ListDnsRecordsQuery { domain } = understood(query, BAD)?;
    let domain = DomainName::parse(&domain).map_err(failed)?;
    let records = domains.records(&account, &domain).await.map_err(failed)?;
    let records = records.iter().map(|record| encode(record, &domain)).collect();
    Ok(Json(ListDnsRecordsResponse { records }))
}

/// Has the DNS of a domain say something no more. Which record is meant is said by its kind, name and
/// value, as the list has them.
#[utoipa::path(
    delete,
    path = "/dns/v1/records",
    operation_id = "deleteDnsRecord",
    tag = "dns",
    params(DeleteDnsRecordQuery),
    responses(
        (status = 200, description = "The record is gone", body = DeleteDnsRecordResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn delete(
    Account(account): Account,
    State(domains): State<Domains>,
    query: Result<Query<DeleteDnsRecordQuery>, QueryRejection>,
) -> Result<Json<DeleteDnsRecordResponse>, ApiError> {
    let failed = |error| ApiError::from_dns(error, &account, Code::ErrorDeletingRecord);
    let DeleteDnsRecordQuery { domain, record } = understood(query, BAD)?;
    if record == LOST {
        let message = "the record is lost on its way, since the SDK puts objects into a query as \
                       [object Object]: pass it as a string, record: JSON.stringify(record)";
        return Err(ApiError::new(BAD, message));
    }
    let record: Meant = serde_json::from_str(&record).map_err(|error| {
        let message = format!("record is none in JSON: {error}");
        ApiError::new(BAD, cut(&message, 400))
    })?;
    let domain = DomainName::parse(&domain).map_err(failed)?;
    let message = format!("{} of {domain} is gone", record.kind);
    let Meant { kind, name, value, priority, .. } = record;
    let record = DnsRecordInput { kind, name, value, ttl: None, priority };
    domains.remove_record(&account, &domain, decode(record)?).await.map_err(failed)?;
    Ok(Json(DeleteDnsRecordResponse { message }))
}

/// Which record is meant: by a list's item, or by what was wished for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meant {
    kind: DnsRecordKind,
    name: String,
    value: String,
    #[serde(default)]
    priority: Option<u16>,
    #[serde(default, rename = "ttl")]
    _ttl: IgnoredAny,
    #[serde(default, rename = "managed")]
    _managed: IgnoredAny,
}

fn decode(record: DnsRecordInput) -> Result<WrittenRecord, ApiError> {
    let DnsRecordInput { kind, name, value, ttl, priority } = record;
    let no_time =
        |_| ApiError::new(BAD, "ttl: it is a number of seconds, as a string, like \"300\"");
    let ttl = ttl.map(|ttl| ttl.parse::<u32>()).transpose().map_err(no_time)?;
    Ok(WrittenRecord { kind: kind.as_str().to_owned(), name, value, priority, ttl })
}

fn encode(record: &DomainDnsRecord, domain: &DomainName) -> DnsRecord {
    let DomainDnsRecord { record, managed } = record;
    let kind = match record.data.kind() {
        "A" => DnsRecordKind::A,
        "AAAA" => DnsRecordKind::Aaaa,
        "CNAME" => DnsRecordKind::Cname,
        "MX" => DnsRecordKind::Mx,
        "NS" => DnsRecordKind::Ns,
        _ => DnsRecordKind::Txt,
    };
    DnsRecord {
        kind,
        name: record.name.relative_to(domain.as_str()).unwrap_or(record.name.as_str()).to_owned(),
        value: record.data.value(),
        ttl: record.ttl.to_string(),
        priority: record.data.priority(),
        managed: *managed,
    }
}
