//! The directory of built images: finding one, building one exactly once, noticing a damaged one.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{blocking, remove_tree, replace, sync};
use crate::site::Site;
use crate::spec::hex;
use crate::{ImageError, Progress};

/// The disk of a fresh VM has at least this size; the engine grows it per VM.
pub(crate) const DISK_MIB: u64 = 4096;

pub(crate) const ROOTFS: &str = "rootfs.raw";
pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const INITRD: &str = "initrd";
const MANIFEST: &str = "manifest.json";

const MANIFEST_FORMAT: u32 = 1;
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// A complete image in the cache. Its files are read-only and never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name of the image: the hash of what it was made from.
    pub hash: String,
    /// Raw ext4 filesystem without a partition table; the guest's `/dev/vda`.
    pub rootfs: PathBuf,
    /// Kernel for QEMU's `-kernel`.
    pub kernel: PathBuf,
    /// Initial RAM disk for QEMU's `-initrd`.
    pub initrd: PathBuf,
    /// Size of the filesystem in `rootfs`, in MiB. It can be resized online, up to 512 GiB.
    pub disk_mib: u64,
}

impl Image {
    /// Opens the image in `dir` and compares it with its manifest (kernel and initrd byte by byte,
    /// the root filesystem by its size). Fails with [`ImageError::Damaged`] where they differ, and
    /// with [`ImageError::Io`] of kind `NotFound` where there is no image.
    pub async fn load(dir: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let dir = dir.into();
        blocking(move || load(dir)).await
    }
}

/// What an image's directory must hold, written last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    hash: String,
    disk_mib: u64,
    kernel: FileRecord,
    initrd: FileRecord,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    bytes: u64,
    sha256: String,
}

impl FileRecord {
    fn of(path: &Path) -> Result<Self, ImageError> {
        let mut hasher = Sha256::new();
        let mut file = File::open(path).map_err(ImageError::io(path))?;
        let bytes = io::copy(&mut file, &mut hasher).map_err(ImageError::io(path))?;
        Ok(Self { bytes, sha256: hex(&hasher.finalize()) })
    }
}

fn load(dir: PathBuf) -> Result<Image, ImageError> {
    let damaged = |problem: String| ImageError::Damaged { dir: dir.clone(), problem };
    // Once there is a manifest, a file that is not there is damage.
    let lost = |error: ImageError| match error {
        ImageError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
            damaged(format!("{} is missing", path.display()))
        }
        other => other,
    };

    let path = dir.join(MANIFEST);
    let file = File::open(&path).map_err(ImageError::io(&path))?;
    let mut text = Vec::new();
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(ImageError::io(&path))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    if manifest.format != MANIFEST_FORMAT {
        return Err(damaged(format!("{MANIFEST}: unknown format {}", manifest.format)));
    }
    let image = Image {
        rootfs: dir.join(ROOTFS),
        kernel: dir.join(KERNEL),
        initrd: dir.join(INITRD),
        hash: manifest.hash,
        disk_mib: manifest.disk_mib,
    };
    let rootfs =
        fs::metadata(&image.rootfs).map_err(ImageError::io(&image.rootfs)).map_err(lost)?;
    if manifest.disk_mib.checked_mul(1 << 20) != Some(rootfs.len()) {
        return Err(damaged(format!("{ROOTFS} has {} bytes", rootfs.len())));
    }
    for (name, path, recorded) in
        [(KERNEL, &image.kernel, manifest.kernel), (INITRD, &image.initrd, manifest.initrd)]
    {
        if FileRecord::of(path).map_err(lost)? != recorded {
            return Err(damaged(format!("{name} has another checksum")));
        }
    }
    Ok(image)
}

/// The image if it is there and whole, `None` if it has to be built.
async fn find(dir: &Path, hash: &str) -> Result<Option<Image>, ImageError> {
    match Image::load(dir).await {
        Ok(image) if image.hash == hash => Ok(Some(image)),
        Ok(image) => {
            tracing::warn!(dir = %dir.display(), found = image.hash, "image of another name; rebuilding");
            Ok(None)
        }
        Err(ImageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error @ ImageError::Damaged { .. }) => {
            tracing::warn!(%error, "rebuilding");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the image named `hash`, after letting `build` fill a [`Site`] if it is not there.
pub(crate) async fn get_or_build(
    cache_dir: &Path,
    hash: &str,
    progress: &(impl Fn(Progress) + Sync),
    build: impl AsyncFnOnce(&Site) -> Result<(), ImageError>,
) -> Result<Image, ImageError> {
    let images = cache_dir.join("images");
    let dir = images.join(hash);
    if let Some(image) = find(&dir, hash).await? {
        return Ok(image);
    }
    let site = Site::acquire(&images, progress).await?;
    // Whoever held the lock may have built it.
    if let Some(image) = find(&dir, hash).await? {
        return Ok(image);
    }
    tracing::info!(hash, "building a base image");
    site.clear().await?;
    build(&site).await?;
    let published = dir.clone();
    let (from, name) = (site.image_dir(), hash.to_owned());
    site.blocking(move || publish(&from, &published, name)).await?;
    site.remove().await?;
    Image::load(dir).await
}

/// Checks in a finished image: writes the manifest, makes everything durable, gives it its name.
fn publish(from: &Path, to: &Path, hash: String) -> Result<(), ImageError> {
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        hash,
        disk_mib: DISK_MIB,
        kernel: FileRecord::of(&from.join(KERNEL))?,
        initrd: FileRecord::of(&from.join(INITRD))?,
    };
    let path = from.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
    text.and_then(|text| fs::write(&path, text)).map_err(ImageError::io(&path))?;
    for name in [ROOTFS, KERNEL, INITRD, MANIFEST] {
        let path = from.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o444)).map_err(ImageError::io(&path))?;
        sync(&path)?;
    }
    sync(from)?;
    remove_tree(to)?;
    replace(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const HASH: &str = "0123";

    fn ignore(_: Progress) {}

    /// Writes a small image of the right shape.
    fn fill(site: &Site) {
        fs::write(site.kernel(), "kernel").unwrap();
        fs::write(site.initrd(), "initrd").unwrap();
        File::create(site.rootfs()).unwrap().set_len(DISK_MIB << 20).unwrap();
    }

    /// Gets the image and says how many times it had to be built.
    async fn get(cache: &Path) -> (Image, usize) {
        let builds = AtomicUsize::new(0);
        let image = get_or_build(cache, HASH, &ignore, async |site| {
            builds.fetch_add(1, Ordering::Relaxed);
            fill(site);
            Ok(())
        });
        (image.await.unwrap(), builds.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn an_image_is_built_once_and_then_found() {
        let cache = tempfile::tempdir().unwrap();
        let (built, builds) = get(cache.path()).await;
        assert_eq!(builds, 1);
        assert_eq!(get(cache.path()).await, (built.clone(), 0));
        assert_eq!(Image::load(cache.path().join("images").join(HASH)).await.unwrap(), built);
        assert_eq!(built.hash, HASH);
        assert_eq!(fs::metadata(&built.rootfs).unwrap().permissions().mode() & 0o777, 0o444);
        assert!(!cache.path().join("images/.partial").exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_ask_at_the_same_time_share_one_build() {
        let cache = tempfile::tempdir().unwrap();
        let builds = Arc::new(AtomicUsize::new(0));
        // The builder ends only when somebody has said that they are waiting for it.
        let (waiting, mut waiters) = tokio::sync::mpsc::unbounded_channel();
        let waiters = Arc::new(tokio::sync::Mutex::new(Some(async move {
            waiters.recv().await;
        })));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (path, builds) = (cache.path().to_owned(), Arc::clone(&builds));
                let (waiting, waiters) = (waiting.clone(), Arc::clone(&waiters));
                tokio::spawn(async move {
                    let progress = move |step| {
                        assert_eq!(step, Progress::Waiting);
                        let _ = waiting.send(());
                    };
                    get_or_build(&path, HASH, &progress, async |site| {
                        builds.fetch_add(1, Ordering::Relaxed);
                        if let Some(waiter) = waiters.lock().await.take() {
                            waiter.await;
                        }
                        fill(site);
                        Ok(())
                    })
                    .await
                    .unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().hash, HASH);
        }
        assert_eq!(builds.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn every_kind_of_damage_is_found_and_repaired() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 7] = [
            (MANIFEST, |path| fs::write(path, "{").unwrap()),
            (MANIFEST, |path| fs::remove_file(path).unwrap()),
            (KERNEL, |path| fs::write(path, "kernal").unwrap()),
            (KERNEL, |path| fs::remove_file(path).unwrap()),
            (INITRD, |path| fs::write(path, "").unwrap()),
            (ROOTFS, |path| {
                OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
            }),
            (ROOTFS, |path| fs::remove_file(path).unwrap()),
        ];
        let cache = tempfile::tempdir().unwrap();
        let (image, _) = get(cache.path()).await;
        let dir = cache.path().join("images").join(HASH);
        for (name, damage) in damages {
            let path = dir.join(name);
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            damage(&path);
            assert!(Image::load(&dir).await.is_err(), "{name}");
            assert_eq!(get(cache.path()).await, (image.clone(), 1), "{name}");
        }
    }

    #[tokio::test]
    async fn a_failed_build_leaves_no_image_and_its_remains_go_with_the_next() {
        let cache = tempfile::tempdir().unwrap();
        let failed = get_or_build(cache.path(), HASH, &ignore, async |site| {
            fs::write(site.scratch().join("rest"), "").unwrap();
            Err(ImageError::NotRoot)
        });
        assert!(matches!(failed.await, Err(ImageError::NotRoot)));
        assert!(!cache.path().join("images").join(HASH).exists());
        let rest = cache.path().join("images/.partial/rest");
        assert!(rest.exists());
        assert_eq!(get(cache.path()).await.1, 1);
        assert!(!rest.exists());
    }

    #[tokio::test]
    async fn a_lock_lives_as_long_as_the_tools_of_its_builder() {
        let cache = tempfile::tempdir().unwrap();
        let mut tool = None;
        let abandoned = get_or_build(cache.path(), HASH, &ignore, async |site| {
            let mut command = std::process::Command::new("sleep");
            tool = Some(command.arg("600").stdin(site.stdin().unwrap()).spawn().unwrap());
            Err(ImageError::NotRoot)
        });
        abandoned.await.unwrap_err();

        let (waiting, mut told) = tokio::sync::mpsc::unbounded_channel();
        let path = cache.path().to_owned();
        let next = tokio::spawn(async move {
            let progress = move |_| waiting.send(()).unwrap();
            get_or_build(&path, HASH, &progress, async |site| {
                fill(site);
                Ok(())
            })
            .await
        });
        told.recv().await.expect("the next build waits for the tool that is still running");
        let mut tool = tool.unwrap();
        tool.kill().unwrap();
        tool.wait().unwrap();
        next.await.unwrap().unwrap();
    }
}
