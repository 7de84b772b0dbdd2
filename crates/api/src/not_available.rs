//! Endpoints of the contract that this version does not have. They answer a typed error, since a
//! bare 404 would send the SDK's user looking for a mistake of their own.

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{any, post};
use freestyle_store::Store;

use crate::authenticate::Account;
use crate::error::{ApiError, Code};

/// Path and the feature it belongs to.
const TABLE: &[(&str, &str)] = &[
    ("/v1/vms/{vm_id}/pty", "PTY sessions"),
    ("/v1/vms/{vm_id}/pty/sessions", "PTY sessions"),
    ("/v1/vms/{vm_id}/pty/sessions/{session_id}", "PTY sessions"),
    ("/v1/vms/{vm_id}/stats/stream", "statistics"),
    ("/v1/vms/{vm_id}/systemd/{action}", "systemd services"),
    ("/v1/vms/{vm_id}/systemd/services/{service_id}", "systemd services"),
    ("/v1/vms/{vm_id}/systemd/services/{service_id}/{view}", "systemd services"),
    ("/v1/vms/{vm_id}/terminals", "terminals"),
    ("/v1/vms/{vm_id}/terminals/{terminal_id}/{view}", "terminals"),
    ("/v1/vms/{vm_id}/watch-files", "watching files"),
];

pub(crate) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
{
    let mut router = Router::new().route("/v1/vms/snapshots", post(ensure_snapshot));
    for &(path, feature) in TABLE {
        let handler = async move |_: Account| not_available(Code::BadRequest, feature);
        router = router.route(path, any(handler));
    }
    router
}

/// The SDK repeats this call for ever, like a create, unless it knows the code.
async fn ensure_snapshot(_: Account) -> ApiError {
    not_available(Code::CreateSnapshotBadRequest, "building a snapshot from a spec")
}

fn not_available(code: Code, feature: &str) -> ApiError {
    ApiError::new(code, format!("{feature}: not available in this version of the server"))
}
