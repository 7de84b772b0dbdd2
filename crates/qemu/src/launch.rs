//! The command line of a machine, and starting it.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;
use serde_json::{Value, json};

use crate::disk::{Disk, Format};
use crate::memory::SealedMemory;
use crate::process::NAME_PREFIX;
use crate::qmp::{READ_LABEL, WRITE_LABEL, fdset_path, reader_of, top_options};
use crate::{Accelerator, Process, Qemu, QemuError, qmp_socket};

/// Name of the virtio-serial port through which the guest agent talks:
/// `/dev/virtio-ports/` and this in the guest.
pub const AGENT_PORT: &str = "freestyle.agent";
/// A PCIe machine without the devices no guest needs: each would cost start-up time and be a way to
/// attack QEMU. Guest memory stays out of core dumps.
const MACHINE: &str = "q35,memory-backend=ram,suppress-vmdesc=on,dump-guest-core=off,vmport=off,\
    smm=off,smbus=off,sata=off,hpet=off";
/// Room for translated code, in MiB; it is used as far as there is code. When it is full QEMU throws
/// all of it away: with 32 a compiler in the guest takes almost three times as long, with 128 a
/// third longer.
const TRANSLATED_MIB: u32 = 256;
/// Every guest has the same address in a network namespace of its own, hence the same MAC.
const GUEST_MAC: &str = "02:00:00:00:00:02";

/// Where QEMU listens for the host's end of the agent port of the machine that runs in `dir`.
pub fn agent_socket(dir: &Path) -> PathBuf {
    dir.join("agent")
}

/// What the guest wrote to its serial console.
pub fn console_log(dir: &Path) -> PathBuf {
    dir.join("console.log")
}

/// What the guest's hardware looks like. Device state only fits a machine of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineShape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
}

/// How the machine begins.
#[derive(Debug)]
pub enum Begin<'a> {
    /// Boots this kernel from the disk.
    Boot {
        /// Kernel image.
        kernel: &'a Path,
        /// Initial RAM filesystem.
        initrd: &'a Path,
        /// Kernel command line.
        cmdline: &'a str,
    },
    /// Goes on where this device state was saved; paused until [`Qmp::resume`](crate::Qmp::resume).
    Restore {
        /// As [`Qmp::save_devices`](crate::Qmp::save_devices) wrote it: a file, or the reading end
        /// of a pipe. QEMU maps the memory, then waits on a pipe with its monitor answering, so
        /// that memory can be poured before anything looks at it.
        devices: OwnedFd,
    },
}

/// Everything a machine needs. QEMU inherits it as open descriptors and opens nothing by name.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Marks the process; found again by [`Process::scan`].
    pub name: &'a str,
    /// The hardware.
    pub shape: MachineShape,
    /// Guest RAM, of the shape's size.
    pub memory: &'a SealedMemory,
    /// The disk.
    pub disk: Disk,
    /// An open tap device with a virtio-net header.
    pub tap: OwnedFd,
    /// Boot or restore.
    pub begin: Begin<'a>,
    /// The user and group QEMU runs as.
    pub uid: u32,
    /// The network namespace QEMU runs in.
    pub namespace: BorrowedFd<'a>,
    /// Gets the sockets and logs; only root needs access.
    pub dir: &'a Path,
}

/// Numbers the descriptors a child will see, from the first after standard error.
#[derive(Default)]
struct Inherited {
    mappings: Vec<FdMapping>,
}

impl Inherited {
    fn push(&mut self, fd: OwnedFd) -> i32 {
        let child_fd = 3 + self.mappings.len() as i32;
        self.mappings.push(FdMapping { parent_fd: fd, child_fd });
        child_fd
    }
}

/// Starts QEMU. Blocks for a few milliseconds: it forks and execs. The monitor and the agent socket
/// can be connected to at once. Needs a running tokio.
pub fn launch(qemu: &Qemu, launch: Launch<'_>) -> Result<Process, QemuError> {
    let (uid, namespace) = (launch.uid, launch.namespace);
    let doing = format!("preparing to start VM {}", launch.name);
    let command = command(qemu, launch).map_err(QemuError::io(doing))?;
    let pid = spawn_in(namespace, uid, command).map_err(QemuError::io("starting QEMU"))?;
    Process::open(pid).map_err(QemuError::io("watching QEMU"))
}

fn command(qemu: &Qemu, launch: Launch<'_>) -> io::Result<Command> {
    let Launch { name, shape, memory, disk, tap, begin, dir, .. } = launch;
    let mut fds = Inherited::default();
    let mut command = Command::new(&qemu.path);
    let mut args = |list: &[&str]| {
        command.args(list);
    };

    args(&["-name", &format!("{NAME_PREFIX}{name}")]);
    args(&["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
    args(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    // A guest that reboots ends its process; the VM service then boots it from its disk. So a
    // restored machine needs no kernel in its memory for a reboot that may never come.
    args(&["-action", "reboot=shutdown"]);
    args(&["-M", MACHINE]);
    match qemu.accelerator {
        Accelerator::Kvm => args(&["-accel", "kvm", "-cpu", "host"]),
        Accelerator::Tcg => {
            let accel = format!("tcg,thread=multi,tb-size={TRANSLATED_MIB}");
            args(&["-accel", &accel, "-cpu", "max"]);
        }
    }
    args(&["-smp", &shape.vcpus.to_string(), "-m", &format!("{}M", shape.memory_mib)]);
    let memory_fd = fds.push(memory.file().try_clone()?.into());
    args(&[
        "-object",
        &format!(
            "memory-backend-file,id=ram,size={}M,mem-path=/proc/self/fd/{memory_fd},share=off,reserve=off",
            shape.memory_mib
        ),
    ]);
    // Device state is saved without RAM and without the section that describes the machine.
    args(&["-global", "migration.send-configuration=off"]);

    match begin {
        Begin::Boot { kernel, initrd, cmdline } => {
            let kernel = fds.push(File::open(kernel)?.into());
            let initrd = fds.push(File::open(initrd)?.into());
            args(&["-kernel", &format!("/proc/self/fd/{kernel}")]);
            args(&["-initrd", &format!("/proc/self/fd/{initrd}"), "-append", cmdline]);
        }
        Begin::Restore { devices } => {
            let devices = fds.push(devices);
            args(&["-incoming", &format!("fd:{devices}")]);
        }
    }

    let mut backing = Value::Null;
    for layer in disk.layers.into_iter().rev() {
        let fd = fds.push(layer.file.into());
        args(&["-add-fd", &format!("fd={fd},set={fd},opaque={READ_LABEL}{}", layer.node)]);
        let mut options = json!({
            "driver": layer.format.driver(),
            "node-name": layer.node,
            "read-only": true,
            "file": {
                "driver": "file",
                "filename": fdset_path(fd),
                "read-only": true,
                "auto-read-only": false,
            },
        });
        if layer.format == Format::Qcow2 {
            // Null as well: what a header names is not opened.
            options["backing"] = backing;
        }
        backing = layer.node.into();
        args(&["-blockdev", &options.to_string()]);
    }
    let node = disk.top_node;
    let reader = fds.push(reader_of(&disk.top)?.into());
    let top = fds.push(disk.top.into());
    args(&["-add-fd", &format!("fd={top},set={top},opaque={WRITE_LABEL}{node}")]);
    args(&["-add-fd", &format!("fd={reader},set={top},opaque={READ_LABEL}{node}")]);
    let mut options = top_options(&node, top);
    options["backing"] = backing;
    args(&["-blockdev", &options.to_string()]);
    args(&["-device", &format!("virtio-blk-pci,drive={node}")]);

    let tap = fds.push(tap);
    args(&["-netdev", &format!("tap,id=net,fd={tap}")]);
    args(&["-device", &format!("virtio-net-pci,netdev=net,mac={GUEST_MAC},romfile=")]);

    let agent = fds.push(listen(&agent_socket(dir))?);
    args(&["-device", "virtio-serial-pci,max_ports=2"]);
    args(&["-chardev", &format!("socket,id=agent,fd={agent},server=on,wait=off")]);
    args(&["-device", &format!("virtserialport,chardev=agent,name={AGENT_PORT}")]);
    args(&["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]);

    let console = fds.push(append(&console_log(dir))?);
    args(&["-add-fd", &format!("fd={console},set={console}")]);
    args(&["-chardev", &format!("file,id=console,path={}", fdset_path(console))]);
    args(&["-serial", "chardev:console"]);
    let monitor = fds.push(listen(&qmp_socket(dir))?);
    args(&["-chardev", &format!("socket,id=monitor,fd={monitor},server=on,wait=off")]);
    args(&["-mon", "chardev=monitor,mode=control"]);

    let log = append(&dir.join("qemu.log"))?;
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.fd_mappings(fds.mappings).map_err(io::Error::other)?;
    Ok(command)
}

/// A listening socket in place of whatever an earlier process left at `path`.
fn listen(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(UnixListener::bind(path)?.into())
}

fn append(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::options().append(true).create(true).mode(0o600).open(path)?.into())
}

/// Starts the command as `uid` in a network namespace, from a thread that ends afterwards: a thread
/// cannot be trusted with other work once it has changed its namespace.
fn spawn_in(namespace: BorrowedFd<'_>, uid: u32, mut command: Command) -> io::Result<Pid> {
    std::thread::scope(|scope| {
        let spawn = move || {
            let network = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace, network)?;
            let child = command.uid(uid).gid(uid).spawn()?;
            Ok(Pid::from_child(&child))
        };
        scope.spawn(spawn).join().unwrap_or_else(|_| Err(io::Error::other("the spawner panicked")))
    })
}
