//! Machines for tests: real processes, launched as the product launches them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use freestyle_network::{Network, NetworkConfig};
use freestyle_qemu::disk::{self, Disk, Format, Layer};
use freestyle_qemu::memory::SealedMemory;
use freestyle_qemu::{
    AcceleratorChoice, Begin, Events, Launch, MachineShape, Process, Qemu, Qmp, SelfTest, launch,
    qmp_socket,
};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use freestyle_qemu::tiny_guest as kernel;

/// Memory of the guests in MiB.
pub(crate) const MEMORY_MIB: u64 = 16;
/// Size of the disks in MiB.
pub(crate) const DISK_MIB: u64 = 16;

/// Everything that machines need of the host.
pub(crate) struct Host {
    qemu: Qemu,
    network: Network,
    pub(crate) zeroed: SealedMemory,
    dir: TempDir,
    /// Among those of this process.
    number: u32,
}

static HOSTS: AtomicU32 = AtomicU32::new(0);

impl Host {
    pub(crate) fn new() -> Self {
        // Short: sockets are in it.
        let dir = tempfile::Builder::new().prefix("fs-").tempdir().unwrap();
        let path = PathBuf::from(
            std::env::var_os("FREESTYLE_QEMU").unwrap_or("qemu-system-x86_64".into()),
        );
        let network = Network::open(NetworkConfig::new(dir.path().join("network"))).unwrap();
        let boot = dir.path().join("boot");
        fs::create_dir(&boot).unwrap();
        fs::write(boot.join("kernel"), kernel::image()).unwrap();
        fs::write(boot.join("initrd"), "none").unwrap();
        let base = File::create(dir.path().join("base")).unwrap();
        base.set_len(DISK_MIB << 20).unwrap();
        Self {
            qemu: Qemu::probe(&path, AcceleratorChoice::Auto).unwrap(),
            network,
            zeroed: SealedMemory::zeroed(MEMORY_MIB).unwrap(),
            dir,
            number: HOSTS.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new overlay, open for reading and writing.
    pub(crate) fn overlay(&self, name: &str) -> File {
        disk::create_overlay(&self.path(name), DISK_MIB).unwrap();
        File::options().read(true).write(true).open(self.path(name)).unwrap()
    }

    /// A new overlay on these ones, from the top, and on the base.
    pub(crate) fn disk(&self, top: &str, layers: &[&str]) -> Disk {
        let layer = |name: &str, format| Layer {
            node: name.to_owned(),
            file: File::open(self.path(name)).unwrap(),
            format,
        };
        let mut layers: Vec<_> = layers.iter().map(|name| layer(name, Format::Qcow2)).collect();
        layers.push(layer("base", Format::Raw));
        Disk { top: self.overlay(top), top_node: top.to_owned(), layers }
    }

    /// Boots the counting guest.
    pub(crate) async fn boot(&self, slot: u16, disk: Disk) -> Machine {
        let machine = self.try_boot(slot, disk).await.unwrap();
        machine.qmp.resume().await.unwrap();
        machine
    }

    /// Starts a machine that would boot; fails with what QEMU said.
    pub(crate) async fn try_boot(&self, slot: u16, disk: Disk) -> Result<Machine, String> {
        let (kernel, initrd) = (self.path("boot/kernel"), self.path("boot/initrd"));
        let begin = Begin::Boot { kernel: &kernel, initrd: &initrd, cmdline: "" };
        self.launch(slot, disk, &self.zeroed, begin).await
    }

    /// Starts a machine that goes on from this memory once it has read its devices.
    pub(crate) async fn restore(
        &self,
        slot: u16,
        disk: Disk,
        memory: &SealedMemory,
        devices: impl Into<OwnedFd>,
    ) -> Machine {
        let begin = Begin::Restore { devices: devices.into() };
        self.launch(slot, disk, memory, begin).await.unwrap()
    }

    async fn launch(
        &self,
        slot: u16,
        disk: Disk,
        memory: &SealedMemory,
        begin: Begin<'_>,
    ) -> Result<Machine, String> {
        // Names of network namespaces: the host's, and of this form.
        let (process, number) = (std::process::id(), self.number);
        let name = format!("v{process:010}{number:04}{slot:05}");
        let network = self.network.create(&name, slot, None).await.unwrap();
        let dir = self.path(&name);
        fs::create_dir(&dir).unwrap();
        let namespace = network.namespace().unwrap();
        let process = launch(
            &self.qemu,
            Launch {
                name: &name,
                shape: MachineShape { vcpus: 1, memory_mib: MEMORY_MIB },
                memory,
                disk,
                tap: network.open_tap().unwrap(),
                begin,
                uid: network.uid(),
                namespace: namespace.as_fd(),
                dir: &dir,
            },
        );
        let process = KilledOnDrop(process.unwrap());
        let said = |error| {
            format!("{error}: {}", fs::read_to_string(dir.join("qemu.log")).unwrap_or_default())
        };
        let (qmp, events) = Qmp::connect(&qmp_socket(&dir)).await.map_err(said)?;
        Ok(Machine { process, qmp, events, name, dir })
    }

    /// The machine, as the next server finds it: the connection is another.
    pub(crate) async fn reconnect(&self, machine: Machine) -> Machine {
        let Machine { process, qmp, events, name, dir } = machine;
        drop((qmp, events));
        let (qmp, events) = Qmp::connect(&qmp_socket(&dir)).await.unwrap();
        Machine { process, qmp, events, name, dir }
    }

    pub(crate) async fn self_test(&self, slot: u16) -> Result<(), freestyle_qemu::QemuError> {
        let (process, number) = (std::process::id(), self.number);
        let name = format!("v{process:010}{number:04}{slot:05}");
        let network = self.network.create(&name, slot, None).await.unwrap();
        let dir = self.path(&name);
        fs::create_dir(&dir).unwrap();
        let namespace = network.namespace().unwrap();
        let (uid, namespace) = (network.uid(), namespace.as_fd());
        let test = SelfTest { name: &name, dir: &dir, uid, namespace };
        test.run(&self.qemu, || network.open_tap().map_err(std::io::Error::other)).await
    }

    /// Gives the host back what all machines used. They must have ended.
    pub(crate) async fn close(self) {
        for owned in self.network.list() {
            self.network.remove(&owned.instance).await.unwrap();
        }
        self.network.close().unwrap();
    }
}

pub(crate) struct Machine {
    pub(crate) process: KilledOnDrop,
    pub(crate) qmp: Qmp,
    pub(crate) events: Events,
    name: String,
    dir: PathBuf,
}

/// A process that does not outlive a test that failed.
pub(crate) struct KilledOnDrop(Process);

impl Deref for KilledOnDrop {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        if self.0.is_alive() {
            let pid = Pid::from_raw(self.0.pid()).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
    }
}

impl Machine {
    /// Ends it in order.
    pub(crate) async fn end(self) {
        self.qmp.quit().await.unwrap();
        self.process.exited().await;
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What the guest uses of its memory, as it is now.
    pub(crate) fn memory(&self) -> Vec<u8> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap();
        let line = maps.lines().find(|line| line.contains("memfd:freestyle-ram")).unwrap();
        let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        let mut memory = vec![0; kernel::USED];
        let process = File::open(format!("/proc/{}/mem", self.pid())).unwrap();
        process.read_exact_at(&mut memory, start).unwrap();
        memory
    }

    /// Waits until the guest has counted further than this; fails if its disk does.
    pub(crate) async fn count_beyond(&self, number: u32) {
        while kernel::counter(&self.memory()) <= number {
            assert!(!kernel::has_failed(&self.memory()), "something else is on its disk");
            // Gives the guest time, and fails when there is none.
            self.qmp.run_state().await.unwrap();
        }
    }

    /// Waits until the guest has found something else on its disk than it wrote there.
    pub(crate) async fn fail(&self) {
        while !kernel::has_failed(&self.memory()) {
            self.qmp.run_state().await.unwrap();
        }
    }

    /// The layers of disks that QEMU has open, and whether it can write them.
    pub(crate) fn disk_files(&self, host: &Host) -> BTreeSet<(String, bool)> {
        let process = Path::new("/proc").join(self.process.pid().to_string());
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(process.join("fd")).unwrap().flatten() {
            // One that was closed meanwhile is not open.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let Ok(info) = fs::read_to_string(process.join("fdinfo").join(entry.file_name()))
            else {
                continue;
            };
            if target.parent() != Some(host.dir.path()) {
                // Logs and kernel are in folders.
                continue;
            }
            let name = target.file_name().unwrap().to_str().unwrap().to_owned();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            found.insert((name, u32::from_str_radix(flags.trim(), 8).unwrap() & 3 != 0));
        }
        found
    }
}
