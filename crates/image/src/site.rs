//! Where an image is built: one builder at a time, in a directory nobody else looks into.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{INITRD, KERNEL, ROOTFS};
use crate::command::Tool;
use crate::files::{blocking, remove_tree};
use crate::{ImageError, Progress};

/// Longer than a build over a slow line, with a second one queued in front.
const LOCK_LIMIT: Duration = Duration::from_secs(3600);
/// `flock` has no asynchronous form, so a waiter asks again.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// What a build needs free: the archive, the tree, and the filesystem made of it.
const MIN_FREE_BYTES: u64 = 3 << 30;

/// The right to build in a cache directory.
struct Lock(File);

impl Lock {
    async fn acquire(images: &Path, progress: &impl Fn(Progress)) -> Result<Self, ImageError> {
        let path = images.join(".lock");
        let opened = path.clone();
        let file = blocking(move || {
            let dir = opened.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(dir).map_err(ImageError::io(dir))?;
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).read(true);
            options.open(&opened).map_err(ImageError::io(&opened))
        })
        .await?;
        let wait = async {
            let mut announced = false;
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::Error(error)) => return Err(ImageError::io(&path)(error)),
                    Err(TryLockError::WouldBlock) => {}
                }
                if !announced {
                    progress(Progress::Waiting);
                    announced = true;
                }
                tokio::time::sleep(LOCK_INTERVAL).await;
            }
        };
        let what = "another process's build of a base image";
        tokio::time::timeout(LOCK_LIMIT, wait)
            .await
            .unwrap_or(Err(ImageError::Timeout { what, limit: LOCK_LIMIT }))?;
        Ok(Self(file))
    }
}

/// Where one image is being built. Nothing in it is visible to anyone until it is published.
pub(crate) struct Site {
    lock: Arc<Lock>,
    scratch: PathBuf,
}

impl Site {
    /// Waits for the right to build in a cache's directory of images.
    pub(crate) async fn acquire(
        images: &Path,
        progress: &impl Fn(Progress),
    ) -> Result<Self, ImageError> {
        let lock = Arc::new(Lock::acquire(images, progress).await?);
        Ok(Self { lock, scratch: images.join(".partial") })
    }

    /// For temporary files; on the cache's filesystem, readable by root alone (the tree holds
    /// set-uid programs), removed when the build ends or by the next one.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Where the finished root filesystem belongs.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.image_dir().join(ROOTFS)
    }

    /// Where the kernel belongs.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.image_dir().join(KERNEL)
    }

    /// Where the initial RAM disk belongs.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.image_dir().join(INITRD)
    }

    /// Holds those three, and becomes the image.
    pub(crate) fn image_dir(&self) -> PathBuf {
        self.scratch.join("image")
    }

    /// Runs a tool and returns its standard output; see [`Tool::run`].
    pub(crate) async fn run(
        &self,
        tool: Tool,
        on_line: impl FnMut(&str),
    ) -> Result<Vec<u8>, ImageError> {
        match tool.run(self.stdin()?, on_line).await {
            Err(ImageError::Tool { output, .. }) if output.contains("No space left on device") => {
                Err(ImageError::DiskFull { path: self.scratch.clone() })
            }
            result => result,
        }
    }

    /// Standard input for a tool: an empty file that is also the lock, so that the lock is held
    /// until the last tool is gone, whatever becomes of this process.
    pub(crate) fn stdin(&self) -> Result<File, ImageError> {
        self.lock.0.try_clone().map_err(ImageError::io(&self.scratch))
    }

    /// Runs file operations off the async threads. They cannot be stopped half-way, so they too
    /// hold the lock to their end.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let lock = Arc::clone(&self.lock);
        blocking(move || {
            let result = work();
            drop(lock);
            result
        })
        .await
    }

    /// Removes what an earlier build left and makes room for this one.
    pub(crate) async fn clear(&self) -> Result<(), ImageError> {
        let (scratch, image_dir) = (self.scratch.clone(), self.image_dir());
        self.blocking(move || {
            remove_tree(&scratch)?;
            DirBuilder::new().mode(0o700).create(&scratch).map_err(ImageError::io(&scratch))?;
            fs::create_dir(&image_dir).map_err(ImageError::io(&image_dir))?;
            let disk = rustix::fs::statvfs(&scratch)
                .map_err(|errno| ImageError::io(&scratch)(errno.into()))?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < MIN_FREE_BYTES {
                return Err(ImageError::DiskFull { path: scratch });
            }
            Ok(())
        })
        .await
    }

    /// Removes the scratch directory.
    pub(crate) async fn remove(&self) -> Result<(), ImageError> {
        let scratch = self.scratch.clone();
        self.blocking(move || remove_tree(&scratch)).await
    }
}
