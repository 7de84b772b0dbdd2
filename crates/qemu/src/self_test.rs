//! Whether this host can do what everything rests on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::disk::{self, Disk, Format, Layer};
use crate::memory::{Capture, Delta, SealedMemory, ram_start};
use crate::tiny_guest::{self, ROUND};
use crate::{Begin, Launch, MachineShape, Process, Qemu, QemuError, Qmp, launch, qmp_socket};

/// MiB of memory and of disk that the guest gets.
const SIZE_MIB: u64 = 16;
/// How long the guest may take to count, in software emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the test needs of the host.
#[derive(Debug)]
pub struct SelfTest<'a> {
    /// Marks the processes, as [`Launch::name`].
    pub name: &'a str,
    /// An empty directory for everything it writes.
    pub dir: &'a Path,
    /// The user QEMU runs as.
    pub uid: u32,
    /// The network namespace QEMU runs in.
    pub namespace: BorrowedFd<'a>,
}

impl SelfTest<'_> {
    /// Boots a guest of some 150 bytes, saves its memory, devices and disk while it counts, and
    /// restores them in another process, which must go on from the same number. Takes a second.
    /// `tap` opens the network device; it is called twice.
    pub async fn run(
        &self,
        qemu: &Qemu,
        mut tap: impl FnMut() -> io::Result<OwnedFd>,
    ) -> Result<(), QemuError> {
        let kernel = self.file("kernel", &tiny_guest::image())?;
        let initrd = self.file("initrd", b"none")?;
        let base = self.file("base.raw", &[])?;
        base_size(&base)?;
        let failed = QemuError::io("preparing the self-test");
        let zeroed = SealedMemory::zeroed(SIZE_MIB)?;
        let begin = Begin::Boot { kernel: &kernel, initrd: &initrd, cmdline: "" };
        let disk = self.disk(&["first"])?;
        let parent = self.start(qemu, &zeroed, disk, tap().map_err(failed)?, begin).await?;
        let saved = self.save(&parent).await;
        parent.end().await?;
        let moment = saved?;

        let (receiver, mut sender) =
            io::pipe().map_err(QemuError::io("preparing the self-test"))?;
        let begin = Begin::Restore { devices: receiver.into() };
        let disk = self.disk(&["second", "first"])?;
        let tap = tap().map_err(QemuError::io("preparing the self-test"))?;
        let child = self.start(qemu, &zeroed, disk, tap, begin).await?;
        let restored = async {
            let delta = Delta::open(&self.dir.join("memory"))?;
            delta.verify()?;
            delta.pour(child.process.pid(), SIZE_MIB)?;
            let devices = fs::read(self.dir.join("devices"));
            let devices = devices.map_err(QemuError::io("reading the devices"))?;
            let send = tokio::task::spawn_blocking(move || sender.write_all(&devices));
            let sent = send.await.map_err(|error| QemuError::Monitor(error.to_string()))?;
            sent.map_err(QemuError::io("handing over the devices"))?;
            child.qmp.wait_for_incoming().await?;
            let found = child.moment()?;
            if found != moment {
                return Err(wrong(format!("saved at {moment}, restored at {found}")));
            }
            child.qmp.resume().await?;
            child.count_beyond(moment + ROUND).await
        };
        let restored = restored.await;
        child.end().await?;
        restored
    }

    /// Freezes the counting guest. Answers the number it had come to.
    async fn save(&self, guest: &Guest) -> Result<u32, QemuError> {
        guest.qmp.resume().await?;
        guest.count_beyond(ROUND).await?;
        let capture = Capture::prepare(guest.process.pid(), SIZE_MIB, &self.dir.join("memory"))?;
        let devices = File::create(self.dir.join("devices"));
        let devices = devices.map_err(QemuError::io("creating a file for the devices"))?;
        guest.qmp.pause().await?;
        guest.qmp.save_devices(devices.as_fd()).await?;
        let copied = capture.copy()?;
        let moment = guest.moment()?;
        copied.finish(false)?;
        Ok(moment)
    }

    async fn start(
        &self,
        qemu: &Qemu,
        memory: &SealedMemory,
        disk: Disk,
        tap: OwnedFd,
        begin: Begin<'_>,
    ) -> Result<Guest, QemuError> {
        let shape = MachineShape { vcpus: 1, memory_mib: SIZE_MIB };
        let Self { name, dir, uid, namespace } = *self;
        let process =
            launch(qemu, Launch { name, shape, memory, disk, tap, begin, uid, namespace, dir })?;
        match Qmp::connect(&qmp_socket(dir)).await {
            Ok((qmp, _)) => Ok(Guest { process, qmp }),
            Err(error) => {
                process.kill().await?;
                Err(error)
            }
        }
    }

    /// The first of these layers on top of the others and the base.
    fn disk(&self, layers: &[&str]) -> Result<Disk, QemuError> {
        let [top, below @ ..] = layers else { return Err(wrong("no layer".to_owned())) };
        let path = self.dir.join(top);
        disk::create_overlay(&path, SIZE_MIB)?;
        let open =
            |name: &str| File::open(self.dir.join(name)).map_err(QemuError::io("opening a layer"));
        let mut disk = Disk {
            top: File::options()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(QemuError::io("opening a disk"))?,
            top_node: (*top).to_owned(),
            layers: Vec::new(),
        };
        for name in below {
            let (file, node) = (open(name)?, (*name).to_owned());
            disk.layers.push(Layer { file, format: Format::Qcow2, node });
        }
        let node = "base".to_owned();
        disk.layers.push(Layer { file: open("base.raw")?, format: Format::Raw, node });
        Ok(disk)
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<std::path::PathBuf, QemuError> {
        let path = self.dir.join(name);
        fs::write(&path, content).map_err(QemuError::io("preparing the self-test"))?;
        Ok(path)
    }
}

fn base_size(path: &Path) -> Result<(), QemuError> {
    let file = File::options().write(true).open(path);
    let sized = file.and_then(|file| file.set_len(SIZE_MIB << 20));
    sized.map_err(QemuError::io("preparing the self-test"))
}

fn wrong(what: String) -> QemuError {
    QemuError::SelfTest(what)
}

/// A guest that counts.
struct Guest {
    process: Process,
    qmp: Qmp,
}

impl Guest {
    async fn end(self) -> Result<(), QemuError> {
        self.process.kill().await
    }

    fn memory(&self) -> Result<Vec<u8>, QemuError> {
        let read = || -> io::Result<Vec<u8>> {
            let pid = self.process.pid();
            let start = ram_start(pid, SIZE_MIB)?;
            let mut memory = vec![0; tiny_guest::USED];
            File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut memory, start)?;
            Ok(memory)
        };
        read().map_err(QemuError::io("reading the guest's memory"))
    }

    fn moment(&self) -> Result<u32, QemuError> {
        tiny_guest::moment(&self.memory()?).map_err(wrong)
    }

    /// Waits until the guest has counted further than this.
    async fn count_beyond(&self, number: u32) -> Result<(), QemuError> {
        let wait = async {
            loop {
                let memory = self.memory()?;
                if tiny_guest::has_failed(&memory) {
                    return Err(wrong("the guest found something else on its disk".to_owned()));
                }
                if tiny_guest::counter(&memory) > number {
                    return Ok(());
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        waited.map_err(|_| QemuError::Timeout("the guest of the self-test"))?
    }
}
