//! Setting up real guests. Needs root and the packages that `cargo xtask up` installs.

#[allow(dead_code, reason = "other tests use the rest of it")]
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{Server, run};
use freestyle_store::VmId;
use freestyle_vm::setup::Spec;
use freestyle_vm::setup::{
    Account, Environment, Exec, File, Files, Gecos, Git, GitIdentity, GitRepo, GitRevision, GitUrl,
    GitValue, Group, GroupName, Groups, Guest, GuestPath, Mode, Packages, PasswdPath, Patch, Phase,
    Progress, Ready, Restart, RestartPolicy, Service, ServiceName, Services, Settings, Setup,
    SetupError, Units, User, UserName, Users, apply,
};
use freestyle_vm::{AptPackage, CreateVm, Exec as Command, ExecOutput, FileOrDir, Sizes, VmError};

/// Words that mean something to a shell, to systemd or to a file of lines.
const HOSTILE: &str = "it's \"$(touch /pwned)\" `id` ${HOME} $HOME %h %% \\ \\n ; & | * ~ # é\n=\t";

struct OneVm {
    server: Server,
    vm: VmId,
}

impl OneVm {
    async fn start() -> Self {
        let server = Server::start().await;
        let sizes = Sizes { vcpus: Some(1), memory_mib: Some(1024), disk_mib: None };
        let request = CreateVm { spec: Spec { sizes, ..Spec::default() }, ..CreateVm::default() };
        let vm = server.vms.create(&server.account, request, None).await.unwrap().id;
        Self { server, vm }
    }

    /// What a command prints; it must succeed.
    async fn prints(&self, command: &str) -> String {
        let output = run(&self.server, &self.vm, command).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status, 0, "{command}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        let (vms, account) = (&self.server.vms, &self.server.account);
        match vms.read_path(account, &self.vm, None, path).await.unwrap() {
            FileOrDir::File(content) => content,
            FileOrDir::Dir(_) => panic!("{path} is a directory"),
        }
    }

    async fn apply(&self, setup: &Setup) -> Result<Vec<Phase>, SetupError> {
        let phases = Phases::default();
        apply(self, setup, &phases).await?;
        Ok(phases.0.into_inner().unwrap())
    }

    /// The end of a setup that fails, with its reason.
    async fn fails(&self, setup: &Setup) -> (Phase, String, SetupError) {
        match self.apply(setup).await {
            Err(SetupError::Failed { phase, reason, diagnostics }) => {
                let error = SetupError::Failed { phase, reason: reason.clone(), diagnostics };
                (phase, reason, error)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(self) {
        self.server.vms.delete(&self.server.account, &self.vm).await.unwrap();
        self.server.stop_and_check_nothing_is_left().await;
    }
}

impl Guest for OneVm {
    async fn exec(&self, command: String, timeout: Duration) -> Result<ExecOutput, VmError> {
        let exec = Command { command, user: None, timeout: Some(timeout) };
        self.server.vms.exec(&self.server.account, &self.vm, exec).await
    }

    async fn write_file(&self, path: &str, content: Vec<u8>) -> Result<(), VmError> {
        self.server.vms.write_file(&self.server.account, &self.vm, None, path, content).await
    }
}

#[derive(Default)]
struct Phases(Mutex<Vec<Phase>>);

impl Progress for Phases {
    async fn begin(&self, phase: Phase) {
        self.0.lock().unwrap().push(phase);
    }
}

fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn account(text: &str) -> Account {
    Account::parse(text).unwrap()
}

fn units(names: &[&str]) -> Units {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    Units::parse(&names, || unreachable!()).unwrap()
}

fn exec(service: &str, line: &str) -> Exec {
    Exec::parse(&name(service), &[line.to_owned()]).unwrap()
}

fn service(text: &str, mode: Mode, line: &str) -> Service {
    Service {
        name: name(text),
        mode,
        exec: exec(text, line),
        enable: true,
        remain_after_exit: None,
        delete_after_success: false,
        settings: Settings::default(),
    }
}

const NEVER: Restart =
    Restart { policy: RestartPolicy::No, delay_seconds: None, burst: None, interval_seconds: None };

/// As the SDK's `runCommands` makes them.
fn run_command(number: u32, line: &str) -> Service {
    let before = format!("run-{}", number - 1);
    let before = if number == 1 { units(&[]) } else { units(&[&before]) };
    let settings = Settings { after: before.clone(), requires: before, ..Settings::default() };
    let service = service(&format!("run-{number}"), Mode::Oneshot, line);
    Service { delete_after_success: true, settings, ..service }
}

fn services(services: Vec<Service>) -> Setup {
    Setup { services: Services::new(services, vec![]).unwrap(), ..Setup::default() }
}

fn user(text: &str) -> User {
    User {
        name: UserName::parse(text).unwrap(),
        uid: None,
        gecos: None,
        groups: Vec::new(),
        home: None,
        shell: None,
        system: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_files_and_repositories_are_as_asked_for_however_they_are_named() {
    let vm = OneVm::start().await;
    vm.prints(
        "git init -q -b main /srv/origin && cd /srv/origin && \
         export HOME=/tmp && git config user.email a@b && git config user.name a && \
         echo 1 > file && git add file && git commit -qm 1 && git tag v1 && \
         echo 2 > file && git commit -qam 2 && git checkout -qb feature/x && \
         echo 3 > file && git commit -qam 3 && git checkout -q main",
    )
    .await;
    let commit = vm.prints("git -C /srv/origin rev-parse v1").await.trim().to_owned();
    let repo = |to: &str, revision: Option<&str>| GitRepo {
        url: GitUrl::parse("file:///srv/origin").unwrap(),
        path: path(to),
        revision: revision.map(|revision| GitRevision::parse(revision).unwrap()),
    };
    let hostile_name = HOSTILE.replace(['\n', '\t', '/', '\\'], " ");
    let hostile_path = path(&format!("/opt/{hostile_name}/{hostile_name}"));
    let alice = UserName::parse("alice").unwrap();
    let all_bytes: Vec<u8> = (0..=255).collect();
    let file = |content: &[u8], executable| File { content: content.to_vec(), executable };
    let dev = GroupName::parse("dev").unwrap();
    let setup = Setup {
        groups: Groups::new(vec![Group { name: dev, gid: Some(1500), system: false }]).unwrap(),
        users: Users::new(vec![
            User {
                uid: Some(2000),
                gecos: Some(Gecos::parse(&hostile_name).unwrap()),
                groups: vec![account("sudo"), account("dev")],
                home: Some(PasswdPath::home(&alice, "/srv/alice's home").unwrap()),
                ..user("alice")
            },
            user("dev"),
            User { system: true, ..user("daemon2") },
        ])
        .unwrap(),
        files: Files::new(vec![
            (hostile_path.clone(), file(&all_bytes, false)),
            (path("/opt/a 'tool'"), file(b"#!/bin/sh\necho tool", true)),
        ])
        .unwrap(),
        git: Git::new(
            GitIdentity {
                name: Some(GitValue::parse("--unset \"A\" 'B' $(id) # c").unwrap()),
                ..GitIdentity::default()
            },
            vec![
                repo("/code/it's main", None),
                repo("/code/branch", Some("feature/x")),
                repo("/code/tag", Some("v1")),
                repo("/code/commit", Some(&commit)),
            ],
        )
        .unwrap(),
        workdir: path("/code/dir $(id)"),
        ..Setup::default()
    };

    let phases = vm.apply(&setup).await.unwrap();

    assert_eq!(phases, [Phase::Users, Phase::Files, Phase::Git]);
    assert_eq!(
        vm.prints("getent passwd alice").await,
        format!("alice:x:2000:2000:{hostile_name}:/srv/alice's home:/bin/bash\n"),
    );
    assert_eq!(vm.prints("id -nG alice").await, "alice sudo dev\n");
    assert_eq!(vm.prints("stat -c %U \"/srv/alice's home\"").await, "alice\n");
    assert_eq!(vm.prints("id -g dev; getent passwd dev | cut -d: -f6").await, "1500\n/home/dev\n");
    assert_eq!(vm.prints("getent passwd daemon2 | cut -d: -f6-").await, "/:/usr/sbin/nologin\n");
    assert_eq!(vm.read(hostile_path.as_str()).await, all_bytes);
    assert_eq!(vm.prints("'/opt/a '\\''tool'\\'").await, "tool\n");
    assert_eq!(vm.prints("git config user.name").await, "--unset \"A\" 'B' $(id) # c\n");
    let head = |at: &str| format!("git -C \"{at}\" rev-parse --abbrev-ref HEAD; cat \"{at}/file\"");
    assert_eq!(vm.prints(&head("/code/it's main")).await, "main\n2\n");
    assert_eq!(vm.prints(&head("/code/branch")).await, "feature/x\n3\n");
    assert_eq!(vm.prints(&head("/code/tag")).await, "HEAD\n1\n");
    assert_eq!(vm.prints(&head("/code/commit")).await, "HEAD\n1\n");
    vm.prints("test -d '/code/dir $(id)' && ! test -e /pwned && ! ls /run/freestyle/*.sh").await;

    // An outer layer may say more of a user, and finds a group that an inner one made.
    let again = Setup {
        groups: setup.groups.clone(),
        users: Users::new(vec![User {
            groups: vec![account("adm")],
            shell: Some(PasswdPath::shell(&alice, "/bin/sh").unwrap()),
            ..user("alice")
        }])
        .unwrap(),
        ..Setup::default()
    };
    vm.apply(&again).await.unwrap();
    assert_eq!(vm.prints("id -nG alice").await, "alice adm sudo dev\n");
    assert!(vm.prints("getent passwd alice").await.ends_with("home:/bin/sh\n"));

    let dev = GroupName::parse("dev").unwrap();
    let other = Groups::new(vec![Group { name: dev, gid: Some(1501), system: false }]).unwrap();
    let (phase, reason, _) = vm.fails(&Setup { groups: other, ..Setup::default() }).await;
    assert_eq!(phase, Phase::Users);
    assert!(reason.contains("group dev exists with gid 1500, not 1501"), "{reason}");
    let nowhere = Users::new(vec![User { groups: vec![account("nope")], ..user("bob") }]).unwrap();
    let (_, reason, _) = vm.fails(&Setup { users: nowhere, ..Setup::default() }).await;
    assert!(reason.contains("group 'nope' does not exist"), "{reason}");
    vm.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_run_in_order_with_what_they_were_given() {
    let vm = OneVm::start().await;
    let mut app =
        service("app", Mode::Service, "/bin/sh -c 'env -0 > /run/env; pwd >> /run/cwd\nsleep inf'");
    let env: BTreeMap<_, _> = [("HOSTILE".to_owned(), HOSTILE.to_owned())].into();
    app.settings.env = Environment::parse(&app.name, env).unwrap();
    app.settings.user = Some(account("nobody"));
    app.settings.after = units(&["run-2"]);
    app.settings.requires = units(&["run-2"]);
    let say_ready = "/bin/sh -c 'sleep 1; touch /run/was-ready; systemd-notify --ready; sleep inf'";
    let mut notifies = service("notifies", Mode::Service, say_ready);
    notifies.settings.ready_signal = Some(true);
    let later = service("later", Mode::Oneshot, "/bin/sh -c 'echo later'");
    let off = Service { enable: false, ..service("off", Mode::Oneshot, "/bin/touch /run/off") };
    let mut setup = services(vec![
        app,
        run_command(2, "/bin/sh -c 'echo 2 >> /run/order'"),
        run_command(
            1,
            "/bin/sh -c 'install -o nobody -d /run/x; touch /run/env /run/cwd; chmod 666 /run/env /run/cwd; sleep 0.5; date +%Y | grep -q 20; echo 1 >> /run/order'",
        ),
        notifies,
        later,
        off,
    ]);
    setup.workdir = path("/srv/work");

    let phases = vm.apply(&setup).await.unwrap();

    assert_eq!(phases, [Phase::Files, Phase::Systemd]);
    vm.prints("test -e /run/was-ready && ! test -e /run/off").await;
    assert_eq!(vm.prints("cat /run/order").await, "1\n2\n");
    let wait = "until test -s /run/cwd; do sleep 0.1; done";
    vm.prints(wait).await;
    let env = String::from_utf8(vm.read("/run/env").await).unwrap();
    let value = env.split('\0').find_map(|line| line.strip_prefix("HOSTILE="));
    assert_eq!(value, Some(HOSTILE), "{env:?}");
    assert_eq!(vm.prints("cat /run/cwd").await, "/srv/work\n");
    let loaded = "systemctl list-units --all --plain --no-legend 'run-[0-9].service'; \
                  ls /etc/systemd/system/run-[0-9]* 2>/dev/null; true";
    assert_eq!(vm.prints(loaded).await, "", "they are gone");
    assert_eq!(vm.prints("systemctl is-active app notifies later").await, "active\n".repeat(3));
    assert_eq!(vm.prints("systemctl is-enabled app notifies later").await, "enabled\n".repeat(3));

    // What required them can still be started.
    vm.prints("systemctl daemon-reload && systemctl restart app").await;

    // The commands of an outer layer have the names of those before, and no service needs them.
    let again = services(vec![
        run_command(1, "/bin/sh -c 'echo 3 >> /run/order'"),
        run_command(2, "/bin/sh -c 'echo 4 >> /run/order'"),
    ]);
    vm.apply(&again).await.unwrap();
    assert_eq!(vm.prints("cat /run/order").await, "1\n2\n3\n4\n");
    assert_eq!(vm.prints(loaded).await, "", "they are gone");

    // An outer layer patches what an inner one made.
    let patch = Patch {
        name: name("later"),
        mode: None,
        exec: Some(exec("later", "/bin/touch /run/patched")),
        enable: None,
        delete_after_success: false,
        settings: Settings::default(),
    };
    let patched = Services::new(vec![], vec![patch]).unwrap();
    vm.apply(&Setup { services: patched, ..Setup::default() }).await.unwrap();
    vm.prints("test -e /run/patched").await;
    vm.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_named_with_its_last_words() {
    let vm = OneVm::start().await;
    let setup = services(vec![
        run_command(1, "/bin/sh -c 'echo last words >&2; exit 3'"),
        run_command(2, "/bin/true"),
        service("fine", Mode::Oneshot, "/bin/true"),
    ]);
    let (phase, reason, error) = vm.fails(&setup).await;
    assert_eq!((phase, reason.as_str()), (Phase::Systemd, "run-1.service ended with status 3"));
    let SetupError::Failed { diagnostics: Some(diagnostics), .. } = error else { panic!() };
    let state_of = |unit: &str| {
        let group = diagnostics
            .service_states
            .iter()
            .find(|group| group.services.iter().any(|service| service == unit));
        group.map(|group| format!("{} {}", group.active_state, group.sub_state)).unwrap()
    };
    assert_eq!(state_of("run-1.service"), "failed failed");
    assert_eq!(state_of("run-2.service"), "inactive dead");
    assert_eq!(state_of("fine.service"), "active exited");
    let log = &diagnostics.failed_service_logs;
    assert!(log.len() == 1 && log[0].unit_name == "run-1.service", "{log:?}");
    assert!(log[0].log.contains("last words"), "{log:?}");

    for (service, words) in [
        (service("absent", Mode::Service, "/nonexistent"), "absent.service ended with status 203"),
        (service("unknown", Mode::Oneshot, "/bin/true"), "unknown.service ended with status 217"),
        (service("lonely", Mode::Oneshot, "/bin/true"), "lonely.service was not started"),
    ] {
        let mut service = service;
        match service.name.as_str() {
            "unknown" => service.settings.user = Some(account("nosuchuser")),
            "lonely" => service.settings.requires = units(&["no-such-unit"]),
            // Else it depends on the guest's speed whether it has been started too often.
            _ => service.settings.restart = Some(NEVER),
        }
        let (_, reason, _) = vm.fails(&services(vec![service])).await;
        assert!(reason.contains(words), "{reason}");
    }
    vm.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_waited_for_as_long_as_asked() {
    let vm = OneVm::start().await;
    let mut setup = services(vec![service("slow", Mode::Oneshot, "/bin/sleep inf")]);
    setup.ready = Ready { wait: true, timeout: Some(Duration::from_secs(2)) };
    let (_, reason, error) = vm.fails(&setup).await;
    assert_eq!(reason, "slow.service is still starting after 2 s");
    assert!(matches!(error, SetupError::Failed { diagnostics: Some(_), .. }));

    let command = "/bin/sh -c 'until test -e /run/go; do sleep 0.1; done; touch /run/done'";
    let mut setup = services(vec![run_command(1, command)]);
    setup.ready = Ready { wait: false, timeout: None };
    vm.apply(&setup).await.unwrap();
    vm.prints("! test -e /run/done && touch /run/go").await;
    vm.prints("while test -e /run/freestyle/systemd.sh; do sleep 0.1; done").await;
    vm.prints("test -e /run/done && ! test -e /etc/systemd/system/run-1.service").await;
    vm.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_installed_unless_they_are_there() {
    let vm = OneVm::start().await;
    let packages = |names: &[&str]| {
        let packages = names.iter().map(|name| AptPackage::parse(name).unwrap()).collect();
        Setup { packages: Packages::new(packages).unwrap(), ..Setup::default() }
    };
    vm.apply(&packages(&["git", "curl"])).await.unwrap();
    vm.prints("! ls /var/lib/apt/lists/*Packages* && ! command -v tree").await;
    vm.apply(&packages(&["git", "tree"])).await.unwrap();
    vm.prints("tree --version").await;
    let (phase, reason, _) = vm.fails(&packages(&["no-such-package"])).await;
    assert_eq!(phase, Phase::Packages);
    assert!(reason.contains("Unable to locate package no-such-package"), "{reason}");
    vm.end().await;
}
