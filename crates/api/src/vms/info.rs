//! Listing VMs and looking at one.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use freestyle_client::wire::{
    ErrorBody, GetVmResponse, ListVmsQuery, ListVmsResponse, VmListItem, VmSizing,
};
use freestyle_vm::{ListVms, VmInfo, VmList, VmState};

use super::{decode_state, encode_persistence, encode_state};
use crate::App;
use crate::authenticate::{Account, VmViewer};
use crate::error::{ApiError, Code};
use crate::query::understood;
use crate::timestamp::rfc3339;

const MAX_SEARCH_CHARS: usize = 255;

/// Lists the account's VMs, newest first, and counts them by state.
#[utoipa::path(
    get,
    path = "/v1/vms",
    operation_id = "listVms",
    tag = "vms",
    params(ListVmsQuery),
    responses(
        (status = 200, description = "The VMs", body = ListVmsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    State(app): State<App>,
    query: Result<Query<ListVmsQuery>, QueryRejection>,
) -> Result<Json<ListVmsResponse>, ApiError> {
    let query = understood(query, Code::BadRequest)?;
    let list = app.vms.list(&account, decode_query(query)?).await;
    let list = list.map_err(|error| ApiError::from_vm(error, Code::BadRequest))?;
    Ok(Json(encode_list(list)))
}

/// Tells what is known about a VM.
#[utoipa::path(
    get,
    path = "/v1/vms/{vm_id}",
    operation_id = "getVm",
    tag = "vms",
    params(("vm_id" = String, Path, description = "The VM")),
    responses(
        (status = 200, description = "The VM", body = GetVmResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    VmViewer { account, vm }: VmViewer,
    State(app): State<App>,
) -> Result<Json<GetVmResponse>, ApiError> {
    let vm = app.vms.get(&account, &vm).await;
    let vm = vm.map_err(|error| ApiError::from_vm(error, Code::BadRequest))?;
    Ok(Json(GetVmResponse {
        id: vm.id.into(),
        name: vm.name,
        recreate: vm.recreate,
        vm_instance_id: vm.instance_id.map(Into::into),
        last_network_activity: vm.last_network_activity.map(rfc3339),
        state: encode_state(vm.state),
        cpu_time_seconds: vm.cpu_time.map(|time| time.as_secs_f64()),
    }))
}

fn decode_query(query: ListVmsQuery) -> Result<ListVms, ApiError> {
    let ListVmsQuery { limit, offset, vm_state, include_deleted, search } = query;
    if search.as_ref().is_some_and(|search| search.chars().count() > MAX_SEARCH_CHARS) {
        let message = format!("search is longer than {MAX_SEARCH_CHARS} characters");
        return Err(ApiError::new(Code::BadRequest, message));
    }
    Ok(ListVms {
        limit,
        offset: offset.unwrap_or(0),
        state: vm_state.map(decode_state),
        include_deleted: include_deleted.unwrap_or(false),
        search: search.filter(|search| !search.is_empty()),
    })
}

fn encode_list(list: VmList) -> ListVmsResponse {
    let VmList { vms, total, by_state } = list;
    let count = |wanted: VmState| {
        let counts = by_state.iter().filter(|(state, _)| *state == wanted);
        counts.map(|(_, count)| *count as u64).sum()
    };
    ListVmsResponse {
        vms: vms.into_iter().map(encode_item).collect(),
        total_count: total as u64,
        building_count: count(VmState::Building),
        starting_count: count(VmState::Starting),
        running_count: count(VmState::Running),
        suspending_count: count(VmState::Suspending),
        suspended_count: count(VmState::Suspended),
        stopped_count: count(VmState::Stopped),
        lost_count: count(VmState::Lost),
    }
}

fn encode_item(vm: VmInfo) -> VmListItem {
    VmListItem {
        id: vm.id.into(),
        name: vm.name,
        state: encode_state(vm.state),
        created_at: Some(rfc3339(vm.created_at)),
        last_network_activity: vm.last_network_activity.map(rfc3339),
        cpu_time_seconds: vm.cpu_time.map(|time| time.as_secs_f64()),
        persistence: Some(encode_persistence(vm.persistence)),
        deleted: vm.deleted_at.is_some(),
        sizing: VmSizing {
            vcpu_count: vm.sizing.vcpus,
            mem_size_mib: vm.sizing.memory_mib,
            rootfs_size_mb: vm.sizing.disk_mib,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freestyle_store::{DeleteEvent, Persistence, Sizing};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_every_counter_and_every_item_its_sizes() {
        let vm = VmInfo {
            id: "abcdefghij0123456789".parse().unwrap(),
            name: Some("build".into()),
            state: VmState::Running,
            instance_id: None,
            sizing: Sizing { vcpus: 2, memory_mib: 1024, disk_mib: 4096 },
            persistence: Persistence::Ephemeral { delete_event: DeleteEvent::OnStop },
            recreate: false,
            created_at: 1_000,
            deleted_at: None,
            cpu_time: Some(Duration::from_millis(1500)),
            last_network_activity: Some(2_000),
        };
        let by_state = vec![(VmState::Running, 1), (VmState::Lost, 2)];
        let list = encode_list(VmList { vms: vec![vm], total: 1, by_state });
        assert_eq!(
            serde_json::to_value(list).unwrap(),
            json!({
                "vms": [{
                    "id": "abcdefghij0123456789",
                    "name": "build",
                    "state": "running",
                    "createdAt": "1970-01-01T00:00:01.000Z",
                    "lastNetworkActivity": "1970-01-01T00:00:02.000Z",
                    "cpuTimeSeconds": 1.5,
                    "persistence": {"type": "ephemeral", "deleteEvent": "OnStop"},
                    "deleted": false,
                    "sizing": {"vcpuCount": 2, "memSizeMib": 1024, "rootfsSizeMb": 4096},
                }],
                "totalCount": 1,
                "buildingCount": 0,
                "startingCount": 0,
                "runningCount": 1,
                "suspendingCount": 0,
                "suspendedCount": 0,
                "stoppedCount": 0,
                "lostCount": 2,
            }),
        );
    }
}
