//! The places of a body that may name wishes, and what each may name.

use freestyle_client::wire::{CreateVmRequest, VmPersistence, VmSpecLayer, VmTemplate};
use freestyle_store::SnapshotId;
use freestyle_vm::setup::Source;
use serde_json::{Map, Value};

use super::setup::Wishes;
use crate::error::{ApiError, Code, excerpt};
use crate::label::label;

/// Fields of the contract that this version does not act on.
pub(super) const NOT_SUPPORTED: &[&str] = &["baseImage", "dockerCredentials", "udpHolePunchPorts"];
pub(super) const MAX_LAYERS: usize = 32;

/// One place of a body.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// How to name it to the user, as a prefix of its fields.
    pub(super) prefix: String,
    /// 0 is the outermost layer; `None` is no layer.
    depth: Option<usize>,
    has_inner_layer: bool,
    name: Option<String>,
    pub(super) vcpu_count: Option<f64>,
    pub(super) mem_size_gb: Option<f64>,
    pub(super) rootfs_size_gb: Option<f64>,
    pub(super) idle_timeout_seconds: Option<Option<u64>>,
    pub(super) activity_threshold_bytes: Option<u64>,
    pub(super) persistence: Option<VmPersistence>,
    pub(super) recreate: bool,
    snapshot_id: Option<String>,
    pub(super) setup: Wishes,
    pub(super) discriminator: Option<String>,
    pub(super) skip_cache: bool,
    /// Of a VM they are taken out before; a snapshot has none.
    has_ports: bool,
    rest: Map<String, Value>,
}

impl Place {
    /// The top level, then the template or the layers from the outermost on.
    pub(super) fn of_create(request: CreateVmRequest) -> Result<Vec<Self>, ApiError> {
        let CreateVmRequest {
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            activity_threshold_bytes,
            persistence,
            // The VM's, which no layer has.
            nics: _,
            recreate,
            wait_for_ready_signal,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            groups,
            users,
            additional_files,
            git,
            git_repos,
            systemd,
            snapshot_id,
            template,
            spec,
            // Those were taken out before.
            domains: _,
            ports: _,
            rest,
        } = request;
        let top = Self {
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            activity_threshold_bytes,
            persistence,
            recreate: recreate.unwrap_or(false),
            snapshot_id,
            setup: Wishes {
                wait_for_ready_signal,
                ready_signal_timeout_seconds,
                apt_deps: apt_deps.unwrap_or_default(),
                workdir,
                groups: groups.unwrap_or_default(),
                users: users.unwrap_or_default(),
                files: additional_files.unwrap_or_default(),
                git: git.unwrap_or_default(),
                git_repos: git_repos.unwrap_or_default(),
                systemd: systemd.unwrap_or_default(),
            },
            rest,
            ..Self::default()
        };
        Self::below(top, spec, template, Code::CreateVmBadRequest)
    }

    /// As [`Place::of_create`]; of the top level only what was not expected there is looked at.
    pub(super) fn of_ensure(
        spec: Option<VmSpecLayer>,
        template: Option<VmTemplate>,
        rest: Map<String, Value>,
    ) -> Result<Vec<Self>, ApiError> {
        let top = Self { rest, ..Self::default() };
        Self::below(top, spec, template, Code::CreateSnapshotBadRequest)
    }

    fn below(
        top: Self,
        spec: Option<VmSpecLayer>,
        template: Option<VmTemplate>,
        bad: Code,
    ) -> Result<Vec<Self>, ApiError> {
        if template.is_some() && spec.is_some() {
            return Err(ApiError::new(bad, "template and spec exclude each other"));
        }
        let mut places = vec![top];
        places.extend(template.map(Self::from_template));
        let mut next = spec.map(Box::new);
        let mut depth = 0;
        while let Some(layer) = next {
            if depth == MAX_LAYERS {
                let message = format!("spec has more than {MAX_LAYERS} layers");
                return Err(ApiError::new(bad, message));
            }
            let (place, inner) = Self::from_layer(*layer, depth);
            places.push(place);
            next = inner;
            depth += 1;
        }
        Ok(places)
    }

    fn from_template(template: VmTemplate) -> Self {
        let VmTemplate {
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            persistence,
            wait_for_ready_signal,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            groups,
            users,
            additional_files,
            git,
            git_repos,
            systemd,
            discriminator,
            skip_cache,
            snapshot_id,
            ports,
            rest,
        } = template;
        Self {
            prefix: "template.".into(),
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            persistence,
            snapshot_id,
            setup: Wishes {
                wait_for_ready_signal,
                ready_signal_timeout_seconds,
                apt_deps: apt_deps.unwrap_or_default(),
                workdir,
                groups: groups.unwrap_or_default(),
                users: users.unwrap_or_default(),
                files: additional_files.unwrap_or_default(),
                git: git.unwrap_or_default(),
                git_repos: git_repos.unwrap_or_default(),
                systemd: systemd.unwrap_or_default(),
            },
            discriminator,
            skip_cache: skip_cache.unwrap_or(false),
            has_ports: ports.is_some_and(|ports| !ports.is_empty()),
            rest,
            ..Self::default()
        }
    }

    fn from_layer(layer: VmSpecLayer, depth: usize) -> (Self, Option<Box<VmSpecLayer>>) {
        let VmSpecLayer {
            name,
            snapshot,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            wait_for_ready_signal,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            groups,
            users,
            additional_files,
            git,
            systemd,
            discriminator,
            skip_cache,
            snapshot_id,
            ports,
            rest,
        } = layer;
        let place = Self {
            prefix: format!("spec.{}", "snapshot.".repeat(depth)),
            depth: Some(depth),
            has_inner_layer: snapshot.is_some(),
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            snapshot_id,
            setup: Wishes {
                wait_for_ready_signal,
                ready_signal_timeout_seconds,
                apt_deps: apt_deps.unwrap_or_default(),
                workdir,
                groups: groups.unwrap_or_default(),
                users: users.unwrap_or_default(),
                files: additional_files.unwrap_or_default(),
                git: git.unwrap_or_default(),
                git_repos: Vec::new(),
                systemd: systemd.unwrap_or_default(),
            },
            discriminator,
            skip_cache: skip_cache.unwrap_or(false),
            has_ports: ports.is_some_and(|ports| !ports.is_empty()),
            rest,
            ..Self::default()
        };
        (place, snapshot)
    }

    /// Whether it is a layer of `spec`.
    pub(super) fn is_layer(&self) -> bool {
        self.depth.is_some()
    }

    fn has_base_image(&self) -> bool {
        self.rest.get("baseImage").is_some_and(|image| !image.is_null())
    }

    fn has_snapshot_id(&self) -> bool {
        self.snapshot_id.is_some()
    }
}

/// What each place may hold, apart from values.
pub(super) fn check(places: &[Place], bad: Code) -> Result<(), ApiError> {
    for place in places {
        refuse_conflicting_sources(place)?;
        refuse_non_leaf_fields(place)?;
        refuse_rest(place, bad)?;
        if place.has_ports {
            let message = format!("{}ports: only a VM has them, and no snapshot", place.prefix);
            return Err(ApiError::new(bad, message));
        }
        if place.depth.is_some_and(|depth| depth > 0) && place.name.is_some() {
            let message = format!("{}name: only the outermost layer has a name", place.prefix);
            return Err(ApiError::new(bad, message));
        }
    }
    Ok(())
}

fn refuse_conflicting_sources(place: &Place) -> Result<(), ApiError> {
    let mut given = [
        ("snapshot", place.has_inner_layer),
        ("snapshotId", place.has_snapshot_id()),
        ("baseImage", place.has_base_image()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field));
    let (Some(a), Some(b)) = (given.next(), given.next()) else { return Ok(()) };
    let depth = place.depth.unwrap_or(0);
    let message = format!("layer {depth} sets both {a} and {b}: it can stand on only one");
    Err(ApiError::new(Code::ConflictingSpecSources, message)
        .with("depth", depth)
        .with("fieldA", a)
        .with("fieldB", b))
}

fn refuse_non_leaf_fields(place: &Place) -> Result<(), ApiError> {
    if !place.has_inner_layer {
        return Ok(());
    }
    let fields = [
        ("vcpuCount", place.vcpu_count.is_some()),
        ("memSizeGb", place.mem_size_gb.is_some()),
        ("rootfsSizeGb", place.rootfs_size_gb.is_some()),
        ("snapshotId", place.has_snapshot_id()),
        ("baseImage", place.has_base_image()),
    ];
    let Some((field, _)) = fields.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let depth = place.depth.unwrap_or(0);
    let message = format!("{field} is set on layer {depth}, but only the innermost may set it");
    Err(ApiError::new(Code::NonLeafLayerField, message).with("depth", depth).with("field", field))
}

fn refuse_rest(place: &Place, bad: Code) -> Result<(), ApiError> {
    let prefix = &place.prefix;
    for (field, value) in &place.rest {
        if !NOT_SUPPORTED.contains(&field.as_str()) {
            return Err(ApiError::new(bad, format!("unknown field {prefix}{}", excerpt(field))));
        }
        // A base image has content, so an empty one is a mistake and not the absence of one.
        let asks_for_nothing = value.is_null() || (is_empty(value) && field != "baseImage");
        if !asks_for_nothing {
            let instead = match field.as_str() {
                "baseImage" => {
                    ": there is no Docker here; start from the server's base image and add \
                     aptDeps, additionalFiles and systemd services (runCommands in the SDK)"
                }
                _ => "",
            };
            let message =
                format!("{prefix}{field} is not supported by this version of the server{instead}");
            return Err(ApiError::new(bad, message));
        }
    }
    Ok(())
}

/// Asks for nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// What the innermost layer stands on.
pub(super) fn source(places: &[Place], bad: Code) -> Result<Source, ApiError> {
    let given = places.iter().filter_map(|it| Some((&it.prefix, it.snapshot_id.as_deref()?)));
    let Some((_, id)) = only("snapshotId", given, bad)? else { return Ok(Source::BaseImage) };
    let id = id.parse::<SnapshotId>().map_err(|error| {
        let message = format!("{:?} is not the id of a snapshot: {error}", excerpt(id));
        ApiError::new(Code::InvalidSnapshotId, message)
    })?;
    Ok(Source::Snapshot(id))
}

/// The label of the VM.
pub(super) fn name(places: &[Place], bad: Code) -> Result<Option<String>, ApiError> {
    let mut names = places.iter().filter_map(|place| place.name.as_ref());
    let name = names.next();
    if names.any(|other| Some(other) != name) {
        return Err(ApiError::new(bad, "name and spec.name differ"));
    }
    label(name.cloned(), bad)
}

/// What only one place may name.
pub(super) fn only<'a, T>(
    field: &str,
    mut given: impl Iterator<Item = (&'a String, T)>,
    bad: Code,
) -> Result<Option<(&'a String, T)>, ApiError> {
    let Some(first) = given.next() else { return Ok(None) };
    if let Some((second, _)) = given.next() {
        let message = format!("{}{field} and {second}{field} are both given", first.0);
        return Err(ApiError::new(bad, message));
    }
    Ok(Some(first))
}
