//! The family `vms`: creating virtual machines, changing their state and working inside them.

mod create;
mod exec;
mod files;
mod info;
mod lifecycle;
mod spec;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use freestyle_client::wire::{self, LINUX_USER_HEADER};
use freestyle_store::{DeleteEvent, Persistence};
use freestyle_vm::{LinuxUser, VmState};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::error::{ApiError, Code};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(info::list, create::create))
        .routes(routes!(info::get, lifecycle::delete))
        .routes(routes!(lifecycle::start))
        .routes(routes!(lifecycle::stop))
        .routes(routes!(lifecycle::kill))
        .routes(routes!(lifecycle::wait_for_exit))
        .routes(routes!(exec::exec))
        .routes(routes!(files::read, files::write))
}

/// File paths whose slashes were not encoded, as people type them for curl. Not documented.
pub(crate) fn courtesy_routes() -> Router<App> {
    let methods = || get(files::read).put(files::write);
    Router::new()
        .route("/v1/vms/{vm_id}/files/", methods())
        .route("/v1/vms/{vm_id}/files//{*filepath}", methods())
        .route("/v1/vms/{vm_id}/files/{filepath}/{*rest}", methods())
}

/// The Linux user a request acts as; `bad` is the code for a malformed one.
fn linux_user(headers: &HeaderMap, bad: Code) -> Result<Option<LinuxUser>, ApiError> {
    let Some(header) = headers.get(LINUX_USER_HEADER) else { return Ok(None) };
    let name = String::from_utf8_lossy(header.as_bytes());
    LinuxUser::parse(&name).map(Some).map_err(|error| ApiError::from_vm(error, bad))
}

fn encode_state(state: VmState) -> wire::VmState {
    match state {
        VmState::Building => wire::VmState::Building,
        VmState::Starting => wire::VmState::Starting,
        VmState::Running => wire::VmState::Running,
        VmState::Suspending => wire::VmState::Suspending,
        VmState::Suspended => wire::VmState::Suspended,
        VmState::Stopped => wire::VmState::Stopped,
        VmState::Lost => wire::VmState::Lost,
    }
}

fn decode_state(state: wire::VmState) -> VmState {
    match state {
        wire::VmState::Building => VmState::Building,
        wire::VmState::Starting => VmState::Starting,
        wire::VmState::Running => VmState::Running,
        wire::VmState::Suspending => VmState::Suspending,
        wire::VmState::Suspended => VmState::Suspended,
        wire::VmState::Stopped => VmState::Stopped,
        wire::VmState::Lost => VmState::Lost,
    }
}

fn encode_persistence(persistence: Persistence) -> wire::VmPersistence {
    match persistence {
        Persistence::Persistent => wire::VmPersistence::Persistent {},
        Persistence::Sticky { priority } => {
            wire::VmPersistence::Sticky { priority: Some(priority) }
        }
        Persistence::Ephemeral { delete_event } => wire::VmPersistence::Ephemeral {
            delete_event: Some(match delete_event {
                DeleteEvent::OnStop => wire::DeleteEvent::OnStop,
                DeleteEvent::OnSuspend => wire::DeleteEvent::OnSuspend,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_same_name_on_both_sides() {
        for word in
            ["building", "starting", "running", "suspending", "suspended", "stopped", "lost"]
        {
            let state: wire::VmState = serde_json::from_value(word.into()).unwrap();
            assert_eq!(encode_state(decode_state(state)), state);
            assert_eq!(state.as_str(), word);
        }
    }

    #[test]
    fn a_user_name_that_is_none_is_refused_in_the_words_of_the_family() {
        let mut headers = HeaderMap::new();
        assert_eq!(linux_user(&headers, Code::BadRequest), Ok(None));
        headers.insert(LINUX_USER_HEADER, "alice".parse().unwrap());
        let user = linux_user(&headers, Code::BadRequest).unwrap().unwrap();
        assert_eq!(user.as_str(), "alice");
        headers.insert(LINUX_USER_HEADER, "--help".parse().unwrap());
        let error = linux_user(&headers, Code::FilesBadRequest).unwrap_err();
        assert_eq!(error.code(), Code::FilesBadRequest);
    }
}
