//! Systemd services of a layer.

use std::collections::BTreeMap;

use freestyle_client::wire::{
    self, RestartPolicyKind, ServiceMode, SystemdConfig, SystemdService, SystemdServicePatch,
};
use freestyle_vm::setup::{
    Account, Environment, Exec, GuestPath, Mode, Patch, Restart, RestartPolicy, Service,
    ServiceName, Services, Settings, SpecError, StartTimeout, Units,
};

/// The services of a layer, whose directories may be below the layer's.
pub(super) fn decode(asked: SystemdConfig, workdir: &GuestPath) -> Result<Services, SpecError> {
    let SystemdConfig { services, patched_services } = asked;
    let services = services.unwrap_or_default().into_iter().map(|it| service(it, workdir));
    let services = services.collect::<Result<_, SpecError>>()?;
    let patches = patched_services.unwrap_or_default().into_iter().map(|it| patch(it, workdir));
    Services::new(services, patches.collect::<Result<_, SpecError>>()?)
}

fn service(asked: SystemdService, workdir: &GuestPath) -> Result<Service, SpecError> {
    let SystemdService {
        name,
        mode,
        exec,
        env,
        user,
        group,
        workdir: own_workdir,
        after,
        requires,
        on_failure,
        wanted_by,
        enable,
        timeout_sec,
        delete_after_success,
        remain_after_exit,
        ready_signal,
        watchdog_sec,
        restart_policy,
    } = asked;
    let name = ServiceName::parse(&name)?;
    let settings = Asked {
        env,
        user,
        group,
        workdir: own_workdir,
        after,
        requires,
        on_failure,
        wanted_by,
        timeout_sec,
        ready_signal,
        watchdog_sec,
        restart_policy,
    };
    Ok(Service {
        mode: decode_mode(mode),
        exec: Exec::parse(&name, &exec)?,
        enable: enable.unwrap_or(true),
        remain_after_exit,
        delete_after_success: delete_after_success.unwrap_or(false),
        settings: settings.decode(&name, workdir)?,
        name,
    })
}

fn patch(asked: SystemdServicePatch, workdir: &GuestPath) -> Result<Patch, SpecError> {
    let SystemdServicePatch {
        name,
        mode,
        exec,
        env,
        user,
        group,
        workdir: own_workdir,
        after,
        requires,
        on_failure,
        wanted_by,
        enable,
        timeout_sec,
        delete_after_success,
        ready_signal,
        watchdog_sec,
        restart_policy,
    } = asked;
    let name = ServiceName::parse(&name)?;
    let settings = Asked {
        env,
        user,
        group,
        workdir: own_workdir,
        after,
        requires,
        on_failure,
        wanted_by,
        timeout_sec,
        ready_signal,
        watchdog_sec,
        restart_policy,
    };
    Ok(Patch {
        mode: mode.map(decode_mode),
        exec: exec.map(|exec| Exec::parse(&name, &exec)).transpose()?,
        enable,
        delete_after_success: delete_after_success.unwrap_or(false),
        settings: settings.decode(&name, workdir)?,
        name,
    })
}

fn decode_mode(mode: ServiceMode) -> Mode {
    match mode {
        ServiceMode::Oneshot => Mode::Oneshot,
        ServiceMode::Service => Mode::Service,
    }
}

/// What services and patches have in common, as it was sent.
struct Asked {
    env: Option<BTreeMap<String, String>>,
    user: Option<String>,
    group: Option<String>,
    workdir: Option<String>,
    after: Option<Vec<String>>,
    requires: Option<Vec<String>>,
    on_failure: Option<Vec<String>>,
    wanted_by: Option<Vec<String>>,
    timeout_sec: Option<u32>,
    ready_signal: Option<bool>,
    watchdog_sec: Option<u32>,
    restart_policy: Option<wire::RestartPolicy>,
}

impl Asked {
    fn decode(self, name: &ServiceName, workdir: &GuestPath) -> Result<Settings, SpecError> {
        let service = || name.as_str().to_owned();
        let account = |text: Option<String>, empty: SpecError| match text.as_deref() {
            None => Ok(None),
            Some("") => Err(empty),
            Some(text) => Account::parse(text).map(Some),
        };
        let units = |names: Option<Vec<String>>, empty: fn(String) -> SpecError| {
            Units::parse(&names.unwrap_or_default(), || empty(service()))
        };
        if self.wanted_by.as_ref().is_some_and(Vec::is_empty) {
            return Err(SpecError::WantedByEmpty { service: service() });
        }
        let workdir = match self.workdir.as_deref() {
            None => None,
            Some("") => {
                return Err(SpecError::WorkdirEmpty { of: format!("service {}", name.as_str()) });
            }
            Some(path) => Some(workdir.join(path)?),
        };
        Ok(Settings {
            env: Environment::parse(name, self.env.unwrap_or_default())?,
            user: account(self.user, SpecError::UserEmpty { service: service() })?,
            group: account(self.group, SpecError::GroupEmpty { service: service() })?,
            workdir,
            after: units(self.after, |service| SpecError::AfterContainsEmpty { service })?,
            requires: units(self.requires, |service| SpecError::RequiresContainsEmpty { service })?,
            on_failure: units(self.on_failure, |service| SpecError::OnFailureContainsEmpty {
                service,
            })?,
            wanted_by: units(self.wanted_by, |service| SpecError::WantedByEmpty { service })?,
            timeout: self.timeout_sec.map(|seconds| match seconds {
                0 => StartTimeout::Never,
                seconds => StartTimeout::Seconds(seconds),
            }),
            ready_signal: self.ready_signal,
            watchdog_seconds: self.watchdog_sec,
            restart: self.restart_policy.map(decode_restart),
        })
    }
}

fn decode_restart(asked: wire::RestartPolicy) -> Restart {
    let wire::RestartPolicy { policy, restart_sec, start_limit_burst, start_limit_interval_sec } =
        asked;
    Restart {
        policy: match policy {
            RestartPolicyKind::No => RestartPolicy::No,
            RestartPolicyKind::OnFailure => RestartPolicy::OnFailure,
            RestartPolicyKind::Always => RestartPolicy::Always,
            RestartPolicyKind::OnAbnormal => RestartPolicy::OnAbnormal,
        },
        delay_seconds: restart_sec,
        burst: start_limit_burst,
        interval_seconds: start_limit_interval_sec,
    }
}
