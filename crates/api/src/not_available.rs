//! Endpoints of the contract that this version does not have. They answer a typed error, since a
//! bare 404 would send the SDK's user looking for a mistake of their own.

use axum::Router;
use axum::extract::FromRef;
use axum::routing::any;
use freestyle_access::Access;

use crate::authenticate::Account;
use crate::error::{ApiError, Code};

/// Path and the feature it belongs to.
const TABLE: &[(&str, &str)] = &[
    ("/git/v1/repo/{repo}/repair", "repair jobs"),
    ("/git/v1/repo/{repo}/repair/{job_id}", "repair jobs"),
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
    Access: FromRef<S>,
{
    let mut router = Router::new();
    for &(path, feature) in TABLE {
        let handler = async move |_: Account| not_available(feature);
        router = router.route(path, any(handler));
    }
    router
}

fn not_available(feature: &str) -> ApiError {
    ApiError::new(
        Code::BadRequest,
        format!("{feature}: not available in this version of the server"),
    )
}
