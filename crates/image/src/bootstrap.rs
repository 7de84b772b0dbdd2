//! Stage one: Debian's packages, unpacked and configured by mmdebstrap, as a tar archive.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Tool;
use crate::files;
use crate::site::Site;
use crate::spec::System;
use crate::{ImageError, Progress};

/// What is in every VM besides Debian's essential packages and apt.
pub(crate) const PACKAGES: &[&str] = &[
    // The machine.
    "linux-image-amd64", // not the cloud flavour, which lacks CONFIG_VMGENID
    "busybox-static",    // the initrd's tools
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "udev",
    "kmod",
    "e2fsprogs",
    "util-linux",
    // Network.
    "iproute2",
    "iputils-ping",
    "netbase",
    "nftables",
    "ca-certificates",
    "curl",
    "openssh-server",
    "openssh-sftp-server",
    // What people and build scripts take for granted.
    "bash",
    "git",
    "less",
    "nano",
    "procps",
    "rsync",
    "sudo",
    "xz-utils",
    "zstd",
];

/// Paths that no package may unpack, now or later in the guest: documentation as in Debian's
/// container images, and drivers of hardware that no QEMU guest has. Fewer drivers also mean a
/// faster boot, since udev loads whatever matches a device of the board.
pub(crate) const EXCLUDED_PATHS: &[&str] = &[
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/lib/modules/*/kernel/sound/*",
    "/usr/lib/modules/*/kernel/net/bluetooth/*",
    "/usr/lib/modules/*/kernel/net/mac80211/*",
    "/usr/lib/modules/*/kernel/net/nfc/*",
    "/usr/lib/modules/*/kernel/net/wireless/*",
    "/usr/lib/modules/*/kernel/drivers/accel/*",
    "/usr/lib/modules/*/kernel/drivers/ata/*",
    "/usr/lib/modules/*/kernel/drivers/bluetooth/*",
    "/usr/lib/modules/*/kernel/drivers/comedi/*",
    "/usr/lib/modules/*/kernel/drivers/edac/*",
    "/usr/lib/modules/*/kernel/drivers/firewire/*",
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/hwmon/*",
    "/usr/lib/modules/*/kernel/drivers/i2c/busses/*",
    "/usr/lib/modules/*/kernel/drivers/iio/*",
    "/usr/lib/modules/*/kernel/drivers/infiniband/*",
    "/usr/lib/modules/*/kernel/drivers/input/joystick/*",
    "/usr/lib/modules/*/kernel/drivers/input/mouse/*",
    "/usr/lib/modules/*/kernel/drivers/input/touchscreen/*",
    "/usr/lib/modules/*/kernel/drivers/isdn/*",
    "/usr/lib/modules/*/kernel/drivers/leds/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/mfd/*",
    "/usr/lib/modules/*/kernel/drivers/mmc/*",
    "/usr/lib/modules/*/kernel/drivers/mtd/*",
    "/usr/lib/modules/*/kernel/drivers/net/ethernet/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/drivers/net/wwan/*",
    "/usr/lib/modules/*/kernel/drivers/platform/*",
    "/usr/lib/modules/*/kernel/drivers/soundwire/*",
    "/usr/lib/modules/*/kernel/drivers/staging/*",
    "/usr/lib/modules/*/kernel/drivers/thunderbolt/*",
    "/usr/lib/modules/*/kernel/drivers/ufs/*",
    "/usr/lib/modules/*/kernel/drivers/video/*",
    "/usr/lib/modules/*/kernel/drivers/watchdog/*",
];

/// Exceptions from [`EXCLUDED_PATHS`]: licences, and what the C library reads.
pub(crate) const INCLUDED_PATHS: &[&str] =
    &["/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias"];

/// mmdebstrap's options; the rest of its command line follows from the inputs.
pub(crate) const ARGUMENTS: &[&str] = &[
    "--mode=root",
    "--variant=minbase",
    "--format=tar",
    "--architectures=amd64",
    // The initrd that Debian makes is thrown away: let it make a small one.
    "--essential-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\"",
    "--essential-hook=echo MODULES=list >\"$1/etc/initramfs-tools/conf.d/freestyle\"",
];

/// Files are never newer than this (the release of Debian 13), so that equal packages give an
/// equal archive.
pub(crate) const SOURCE_DATE_EPOCH: &str = "1754697600";

/// They serve to make images of new agents, and they are large.
const KEPT_ARCHIVES: usize = 2;

/// 150 MiB over a slow line, and the installation on a slow machine.
const LIMIT: Duration = Duration::from_secs(1800);

/// Returns the archive of the installed system, from the cache or after downloading it.
pub(crate) async fn ensure(
    site: &Site,
    cache_dir: &Path,
    system: &System,
    progress: &(impl Fn(Progress) + Sync),
) -> Result<PathBuf, ImageError> {
    let dir = cache_dir.join("bootstrap");
    let archive = dir.join(format!("{}.tar", system.key()));
    let wanted = archive.clone();
    if site.blocking(move || Ok(wanted.is_file())).await? {
        return Ok(archive);
    }

    let partial = site.scratch().join("bootstrap.tar");
    let tool = Tool::on_host("mmdebstrap", LIMIT)
        .args(ARGUMENTS)
        // dpkg goes by the last pattern that matches.
        .args(EXCLUDED_PATHS.iter().map(|path| format!("--dpkgopt=path-exclude={path}")))
        .args(INCLUDED_PATHS.iter().map(|path| format!("--dpkgopt=path-include={path}")))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args(system.packages.iter().map(|package| format!("--include={package}")))
        .arg(&system.suite)
        .arg(&partial)
        .args(sources(system))
        .env("TMPDIR", site.scratch())
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH);
    site.run(tool, |line| progress(Progress::Bootstrapping(line.to_owned())))
        .await
        .map_err(classify)?;

    let result = archive.clone();
    site.blocking(move || {
        fs::create_dir_all(&dir).map_err(ImageError::io(&dir))?;
        remove_oldest(&dir, KEPT_ARCHIVES - 1)?;
        files::sync(&partial)?;
        files::replace(&partial, &archive)
    })
    .await?;
    Ok(result)
}

/// Removes archives but the newest `kept`.
fn remove_oldest(dir: &Path, kept: usize) -> Result<(), ImageError> {
    let mut archives = fs::read_dir(dir)
        .and_then(|entries| {
            let age = |entry: fs::DirEntry| Ok((entry.metadata()?.modified()?, entry.path()));
            entries.map(|entry| entry.and_then(age)).collect::<io::Result<Vec<_>>>()
        })
        .map_err(ImageError::io(dir))?;
    archives.sort();
    for (_, archive) in archives.iter().rev().skip(kept) {
        fs::remove_file(archive).map_err(ImageError::io(archive))?;
    }
    Ok(())
}

/// apt's sources, for the build and the guest; none leaves them to mmdebstrap.
fn sources(system: &System) -> Vec<String> {
    let Some(mirror) = &system.mirror else { return Vec::new() };
    let suite = &system.suite;
    vec![
        format!("deb {mirror} {suite} main"),
        format!("deb {mirror} {suite}-updates main"),
        format!("deb {mirror}-security {suite}-security main"),
    ]
}

/// Tells what the operator can do something about, the network, from other failures.
fn classify(error: ImageError) -> ImageError {
    const SIGNS: &[&str] = &["Failed to fetch", "Unable to fetch", "does not have a Release file"];
    match error {
        ImageError::Tool { output, .. } if SIGNS.iter().any(|sign| output.contains(sign)) => {
            ImageError::Download { output }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_newest_archives_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("a", 30), ("b", 10), ("c", 20)] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        let left = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        remove_oldest(dir.path(), 3).unwrap();
        assert_eq!(left(), ["a", "b", "c"]);
        remove_oldest(dir.path(), 1).unwrap();
        assert_eq!(left(), ["b"]);
    }

    #[test]
    fn a_mirror_serves_all_three_suites() {
        let mirror = Some("http://mirror.test/debian".to_owned());
        let system = System { suite: "trixie".into(), mirror, packages: [].into() };
        assert_eq!(
            sources(&system),
            [
                "deb http://mirror.test/debian trixie main",
                "deb http://mirror.test/debian trixie-updates main",
                "deb http://mirror.test/debian-security trixie-security main",
            ]
        );
        assert!(sources(&System { mirror: None, ..system }).is_empty());
    }
}
