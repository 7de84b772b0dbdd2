//! The family `vms`: creating virtual machines, changing their state, working inside them, and the
//! snapshots that are taken of them.

mod create;
mod domains;
mod ensure;
mod exec;
mod files;
mod fork;
mod info;
mod lifecycle;
mod pty;
mod resize;
mod snapshots;
mod spec;

use axum::Router;
use axum::routing::get;
use freestyle_client::wire;
use freestyle_store::{DeleteEvent, Persistence};
use freestyle_vm::VmState;
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
        .routes(routes!(lifecycle::suspend))
        .routes(routes!(lifecycle::kill))
        .routes(routes!(lifecycle::wait_for_exit))
        .routes(routes!(fork::fork))
        .routes(routes!(resize::resize))
        .routes(routes!(resize::optimize))
        .routes(routes!(snapshots::take))
        .routes(routes!(snapshots::list, ensure::ensure))
        .routes(routes!(snapshots::get, snapshots::rename, snapshots::delete))
        .routes(routes!(exec::exec))
        .routes(routes!(files::read, files::write))
        .routes(routes!(pty::open))
        .routes(routes!(pty::list))
        .routes(routes!(pty::attach, pty::close))
}

/// File paths whose slashes were not encoded, as people type them for curl. Not documented.
pub(crate) fn courtesy_routes() -> Router<App> {
    let methods = || get(files::read).put(files::write);
    Router::new()
        .route("/v1/vms/{vm_id}/files/", methods())
        .route("/v1/vms/{vm_id}/files//{*filepath}", methods())
        .route("/v1/vms/{vm_id}/files/{filepath}/{*rest}", methods())
}

/// The priority of something sticky (protocol section 6.2).
fn priority(asked: Option<u8>, bad: Code) -> Result<u8, ApiError> {
    const DEFAULT: u8 = 5;
    const MAX: u8 = 10;
    let priority = asked.unwrap_or(DEFAULT);
    if priority > MAX {
        return Err(ApiError::new(bad, format!("persistence.priority must be 0 to {MAX}")));
    }
    Ok(priority)
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

fn decode_persistence(asked: &wire::VmPersistence, bad: Code) -> Result<Persistence, ApiError> {
    match *asked {
        wire::VmPersistence::Persistent {} => Ok(Persistence::Persistent),
        wire::VmPersistence::Sticky { priority: asked } => {
            Ok(Persistence::Sticky { priority: priority(asked, bad)? })
        }
        wire::VmPersistence::Ephemeral { delete_event } => Ok(Persistence::Ephemeral {
            delete_event: match delete_event {
                None | Some(wire::DeleteEvent::OnStop) => DeleteEvent::OnStop,
                Some(wire::DeleteEvent::OnSuspend) => DeleteEvent::OnSuspend,
            },
        }),
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
    use freestyle_client::wire::{
        ForkVmRequest, RenameSnapshotRequest, ResizeVmRequest, SnapshotVmRequest, StartVmRequest,
    };
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value as strange as JSON allows, more often one that a decoder might take.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0.0..200.0).prop_map(Value::from),
            (-1..130).prop_map(Value::from),
            ".{0,300}".prop_map(Value::from),
            Just(json!({"type": "persistent"})),
            any::<u8>().prop_map(|priority| json!({"type": "sticky", "priority": priority})),
        ];
        leaf.prop_recursive(3, 10, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{1,4}", inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// A body with some of the fields of the calls on a VM.
    fn any_body() -> impl Strategy<Value = Value> {
        let field = prop::sample::select(vec![
            "name",
            "persistence",
            "count",
            "vcpuCount",
            "memSizeGb",
            "rootfsSizeGb",
            "idleTimeoutSeconds",
            "activityThresholdBytes",
            "other",
        ]);
        prop::collection::vec((field, any_value()), 0..3).prop_map(|fields| {
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(fields.collect::<Map<_, _>>())
        })
    }

    /// What the call makes of a body: a request, or a refusal.
    fn decoded<R: DeserializeOwned, T>(
        body: &Value,
        decode: impl Fn(R) -> Result<T, ApiError>,
    ) -> Option<T> {
        decode(serde_json::from_value(body.clone()).ok()?).ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_body_is_too_strange(body in any_body()) {
            if let Some(taken) = decoded::<SnapshotVmRequest, _>(&body, snapshots::decode_take) {
                let chars = taken.name.map(|name| name.chars().count());
                prop_assert!(chars.is_none_or(|chars| (1..=255).contains(&chars)));
            }
            if let Some((count, _)) = decoded::<ForkVmRequest, _>(&body, fork::decode) {
                prop_assert!((1..=freestyle_vm::MAX_FORKS).contains(&count));
            }
            if let Some(sizes) = decoded::<ResizeVmRequest, _>(&body, resize::decode) {
                prop_assert!(sizes.vcpus.is_none_or(|vcpus| (1..=32).contains(&vcpus)));
            }
            if let Some(Some(name)) = decoded::<RenameSnapshotRequest, _>(&body, snapshots::decode_rename) {
                prop_assert!(!name.is_empty() && !name.contains(char::is_control));
            }
            if let Some(start) = decoded::<StartVmRequest, _>(&body, lifecycle::decode_start) {
                let idle = start.idle_timeout.flatten();
                prop_assert!(idle.is_none_or(|idle| !idle.is_zero()));
            }
            // An unknown field is never passed over.
            if body.get("other").is_some() {
                prop_assert!(decoded::<ForkVmRequest, _>(&body, fork::decode).is_none());
                prop_assert!(decoded::<ResizeVmRequest, _>(&body, resize::decode).is_none());
            }
        }
    }

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
}
