//! Systemd services: what a spec can say of them (protocol section 6.1). How that is written down
//! for systemd is in `unit`.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::error::{SpecError, shown};
use super::names::{Account, GuestPath, ServiceName, UnitName};

const MAX_SERVICES: usize = 200;
const MAX_EXEC_LINES: usize = 100;
const MAX_EXEC_BYTES: usize = 32 << 10;
const MAX_VARIABLES: usize = 256;
const MAX_VARIABLE_BYTES: usize = 32 << 10;
const MAX_UNITS: usize = 100;

/// A service that the guest shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Whether it runs once or stays.
    pub mode: Mode,
    /// What it runs, one after the other.
    pub exec: Exec,
    /// Whether it is started, now and at every boot.
    pub enable: bool,
    /// Whether it counts as active once it has exited; only oneshots do where absent.
    pub remain_after_exit: Option<bool>,
    /// Removed once it has succeeded.
    pub delete_after_success: bool,
    /// Everything else.
    pub settings: Settings,
}

/// Changes to a service that the guest has, of a package, the base image or an inner layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Patch {
    /// The service's name.
    pub name: ServiceName,
    /// Changes its mode.
    pub mode: Option<Mode>,
    /// Replaces what it runs.
    pub exec: Option<Exec>,
    /// Starts it now and at every boot, or no longer at boot.
    pub enable: Option<bool>,
    /// Removed once it has succeeded.
    pub delete_after_success: bool,
    /// What it gets besides what it has.
    pub settings: Settings,
}

/// What services and patches have in common. All of it may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Environment variables.
    pub env: Environment,
    /// The user it runs as; root where absent.
    pub user: Option<Account>,
    /// The group it runs in; the user's where absent.
    pub group: Option<Account>,
    /// The directory it runs in; the layer's where absent.
    pub workdir: Option<GuestPath>,
    /// Units that are started before it.
    pub after: Units,
    /// Units that are started with it and without which it does not run.
    pub requires: Units,
    /// Units that are started when it fails.
    pub on_failure: Units,
    /// Units that start it at boot; `multi-user.target` where absent.
    pub wanted_by: Units,
    /// How long it may take to start and to stop.
    pub timeout: Option<StartTimeout>,
    /// Whether it says itself when it is ready (`sd_notify`).
    pub ready_signal: Option<bool>,
    /// How often it has to say that it is well, in seconds; 0 is not at all.
    pub watchdog_seconds: Option<u32>,
    /// What happens when it ends.
    pub restart: Option<Restart>,
}

/// Whether a service runs once or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Mode {
    /// Runs to its end. Others that are ordered after it wait for that.
    Oneshot,
    /// Stays, and is started again when it fails.
    Service,
}

/// How long a service may take to start, and to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum StartTimeout {
    /// As long as it likes.
    Never,
    /// At most so many seconds.
    Seconds(u32),
}

/// When a service that has ended is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// At which ends.
    pub policy: RestartPolicy,
    /// Seconds between end and start.
    pub delay_seconds: Option<u32>,
    /// How many starts within the interval are too many.
    pub burst: Option<u32>,
    /// The interval in seconds; 0 is no limit.
    pub interval_seconds: Option<u32>,
}

/// See systemd's `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// After any failure.
    OnFailure,
    /// Always.
    Always,
    /// After a signal, a timeout or a missing watchdog.
    OnAbnormal,
}

/// Command lines in systemd's syntax, except that `%` stands for itself. Never none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exec(Vec<String>);

impl Exec {
    /// Accepts command lines whose quotes are closed. Line breaks within quotes are kept.
    pub fn parse(service: &ServiceName, lines: &[String]) -> Result<Self, SpecError> {
        if lines.len() > MAX_EXEC_LINES {
            let what = format!("command lines in service {}", service.as_str());
            return Err(SpecError::too_many(&what, MAX_EXEC_LINES));
        }
        let lines: Vec<String> =
            lines.iter().map(|line| exec_line(service, line)).collect::<Result<_, _>>()?;
        if lines.is_empty() {
            return Err(SpecError::ExecEmpty { service: service.as_str().to_owned() });
        }
        Ok(Self(lines))
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.0
    }
}

/// A command line as one line: a break within quotes becomes an escape, any other a space.
fn exec_line(service: &ServiceName, text: &str) -> Result<String, SpecError> {
    let text = text.trim();
    let name = service.as_str();
    let invalid = |why: &str| {
        Err(SpecError::invalid(format!("exec {} of service {name} {why}", shown(text))))
    };
    if text.is_empty() {
        return Err(SpecError::ExecEmpty { service: name.to_owned() });
    }
    if text.len() > MAX_EXEC_BYTES {
        return invalid(&format!("has more than {MAX_EXEC_BYTES} bytes; put it into a file"));
    }
    let mut line = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => match chars.next() {
                // As in a unit file.
                Some('\n') => line.push(' '),
                Some(escaped) if !escaped.is_control() => line.extend(['\\', escaped]),
                Some(_) => return invalid("holds a control character"),
                None => return invalid("ends with a backslash"),
            },
            ('\n', Some(_)) => line.push_str("\\n"),
            ('\t', Some(_)) => line.push_str("\\t"),
            ('\n' | '\t', None) => line.push(' '),
            (c, _) if c.is_control() => return invalid("holds a control character"),
            (c @ ('"' | '\''), None) => {
                quote = Some(c);
                line.push(c);
            }
            (c, Some(open)) if c == open => {
                quote = None;
                line.push(c);
            }
            (c, _) => line.push(c),
        }
    }
    match quote {
        Some(open) => invalid(&format!("does not close its {open}")),
        None => Ok(line),
    }
}

/// Environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Accepts variables that a shell could name, with any text without NUL.
    pub fn parse(
        service: &ServiceName,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, SpecError> {
        let of = || service.as_str().to_owned();
        let invalid = |key: &str, why: &str| {
            let (key, service) = (shown(key), service.as_str());
            let message = format!("the environment variable {key} of service {service} {why}");
            Err(SpecError::Invalid(message))
        };
        if variables.len() > MAX_VARIABLES {
            let what = format!("environment variables in service {}", service.as_str());
            return Err(SpecError::too_many(&what, MAX_VARIABLES));
        }
        for (key, value) in &variables {
            if key.is_empty() {
                return Err(SpecError::EnvKeyEmpty { service: of() });
            }
            if key.contains('=') {
                return Err(SpecError::EnvKeyContainsEquals { service: of(), key: shown(key) });
            }
            // systemd leaves out any other, and says so only in its log.
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(allowed) {
                return invalid(key, "may hold only letters, digits and _, and no digit first");
            }
            if value.contains('\0') {
                return invalid(key, "holds a NUL character");
            }
            if key.len() + value.len() > MAX_VARIABLE_BYTES {
                return invalid(key, &format!("has more than {MAX_VARIABLE_BYTES} bytes"));
            }
        }
        Ok(Self(variables))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Units that a service has to do with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Units(Vec<UnitName>);

impl Units {
    /// Accepts names of units; `empty` is the error for an empty one.
    pub fn parse(names: &[String], empty: impl Fn() -> SpecError) -> Result<Self, SpecError> {
        if names.len() > MAX_UNITS {
            return Err(SpecError::too_many("units that a service has to do with", MAX_UNITS));
        }
        let parse = |name: &String| {
            if name.is_empty() { Err(empty()) } else { UnitName::parse(name) }
        };
        names.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &UnitName> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Services and patches of different names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Services {
    services: Vec<Service>,
    patches: Vec<Patch>,
}

impl Services {
    /// Fails when there are too many, two of one name, or one that systemd would refuse.
    pub fn new(services: Vec<Service>, patches: Vec<Patch>) -> Result<Self, SpecError> {
        if services.len() > MAX_SERVICES {
            return Err(SpecError::too_many("services", MAX_SERVICES));
        }
        if patches.len() > MAX_SERVICES {
            return Err(SpecError::too_many("patched services", MAX_SERVICES));
        }
        let mut names = HashSet::new();
        for service in &services {
            let name = service.name.as_str();
            if !names.insert(name) {
                return Err(SpecError::ServiceAlreadyExists { name: name.to_owned() });
            }
            let always = service
                .settings
                .restart
                .as_ref()
                .is_some_and(|restart| restart.policy == RestartPolicy::Always);
            if service.mode == Mode::Oneshot && always {
                return Err(SpecError::invalid(format!(
                    "service {name} is a oneshot, which cannot be restarted always"
                )));
            }
            if service.mode == Mode::Service && service.delete_after_success {
                return Err(SpecError::invalid(format!(
                    "service {name} is no oneshot, so it cannot be deleted after its success"
                )));
            }
        }
        names.clear();
        if let Some(patch) = patches.iter().find(|patch| !names.insert(patch.name.as_str())) {
            let name = patch.name.as_str();
            return Err(SpecError::invalid(format!("service {name} is patched twice")));
        }
        Ok(Self { services, patches })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.patches.is_empty()
    }

    pub(super) fn services(&self) -> &[Service] {
        &self.services
    }

    pub(super) fn patches(&self) -> &[Patch] {
        &self.patches
    }

    /// What is started, and that has to succeed.
    pub(super) fn started(&self) -> Vec<UnitName> {
        let services = self.services.iter().filter(|service| service.enable);
        let patches = self.patches.iter().filter(|patch| patch.enable == Some(true));
        let patched = patches.map(|patch| patch.name.unit());
        let mut units: Vec<_> = services.map(|service| service.name.unit()).collect();
        units.extend(patched.filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
        units
    }

    /// What is removed once everything has been started.
    pub(super) fn removed(&self) -> Vec<UnitName> {
        let services = self.services.iter().filter(|it| it.enable && it.delete_after_success);
        let patches = self.patches.iter().filter(|it| it.delete_after_success);
        let patched = patches.map(|patch| patch.name.unit());
        services.map(|service| service.name.unit()).chain(patched).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    fn exec(line: &str) -> Result<Exec, SpecError> {
        Exec::parse(&name("app"), &[line.to_owned()])
    }

    fn service(text: &str) -> Service {
        Service {
            name: name(text),
            mode: Mode::Oneshot,
            exec: exec("/bin/true").unwrap(),
            enable: true,
            remain_after_exit: None,
            delete_after_success: false,
            settings: Settings::default(),
        }
    }

    #[test]
    fn a_command_is_one_line_with_closed_quotes() {
        for (text, line) in [
            (" /bin/true ", "/bin/true"),
            ("/bin/sh -c 'a\nb'", "/bin/sh -c 'a\\nb'"),
            ("/bin/sh -c \"a\tb\"", "/bin/sh -c \"a\\tb\""),
            ("/bin/echo a\nb", "/bin/echo a b"),
            ("/bin/echo a \\\n b", "/bin/echo a   b"),
            ("/bin/echo it\\'s \"it's\"", "/bin/echo it\\'s \"it's\""),
            ("/bin/echo 'a \\' b'", "/bin/echo 'a \\' b'"),
        ] {
            assert_eq!(exec(text).unwrap().lines(), [line], "{text:?}");
        }
        for empty in ["", " ", "\n"] {
            assert!(matches!(exec(empty), Err(SpecError::ExecEmpty { .. })));
        }
        assert!(matches!(Exec::parse(&name("a"), &[]), Err(SpecError::ExecEmpty { .. })));
        for bad in ["a '", "a \"b'", "a \\", "a\0", "a\rb", "a \\\u{1}", &"x".repeat(40_000)] {
            assert!(matches!(exec(bad), Err(SpecError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn variables_have_names_that_systemd_keeps() {
        let env = |key: &str, value: &str| {
            Environment::parse(&name("app"), [(key.to_owned(), value.to_owned())].into())
        };
        assert!(env("_A1", "any\n\"text\" %h $x \\").is_ok());
        assert!(matches!(env("", "x"), Err(SpecError::EnvKeyEmpty { .. })));
        assert!(matches!(env("a=b", "x"), Err(SpecError::EnvKeyContainsEquals { .. })));
        for key in ["1a", "a b", "a-b", "a\nb", "é"] {
            assert!(matches!(env(key, "x"), Err(SpecError::Invalid(_))), "{key:?}");
        }
        assert!(env("a", "\0").is_err());
        assert!(env("a", &"x".repeat(MAX_VARIABLE_BYTES)).is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(Services::new(vec![service("a"), service("b")], vec![]).is_ok());
        let twice = Services::new(vec![service("a"), service("a.service")], vec![]);
        assert_eq!(twice, Err(SpecError::ServiceAlreadyExists { name: "a".to_owned() }));

        let restart = Restart {
            policy: RestartPolicy::Always,
            delay_seconds: None,
            burst: None,
            interval_seconds: None,
        };
        let mut always = service("a");
        always.settings.restart = Some(restart);
        assert!(Services::new(vec![always], vec![]).is_err());

        let stays = Service { mode: Mode::Service, delete_after_success: true, ..service("a") };
        assert!(Services::new(vec![stays], vec![]).is_err());

        let many = |count: usize| (0..count).map(|n| service(&format!("s{n}"))).collect();
        assert!(Services::new(many(MAX_SERVICES), vec![]).is_ok());
        assert!(Services::new(many(MAX_SERVICES + 1), vec![]).is_err());
    }

    #[test]
    fn what_is_not_enabled_is_neither_started_nor_removed() {
        let off = Service { enable: false, delete_after_success: true, ..service("off") };
        let once = Service { delete_after_success: true, ..service("once") };
        let services = Services::new(vec![off, once, service("on")], vec![]).unwrap();
        let names = |units: Vec<UnitName>| -> Vec<String> {
            units.iter().map(|unit| unit.as_str().to_owned()).collect()
        };
        assert_eq!(names(services.started()), ["once.service", "on.service"]);
        assert_eq!(names(services.removed()), ["once.service"]);
    }
}
