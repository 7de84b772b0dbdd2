//! A gateway, an account with a VM, and OpenSSH on both sides.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use freestyle_access::{Access, VmAccess};
use freestyle_ssh::{Gateway, Guest, Guests, Patience, SigningKey};
use freestyle_store::{
    AccountId, IdentityId, NewVm, Persistence, Settled, Sizing, Store, VmId, VmSettings,
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than anything here takes, on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const SSHD: &str = "/usr/sbin/sshd";

/// What the sshd of the guest is like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Healthy,
    /// It asks for new keys after every few kilobytes.
    Rekeying,
    /// It lets nobody in.
    KnowsNoKey,
    /// It says a line and hangs up, as sshd does when it is too busy.
    HangsUp,
    /// It speaks, but not SSH.
    SpeaksHttp,
    /// It says nothing at all.
    Hangs,
    /// It cannot be reached.
    Down,
}

/// A guest: an sshd process per connection, with a key that it lets in.
#[derive(Clone)]
pub(crate) struct Processes {
    kind: Kind,
    folder: PathBuf,
    ended: watch::Sender<bool>,
    opened: Arc<Mutex<Vec<VmId>>>,
}

const GATEWAY_SEED: [u8; 32] = [7; 32];

impl Processes {
    fn new(kind: Kind, folder: &Path) -> Self {
        // sshd wants it, and on a host where it never ran as a service nothing has made it.
        std::fs::create_dir_all("/run/sshd").unwrap();
        SigningKey::open_or_create(&folder.join("guest-host-key")).unwrap();
        let known = match kind {
            Kind::KnowsNoKey => SigningKey::from_seed(&[8; 32]),
            _ => SigningKey::from_seed(&GATEWAY_SEED),
        };
        std::fs::write(folder.join("authorized_keys"), known.public_line()).unwrap();
        let rekey = if kind == Kind::Rekeying { "RekeyLimit 200K\n" } else { "" };
        let config = format!(
            "HostKey {folder}/guest-host-key\nAuthorizedKeysFile {folder}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nAcceptEnv LC_*\n\
             PermitRootLogin prohibit-password\nMaxSessions 100\nPidFile none\n\
             Subsystem sftp internal-sftp\nPrintMotd no\nPrintLastLog no\n{rekey}",
            folder = folder.display(),
        );
        std::fs::write(folder.join("sshd_config"), config).unwrap();
        let (ended, _) = watch::channel(false);
        Self { kind, folder: folder.to_owned(), ended, opened: Arc::default() }
    }

    fn sshd(&self) -> UnixStream {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let input = std::os::fd::OwnedFd::from(theirs);
        let output = input.try_clone().unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("sshd.log"))
            .unwrap();
        let mut sshd = Command::new(SSHD);
        sshd.args(["-i", "-e", "-f"]).arg(self.folder.join("sshd_config"));
        sshd.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(log);
        let mut child = sshd.spawn().unwrap();
        // It ends with its connection.
        tokio::spawn(async move { child.wait().await });
        ours.set_nonblocking(true).unwrap();
        UnixStream::from_std(ours).unwrap()
    }

    fn silent(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ended = self.ended.subscribe();
        tokio::spawn(async move {
            let _theirs = theirs;
            let _ = ended.wait_for(|ended| *ended).await;
        });
        ours
    }

    fn says(words: &'static [u8]) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move { theirs.write_all(words).await });
        ours
    }
}

impl Guests for Processes {
    type Stream = UnixStream;

    async fn open(&self, vm: &VmAccess) -> Result<Guest<UnixStream>, String> {
        self.opened.lock().unwrap().push(vm.vm().clone());
        let stream = match self.kind {
            Kind::Healthy | Kind::Rekeying | Kind::KnowsNoKey => self.sshd(),
            Kind::HangsUp => Self::says(b"Exceeded MaxStartups\r\n"),
            Kind::SpeaksHttp => Self::says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Kind::Hangs => self.silent(),
            Kind::Down => return Err("port 22 of the VM takes no connections".to_owned()),
        };
        let mut ended = self.ended.subscribe();
        Ok(Guest {
            stream,
            key: SigningKey::from_seed(&GATEWAY_SEED),
            ended: Box::pin(async move {
                let _ = ended.wait_for(|ended| *ended).await;
            }),
        })
    }
}

/// A gateway that runs, with an account that has a VM.
pub(crate) struct Test {
    pub(crate) store: Store,
    pub(crate) account: AccountId,
    pub(crate) api_key: String,
    pub(crate) vm: VmId,
    guests: Processes,
    port: u16,
    folder: TempDir,
    clients: AtomicUsize,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

/// An identity with a token.
pub(crate) struct Someone {
    pub(crate) identity: IdentityId,
    pub(crate) token: String,
}

impl Test {
    pub(crate) async fn new() -> Self {
        Self::with(Kind::Healthy).await
    }

    pub(crate) async fn with(kind: Kind) -> Self {
        Self::with_patience(kind, Patience::default()).await
    }

    pub(crate) async fn with_patience(kind: Kind, patience: Patience) -> Self {
        static LOG: Once = Once::new();
        LOG.call_once(|| {
            let log = tracing_subscriber::fmt().with_test_writer();
            log.with_max_level(tracing::Level::DEBUG).init();
        });
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let account = store.system().create_account("owner").await.unwrap().id;
        let (_, key) = store.account_scope(&account).create_api_key("test").await.unwrap();
        let vm = insert_vm(&store, &account).await;
        let guests = Processes::new(kind, folder.path());
        let host_key = SigningKey::open_or_create(&folder.path().join("host-key")).unwrap();
        let known = format!("freestyle-vm {}\n", host_key.public_line());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let access = Access::new(store.clone());
        let gateway = Gateway::new(access, guests.clone(), host_key, patience);
        let (stop, stopped) = oneshot::channel();
        let (_, others) = mpsc::channel(1);
        let served = tokio::spawn(gateway.serve(listener, others, async move {
            let _ = stopped.await;
        }));
        let api_key = key.expose().to_owned();
        let (stop, served) = (Some(stop), Some(served));
        let clients = AtomicUsize::new(0);
        Self { store, account, api_key, vm, guests, port, folder, clients, stop, served }
    }

    /// An identity that may use the VM.
    pub(crate) async fn someone(&self, users: Option<&[&str]>) -> Someone {
        let someone = self.nobody().await;
        let users: Option<Vec<String>> =
            users.map(|users| users.iter().map(|&user| user.to_owned()).collect());
        let scope = self.store.account_scope(&self.account);
        let key = scope.list_api_keys().await.unwrap().remove(0).id;
        scope.grant_vm(&someone.identity, &self.vm, users.as_deref(), &key).await.unwrap();
        someone
    }

    /// An identity that may do nothing.
    pub(crate) async fn nobody(&self) -> Someone {
        let scope = self.store.account_scope(&self.account);
        let identity = scope.create_identity().await.unwrap().id;
        let (_, token) = scope.create_token(&identity).await.unwrap();
        Someone { identity, token: token.expose().to_owned() }
    }

    /// A login name with a token that is good for it.
    pub(crate) async fn login(&self) -> String {
        format!("{}:{}", self.vm, self.someone(None).await.token)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How often the VM was connected to.
    pub(crate) fn opened(&self) -> usize {
        self.guests.opened.lock().unwrap().len()
    }

    /// The VM is stopped, or suspended, or deleted.
    pub(crate) fn end_guest(&self) {
        self.guests.ended.send_replace(true);
    }

    pub(crate) async fn shut_down(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(LIMIT, self.served.take().unwrap()).await.expect("it ends").unwrap();
    }

    /// What the guests' sshds said.
    pub(crate) fn sshd_log(&self) -> String {
        std::fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// Options with which every client of OpenSSH reaches the gateway as `vm`.
    fn options(&self, login: &str) -> Vec<String> {
        let known = self.path("known_hosts").display().to_string();
        let config = format!(
            "Host vm\nHostName 127.0.0.1\nPort {}\nUser {login}\nHostKeyAlias freestyle-vm\n\
             UserKnownHostsFile {known}\nGlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking yes\nIdentityFile none\nBatchMode yes\n",
            self.port,
        );
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let file = self.path(&format!("config-{number}"));
        std::fs::write(&file, config).unwrap();
        vec!["-F".to_owned(), file.display().to_string()]
    }

    /// A client of OpenSSH with a login name.
    pub(crate) fn client(&self, program: &str, login: &str) -> Command {
        let mut client = Command::new(program);
        client.args(self.options(login)).kill_on_drop(true);
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client.env("HOME", self.folder.path()).env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        client
    }

    /// Runs a command in the VM.
    pub(crate) async fn ssh(&self, login: &str, command: &str) -> Output {
        finish(self.client("ssh", login).args(["vm", command])).await
    }

    /// Runs a command that works, and answers what it printed.
    pub(crate) async fn run(&self, login: &str, command: &str) -> String {
        succeed(self.client("ssh", login).args(["vm", command])).await
    }
}

async fn insert_vm(store: &Store, account: &AccountId) -> VmId {
    let vm = NewVm {
        id: VmId::random(),
        sizing: Sizing { vcpus: 1, memory_mib: 512, disk_mib: 4096 },
        image: "image".to_owned(),
        origin: None,
    };
    let settings = VmSettings {
        name: None,
        persistence: Persistence::Persistent,
        idle_timeout_seconds: None,
        activity_threshold_bytes: None,
        recreate: false,
        nic: None,
    };
    let scope = store.account_scope(account);
    let (_, create) = scope.insert_vm(&vm, &settings, "create").await.unwrap();
    store.system().finish_operation(&create.id, Settled::Running).await.unwrap();
    vm.id
}

/// A VM of somebody else.
pub(crate) async fn foreign_vm(store: &Store) -> VmId {
    let account = store.system().create_account("stranger").await.unwrap().id;
    insert_vm(store, &account).await
}

/// Runs a program to its end.
pub(crate) async fn finish(command: &mut Command) -> Output {
    let output = timeout(LIMIT, command.output()).await;
    output.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap()
}

/// Runs a program that works, and answers what it printed.
pub(crate) async fn succeed(command: &mut Command) -> String {
    let output = finish(command).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Waits for a program that was started.
pub(crate) async fn ended(child: Child) -> Output {
    timeout(LIMIT, child.wait_with_output()).await.expect("it ends").unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A script that others can run.
pub(crate) fn script(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// Asks until the answer is yes.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{what} does not happen"));
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
