//! The three requests of git's smart protocol, authorised and passed on.

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response};
use freestyle_access::RepositoryLevel;
use freestyle_git::{GitProtocol, Output, RepositoryId, Service, TransferRequest};
use freestyle_repos::Repo;
use futures_util::TryStreamExt;
use serde::Deserialize;

use super::GitHostState;
use super::credential::caller;
use super::refusal::Refusal;

#[derive(Deserialize)]
pub(super) struct AdvertiseQuery {
    service: Option<String>,
}

/// Which refs there are: the first request of clone, fetch and push.
pub(super) async fn advertise(
    State(host): State<GitHostState>,
    Path(name): Path<String>,
    Query(query): Query<AdvertiseQuery>,
    headers: HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let Some(service) = query.service else { return Err(Refusal::no_dumb_protocol()) };
    let service = Service::from_name(&service)
        .ok_or_else(|| Refusal::bad_request("there is no such service"))?;
    let repo = authorised(&host, &name, &headers, service).await?;
    let output = repo.git().advertise(service, protocol(&headers)).await?;
    Ok(answer(service, "advertisement", output))
}

/// Clone and fetch.
pub(super) async fn upload_pack(
    State(host): State<GitHostState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let service = Service::UploadPack;
    let repo = authorised(&host, &name, request.headers(), service).await?;
    let output = repo.git().upload_pack(transfer(service, request)?).await?;
    Ok(answer(service, "result", output))
}

/// Push.
pub(super) async fn receive_pack(
    State(host): State<GitHostState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let service = Service::ReceivePack;
    let repo = authorised(&host, &name, request.headers(), service).await?;
    let output = repo.receive_pack(transfer(service, request)?).await?;
    Ok(answer(service, "result", output))
}

/// The repository, if the caller may use the service there. Nothing of a body is read before.
async fn authorised(
    host: &GitHostState,
    name: &str,
    headers: &HeaderMap,
    service: Service,
) -> Result<Repo, Refusal> {
    let caller = caller(&host.access, headers).await?;
    let unknown = || match caller {
        Some(_) => Refusal::no_such_repository(),
        None => Refusal::no_credential(),
    };
    let id: RepositoryId =
        name.strip_suffix(".git").unwrap_or(name).parse().map_err(|_| unknown())?;
    let need = match service {
        Service::UploadPack => RepositoryLevel::Read,
        Service::ReceivePack => RepositoryLevel::Write,
    };
    let right = host.access.repository(caller.as_ref(), id.as_str(), need).await;
    let right = right.map_err(|denied| Refusal::denied(denied, caller.is_some()))?;
    Ok(host.repos.get(right.owner(), &id).await?)
}

fn protocol(headers: &HeaderMap) -> Option<GitProtocol> {
    headers.get("git-protocol").and_then(|value| GitProtocol::parse(value.to_str().ok()?))
}

fn transfer(service: Service, request: Request) -> Result<TransferRequest, Refusal> {
    let headers = request.headers();
    let expected = format!("application/x-{}-request", service.name());
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != expected.as_bytes()) {
        return Err(Refusal::unsupported_body(&format!("The body must be {expected}.")));
    }
    let is_compressed = match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => {
            return Err(Refusal::unsupported_body("The body may be compressed by gzip only."));
        }
    };
    let protocol = protocol(headers);
    let body = request.into_body().into_data_stream().map_err(std::io::Error::other);
    Ok(TransferRequest::new(protocol, is_compressed, body))
}

fn answer(service: Service, kind: &str, output: Output) -> Response<Body> {
    let kind = format!("application/x-{}-{kind}", service.name());
    let kind = HeaderValue::try_from(kind).expect("names of services are ASCII");
    let mut response = Response::new(Body::from_stream(output));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
