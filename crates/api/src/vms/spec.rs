//! What the body of `POST /v1/vms` means (protocol section 6.1).
//!
//! A setting may stand at the top level, in `template` or in a layer of `spec`; the first in this
//! order that names it wins, outer layers before inner ones. Sizes and sources may only be named
//! once. Fields this version does not act on are refused unless they are empty: a VM that silently
//! lacks what was asked for is worse than none.

use std::time::Duration;

use freestyle_client::wire::{
    CreateVmRequest, DeleteEvent as WireDeleteEvent, VmPersistence, VmSpecLayer, VmTemplate,
};
use freestyle_store::{DeleteEvent, Persistence, SnapshotId};
use freestyle_vm::{
    AptPackage, CreateVm, DEFAULT_IDLE_TIMEOUT, MAX_DISK_MIB, MAX_MEMORY_MIB, MAX_VCPUS,
    MIN_DISK_MIB, MIN_MEMORY_MIB, sizing,
};
use serde_json::{Map, Value};

use crate::error::{ApiError, Code, excerpt};

/// Fields of the contract that this version does not act on.
const NOT_SUPPORTED: &[&str] = &[
    "additionalFiles",
    "baseImage",
    "dockerCredentials",
    "domains",
    "git",
    "gitRepos",
    "groups",
    "nics",
    "ports",
    "systemd",
    "udpHolePunchPorts",
    "users",
];
const MAX_LAYERS: usize = 32;
const MAX_PACKAGES: usize = 1000;
const MAX_NAME_CHARS: usize = 255;
/// Ten years.
const MAX_IDLE_SECONDS: u64 = 10 * 365 * 24 * 3600;
const MAX_READY_SECONDS: u64 = 3600;
/// The largest integer that JavaScript holds exactly.
const MAX_ACTIVITY_BYTES: u64 = (1 << 53) - 1;
/// Protocol section 6.2.
const DEFAULT_PRIORITY: u8 = 5;
const MAX_PRIORITY: u8 = 10;

/// Either a VM that can be made or an error the SDK knows.
pub(super) fn decode(request: CreateVmRequest) -> Result<CreateVm, ApiError> {
    if request.template.is_some() && request.spec.is_some() {
        return Err(bad("template and spec exclude each other"));
    }
    let sources = Source::collect(request)?;
    check_layers(&sources)?;
    let sizes = Sizes::collect(&sources)?;
    let sizing = sizing(sizes.vcpus()?, sizes.memory_mib()?, sizes.disk_mib()?).map_err(from_vm)?;
    refuse_snapshots(&sources)?;

    let mut settings = Settings::default();
    for source in &sources {
        settings.fill(source);
    }
    // A create always waits until the guest is ready; a time that makes no sense is still a mistake.
    ready_timeout(settings.ready_signal_timeout_seconds).map_err(bad)?;
    Ok(CreateVm {
        name: name(&sources)?,
        sizing,
        persistence: persistence(settings.persistence)?,
        idle_timeout: match settings.idle_timeout_seconds {
            None => Some(DEFAULT_IDLE_TIMEOUT),
            Some(seconds) => idle_timeout(seconds).map_err(bad)?,
        },
        activity_threshold_bytes: activity_threshold(settings.activity_threshold_bytes)
            .map_err(bad)?,
        recreate: settings.recreate,
        apt_packages: packages(&sources)?,
    })
}

/// One place of the body that may hold settings.
#[derive(Default)]
struct Source {
    /// How to name it to the user, as a prefix of its fields.
    prefix: String,
    /// 0 is the outermost layer; `None` is no layer.
    depth: Option<usize>,
    has_inner_layer: bool,
    name: Option<String>,
    vcpu_count: Option<f64>,
    mem_size_gb: Option<f64>,
    rootfs_size_gb: Option<f64>,
    idle_timeout_seconds: Option<Option<u64>>,
    activity_threshold_bytes: Option<u64>,
    ready_signal_timeout_seconds: Option<u64>,
    persistence: Option<VmPersistence>,
    recreate: bool,
    apt_deps: Vec<String>,
    workdir: Option<String>,
    snapshot_id: Option<String>,
    rest: Map<String, Value>,
}

impl Source {
    /// The top level, then the template or the layers from the outermost on.
    fn collect(request: CreateVmRequest) -> Result<Vec<Self>, ApiError> {
        let CreateVmRequest {
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            activity_threshold_bytes,
            persistence,
            recreate,
            wait_for_ready_signal: _,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            snapshot_id,
            template,
            spec,
            rest,
        } = request;
        let mut sources = vec![Self {
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            activity_threshold_bytes,
            ready_signal_timeout_seconds,
            persistence,
            recreate: recreate.unwrap_or(false),
            apt_deps: apt_deps.unwrap_or_default(),
            workdir,
            snapshot_id,
            rest,
            ..Self::default()
        }];
        sources.extend(template.map(Self::from_template));
        let mut next = spec.map(Box::new);
        let mut depth = 0;
        while let Some(layer) = next {
            if depth == MAX_LAYERS {
                return Err(bad(format!("spec has more than {MAX_LAYERS} layers")));
            }
            let (source, inner) = Self::from_layer(*layer, depth);
            sources.push(source);
            next = inner;
            depth += 1;
        }
        Ok(sources)
    }

    fn from_template(template: VmTemplate) -> Self {
        let VmTemplate {
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            persistence,
            wait_for_ready_signal: _,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            discriminator: _,
            skip_cache: _,
            snapshot_id,
            rest,
        } = template;
        Self {
            prefix: "template.".into(),
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            persistence,
            ready_signal_timeout_seconds,
            apt_deps: apt_deps.unwrap_or_default(),
            workdir,
            snapshot_id,
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
            wait_for_ready_signal: _,
            ready_signal_timeout_seconds,
            apt_deps,
            workdir,
            discriminator: _,
            skip_cache: _,
            snapshot_id,
            rest,
        } = layer;
        let source = Self {
            prefix: format!("spec.{}", "snapshot.".repeat(depth)),
            depth: Some(depth),
            has_inner_layer: snapshot.is_some(),
            name,
            vcpu_count,
            mem_size_gb,
            rootfs_size_gb,
            idle_timeout_seconds,
            ready_signal_timeout_seconds,
            apt_deps: apt_deps.unwrap_or_default(),
            workdir,
            snapshot_id,
            rest,
            ..Self::default()
        };
        (source, snapshot)
    }

    fn has_base_image(&self) -> bool {
        self.rest.get("baseImage").is_some_and(|image| !image.is_null())
    }

    fn has_snapshot_id(&self) -> bool {
        self.snapshot_id.is_some()
    }
}

/// What each place may hold, apart from values.
fn check_layers(sources: &[Source]) -> Result<(), ApiError> {
    for source in sources {
        refuse_conflicting_sources(source)?;
        refuse_non_leaf_fields(source)?;
        refuse_rest(source)?;
        if source.workdir.as_deref().is_some_and(|workdir| workdir != "/") {
            let prefix = &source.prefix;
            return Err(bad(format!(
                "{prefix}workdir other than / is not supported by this version of the server"
            )));
        }
        if source.depth.is_some_and(|depth| depth > 0) && source.name.is_some() {
            return Err(bad(format!("{}name: only the outermost layer has a name", source.prefix)));
        }
    }
    Ok(())
}

fn refuse_conflicting_sources(source: &Source) -> Result<(), ApiError> {
    let mut given = [
        ("snapshot", source.has_inner_layer),
        ("snapshotId", source.has_snapshot_id()),
        ("baseImage", source.has_base_image()),
    ]
    .into_iter()
    .filter_map(|(field, given)| given.then_some(field));
    let (Some(a), Some(b)) = (given.next(), given.next()) else { return Ok(()) };
    let depth = source.depth.unwrap_or(0);
    let message = format!("layer {depth} sets both {a} and {b}: it can stand on only one");
    Err(ApiError::new(Code::ConflictingSpecSources, message)
        .with("depth", depth)
        .with("fieldA", a)
        .with("fieldB", b))
}

fn refuse_non_leaf_fields(source: &Source) -> Result<(), ApiError> {
    if !source.has_inner_layer {
        return Ok(());
    }
    let fields = [
        ("vcpuCount", source.vcpu_count.is_some()),
        ("memSizeGb", source.mem_size_gb.is_some()),
        ("rootfsSizeGb", source.rootfs_size_gb.is_some()),
        ("snapshotId", source.has_snapshot_id()),
        ("baseImage", source.has_base_image()),
    ];
    let Some((field, _)) = fields.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let depth = source.depth.unwrap_or(0);
    let message = format!("{field} is set on layer {depth}, but only the innermost may set it");
    Err(ApiError::new(Code::NonLeafLayerField, message).with("depth", depth).with("field", field))
}

fn refuse_rest(source: &Source) -> Result<(), ApiError> {
    let prefix = &source.prefix;
    for (field, value) in &source.rest {
        if !NOT_SUPPORTED.contains(&field.as_str()) {
            return Err(bad(format!("unknown field {prefix}{}", excerpt(field))));
        }
        // A base image has content, so an empty one is a mistake and not the absence of one.
        let asks_for_nothing = value.is_null() || (is_empty(value) && field != "baseImage");
        if !asks_for_nothing {
            return Err(bad(format!(
                "{prefix}{field} is not supported by this version of the server"
            )));
        }
    }
    Ok(())
}

/// Asks for nothing. The SDK completes a `git` that asks for nothing to `{"config": {}}`.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// The sizes as asked for, each from the only place that names it.
struct Sizes {
    vcpu_count: Option<f64>,
    mem_size_gb: Option<f64>,
    rootfs_size_gb: Option<f64>,
}

impl Sizes {
    fn collect(sources: &[Source]) -> Result<Self, ApiError> {
        Ok(Self {
            vcpu_count: only("vcpuCount", sources, |source| source.vcpu_count)?,
            mem_size_gb: only("memSizeGb", sources, |source| source.mem_size_gb)?,
            rootfs_size_gb: only("rootfsSizeGb", sources, |source| source.rootfs_size_gb)?,
        })
    }

    fn vcpus(&self) -> Result<Option<u32>, ApiError> {
        let Some(got) = self.vcpu_count else { return Ok(None) };
        if !(got >= 1.0 && got <= f64::from(MAX_VCPUS)) {
            let message = format!("{got} vCPUs: the number must be between 1 and {MAX_VCPUS}");
            return Err(ApiError::new(Code::CreateVmVcpuOutOfRange, message)
                .with("got", number(got))
                .with("max", MAX_VCPUS));
        }
        let Some(whole) = whole(got) else {
            let message = format!("{got} vCPUs: the number must be a power of two");
            return Err(
                ApiError::new(Code::CreateVmVcpuNotPowerOfTwo, message).with("got", number(got))
            );
        };
        Ok(u32::try_from(whole).ok())
    }

    fn memory_mib(&self) -> Result<Option<u64>, ApiError> {
        let Some(got) = self.mem_size_gb.map(|gb| gb * 1024.0) else { return Ok(None) };
        if !(got >= MIN_MEMORY_MIB as f64 && got <= MAX_MEMORY_MIB as f64) {
            let message = format!(
                "{got} MiB of memory: the size must be between {MIN_MEMORY_MIB} and \
                 {MAX_MEMORY_MIB} MiB"
            );
            let code = Code::CreateVmMemOutOfRange;
            let got = number(got);
            return Err(ApiError::out_of_range(code, message, got, MIN_MEMORY_MIB, MAX_MEMORY_MIB));
        }
        let Some(whole) = whole(got) else {
            let message = format!("{got} MiB of memory: the size must be a power of two");
            return Err(
                ApiError::new(Code::CreateVmMemNotPowerOfTwo, message).with("got", number(got))
            );
        };
        Ok(Some(whole))
    }

    /// A fraction of a MiB is rounded up.
    fn disk_mib(&self) -> Result<Option<u64>, ApiError> {
        let Some(got) = self.rootfs_size_gb.map(|gb| (gb * 1024.0).ceil()) else { return Ok(None) };
        if !(got >= MIN_DISK_MIB as f64 && got <= MAX_DISK_MIB as f64) {
            let message = format!(
                "{got} MiB of root filesystem: the size must be between {MIN_DISK_MIB} and \
                 {MAX_DISK_MIB} MiB"
            );
            let code = Code::CreateVmRootfsOutOfRange;
            let got = number(got);
            return Err(ApiError::out_of_range(code, message, got, MIN_DISK_MIB, MAX_DISK_MIB));
        }
        Ok(whole(got))
    }
}

fn only(
    field: &str,
    sources: &[Source],
    value: impl Fn(&Source) -> Option<f64>,
) -> Result<Option<f64>, ApiError> {
    let mut given = sources.iter().filter_map(|source| Some((&source.prefix, value(source)?)));
    let Some((first, value)) = given.next() else { return Ok(None) };
    if let Some((second, _)) = given.next() {
        return Err(bad(format!("{first}{field} and {second}{field} are both given")));
    }
    Ok(Some(value))
}

/// The integer that `value` is. Callers have checked that it is small and not negative.
fn whole(value: f64) -> Option<u64> {
    (value.fract() == 0.0).then_some(value as u64)
}

/// A JSON number without a fraction where there is none.
fn number(value: f64) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// A snapshot cannot be there to be found: this version makes none.
fn refuse_snapshots(sources: &[Source]) -> Result<(), ApiError> {
    let Some(id) = sources.iter().find_map(|source| source.snapshot_id.as_deref()) else {
        return Ok(());
    };
    match id.parse::<SnapshotId>() {
        Ok(id) => Err(ApiError::snapshot_not_found(id.as_str())),
        Err(error) => {
            let message = format!("{:?} is not the id of a snapshot: {error}", excerpt(id));
            Err(ApiError::new(Code::InvalidSnapshotId, message))
        }
    }
}

/// Settings that several places may name; the first wins.
#[derive(Default)]
struct Settings {
    idle_timeout_seconds: Option<Option<u64>>,
    activity_threshold_bytes: Option<u64>,
    ready_signal_timeout_seconds: Option<u64>,
    persistence: Option<VmPersistence>,
    recreate: bool,
}

impl Settings {
    fn fill(&mut self, source: &Source) {
        self.idle_timeout_seconds = self.idle_timeout_seconds.or(source.idle_timeout_seconds);
        self.activity_threshold_bytes =
            self.activity_threshold_bytes.or(source.activity_threshold_bytes);
        self.ready_signal_timeout_seconds =
            self.ready_signal_timeout_seconds.or(source.ready_signal_timeout_seconds);
        self.persistence = self.persistence.take().or_else(|| source.persistence.clone());
        self.recreate |= source.recreate;
    }
}

/// `readySignalTimeoutSeconds` as a time.
pub(super) fn ready_timeout(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        Some(seconds) if !(1..=MAX_READY_SECONDS).contains(&seconds) => {
            Err(format!("readySignalTimeoutSeconds must be between 1 and {MAX_READY_SECONDS}"))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// `idleTimeoutSeconds` as a time. `None` was `null`, which is never.
pub(super) fn idle_timeout(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        Some(seconds) if !(1..=MAX_IDLE_SECONDS).contains(&seconds) => Err(format!(
            "idleTimeoutSeconds must be between 1 and {MAX_IDLE_SECONDS}, or null for never"
        )),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// `activityThresholdBytes`, bounded.
pub(super) fn activity_threshold(bytes: Option<u64>) -> Result<Option<u64>, String> {
    match bytes {
        Some(bytes) if bytes > MAX_ACTIVITY_BYTES => {
            Err(format!("activityThresholdBytes must be at most {MAX_ACTIVITY_BYTES}"))
        }
        bytes => Ok(bytes),
    }
}

fn name(sources: &[Source]) -> Result<Option<String>, ApiError> {
    let mut names = sources.iter().filter_map(|source| source.name.as_deref());
    let Some(name) = names.next() else { return Ok(None) };
    if names.any(|other| other != name) {
        return Err(bad("name and spec.name differ"));
    }
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(bad(format!("name must have 1 to {MAX_NAME_CHARS} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(bad("name must not hold control characters"));
    }
    Ok(Some(name.to_owned()))
}

fn persistence(asked: Option<VmPersistence>) -> Result<Persistence, ApiError> {
    match asked {
        None | Some(VmPersistence::Persistent {}) => Ok(Persistence::Persistent),
        Some(VmPersistence::Sticky { priority }) => {
            let priority = priority.unwrap_or(DEFAULT_PRIORITY);
            if priority > MAX_PRIORITY {
                return Err(bad(format!("persistence.priority must be 0 to {MAX_PRIORITY}")));
            }
            Ok(Persistence::Sticky { priority })
        }
        Some(VmPersistence::Ephemeral { delete_event }) => Ok(Persistence::Ephemeral {
            delete_event: match delete_event {
                None | Some(WireDeleteEvent::OnStop) => DeleteEvent::OnStop,
                Some(WireDeleteEvent::OnSuspend) => DeleteEvent::OnSuspend,
            },
        }),
    }
}

/// Inner layers first: outer ones stand on them.
fn packages(sources: &[Source]) -> Result<Vec<AptPackage>, ApiError> {
    let mut packages: Vec<AptPackage> = Vec::new();
    for text in sources.iter().rev().flat_map(|source| &source.apt_deps) {
        if packages.len() == MAX_PACKAGES {
            return Err(bad(format!("aptDeps names more than {MAX_PACKAGES} packages")));
        }
        let package = AptPackage::parse(text).map_err(|_| {
            bad(format!("aptDeps: {:?} is not the name of a Debian package", excerpt(text)))
        })?;
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    Ok(packages)
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::CreateVmBadRequest, message)
}

fn from_vm(error: freestyle_vm::VmError) -> ApiError {
    ApiError::from_vm(error, Code::CreateVmBadRequest)
}

#[cfg(test)]
mod tests;
