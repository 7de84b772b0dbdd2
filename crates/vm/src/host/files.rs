//! Where a server keeps its files, and how they are written so that a crash leaves either the old
//! or the new.
//!
//! ```text
//! <data>/layers/      immutable files that disks stand on, each also in the cache it came from
//! <data>/vms/<vm>/    disk.qcow2 and manifest.json: all that is kept of a VM
//! <data>/run/<run>/   sockets and logs of a running instance
//! <cache>/images/     base images
//! <cache>/templates/  snapshots of base images, booted once per hardware shape
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use freestyle_qemu::disk::{Disk, Format, Layer};
use freestyle_qemu::sparse;
use freestyle_store::{InstanceId, VmId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::VmError;

/// Longest path of a data directory: the path of a unix socket below it must fit 107 bytes.
const MAX_DATA_DIR: usize = 70;
/// Space that must be free for a VM to be made or started.
const MIN_FREE: u64 = 512 << 20;
/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 64 << 10;

/// The directories of one server.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) data: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Files {
    /// Makes the directories that are missing.
    pub(crate) fn open(data: PathBuf, cache: PathBuf) -> Result<Self, VmError> {
        if data.as_os_str().len() > MAX_DATA_DIR {
            return Err(VmError::Internal(format!(
                "the path of the data directory {data:?} is longer than {MAX_DATA_DIR} bytes, so \
                 that the sockets in it could not be reached; choose a shorter one"
            )));
        }
        let files = Self { data, cache };
        for dir in
            [files.layers(), files.data.join("vms"), files.data.join("run"), files.templates()]
        {
            fs::create_dir_all(&dir).map_err(failed("making", &dir))?;
        }
        Ok(files)
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.cache.join("templates")
    }

    pub(crate) fn vm(&self, vm: &VmId) -> PathBuf {
        self.data.join("vms").join(vm.as_str())
    }

    pub(crate) fn disk(&self, vm: &VmId) -> PathBuf {
        self.vm(vm).join("disk.qcow2")
    }

    pub(crate) fn manifest(&self, vm: &VmId) -> PathBuf {
        self.vm(vm).join("manifest.json")
    }

    pub(crate) fn run(&self, instance: &InstanceId) -> PathBuf {
        self.data.join("run").join(instance.as_str())
    }

    /// Makes the immutable file `from` also a file of the data directory, under `name`: VMs must
    /// not depend on a cache that may be cleared. A link where the file system allows it.
    pub(crate) fn keep_layer(&self, from: &Path, name: &str) -> Result<(), VmError> {
        let to = self.layers().join(name);
        match fs::hard_link(from, &to) {
            Ok(()) => sync_dir(&self.layers()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let beside = self.layers().join(format!(".{name}.new"));
                let copy = || {
                    let copy = File::create(&beside)?;
                    sparse::copy(&File::open(from)?, &copy)?;
                    copy.sync_all()
                };
                copy().map_err(failed("copying a layer to", &beside))?;
                fs::rename(&beside, &to).map_err(failed("renaming to", &to))?;
                sync_dir(&self.layers())
            }
            Err(error) => Err(failed("linking", &to)(error)),
        }
    }

    /// Opens a VM's disk and every layer below it.
    pub(crate) fn open_disk(&self, vm: &VmId, manifest: &Manifest) -> Result<Disk, VmError> {
        let path = self.disk(vm);
        let top = File::options().read(true).write(true).open(&path);
        let top = top.map_err(failed("opening", &path))?;
        Ok(Disk { top, layers: self.open_layers(&manifest.layers)? })
    }

    /// Opens layers of the data directory.
    pub(crate) fn open_layers(&self, layers: &[LayerName]) -> Result<Vec<Layer>, VmError> {
        let open = |layer: &LayerName| {
            let path = self.layers().join(&layer.file);
            let file = File::open(&path).map_err(failed("opening", &path))?;
            let format = if layer.qcow2 { Format::Qcow2 } else { Format::Raw };
            Ok(Layer { file, format })
        };
        layers.iter().map(open).collect()
    }

    /// Fails when the host's disk is too full for one more VM to be started.
    pub(crate) fn check_space(&self) -> Result<(), VmError> {
        let stat = rustix::fs::statvfs(&self.data)
            .map_err(|error| failed("asking for the free space of", &self.data)(error.into()))?;
        let free = stat.f_bavail * stat.f_frsize;
        if free < MIN_FREE {
            return Err(VmError::NoCapacity(format!(
                "its disk has {} MiB left and {} are needed",
                free >> 20,
                MIN_FREE >> 20
            )));
        }
        Ok(())
    }
}

/// A layer by its file name in the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerName {
    pub(crate) file: String,
    pub(crate) qcow2: bool,
}

/// What a VM's files are. A new version is a new format; old ones must be read for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// The snapshot of the base image it was restored from: names the kernel it boots.
    pub(crate) template: String,
    /// The layers its disk stands on, from the top to the base.
    pub(crate) layers: Vec<LayerName>,
}

/// The version this build writes.
pub(crate) const MANIFEST_VERSION: u32 = 1;

/// Reads a JSON file of bounded size.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, VmError> {
    let read = || -> io::Result<T> {
        let file = File::open(path)?;
        if file.metadata()?.len() > MAX_MANIFEST {
            return Err(io::Error::other("it is too large"));
        }
        serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::other)
    };
    read().map_err(failed("reading", path))
}

/// Writes a JSON file that is complete or not there, also after a power failure.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), VmError> {
    let write = || -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(failed("writing", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes what happened to the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), VmError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))
}

/// Removes a directory and what is in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), VmError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", dir)(error))
        }
        _ => Ok(()),
    }
}

/// For `map_err`: says which file, and tells a full disk from other trouble.
pub(crate) fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> VmError {
    let text = format!("{doing} {path:?}");
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => VmError::NoCapacity(format!("{text}: its disk is full")),
        _ => VmError::Internal(format!("{text}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_kept_when_its_cache_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().join("data"), dir.path().join("cache")).unwrap();
        let cached = files.cache.join("base.raw");
        fs::write(&cached, "content").unwrap();

        files.keep_layer(&cached, "base.raw").unwrap();
        files.keep_layer(&cached, "base.raw").unwrap();
        fs::remove_dir_all(&files.cache).unwrap();

        assert_eq!(fs::read(files.layers().join("base.raw")).unwrap(), b"content");
    }

    #[test]
    fn a_manifest_is_read_as_written_and_a_strange_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        let layer = LayerName { file: "a.qcow2".to_owned(), qcow2: true };
        let manifest =
            Manifest { version: MANIFEST_VERSION, template: "t".to_owned(), layers: vec![layer] };
        write_json(&path, &manifest).unwrap();
        assert_eq!(read_json::<Manifest>(&path).unwrap(), manifest);

        fs::write(&path, r#"{"version":1,"template":"t"}"#).unwrap();
        assert!(read_json::<Manifest>(&path).is_err());
    }

    #[test]
    fn a_data_directory_with_a_long_path_is_refused() {
        let long = PathBuf::from(format!("/nonexistent/{}", "x".repeat(MAX_DATA_DIR)));
        assert!(Files::open(long, PathBuf::from("/nonexistent")).is_err());
    }
}
