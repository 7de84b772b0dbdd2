//! Unit files: how services are written down for systemd.
//!
//! A value reaches a unit file only through a type that cannot hold a line break (names, paths,
//! command lines) or through [`quoted`]. `%` stands for itself everywhere.

use super::names::{GuestPath, ServiceName, UnitName};
use super::services::{
    Environment, Exec, Mode, Patch, Restart, RestartPolicy, Service, Services, Settings,
    StartTimeout, Units,
};

/// Where units of the administrator are.
pub(super) const UNIT_DIR: &str = "/etc/systemd/system";
/// The file of a patch, in `<unit>.d`.
const DROP_IN: &str = "50-freestyle.conf";
const HEAD: &str = "# From the spec of this VM.\n";

/// What the services of a layer are told by the layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// Where a service runs that names no directory.
    pub(super) workdir: &'a GuestPath,
    /// How long a service may take to say that it is ready, if it names no time, in seconds.
    pub(super) ready_seconds: u64,
}

/// A file below [`UNIT_DIR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitFile {
    pub(super) name: String,
    pub(super) content: String,
}

/// The files of all services and patches, as they are when the units in `gone` no longer exist:
/// whoever requires a unit that does not exist cannot be started.
pub(super) fn unit_files(
    services: &Services,
    context: Context<'_>,
    gone: &[UnitName],
) -> Vec<UnitFile> {
    let left = |name: &ServiceName| !gone.contains(&name.unit());
    let services_left = services.services().iter().filter(|service| left(&service.name));
    let units = services_left.map(|service| UnitFile {
        name: service.name.unit().as_str().to_owned(),
        content: unit(service, context, gone),
    });
    let patches = services.patches().iter().filter(|patch| left(&patch.name));
    let drop_ins = patches.map(|patch| UnitFile {
        name: format!("{}.d/{DROP_IN}", patch.name.unit().as_str()),
        content: drop_in(patch, context, gone),
    });
    units.chain(drop_ins).collect()
}

fn unit(service: &Service, context: Context<'_>, gone: &[UnitName]) -> String {
    let settings = &service.settings;
    let mut text = Text::new();
    text.section("Unit");
    text.set("Description", service.name.as_str());
    text.units("After", &settings.after, gone);
    text.units("Requires", &settings.requires, gone);
    text.units("OnFailure", &settings.on_failure, gone);
    let healing = settings.restart.is_none() && service.mode == Mode::Service;
    match &settings.restart {
        Some(restart) => text.start_limit(restart),
        None if healing => text.set("StartLimitIntervalSec", "0"),
        None => {}
    }

    text.section("Service");
    let notifies = service.mode == Mode::Service && settings.ready_signal == Some(true);
    text.set("Type", kind(service.mode, notifies));
    let remains = service.remain_after_exit.unwrap_or(service.mode == Mode::Oneshot);
    if remains {
        text.set("RemainAfterExit", "yes");
    }
    text.exec(&service.exec);
    let workdir = settings.workdir.as_ref().unwrap_or(context.workdir);
    text.running(settings, Some(workdir).filter(|workdir| !workdir.is_root()));
    if notifies && settings.timeout.is_none() {
        text.set("TimeoutStartSec", &context.ready_seconds.to_string());
    }
    match &settings.restart {
        Some(restart) => text.restart(restart),
        None if healing => {
            text.set("Restart", "on-failure");
            text.set("RestartSec", "1");
        }
        None => {}
    }

    text.section("Install");
    if settings.wanted_by.is_empty() {
        text.set("WantedBy", "multi-user.target");
    } else {
        text.units("WantedBy", &settings.wanted_by, gone);
    }
    text.0
}

fn drop_in(patch: &Patch, context: Context<'_>, gone: &[UnitName]) -> String {
    let settings = &patch.settings;
    let mut text = Text::new();
    text.section("Unit");
    text.units("After", &settings.after, gone);
    text.units("Requires", &settings.requires, gone);
    text.units("OnFailure", &settings.on_failure, gone);
    if let Some(restart) = &settings.restart {
        text.start_limit(restart);
    }

    text.section("Service");
    let notifies = settings.ready_signal == Some(true) && patch.mode != Some(Mode::Oneshot);
    match patch.mode {
        _ if notifies => text.set("Type", "notify"),
        Some(mode) => text.set("Type", kind(mode, false)),
        None => {}
    }
    if let Some(exec) = &patch.exec {
        text.set("ExecStartPre", "");
        text.set("ExecStart", "");
        text.exec(exec);
    }
    text.running(settings, settings.workdir.as_ref());
    if notifies && settings.timeout.is_none() {
        text.set("TimeoutStartSec", &context.ready_seconds.to_string());
    }
    if let Some(restart) = &settings.restart {
        text.restart(restart);
    }

    if !settings.wanted_by.is_empty() {
        text.section("Install");
        text.units("WantedBy", &settings.wanted_by, gone);
    }
    text.0
}

/// With `exec` a program that cannot be run is a failed start; with `simple` nobody would hear.
fn kind(mode: Mode, notifies: bool) -> &'static str {
    match mode {
        Mode::Oneshot => "oneshot",
        Mode::Service if notifies => "notify",
        Mode::Service => "exec",
    }
}

/// A unit file being written.
struct Text(String);

impl Text {
    fn new() -> Self {
        Self(HEAD.to_owned())
    }

    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    fn set(&mut self, key: &str, value: &str) {
        debug_assert!(!value.contains('\n'), "{key}={value}");
        self.0.push_str(&format!("{key}={value}\n"));
    }

    fn set_number(&mut self, key: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.set(key, &value.to_string());
        }
    }

    fn units(&mut self, key: &str, units: &Units, gone: &[UnitName]) {
        let left: Vec<&str> =
            units.iter().filter(|unit| !gone.contains(unit)).map(UnitName::as_str).collect();
        if !left.is_empty() {
            self.set(key, &left.join(" "));
        }
    }

    /// Only oneshots may have several `ExecStart=`, so all but the last come before the start.
    fn exec(&mut self, exec: &Exec) {
        let Some((last, before)) = exec.lines().split_last() else { return };
        for line in before {
            self.set("ExecStartPre", &literal(line));
        }
        self.set("ExecStart", &literal(last));
    }

    /// How the processes of a service run.
    fn running(&mut self, settings: &Settings, workdir: Option<&GuestPath>) {
        self.environment(&settings.env);
        if let Some(user) = &settings.user {
            self.set("User", user.as_str());
        }
        if let Some(group) = &settings.group {
            self.set("Group", group.as_str());
        }
        if let Some(workdir) = workdir {
            self.set("WorkingDirectory", &literal(workdir.as_str()));
        }
        match settings.timeout {
            // Not for stopping: a machine must be able to shut down.
            Some(StartTimeout::Never) => self.set("TimeoutStartSec", "infinity"),
            Some(StartTimeout::Seconds(seconds)) => self.set("TimeoutSec", &seconds.to_string()),
            None => {}
        }
        self.set_number("WatchdogSec", settings.watchdog_seconds);
        if settings.ready_signal == Some(true) || settings.watchdog_seconds.is_some() {
            // The signal may come from a child, such as `systemd-notify` in a script.
            self.set("NotifyAccess", "all");
        }
    }

    fn environment(&mut self, env: &Environment) {
        for (key, value) in env.iter() {
            self.set("Environment", &quoted(&format!("{key}={value}")));
        }
    }

    fn start_limit(&mut self, restart: &Restart) {
        self.set_number("StartLimitBurst", restart.burst);
        self.set_number("StartLimitIntervalSec", restart.interval_seconds);
    }

    fn restart(&mut self, restart: &Restart) {
        let policy = match restart.policy {
            RestartPolicy::No => "no",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Always => "always",
            RestartPolicy::OnAbnormal => "on-abnormal",
        };
        self.set("Restart", policy);
        self.set_number("RestartSec", restart.delay_seconds);
    }
}

/// Text in which systemd looks for specifiers, without any.
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// Any text without NUL as one word.
fn quoted(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            '\n' => word.push_str("\\n"),
            c if c.is_ascii_control() => word.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "/";

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).unwrap()
    }

    fn units(names: &[&str]) -> Units {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Units::parse(&names, || unreachable!()).unwrap()
    }

    fn service(text: &str, mode: Mode, lines: &[&str]) -> Service {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        Service {
            name: name(text),
            mode,
            exec: Exec::parse(&name(text), &lines).unwrap(),
            enable: true,
            remain_after_exit: None,
            delete_after_success: false,
            settings: Settings::default(),
        }
    }

    fn files(services: Vec<Service>, patches: Vec<Patch>, gone: &[&str]) -> Vec<UnitFile> {
        let services = Services::new(services, patches).unwrap();
        let workdir = GuestPath::parse(ROOT).unwrap();
        let gone: Vec<_> = gone.iter().map(|name| UnitName::parse(name).unwrap()).collect();
        unit_files(&services, Context { workdir: &workdir, ready_seconds: 120 }, &gone)
    }

    fn only(service: Service) -> String {
        files(vec![service], vec![], &[]).remove(0).content
    }

    #[test]
    fn a_command_that_is_deleted_after_its_success() {
        let mut service = service("run-1", Mode::Oneshot, &["/bin/bash /opt/run-1.sh"]);
        service.delete_after_success = true;
        service.settings.env =
            Environment::parse(&service.name, [("HOME".to_owned(), "/root".to_owned())].into())
                .unwrap();
        service.settings.workdir = Some(GuestPath::parse("/root").unwrap());
        service.settings.after = units(&["run-0.service"]);
        service.settings.requires = units(&["run-0.service"]);
        assert_eq!(
            only(service),
            "# From the spec of this VM.\n\
             \n[Unit]\nDescription=run-1\nAfter=run-0.service\nRequires=run-0.service\n\
             \n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/bash /opt/run-1.sh\n\
             Environment=\"HOME=/root\"\nWorkingDirectory=/root\n\
             \n[Install]\nWantedBy=multi-user.target\n",
        );
    }

    #[test]
    fn a_service_heals_and_runs_its_commands_in_order() {
        let text = only(service("app", Mode::Service, &["/bin/first", "/bin/second"]));
        assert!(text.contains("\nType=exec\nExecStartPre=/bin/first\nExecStart=/bin/second\n"));
        assert!(text.contains("\nRestart=on-failure\nRestartSec=1\n"), "{text}");
        assert!(text.contains("\nStartLimitIntervalSec=0\n"), "{text}");
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let mut service = service("app", Mode::Service, &["/bin/app %h $PORT"]);
        let user = crate::setup::Account::parse("dev").unwrap();
        service.settings = Settings {
            user: Some(user.clone()),
            group: Some(user),
            workdir: Some(GuestPath::parse("/srv/50% off").unwrap()),
            on_failure: units(&["alarm"]),
            wanted_by: units(&["a.target", "b"]),
            ready_signal: Some(true),
            watchdog_seconds: Some(30),
            restart: Some(Restart {
                policy: RestartPolicy::OnAbnormal,
                delay_seconds: Some(2),
                burst: Some(3),
                interval_seconds: Some(60),
            }),
            ..Settings::default()
        };
        let text = only(service.clone());
        for line in [
            "Type=notify",
            "ExecStart=/bin/app %%h $PORT",
            "User=dev",
            "Group=dev",
            "WorkingDirectory=/srv/50%% off",
            "OnFailure=alarm.service",
            "WantedBy=a.target b.service",
            "NotifyAccess=all",
            "WatchdogSec=30",
            "TimeoutStartSec=120",
            "Restart=on-abnormal",
            "RestartSec=2",
            "StartLimitBurst=3",
            "StartLimitIntervalSec=60",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        service.settings.timeout = Some(StartTimeout::Seconds(7));
        let text = only(service.clone());
        assert!(text.contains("\nTimeoutSec=7\n") && !text.contains("TimeoutStartSec"));
        service.settings.timeout = Some(StartTimeout::Never);
        assert!(only(service).contains("\nTimeoutStartSec=infinity\n"));
    }

    #[test]
    fn nobody_requires_what_is_gone() {
        let once = service("once", Mode::Oneshot, &["/bin/true"]);
        let mut app = service("app", Mode::Service, &["/bin/app"]);
        app.settings.requires = units(&["once", "other"]);
        app.settings.after = units(&["once"]);
        let both = vec![once, app];
        let before = files(both.clone(), vec![], &[]);
        let after = files(both, vec![], &["once"]);
        assert_eq!(before.len(), 2);
        assert!(before[1].content.contains("Requires=once.service other.service\n"));
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].name, "app.service");
        assert!(after[0].content.contains("Requires=other.service\n"));
        assert!(!after[0].content.contains("After="));
    }

    #[test]
    fn a_patch_says_only_what_changes() {
        let patch = |exec: Option<Exec>, mode| Patch {
            name: name("ssh"),
            mode,
            exec,
            enable: None,
            delete_after_success: false,
            settings: Settings { wanted_by: units(&["a.target"]), ..Settings::default() },
        };
        let exec = Exec::parse(&name("ssh"), &["/bin/x".to_owned()]).unwrap();
        let text = |patch: Patch| {
            let file = files(vec![], vec![patch], &[]).remove(0);
            assert_eq!(file.name, "ssh.service.d/50-freestyle.conf");
            file.content
        };
        assert_eq!(
            text(patch(Some(exec), Some(Mode::Oneshot))),
            "# From the spec of this VM.\n\n[Unit]\n\n[Service]\nType=oneshot\nExecStartPre=\n\
             ExecStart=\nExecStart=/bin/x\n\n[Install]\nWantedBy=a.target\n",
        );
        assert_eq!(
            text(patch(None, None)),
            "# From the spec of this VM.\n\n[Unit]\n\n[Service]\n\n[Install]\nWantedBy=a.target\n",
        );
    }

    /// What systemd does with a quoted word.
    fn unquoted(word: &str) -> String {
        let inner = word.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        let mut text = String::new();
        let mut chars = inner.replace("%%", "%").chars().collect::<Vec<_>>().into_iter();
        while let Some(c) = chars.next() {
            assert_ne!(c, '"', "{word}");
            match (c, c == '\\') {
                (c, false) => text.push(c),
                _ => match chars.next().unwrap() {
                    'n' => text.push('\n'),
                    'x' => {
                        let digits: String = chars.by_ref().take(2).collect();
                        text.push(char::from(u8::from_str_radix(&digits, 16).unwrap()));
                    }
                    c => text.push(c),
                },
            }
        }
        text
    }

    proptest! {
        #[test]
        fn a_variable_never_leaves_its_line(value in "[^\0]{0,40}") {
            let word = quoted(&value);
            prop_assert!(!word.contains('\n'));
            prop_assert_eq!(word.matches('%').count() % 2, 0);
            prop_assert_eq!(unquoted(&word), value);
        }

        #[test]
        fn a_command_never_leaves_its_line(line in any::<String>()) {
            let Ok(exec) = Exec::parse(&name("app"), &[line]) else { return Ok(()) };
            let text = exec.lines()[0].clone();
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(!text.ends_with('\\') || text.ends_with("\\\\"));
        }
    }
}
