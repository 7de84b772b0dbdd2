//! The last phase: services are written down, started together and waited for.

use std::time::Duration;

use super::apply::{Guest, LIMIT, LOCAL_LIMIT, SetupError};
use super::calls::{Calls, SCRATCH};
use super::diagnostics::{self, Diagnostics, UnitState};
use super::names::UnitName;
use super::script::Script;
use super::unit::{Context, UNIT_DIR, UnitFile, unit_files};
use super::{Services, Setup};

/// How long a service has to say that it is ready (protocol section 6.2).
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The exit status of a script in which the services were not ready in time, as of `timeout`.
const LATE: i32 = 124;

/// Starts the services of a layer.
pub(super) async fn start(calls: &Calls<'_, impl Guest>, setup: &Setup) -> Result<(), SetupError> {
    let services = &setup.services;
    let ready_limit = setup.ready.timeout.unwrap_or(READY_LIMIT);
    let context = Context { workdir: &setup.workdir, ready_seconds: ready_limit.as_secs() };

    let now = unit_files(services, context, &[]);
    let mut settled = unit_files(services, context, &services.removed());
    settled.retain(|file| !now.contains(file));
    let below = |dir: String| {
        move |file: UnitFile| (format!("{dir}/{}", file.name), file.content.into_bytes())
    };
    let settled = settled.into_iter().map(below(format!("{SCRATCH}/settled")));
    calls.write(now.into_iter().map(below(UNIT_DIR.to_owned())).chain(settled)).await?;

    let limit = setup.ready.timeout.unwrap_or(LIMIT);
    let script = script(services, limit);
    if !setup.ready.wait {
        return calls.run_in_background(script).await;
    }
    let ended = calls.run_to_its_end(script, limit + LOCAL_LIMIT).await?;
    if ended.is_success() {
        return Ok(());
    }
    // What the services were like right then says more than what has become of them since.
    let then = diagnostics::states(&String::from_utf8_lossy(&ended.stdout));
    let (now, diagnostics) = diagnose(calls, services).await?;
    let started = services.started();
    let reason = match cause(&then, &started).or_else(|| cause(&now, &started)) {
        Some(cause) if ended.status == Some(LATE) => format!("{cause} after {} s", limit.as_secs()),
        Some(cause) => cause,
        None => ended.report,
    };
    let diagnostics = Some(diagnostics);
    Err(SetupError::Failed { phase: calls.phase, reason, diagnostics })
}

/// What is left to do once the files are in place.
fn script(services: &Services, limit: Duration) -> Script {
    let (started, removed) = (services.started(), services.removed());
    let patches = services.patches();
    let patched: Vec<UnitName> = patches.iter().map(|patch| patch.name.unit()).collect();
    let off = patches.iter().filter(|patch| patch.enable == Some(false));
    let off: Vec<UnitName> = off.map(|patch| patch.name.unit()).collect();
    // What is removed is never started again, so no target need know it.
    let enabled: Vec<UnitName> =
        started.iter().filter(|unit| !removed.contains(unit)).cloned().collect();
    let mut checked = started.clone();
    checked.extend(patched.iter().filter(|unit| !started.contains(unit)).cloned());

    let mut script = Script::new(&[include_str!("guest/units.sh")]);
    script.call("ready_within", [limit.as_secs().to_string().as_str()]);
    let calls: [(&str, &[UnitName]); 7] = [
        ("enable", &enabled),
        ("disable", &off),
        ("load", &[]),
        ("restart", &patched),
        ("start", &started),
        ("check", &checked),
        ("forget", &removed),
    ];
    for (function, units) in calls {
        script.call(function, units.iter().map(UnitName::as_str));
    }
    script
}

/// What the guest says of its services.
async fn diagnose(
    calls: &Calls<'_, impl Guest>,
    services: &Services,
) -> Result<(Vec<UnitState>, Diagnostics), SetupError> {
    let functions = [include_str!("guest/units.sh"), include_str!("guest/diagnose.sh")];
    let mut script = Script::new(&functions);
    script.call("diagnose", services.started().iter().map(UnitName::as_str));
    let ended = calls.run_to_its_end(script, LOCAL_LIMIT).await?;
    Ok(diagnostics::read(&ended.stdout))
}

/// Why the services of a spec are not all ready, in words. Those that failed are the cause of those
/// that were not started.
fn cause(units: &[UnitState], of_spec: &[UnitName]) -> Option<String> {
    let ours = units.iter().filter(|unit| of_spec.iter().any(|name| name.as_str() == unit.id));
    let mut causes: Vec<String> = ours.clone().filter_map(UnitState::failure).collect();
    if causes.is_empty() {
        causes = ours.filter_map(UnitState::omission).collect();
    }
    (!causes.is_empty()).then(|| causes.join("; "))
}
