//! Taking snapshots of a VM, and looking after them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use freestyle_client::wire::{
    self, DeleteSnapshotResponse, ErrorBody, ListSnapshotsQuery, ListSnapshotsResponse,
    RenameSnapshotRequest, RenameSnapshotResponse, SnapshotRecord, SnapshotVmRequest,
    SnapshotVmResponse,
};
use freestyle_store::AccountId;
use freestyle_vm::{SnapshotInfo, SnapshotPersistence, SnapshotState, TakeSnapshot};

use super::priority;
use crate::App;
use crate::authenticate::Account;
use crate::body::Limits;
use crate::error::{ApiError, Code};
use crate::label::label;
use crate::long_call::{answer, to_completion};
use crate::path::{SnapshotPath, VmPath};
use crate::query::understood;
use crate::timestamp::rfc3339;

const BAD: Code = Code::BadRequest;

/// Saves the memory, devices and disk of a VM, which goes on. A VM made from the snapshot goes on
/// from there, its services and their data in memory included.
///
/// A call that takes longer than 100 seconds answers like a create.
#[utoipa::path(
    post,
    path = "/v1/vms/{vm_id}/snapshot",
    operation_id = "snapshotVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    request_body = Option<SnapshotVmRequest>,
    responses(
        (status = 200, description = "The snapshot, ready", body = SnapshotVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn take(
    Account(account): Account,
    VmPath(vm): VmPath,
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    const BAD: Code = Code::SnapshotVmBadRequest;
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let request = decode_take(body.json_or_default(BAD)?)?;
    Ok(answer(to_completion(async move {
        let snapshot = app.vms.snapshot(&account, &vm, request).await;
        let snapshot = snapshot.map_err(|error| ApiError::from_vm(error, BAD))?;
        Ok(SnapshotVmResponse {
            snapshot_id: snapshot.id.into(),
            source_vm_id: vm.into(),
            source_vm_instance_id: snapshot.source_instance.map(Into::into),
        })
    }))
    .await)
}

/// Lists the account's snapshots, newest first, and counts them by state.
#[utoipa::path(
    get,
    path = "/v1/vms/snapshots",
    operation_id = "listSnapshots",
    tag = "vms",
    params(ListSnapshotsQuery),
    responses(
        (status = 200, description = "The snapshots", body = ListSnapshotsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    State(app): State<App>,
    query: Result<Query<ListSnapshotsQuery>, QueryRejection>,
) -> Result<Json<ListSnapshotsResponse>, ApiError> {
    let query = understood(query, BAD)?;
    // All of them, since the deleted ones are counted in any case.
    let all = app.vms.snapshots(&account, true).await.map_err(ApiError::from_snapshot)?;
    Ok(Json(encode_list(&account, all, &query)))
}

/// Tells what is known about a snapshot, a deleted one included.
#[utoipa::path(
    get,
    path = "/v1/vms/snapshots/{snapshot_id}",
    operation_id = "getSnapshot",
    tag = "vms",
    params(("snapshot_id" = String, Path, description = "The snapshot")),
    responses(
        (status = 200, description = "The snapshot", body = SnapshotRecord),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Account(account): Account,
    SnapshotPath(snapshot): SnapshotPath,
    State(app): State<App>,
) -> Result<Json<SnapshotRecord>, ApiError> {
    let snapshot = app.vms.snapshot_info(&account, &snapshot).await;
    snapshot.map(|it| Json(encode(&account, it))).map_err(ApiError::from_snapshot)
}

/// Gives a snapshot another label, or none.
#[utoipa::path(
    patch,
    path = "/v1/vms/snapshots/{snapshot_id}",
    operation_id = "renameSnapshot",
    tag = "vms",
    params(("snapshot_id" = String, Path, description = "The snapshot")),
    request_body = RenameSnapshotRequest,
    responses(
        (status = 200, description = "The snapshot", body = RenameSnapshotResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn rename(
    Account(account): Account,
    SnapshotPath(snapshot): SnapshotPath,
    State(app): State<App>,
    request: Request,
) -> Result<Json<RenameSnapshotResponse>, ApiError> {
    let body = app.bodies.receive(request, Limits::JSON, BAD).await?;
    let name = decode_rename(body.json(BAD)?)?;
    let renamed = app.vms.rename_snapshot(&account, &snapshot, name).await;
    let renamed = renamed.map_err(ApiError::from_snapshot)?;
    Ok(Json(RenameSnapshotResponse { snapshot_id: renamed.id.into(), name: renamed.name }))
}

/// Deletes a snapshot, in any state. VMs made from it live on.
#[utoipa::path(
    delete,
    path = "/v1/vms/snapshots/{snapshot_id}",
    operation_id = "deleteSnapshot",
    tag = "vms",
    params(("snapshot_id" = String, Path, description = "The snapshot")),
    responses(
        (status = 200, description = "The snapshot that was", body = DeleteSnapshotResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    Account(account): Account,
    SnapshotPath(snapshot): SnapshotPath,
    State(app): State<App>,
) -> Response {
    answer(to_completion(async move {
        let deleted = app.vms.delete_snapshot(&account, &snapshot).await;
        let deleted = deleted.map_err(ApiError::from_snapshot)?;
        Ok(DeleteSnapshotResponse { snapshot_id: deleted.id.into() })
    }))
    .await
}

pub(super) fn decode_take(request: SnapshotVmRequest) -> Result<TakeSnapshot, ApiError> {
    const BAD: Code = Code::SnapshotVmBadRequest;
    let SnapshotVmRequest { name, persistence } = request;
    Ok(TakeSnapshot { name: label(name, BAD)?, persistence: decode_persistence(persistence, BAD)? })
}

pub(super) fn decode_rename(request: RenameSnapshotRequest) -> Result<Option<String>, ApiError> {
    let Some(name) = request.name else {
        return Err(ApiError::new(BAD, "name is missing: give a text, or null for none"));
    };
    label(name, BAD)
}

/// What happens to a snapshot when space runs out.
pub(crate) fn decode_persistence(
    asked: Option<wire::SnapshotPersistence>,
    bad: Code,
) -> Result<SnapshotPersistence, ApiError> {
    match asked {
        None | Some(wire::SnapshotPersistence::Persistent {}) => {
            Ok(SnapshotPersistence::Persistent)
        }
        Some(wire::SnapshotPersistence::Sticky { priority: asked }) => {
            Ok(SnapshotPersistence::Sticky { priority: priority(asked, bad)? })
        }
    }
}

fn encode_list(
    account: &AccountId,
    all: Vec<SnapshotInfo>,
    query: &ListSnapshotsQuery,
) -> ListSnapshotsResponse {
    let count = |wanted: SnapshotState| {
        let live = all.iter().filter(|snapshot| snapshot.deleted_at.is_none());
        live.filter(|snapshot| snapshot.state == wanted).count() as u64
    };
    let (building_count, ready_count) =
        (count(SnapshotState::Building), count(SnapshotState::Ready));
    let (failed_count, lost_count) = (count(SnapshotState::Failed), count(SnapshotState::Lost));
    let cancelled_count = count(SnapshotState::Cancelled);
    let deleted_count = all.iter().filter(|snapshot| snapshot.deleted_at.is_some()).count() as u64;
    let listed = all.into_iter().filter(|snapshot| is_asked_for(snapshot, query));
    let snapshots: Vec<_> = listed.map(|snapshot| encode(account, snapshot)).collect();
    ListSnapshotsResponse {
        total_count: snapshots.len() as u64,
        snapshots,
        building_count,
        ready_count,
        failed_count,
        cancelled_count,
        lost_count,
        deleted_count,
    }
}

fn is_asked_for(snapshot: &SnapshotInfo, query: &ListSnapshotsQuery) -> bool {
    let of_state = match snapshot.state {
        SnapshotState::Ready => true,
        SnapshotState::Building => query.include_building.unwrap_or(true),
        SnapshotState::Failed => query.include_failed.unwrap_or(true),
        SnapshotState::Cancelled => query.include_cancelled.unwrap_or(false),
        SnapshotState::Lost => query.include_lost.unwrap_or(false),
    };
    let is_there = snapshot.deleted_at.is_none() || query.include_deleted.unwrap_or(false);
    of_state && is_there
}

fn encode(account: &AccountId, snapshot: SnapshotInfo) -> SnapshotRecord {
    SnapshotRecord {
        snapshot_id: snapshot.id.into(),
        state: match snapshot.state {
            SnapshotState::Building => wire::SnapshotState::Building,
            SnapshotState::Ready => wire::SnapshotState::Ready,
            SnapshotState::Failed => wire::SnapshotState::Failed,
            SnapshotState::Cancelled => wire::SnapshotState::Cancelled,
            SnapshotState::Lost => wire::SnapshotState::Lost,
        },
        source_vm_id: snapshot.source_vm.map(Into::into),
        account_id: Some(account.as_str().to_owned()),
        created_at: rfc3339(snapshot.created_at),
        name: snapshot.name,
        failed: snapshot.state == SnapshotState::Failed,
        cancelled: snapshot.state == SnapshotState::Cancelled,
        lost: snapshot.state == SnapshotState::Lost,
        failure_reason: snapshot.failure,
        deleted: snapshot.deleted_at.is_some(),
        snapshot_persistence: match snapshot.persistence {
            SnapshotPersistence::Persistent => wire::SnapshotPersistence::Persistent {},
            SnapshotPersistence::Sticky { priority } => {
                wire::SnapshotPersistence::Sticky { priority: Some(priority) }
            }
        },
        build_id: snapshot.build.map(Into::into),
        vcpu_count: Some(snapshot.sizing.vcpus),
        mem_size_mib: Some(snapshot.sizing.memory_mib),
        rootfs_size_mb: Some(snapshot.sizing.disk_mib),
    }
}

#[cfg(test)]
mod tests {
    use freestyle_store::Sizing;
    use serde_json::json;

    use super::*;

    fn snapshot(state: SnapshotState, deleted: bool) -> SnapshotInfo {
        SnapshotInfo {
            id: "sc-abcdefghij0123456789".parse().unwrap(),
            name: Some("with redis".into()),
            state,
            failure: None,
            source_vm: Some("abcdefghij0123456789".parse().unwrap()),
            source_instance: None,
            sizing: Sizing { vcpus: 2, memory_mib: 1024, disk_mib: 4096 },
            persistence: SnapshotPersistence::Sticky { priority: 7 },
            build: None,
            bytes: Some(30_000_000),
            created_at: 1_000,
            deleted_at: deleted.then_some(2_000),
        }
    }

    fn one_of_each() -> Vec<SnapshotInfo> {
        let states = [
            SnapshotState::Building,
            SnapshotState::Ready,
            SnapshotState::Failed,
            SnapshotState::Cancelled,
            SnapshotState::Lost,
        ];
        states.iter().flat_map(|state| [snapshot(*state, false), snapshot(*state, true)]).collect()
    }

    /// State and whether it was deleted, of those listed.
    fn listed(query: &str) -> Vec<(String, bool)> {
        let query: Query<ListSnapshotsQuery> =
            Query::try_from_uri(&format!("/?{query}").parse().unwrap()).unwrap();
        let list = encode_list(&AccountId::random(), one_of_each(), &query);
        assert_eq!(list.total_count, list.snapshots.len() as u64);
        let snapshots = list.snapshots.into_iter();
        snapshots.map(|snapshot| (snapshot.state.to_string(), snapshot.deleted)).collect()
    }

    #[test]
    fn a_list_leaves_out_what_was_deleted_given_up_or_lost() {
        let there = |state: &str| (state.to_owned(), false);
        let usual = vec![there("building"), there("ready"), there("failed")];
        assert_eq!(listed(""), usual);
        assert_eq!(listed("includeBuilding=false&includeFailed=false"), [there("ready")]);
        assert_eq!(
            listed("includeCancelled=true&includeLost=true"),
            [usual, vec![there("cancelled"), there("lost")]].concat(),
        );
        assert!(listed("includeDeleted=true").contains(&("ready".to_owned(), true)));
        assert!(!listed("includeDeleted=true").contains(&("lost".to_owned(), true)));
    }

    #[test]
    fn each_snapshot_is_counted_once_whether_it_is_listed_or_not() {
        let query = ListSnapshotsQuery { include_failed: Some(false), ..Default::default() };
        let list = encode_list(&AccountId::random(), one_of_each(), &query);
        assert_eq!(
            [
                list.building_count,
                list.ready_count,
                list.failed_count,
                list.cancelled_count,
                list.lost_count,
                list.deleted_count,
            ],
            [1, 1, 1, 1, 1, 5],
        );
    }

    #[test]
    fn a_record_has_the_fields_of_the_contract() {
        let account = AccountId::random();
        let failure = Some("no space".to_owned());
        let failed = SnapshotInfo { failure, ..snapshot(SnapshotState::Failed, true) };
        assert_eq!(
            serde_json::to_value(encode(&account, failed)).unwrap(),
            json!({
                "snapshotId": "sc-abcdefghij0123456789",
                "state": "failed",
                "sourceVmId": "abcdefghij0123456789",
                "accountId": account.as_str(),
                "createdAt": "1970-01-01T00:00:01.000Z",
                "name": "with redis",
                "failed": true,
                "cancelled": false,
                "lost": false,
                "failureReason": "no space",
                "deleted": true,
                "snapshotPersistence": {"type": "sticky", "priority": 7},
                "buildId": null,
                "vcpuCount": 2,
                "memSizeMib": 1024,
                "rootfsSizeMb": 4096,
            }),
        );
    }

    #[test]
    fn a_snapshot_is_kept_unless_it_says_otherwise() {
        let taken = |body| decode_take(serde_json::from_value(body).unwrap());
        let persistence = |body| taken(body).unwrap().persistence;
        assert_eq!(persistence(json!({})), SnapshotPersistence::Persistent);
        assert_eq!(
            persistence(json!({"name": null, "persistence": null})),
            SnapshotPersistence::Persistent,
        );
        assert_eq!(
            persistence(json!({"persistence": {"type": "sticky"}})),
            SnapshotPersistence::Sticky { priority: 5 },
        );
        for bad in [
            json!({"persistence": {"type": "sticky", "priority": 11}}),
            json!({"name": ""}),
            json!({"name": "a\nb"}),
            json!({"name": "x".repeat(256)}),
        ] {
            let error = taken(bad.clone()).unwrap_err();
            assert_eq!(error.code(), Code::SnapshotVmBadRequest, "{bad}");
        }
        assert_eq!(taken(json!({"name": "x".repeat(255)})).unwrap().name.unwrap().len(), 255);
    }

    #[test]
    fn a_label_goes_only_when_it_says_so() {
        let renamed = |body| decode_rename(serde_json::from_str(body).unwrap());
        assert_eq!(renamed(r#"{"name": "new"}"#), Ok(Some("new".to_owned())));
        assert_eq!(renamed(r#"{"name": null}"#), Ok(None));
        assert_eq!(renamed("{}").unwrap_err().code(), BAD);
        assert_eq!(renamed(r#"{"name": ""}"#).unwrap_err().code(), BAD);
    }
}
