//! A VM service with a data directory of its own, on the shared base image.

use std::path::PathBuf;
use std::time::Duration;

use freestyle_image::ImageSpec;
use freestyle_qemu::AcceleratorChoice;
use freestyle_store::{AccountId, Store, VmId};
use freestyle_vm::{Config, Exec, ExecOutput, VmError, VmInfo, VmService};
use tempfile::TempDir;

pub(crate) struct Server {
    pub(crate) vms: VmService,
    pub(crate) account: AccountId,
    config: Config,
    dir: TempDir,
}

/// Where base images and their snapshots are shared between tests and runs.
fn cache_dir() -> PathBuf {
    let from = |name| std::env::var_os(name).map(PathBuf::from);
    from("FREESTYLE_CACHE_DIR")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("freestyle")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/freestyle")))
        .expect("a home directory")
}

/// The agent that `cargo xtask test` builds before it runs the tests.
fn agent() -> PathBuf {
    std::env::var_os("FREESTYLE_GUEST_AGENT").map(PathBuf::from).expect(
        "run the tests with `cargo xtask test`, or set FREESTYLE_GUEST_AGENT to a release build \
         of the guest agent",
    )
}

impl Server {
    pub(crate) async fn start() -> Self {
        let log = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO);
        let _ = log.try_init();
        // Short: sockets are in it.
        let dir = tempfile::Builder::new().prefix("fs-").tempdir().unwrap();
        let spec = ImageSpec::new(agent());
        let image = freestyle_image::ensure(&cache_dir(), &spec, |_| {}).await.unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            cache_dir: cache_dir(),
            qemu: "qemu-system-x86_64".into(),
            accelerator: AcceleratorChoice::Auto,
            pool_size: 0,
            resolvers: Vec::new(),
            image,
        };
        let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        let vms = VmService::open(config.clone(), store).await.unwrap();
        Self { vms, account, config, dir }
    }

    /// Ends the service in order and starts another on the same data.
    pub(crate) async fn restart(self) -> Self {
        let Self { vms, account, config, dir } = self;
        vms.shut_down().await;
        let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
        let vms = VmService::open(config.clone(), store).await.unwrap();
        Self { vms, account, config, dir }
    }

    /// For a server whose VMs were all deleted.
    pub(crate) async fn stop_and_check_nothing_is_left(self) {
        let Self { vms, dir, .. } = self;
        vms.shut_down().await;
        for kept in ["vms", "run"] {
            let left: Vec<_> = std::fs::read_dir(dir.path().join(kept)).unwrap().collect();
            assert!(left.is_empty(), "{kept}: {left:?}");
        }
        let own = dir.path().to_str().unwrap();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&command).contains(own), "a process is left");
        }
    }

    /// Waits until the VM is as wanted.
    pub(crate) async fn wait_for(&self, vm: &VmId, wanted: impl Fn(&VmInfo) -> bool) {
        let wait = async {
            while !wanted(&self.vms.get(&self.account, vm).await.unwrap()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(180), wait).await.unwrap();
    }
}

/// Runs a command as root.
pub(crate) async fn run(server: &Server, vm: &VmId, command: &str) -> Result<ExecOutput, VmError> {
    let timeout = Some(Duration::from_secs(60));
    let exec = Exec { command: command.to_owned(), user: None, timeout };
    server.vms.exec(&server.account, vm, exec).await
}
