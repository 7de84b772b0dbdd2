//! Where a server keeps its files, and how they are written so that a crash leaves either the old
//! or the new.
//!
//! ```text
//! <data>/layers/          immutable files that disks stand on
//! <data>/snapshots/<id>/  memory, devices and manifest.json; its disk is in layers/
//! <data>/vms/<vm>/        manifest.json and the disk it names: all that is kept of a VM
//! <data>/run/<run>/       sockets and logs of a running instance, and which memory it began with
//! <cache>/images/         base images
//! <cache>/templates/      snapshots of base images, booted once per hardware shape
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
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
/// More bytes than any identifier has.
const MAX_ID: u64 = 100;
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
        let dirs =
            [files.layers(), files.snapshots(), files.vms(), files.runs(), files.templates()];
        for dir in dirs {
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

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.data.join("snapshots")
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.data.join("vms")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.data.join("run")
    }

    pub(crate) fn vm(&self, vm: &VmId) -> PathBuf {
        self.vms().join(vm.as_str())
    }

    /// The file that the guest of this VM writes to.
    pub(crate) fn disk(&self, vm: &VmId, manifest: &Manifest) -> PathBuf {
        self.vm(vm).join(format!("{}.qcow2", manifest.disk))
    }

    pub(crate) fn manifest(&self, vm: &VmId) -> PathBuf {
        self.vm(vm).join("manifest.json")
    }

    pub(crate) fn read_manifest(&self, vm: &VmId) -> Result<Manifest, VmError> {
        let path = self.manifest(vm);
        let manifest: Manifest = read_json(&path)?;
        if manifest.version == MANIFEST_VERSION {
            return Ok(manifest);
        }
        let version = manifest.version;
        Err(VmError::Internal(format!("{path:?} has format {version}; this build knows format 1")))
    }

    pub(crate) fn run(&self, instance: &InstanceId) -> PathBuf {
        self.runs().join(instance.as_str())
    }

    /// Holds the identifier of the snapshot whose memory an instance maps; absent or empty for one
    /// that booted. It means nothing once the process is gone, so it need not survive the host.
    pub(crate) fn base(&self, instance: &InstanceId) -> PathBuf {
        self.run(instance).join("base")
    }

    /// The snapshot whose memory an instance maps.
    pub(crate) fn read_base(&self, instance: &InstanceId) -> Result<Option<String>, VmError> {
        let path = self.base(instance);
        let mut base = String::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_ID).read_to_string(&mut base));
        read.map_err(failed("reading", &path))?;
        Ok(Some(base).filter(|base| !base.is_empty()))
    }

    /// Opens a VM's disk and every layer below it.
    pub(crate) fn open_disk(&self, vm: &VmId, manifest: &Manifest) -> Result<Disk, VmError> {
        let path = self.disk(vm, manifest);
        let top = File::options().read(true).write(true).open(&path);
        let top = top.map_err(failed("opening", &path))?;
        let open = |layer: &LayerName| {
            let path = self.layers().join(layer.file());
            let file = File::open(&path).map_err(failed("opening", &path))?;
            let format = if layer.qcow2 { Format::Qcow2 } else { Format::Raw };
            Ok(Layer { file, format, node: layer.node() })
        };
        let layers = manifest.layers.iter().map(open).collect::<Result<_, VmError>>()?;
        Ok(Disk { top, top_node: manifest.disk.clone(), layers })
    }

    /// Bytes that may still be written.
    pub(crate) fn free_space(&self) -> Result<u64, VmError> {
        let stat = rustix::fs::statvfs(&self.data)
            .map_err(|error| failed("asking for the free space of", &self.data)(error.into()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Fails when the host's disk is too full for one more VM to be started.
    pub(crate) fn check_space(&self) -> Result<(), VmError> {
        let free = self.free_space()?;
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

/// An immutable layer of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerName {
    /// The snapshot or template for which it was frozen.
    pub(crate) id: String,
    pub(crate) qcow2: bool,
}

impl LayerName {
    pub(crate) fn file(&self) -> String {
        format!("{}.{}", self.id, if self.qcow2 { "qcow2" } else { "raw" })
    }

    /// QEMU's name for it, which must begin with a letter.
    pub(crate) fn node(&self) -> String {
        format!("{}-{}", if self.qcow2 { "q" } else { "r" }, self.id)
    }
}

/// What a VM's files are. A new version is a new format; old ones must be read for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// The template whose kernel and initial RAM file system it boots.
    pub(crate) boot: String,
    /// The file in the VM's directory that it writes to, without `.qcow2`, and the name of QEMU's
    /// node for it.
    pub(crate) disk: String,
    /// Size that the guest has seen, in MiB; smaller than the VM's if it is yet to grow.
    pub(crate) disk_mib: u64,
    /// The layers its disk stands on, from the top to the base.
    pub(crate) layers: Vec<LayerName>,
}

/// The version this build writes.
pub(crate) const MANIFEST_VERSION: u32 = 1;

/// Reads a JSON file of bounded size.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, VmError> {
    read_json_up_to(path, MAX_MANIFEST)
}

/// As [`read_json`], for a file of another size.
pub(crate) fn read_json_up_to<T: DeserializeOwned>(path: &Path, max: u64) -> Result<T, VmError> {
    let read = || -> io::Result<T> {
        let file = File::open(path)?;
        if file.metadata()?.len() > max {
            return Err(io::Error::other("it is too large"));
        }
        serde_json::from_reader(io::BufReader::new(file)).map_err(io::Error::other)
    };
    read().map_err(failed("reading", path))
}

/// Writes a JSON file that is complete or not there, also after a power failure.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), VmError> {
    replace_json(path, value, true)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes a JSON file that is complete or not there, unless the host crashes.
pub(crate) fn write_json_loosely<T: Serialize>(path: &Path, value: &T) -> Result<(), VmError> {
    replace_json(path, value, false)
}

fn replace_json<T: Serialize>(path: &Path, value: &T, sync: bool) -> Result<(), VmError> {
    let write = || -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&beside, path)
    };
    write().map_err(failed("writing", path))
}

/// Makes the immutable file `from` also `to`, under a name that may be there already. A link where
/// the file system allows it, else a copy.
pub(crate) fn keep(from: &Path, to: &Path) -> Result<(), VmError> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let beside = to.with_added_extension("new");
            let copy = || {
                let copy = File::create(&beside)?;
                sparse::copy(&File::open(from)?, &copy)?;
                copy.sync_all()
            };
            copy().map_err(failed("copying to", &beside))?;
            fs::rename(&beside, to).map_err(failed("renaming to", to))?;
        }
        Err(error) => return Err(failed("linking", to)(error)),
    }
    to.parent().map_or(Ok(()), sync_dir)
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), VmError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes what happened to the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), VmError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))
}

/// Bytes of the host's disk that a file takes; 0 if it is not there.
pub(crate) fn occupied(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.blocks() * 512)
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
    fn a_file_is_kept_when_its_cache_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().join("data"), dir.path().join("cache")).unwrap();
        let cached = files.cache.join("base.raw");
        fs::write(&cached, "content").unwrap();
        let kept = files.layers().join("base.raw");

        keep(&cached, &kept).unwrap();
        keep(&cached, &kept).unwrap();
        fs::remove_dir_all(&files.cache).unwrap();

        assert_eq!(fs::read(kept).unwrap(), b"content");
    }

    #[test]
    fn a_manifest_is_read_as_written_and_a_strange_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifest.json");
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            boot: "t".to_owned(),
            disk: "disk".to_owned(),
            disk_mib: 4096,
            layers: vec![LayerName { id: "a".to_owned(), qcow2: true }],
        };
        write_json(&path, &manifest).unwrap();
        assert_eq!(read_json::<Manifest>(&path).unwrap(), manifest);

        fs::write(&path, r#"{"version":1,"boot":"t"}"#).unwrap();
        assert!(read_json::<Manifest>(&path).is_err());
    }

    #[test]
    fn a_data_directory_with_a_long_path_is_refused() {
        let long = PathBuf::from(format!("/nonexistent/{}", "x".repeat(MAX_DATA_DIR)));
        assert!(Files::open(long, PathBuf::from("/nonexistent")).is_err());
    }
}
