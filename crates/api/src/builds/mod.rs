//! The family of builds: looking at how the making of a snapshot or VM from a spec has come along
//! (protocol section 10).

use axum::Json;
use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use freestyle_access::Access;
use freestyle_client::wire::{self, ErrorBody, ListBuildPhasesResponse};
use freestyle_store::{BuildId, BuildPhase, BuildRecord, BuildState, Store};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::error::{ApiError, Code, excerpt};
use crate::path::VmPath;
use crate::timestamp::rfc3339;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Store: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(phases)).routes(routes!(of_vm))
}

/// `{build_id}` of `/v1/vms/builds/{build_id}/...`. What is not the id of a build is unknown.
struct BuildPath(BuildId);

impl<S: Sync> FromRequestParts<S> for BuildPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        segment.parse().map(Self).map_err(|_| not_found(segment))
    }
}

fn not_found(build: &str) -> ApiError {
    let build = excerpt(build);
    ApiError::new(Code::BuildNotFound, format!("there is no build {build}")).with("buildId", build)
}

/// Tells how far a build has come.
#[utoipa::path(
    get,
    path = "/v1/vms/builds/{build_id}",
    operation_id = "getBuild",
    tag = "vms",
    params(("build_id" = String, Path, description = "The build")),
    responses(
        (status = 200, description = "The build", body = wire::BuildRecord),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn get(
    Account(account): Account,
    BuildPath(id): BuildPath,
    State(store): State<Store>,
) -> Result<Json<wire::BuildRecord>, ApiError> {
    let build = store.account_scope(&account).build(&id).await.map_err(ApiError::from_store)?;
    build.map(|build| Json(encode(build))).ok_or_else(|| not_found(id.as_str()))
}

/// Lists the phases that a build has begun.
#[utoipa::path(
    get,
    path = "/v1/vms/builds/{build_id}/phases",
    operation_id = "listBuildPhases",
    tag = "vms",
    params(("build_id" = String, Path, description = "The build")),
    responses(
        (status = 200, description = "The phases", body = ListBuildPhasesResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn phases(
    Account(account): Account,
    BuildPath(id): BuildPath,
    State(store): State<Store>,
) -> Result<Json<ListBuildPhasesResponse>, ApiError> {
    let build = store.account_scope(&account).build(&id).await.map_err(ApiError::from_store)?;
    let build = build.ok_or_else(|| not_found(id.as_str()))?;
    let phases = build.phases.into_iter().map(|phase| encode_phase(&build.id, phase));
    Ok(Json(ListBuildPhasesResponse { phases: phases.collect() }))
}

/// Tells how far the build has come that made a VM, if one did.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}/build",
    operation_id = "getVmBuild",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The build", body = wire::BuildRecord),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn of_vm(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(store): State<Store>,
) -> Result<Json<wire::BuildRecord>, ApiError> {
    let build =
        store.account_scope(&account).build_of_vm(&vm).await.map_err(ApiError::from_store)?;
    build.map(|build| Json(encode(build))).ok_or_else(|| {
        ApiError::new(Code::BuildNotFoundForVm, format!("no build made a VM {vm}"))
            .with("vmId", vm.as_str())
    })
}

fn encode(build: BuildRecord) -> wire::BuildRecord {
    wire::BuildRecord {
        build_id: build.id.into(),
        account_id: build.account_id.into(),
        state: match build.state {
            BuildState::Running => wire::BuildState::Running,
            BuildState::Succeeded => wire::BuildState::Succeeded,
            BuildState::Failed => wire::BuildState::Failed,
        },
        template_hash: build.content,
        failure_reason: build.error,
        planned_phases: build.planned_phases,
        started_at: rfc3339(build.created_at),
        finished_at: build.finished_at.map(rfc3339),
        updated_at: rfc3339(build.updated_at),
    }
}

fn encode_phase(build: &BuildId, phase: BuildPhase) -> wire::BuildPhase {
    wire::BuildPhase {
        phase_id: phase.id.into(),
        build_id: build.as_str().to_owned(),
        name: phase.name,
        snapshot_id: phase.snapshot_id.map(Into::into),
        started_at: rfc3339(phase.started_at),
    }
}
