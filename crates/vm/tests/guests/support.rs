//! A VM service with a data directory of its own, on the shared base image.

use std::path::PathBuf;
use std::time::Duration;

use freestyle_image::ImageSpec;
use freestyle_qemu::AcceleratorChoice;
use freestyle_store::{AccountId, InstanceId, Store, VmId};
use freestyle_vm::{Config, Exec, ExecOutput, LoginSecret, VmError, VmInfo, VmService};
use tempfile::TempDir;

pub(crate) struct Server {
    pub(crate) vms: VmService,
    pub(crate) account: AccountId,
    config: Config,
    dir: Place,
}

/// Where base images and their snapshots are shared between tests, runs and the real server.
fn cache_dir() -> PathBuf {
    std::env::var_os("FREESTYLE_CACHE_DIR").unwrap_or("/var/cache/freestyle".into()).into()
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
        // Short: sockets are in it.
        Self::start_on(Place {
            dir: tempfile::Builder::new().prefix("fs-").tempdir().unwrap(),
            mounted: false,
        })
        .await
    }

    pub(crate) async fn start_on(dir: Place) -> Self {
        let log = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO);
        let _ = log.try_init();
        let spec = ImageSpec::new(agent());
        let image = freestyle_image::ensure(&cache_dir(), &spec, |_| {}).await.unwrap();
        let config = Config {
            data_dir: dir.dir.path().to_owned(),
            cache_dir: cache_dir(),
            qemu: "qemu-system-x86_64".into(),
            accelerator: AcceleratorChoice::Auto,
            pool_size: 0,
            disk_budget: None,
            resolvers: Vec::new(),
            image,
            login_secret: LoginSecret::new([7; 32]),
        };
        let store = Store::open(&dir.dir.path().join("store.sqlite")).await.unwrap();
        let account = store.system().create_account("test").await.unwrap().id;
        let vms = VmService::open(config.clone(), store).await.unwrap();
        Self { vms, account, config, dir }
    }

    /// Ends the service in order and starts another on the same data.
    pub(crate) async fn restart(self) -> Self {
        let Self { vms, account, config, dir } = self;
        vms.shut_down().await;
        let store = Store::open(&dir.dir.path().join("store.sqlite")).await.unwrap();
        let vms = VmService::open(config.clone(), store).await.unwrap();
        Self { vms, account, config, dir }
    }

    /// For a server whose VMs were all deleted.
    pub(crate) async fn stop_and_check_nothing_is_left(self) {
        let Self { vms, dir, .. } = self;
        vms.shut_down().await;
        for kept in ["vms", "run"] {
            let left: Vec<_> = std::fs::read_dir(dir.dir.path().join(kept)).unwrap().collect();
            assert!(left.is_empty(), "{kept}: {left:?}");
        }
        let own = std::process::id().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let left: Vec<_> = processes
            .filter(|process| process.file_name() != *own && dir.is_used_by(&process.path()))
            .collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
    }

    /// Leaves 100 MiB of the data directory's file system.
    pub(crate) fn fill_disk(&self) -> PathBuf {
        let filler = self.dir.dir.path().join("filler");
        let file = std::fs::File::create(&filler).unwrap();
        let stat = rustix::fs::statvfs(self.dir.dir.path()).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free - (100 << 20)).unwrap();
        filler
    }

    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.dir.dir.path()
    }

    /// The folder of `/proc` of an instance's QEMU.
    pub(crate) fn process_of(&self, instance: &InstanceId) -> PathBuf {
        let is_its = |process: &std::fs::DirEntry| {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&format!("-name\0freestyle-{instance}\0"))
        };
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.find(is_its).expect("its QEMU runs").path()
    }

    /// Stops an instance's QEMU where it is.
    pub(crate) fn freeze(&self, instance: &InstanceId) {
        let process = self.process_of(instance);
        let pid = process.file_name().unwrap();
        let stopped = std::process::Command::new("kill").arg("-STOP").arg(pid).status();
        assert!(stopped.unwrap().success());
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

/// A data directory; removed at the end.
pub(crate) struct Place {
    dir: TempDir,
    mounted: bool,
}

impl Drop for Place {
    /// Also after a test that failed: its VMs would outlive it. The network that is left belongs to
    /// a data directory that is gone, and the next server cleans it up.
    fn drop(&mut self) {
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = process.file_name();
            if self.is_used_by(&process.path()) && name != *std::process::id().to_string() {
                let _ = std::process::Command::new("kill").arg("-9").arg(name).status();
            }
        }
        if self.mounted {
            let _ =
                std::process::Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        }
    }
}

impl Place {
    fn is_used_by(&self, process: &std::path::Path) -> bool {
        let files = std::fs::read_dir(process.join("fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(self.dir.path()))
        })
    }
}

/// A data directory on a file system of its own, of 3 GiB.
pub(crate) fn small_disk() -> Place {
    let dir = tempfile::Builder::new().prefix("fs-").tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=3g", "none"];
    let mounted = std::process::Command::new("mount").args(mount).arg(dir.path()).status();
    assert!(mounted.unwrap().success());
    Place { dir, mounted: true }
}

/// Fails the test when something takes longer than it may by far.
pub(crate) async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), work).await.expect("it took too long")
}

/// Runs a command as root.
pub(crate) async fn run(server: &Server, vm: &VmId, command: &str) -> Result<ExecOutput, VmError> {
    let timeout = Some(Duration::from_secs(60));
    let exec = Exec { command: command.to_owned(), user: None, timeout };
    server.vms.exec(&server.account, vm, exec).await
}
