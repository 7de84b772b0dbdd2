//! Snapshots of the base image: booted once per hardware shape, then restored for every new VM.
//!
//! A template is taken when the guest is quiet and has run a few commands: clones of a busy guest
//! would each go on with its boot, and the pages that its first commands touched are shared by all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freestyle_guest_protocol::{AgentConnection, ExecEnd, ExecRequest};
use freestyle_image::Image;
use freestyle_network::Network;
use freestyle_qemu::disk::{self, Disk};
use freestyle_qemu::memory::{self, SealedMemory};
use freestyle_qemu::{Begin, Launch, MachineShape, Qemu, SelfTest, launch};
use freestyle_store::{InstanceId, Sizing};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::files::{Files, LayerName, failed, keep, read_json, remove_dir, sync_dir, write_json};
use super::running::{Running, unreachable};
use super::snapshots::{FrozenDisk, Machine, Memory, SnapshotManifest, Snapshots};
use super::{cmdline, nobody};
use crate::error::VmError;
use crate::model::{DEFAULT_SIZING, MIN_DISK_MIB};

/// The slot of the network in which templates are booted; VMs never get it.
const SLOT: u16 = freestyle_store::SLOTS;
const _: () = assert!(SLOT < freestyle_network::SLOTS);
/// How long a boot may take: in software emulation, next to other work.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How often a boot is tried.
const BOOT_TRIES: u32 = 3;
/// A guest that uses less of one CPU than this is quiet.
const QUIET_CPU: f64 = 0.08;
/// Windows of one second that must be quiet in a row.
const QUIET_WINDOWS: u32 = 3;
/// After this many windows the snapshot is taken anyway.
const MAX_WINDOWS: u32 = 60;

/// A snapshot of the base image for one shape: a snapshot of the data directory like any other.
#[derive(Debug)]
pub(crate) struct Template {
    /// Random: names this very snapshot, not what it was made from.
    pub(crate) id: String,
}

/// What sets one template of an image apart from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    vcpus: u32,
    memory_mib: u64,
    disk_mib: u64,
}

impl Shape {
    /// Disks of at least the default size grow from that; smaller ones from the smallest. So each
    /// pair of CPU and memory needs two boots at most, whatever disks are asked for.
    fn of(sizing: Sizing) -> Self {
        let default = DEFAULT_SIZING.disk_mib;
        let disk_mib = if sizing.disk_mib >= default { default } else { MIN_DISK_MIB };
        Self { vcpus: sizing.vcpus, memory_mib: sizing.memory_mib, disk_mib }
    }

    fn machine(self) -> MachineShape {
        MachineShape { vcpus: self.vcpus, memory_mib: self.memory_mib }
    }
}

/// Makes templates and keeps those in use.
#[derive(Debug)]
pub(crate) struct Templates {
    qemu: Qemu,
    files: Files,
    network: Network,
    image: Image,
    snapshots: Arc<Snapshots>,
    /// One per shape that was ever asked for; there are a few dozen at most.
    made: Mutex<HashMap<Shape, Cell>>,
    /// One boot at a time: it needs the slot, and two cores boot two guests no faster.
    boot: tokio::sync::Mutex<()>,
}

type Cell = Arc<OnceCell<Arc<Template>>>;

/// Proves that a template is complete and says what it fits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateManifest {
    /// Random. Two templates of equal inputs are still two: memory and disk of one must never meet
    /// those of the other.
    id: String,
    fits: Fits,
    /// Sizes of the files in bytes: a torn one is made again.
    sizes: Vec<(String, u64)>,
}

/// What a template was made from and for.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Fits {
    image: String,
    cmdline: String,
    machine: Machine,
    disk_mib: u64,
}

/// The files of a template beside its manifest. The base and what boots it are links to the
/// image's: an image that is built again has the same name and other bytes.
const FILES: [&str; 6] = ["memory", "devices", "disk.qcow2", "base.raw", "vmlinuz", "initrd"];

impl Templates {
    pub(crate) fn new(
        qemu: Qemu,
        files: Files,
        network: Network,
        image: Image,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        let (made, boot) = Default::default();
        Self { qemu, files, network, image, snapshots, made, boot }
    }

    /// The template for this size: at once if it was used before, after a fraction of a second if it
    /// is in the cache, after a boot otherwise.
    pub(crate) async fn get(&self, sizing: Sizing) -> Result<Arc<Template>, VmError> {
        let shape = Shape::of(sizing);
        let cell = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.entry(shape).or_default().clone()
        };
        cell.get_or_try_init(|| self.load_or_make(shape)).await.cloned()
    }

    async fn load_or_make(&self, shape: Shape) -> Result<Arc<Template>, VmError> {
        let fits = self.fits(shape);
        let dir = self.files.templates().join(key(&fits)?);
        if !is_complete(&dir, &fits) {
            let _boot = self.boot.lock().await;
            let _lock = self.lock().await?;
            // Another server of this cache may have made it while we waited.
            if !is_complete(&dir, &fits) {
                tracing::info!(?shape, "booting the base image once to snapshot it");
                let begun = Instant::now();
                self.make_with_retries(shape, &fits, &dir).await?;
                let seconds = begun.elapsed().as_secs();
                tracing::info!(?shape, seconds, "the snapshot of the base image is ready");
            }
        }
        let (files, snapshots) = (self.files.clone(), self.snapshots.clone());
        super::blocking(move || import(&files, &snapshots, &dir).map(Arc::new)).await
    }

    fn fits(&self, shape: Shape) -> Fits {
        Fits {
            image: self.image.hash.clone(),
            cmdline: cmdline(&self.qemu),
            machine: Machine::of(&self.qemu, shape.vcpus, shape.memory_mib),
            disk_mib: shape.disk_mib,
        }
    }

    /// Saves and restores a tiny guest; fails with the reason why this host cannot do that. What
    /// worked once with this kernel and QEMU is not tried again.
    pub(crate) async fn self_test(&self) -> Result<(), VmError> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let machine = Machine::of(&self.qemu, 1, 0);
        let passed = self.files.templates().join(format!("self-test-{}", key(&(kernel, machine))?));
        if fs::exists(&passed).unwrap_or(false) {
            return Ok(());
        }
        self.try_self().await?;
        fs::write(&passed, "").map_err(failed("writing", &passed))
    }

    async fn try_self(&self) -> Result<(), VmError> {
        let _boot = self.boot.lock().await;
        let instance = InstanceId::random();
        let dir = self.files.run(&instance);
        fs::create_dir(&dir).map_err(failed("making", &dir))?;
        let network = self.network.create(instance.as_str(), SLOT, None).await;
        let tested = async {
            let network = network.map_err(super::network_error)?;
            let namespace = network.namespace().map_err(super::network_error)?;
            let test = SelfTest {
                name: instance.as_str(),
                dir: &dir,
                uid: network.uid(),
                namespace: namespace.as_fd(),
            };
            let tap = || network.open_tap().map_err(std::io::Error::other);
            test.run(&self.qemu, tap).await.map_err(super::qemu_error)
        };
        let tested = tested.await;
        self.network.remove(instance.as_str()).await.map_err(super::network_error)?;
        remove_dir(&dir)?;
        tested
    }

    /// Keeps servers that share the cache from making the same thing twice.
    async fn lock(&self) -> Result<File, VmError> {
        let path = self.files.templates().join("lock");
        let lock = move || {
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(failed("opening", &path))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .map_err(|error| failed("locking", &path)(error.into()))?;
            Ok(file)
        };
        super::blocking(lock).await
    }

    /// Tries a boot that died again, for the same reason as a `Machine` does.
    async fn make_with_retries(
        &self,
        shape: Shape,
        fits: &Fits,
        dir: &Path,
    ) -> Result<(), VmError> {
        for _ in 1..BOOT_TRIES {
            match self.make(shape, fits, dir).await {
                Err(VmError::ExitDuringStart { reason }) => {
                    tracing::warn!(reason, "the base image did not boot; trying again");
                }
                result => return result,
            }
        }
        self.make(shape, fits, dir).await
    }

    /// Boots the image, waits until it is quiet, and writes the template beside its place.
    async fn make(&self, shape: Shape, fits: &Fits, dir: &Path) -> Result<(), VmError> {
        let beside = dir.with_extension("new");
        remove_dir(&beside)?;
        fs::create_dir_all(&beside).map_err(failed("making", &beside))?;
        let image = &self.image;
        let links =
            [(&image.rootfs, "base.raw"), (&image.kernel, "vmlinuz"), (&image.initrd, "initrd")];
        for (from, name) in links {
            let to = beside.join(name);
            fs::hard_link(from, &to).map_err(failed("linking", &to))?;
        }
        let instance = InstanceId::random();
        let made = self.boot_and_save(shape, &instance, &beside).await;
        self.network.remove(instance.as_str()).await.map_err(super::network_error)?;
        made?;
        for leftover in ["qmp", "agent", "console.log", "qemu.log"] {
            let _ = fs::remove_file(beside.join(leftover));
        }
        let manifest = TemplateManifest {
            id: instance.as_str().to_owned(),
            fits: fits.clone(),
            sizes: sizes(&beside)?,
        };
        write_json(&beside.join("manifest.json"), &manifest)?;
        remove_dir(dir)?;
        fs::rename(&beside, dir).map_err(failed("renaming to", dir))?;
        sync_dir(&self.files.templates())
    }

    async fn boot_and_save(
        &self,
        shape: Shape,
        instance: &InstanceId,
        dir: &Path,
    ) -> Result<(), VmError> {
        let network = self.network.create(instance.as_str(), SLOT, None).await;
        let network = network.map_err(super::network_error)?;
        let path = dir.join("disk.qcow2");
        disk::create_overlay(&path, shape.disk_mib).map_err(super::qemu_error)?;
        let top = File::options().read(true).write(true).open(&path);
        let base = dir.join("base.raw");
        let base = File::open(&base).map_err(failed("opening", &base))?;
        let layer = disk::Layer { file: base, format: disk::Format::Raw, node: "base".to_owned() };
        let top = top.map_err(failed("opening", &path))?;
        let disk = Disk { top, top_node: "disk".to_owned(), layers: vec![layer] };
        let namespace = network.namespace().map_err(super::network_error)?;
        let process = launch(
            &self.qemu,
            Launch {
                name: instance.as_str(),
                shape: shape.machine(),
                memory: &SealedMemory::zeroed(shape.memory_mib).map_err(super::qemu_error)?,
                disk,
                tap: network.open_tap().map_err(super::network_error)?,
                begin: Begin::Boot {
                    kernel: &dir.join("vmlinuz"),
                    initrd: &dir.join("initrd"),
                    cmdline: &cmdline(&self.qemu),
                },
                uid: network.uid(),
                namespace: namespace.as_fd(),
                dir,
            },
        )
        .map_err(super::qemu_error)?;
        let running = Running::new(process, dir.to_owned());
        let saved = save(&running, shape, dir).await;
        let ended = running.process.kill().await.map_err(super::qemu_error);
        saved.and(ended)
    }
}

/// Lets a machine boot, settle and write what makes up the template.
async fn save(running: &Running, shape: Shape, dir: &Path) -> Result<(), VmError> {
    let qmp = running.monitor().await?;
    qmp.resume().await.map_err(super::qemu_error)?;
    let grow_root = shape.disk_mib > MIN_DISK_MIB;
    running.greet(nobody(grow_root), BOOT_LIMIT).await?;
    let guest = running.guest().await?;
    // A unit that failed does not matter here; that all have been tried does.
    run(&guest, "systemctl is-system-running --wait || true").await?;
    warm_up(&guest).await?;
    run(&guest, "sync").await?;
    wait_until_quiet(running).await;
    warm_up(&guest).await?;
    drop(guest);
    running.disconnect().await;

    qmp.pause().await.map_err(super::qemu_error)?;
    let devices = dir.join("devices");
    let file = File::create(&devices).map_err(failed("creating", &devices))?;
    qmp.save_devices(file.as_fd()).await.map_err(super::qemu_error)?;
    file.sync_all().map_err(failed("syncing", &devices))?;
    let memory = dir.join("memory");
    let pid = running.process.pid();
    super::blocking(move || {
        memory::save(pid, shape.memory_mib, &memory).map_err(super::qemu_error)
    })
    .await?;
    qmp.quit().await.map_err(super::qemu_error)?;
    running.process.exited().await;
    let disk = dir.join("disk.qcow2");
    File::open(&disk).and_then(|file| file.sync_all()).map_err(failed("syncing", &disk))
}

/// Runs what first users run, so that its pages and translations are there.
pub(crate) async fn warm_up(guest: &AgentConnection) -> Result<(), VmError> {
    for command in ["true", "echo warm | cat", "ls / >/dev/null; id; uname -a; env"] {
        run(guest, command).await?;
    }
    guest.write_file(None, "/run/freestyle/warm", &[b'x'; 4096]).await.map_err(call_failed)?;
    guest.read_path(None, "/run/freestyle/warm", 1 << 20).await.map_err(call_failed)?;
    run(guest, "rm /run/freestyle/warm").await
}

async fn run(guest: &AgentConnection, command: &str) -> Result<(), VmError> {
    let request = ExecRequest {
        command: command.to_owned(),
        user: None,
        timeout: Some(BOOT_LIMIT),
        max_output: 1 << 20,
    };
    let outcome = guest.exec(request).await.map_err(call_failed)?;
    if outcome.end == ExecEnd::Exited(0) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
    Err(VmError::Internal(format!("preparing the guest: {command}: {:?} {text}", outcome.end)))
}

fn call_failed(error: freestyle_guest_protocol::CallError) -> VmError {
    match error {
        freestyle_guest_protocol::CallError::Link(link) => unreachable(link),
        other => VmError::Internal(format!("preparing the guest: {other}")),
    }
}

/// Waits until the guest has nothing to do, or for a bounded time.
async fn wait_until_quiet(running: &Running) {
    let window = Duration::from_secs(1);
    let mut quiet = 0;
    let mut before = running.process.cpu_time();
    for _ in 0..MAX_WINDOWS {
        tokio::time::sleep(window).await;
        let now = running.process.cpu_time();
        let used = now.unwrap_or_default().saturating_sub(before.unwrap_or_default());
        before = now;
        quiet = if used.as_secs_f64() < QUIET_CPU { quiet + 1 } else { 0 };
        if quiet == QUIET_WINDOWS {
            return;
        }
    }
    tracing::warn!("the guest did not become quiet; its clones will be slower at first");
}

/// Names everything that something depends on.
fn key(fits: &impl Serialize) -> Result<String, VmError> {
    let inputs = serde_json::to_vec(fits).map_err(|error| VmError::Internal(error.to_string()))?;
    Ok(Sha256::digest(inputs).iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

fn sizes(dir: &Path) -> Result<Vec<(String, u64)>, VmError> {
    let size = |name: &str| {
        let path = dir.join(name);
        let found = fs::metadata(&path).map_err(failed("reading", &path))?;
        Ok((name.to_owned(), found.len()))
    };
    FILES.into_iter().map(size).collect()
}

/// Whether `dir` holds a template that fits and has all of its files.
fn is_complete(dir: &Path, fits: &Fits) -> bool {
    let Ok(manifest) = read_json::<TemplateManifest>(&dir.join("manifest.json")) else {
        return false;
    };
    let complete = sizes(dir).is_ok_and(|sizes| sizes == manifest.sizes);
    if !complete || manifest.fits != *fits {
        tracing::warn!(?dir, "a damaged snapshot of the base image is made again");
    }
    complete && manifest.fits == *fits
}

/// Makes a complete template a snapshot of the data directory, whose VMs must not depend on a cache
/// that may be cleared.
fn import(files: &Files, snapshots: &Arc<Snapshots>, dir: &Path) -> Result<Template, VmError> {
    let TemplateManifest { id, fits, .. } = read_json(&dir.join("manifest.json"))?;
    snapshots.pin(&id);
    let layers = [
        ("disk.qcow2", "qcow2"),
        ("base.raw", "raw"),
        ("vmlinuz", "vmlinuz"),
        ("initrd", "initrd"),
    ];
    for (name, extension) in layers {
        keep(&dir.join(name), &files.layers().join(format!("{id}.{extension}")))?;
    }
    let to = snapshots.dir(&id);
    fs::create_dir_all(&to).map_err(failed("making", &to))?;
    keep(&dir.join("memory"), &snapshots.memory_file(&id))?;
    keep(&dir.join("devices"), &snapshots.devices_file(&id))?;
    let layer = |qcow2| LayerName { id: id.clone(), qcow2 };
    let disk = FrozenDisk {
        boot: id.clone(),
        mib: fits.disk_mib,
        layers: vec![layer(true), layer(false)],
    };
    let path = snapshots.devices_file(&id);
    let devices = fs::read(&path).map_err(failed("reading", &path))?;
    let mut manifest = SnapshotManifest::new(fits.machine, Memory::Whole, &devices);
    manifest.disk = Some(disk);
    write_json(&snapshots.manifest_file(&id), &manifest)?;
    sync_dir(&files.snapshots())?;
    Ok(Template { id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_any_size_share_two_templates() {
        let shape = |disk_mib| Shape::of(Sizing { disk_mib, ..DEFAULT_SIZING }).disk_mib;
        assert_eq!(shape(20 << 10), 20 << 10);
        assert_eq!(shape(80 << 10), 20 << 10);
        assert_eq!(shape(10 << 10), 4 << 10);
        assert_eq!(shape(4 << 10), 4 << 10);
    }
}
