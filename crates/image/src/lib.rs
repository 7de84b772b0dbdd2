//! The base image that every VM starts from: Debian with systemd, sshd, the guest agent and the
//! full-flavour kernel (it has `CONFIG_VMGENID`), as the three files QEMU boots.
//!
//! This crate owns what is *inside* the machine before anyone has used it, how that is built, and
//! the cache of built images. It does not boot anything, knows no VM and takes no snapshot.
//!
//! # How an image comes about
//!
//! ```text
//! package list, suite, mirror --(bootstrap: mmdebstrap)--> bootstrap/<key>.tar
//!   + guest files, agent, CA certificates --(rootfs)--> directory tree
//!     --(initrd)--> initrd          the modules that mount the root, and a ten-line init
//!     --(filesystem)--> rootfs.raw  ext4, no partition table
//! ```
//!
//! Every input enters a hash and the hash names the image, so an image is never changed in place:
//! VMs and snapshots may stand on it. The hash says what went in, not which bytes came out: Debian's
//! archive moves on underneath. `<cache>/images/<hash>/` holds `rootfs.raw`, `vmlinuz`, `initrd`
//! and `manifest.json`.
//!
//! # Invariants
//!
//! * A directory named by a hash is complete: it is built beside, synced, then renamed. What a
//!   damaged disk does to it later is found by its manifest, and it is built again.
//! * One builder per cache directory at a time, across processes; the lock outlives a killed
//!   builder until the last tool it started is gone.
//! * No host key, no machine id, no password and no random seed is in an image: all clones of a VM
//!   would share it.

mod bootstrap;
mod cache;
mod command;
mod error;
mod files;
mod filesystem;
mod initrd;
mod rootfs;
mod site;
mod spec;

use std::fmt;
use std::path::Path;

pub use cache::Image;
pub use error::ImageError;
pub use spec::{DEFAULT_SUITE, ImageSpec};

/// The kernel command line to boot an image with.
///
/// What is in it and why:
/// * `panic=-1` reboots at once on a panic, so that QEMU (run with `-no-reboot`) ends instead of
///   leaving a dead machine.
/// * `net.ifnames=0` keeps the NIC's name `eth0` whatever PCI slot it is in.
/// * `nowatchdog tsc=reliable` leave out periodic checks that wake every idle clone and misfire
///   after a restore, when the guest's clocks jump.
/// * `no5lvl` spares one level of every page-table walk; no guest needs 128 PiB of address space.
/// * `lsm=` names Debian's security modules without those that want a policy nobody wrote (SELinux,
///   SMACK, TOMOYO, IPE) and without BPF, for which systemd compiles a program at every boot.
/// * `quiet` and `systemd.show_status=error` keep the serial console, whose every byte is an exit
///   to QEMU, for messages that say something is wrong.
/// * `norandmaps`, under software emulation alone, puts programs and libraries at the same
///   addresses each time they start. QEMU keeps what it has translated by address: randomised, each
///   new process is translated anew, which is two thirds of the time to start one. A guest that
///   wants them randomised sets `kernel.randomize_va_space`; nothing between guests, or between
///   guest and host, stands on it.
/// * `clearcpuid=cx16`, also under emulation alone, keeps the kernel's allocators from `cmpxchg16b`.
///   QEMU before 8.0 emulates it wrong: it takes the flags for computed already, so that bits of a
///   pointer become NT and AC, and the kernel dies of the next `iret`. Programs still see the
///   instruction, as x86-64-v2 has it; not removed from the CPU also since the kernels of snapshots
///   use it.
pub fn kernel_cmdline(is_emulated: bool) -> String {
    let mut cmdline = String::from(
        "root=/dev/vda rootfstype=ext4 rw console=ttyS0 panic=-1 net.ifnames=0 \
         nowatchdog tsc=reliable no5lvl \
         lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor \
         quiet systemd.show_status=error",
    );
    if is_emulated {
        cmdline.push_str(" norandmaps clearcpuid=cx16");
    }
    cmdline
}

/// What [`ensure`] is doing, for a person who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process builds in the same cache directory.
    Waiting,
    /// Debian packages are being downloaded and installed; the installer's latest line.
    Bootstrapping(String),
    /// The agent and the configuration are being put in place.
    Configuring,
    /// The root filesystem is being written.
    WritingFilesystem,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for another build of a base image"),
            Self::Bootstrapping(line) => write!(f, "installing Debian: {line}"),
            Self::Configuring => f.write_str("configuring the guest"),
            Self::WritingFilesystem => f.write_str("writing the root filesystem"),
        }
    }
}

/// Returns the image of `spec`, from `cache_dir` or built there.
///
/// Costs tens of milliseconds when cached. Building needs root and takes about a minute of CPU, a
/// download of some 150 MiB from the Debian archive, and 350 MiB of disk for the image and as much
/// again for the archive of packages; if only the agent or the configuration changed, it takes
/// seconds and no download. Dropping the future stops the build; what it leaves behind is removed
/// by the next one.
pub async fn ensure(
    cache_dir: &Path,
    spec: &ImageSpec,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Image, ImageError> {
    let spec = spec.clone();
    let inputs = files::blocking(move || spec.read()).await?;
    let hash = inputs.hash();
    cache::get_or_build(cache_dir, &hash, &progress, async |site| {
        site.blocking(command::check_host).await?;
        let archive = bootstrap::ensure(site, cache_dir, &inputs.system, &progress).await?;
        progress(Progress::Configuring);
        let tree = rootfs::unpack(site, &archive).await?;
        rootfs::configure(site, &tree, &inputs).await?;
        initrd::build(site, &tree).await?;
        progress(Progress::WritingFilesystem);
        filesystem::write(site, &tree, &inputs.hash()).await
    })
    .await
}
