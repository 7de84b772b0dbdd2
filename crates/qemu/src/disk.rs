//! Disk layers: immutable files below, one writable qcow2 file on top.
//!
//! The names of the layers below are never written into a qcow2 header: the whole chain is given to
//! QEMU on its command line, so that a file cannot make QEMU open another one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::QemuError;

/// How the bytes of a layer are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk, in order.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl Format {
    /// QEMU's name of the driver.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// An immutable layer, opened for reading.
#[derive(Debug)]
pub struct Layer {
    /// How the monitor names it; see [`Disk::top_node`].
    pub node: String,
    /// The open file.
    pub file: File,
    /// Its format.
    pub format: Format,
}

/// A VM's disk: what it writes goes to `top`, what it never wrote is read from the layers.
#[derive(Debug)]
pub struct Disk {
    /// A qcow2 file opened for reading and writing.
    pub top: File,
    /// How the monitor names it: a letter, then at most 30 letters, digits, `-`, `.` and `_`;
    /// different for each layer.
    pub top_node: String,
    /// From the one right below `top` down to the base.
    pub layers: Vec<Layer>,
}

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of 8 bytes that fit in a cluster.
const ENTRIES: u64 = CLUSTER / 8;
/// The incompatible-feature-free version 3 header.
const HEADER_BYTES: u32 = 104;
/// Refcounts are 16 bits wide: 2 to the power of 4.
const REFCOUNT_ORDER: u32 = 4;

/// Writes an empty qcow2 file of `size_mib` at `path`, which must not exist, with mode 0600.
///
/// The format is fixed by QEMU's `docs/interop/qcow2.txt`; writing the 200 KB ourselves saves a
/// child process on the way to every VM.
pub fn create_overlay(path: &Path, size_mib: u64) -> Result<(), QemuError> {
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&empty_qcow2(size_mib << 20))
    };
    write().map_err(QemuError::io(format!("creating the disk {path:?}")))
}

/// The clusters of an empty image, in order: header, refcount table, refcount block, L1 table.
fn empty_qcow2(size: u64) -> Vec<u8> {
    let l1_entries = size.div_ceil(ENTRIES * CLUSTER);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let clusters = 3 + l1_clusters;
    let mut image = Vec::with_capacity((clusters * CLUSTER) as usize);

    image.extend_from_slice(b"QFI\xfb");
    image.extend_from_slice(&3u32.to_be_bytes());
    image.extend_from_slice(&[0; 12]); // no backing file name: offset (8) and length (4)
    image.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    image.extend_from_slice(&size.to_be_bytes());
    image.extend_from_slice(&0u32.to_be_bytes()); // not encrypted
    image.extend_from_slice(&(l1_entries as u32).to_be_bytes());
    image.extend_from_slice(&(3 * CLUSTER).to_be_bytes()); // L1 table
    image.extend_from_slice(&CLUSTER.to_be_bytes()); // refcount table
    image.extend_from_slice(&1u32.to_be_bytes()); // its clusters
    image.extend_from_slice(&[0; 12]); // no internal snapshots: count (4) and offset (8)
    image.extend_from_slice(&[0; 24]); // no features: incompatible, compatible, autoclear
    image.extend_from_slice(&REFCOUNT_ORDER.to_be_bytes());
    image.extend_from_slice(&HEADER_BYTES.to_be_bytes());

    image.resize(CLUSTER as usize, 0);
    image.extend_from_slice(&(2 * CLUSTER).to_be_bytes()); // the only refcount block
    image.resize(2 * CLUSTER as usize, 0);
    for _ in 0..clusters {
        image.extend_from_slice(&1u16.to_be_bytes());
    }
    image.resize((clusters * CLUSTER) as usize, 0);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_a_few_clusters_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        create_overlay(&path, 20 * 1024).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 4 * CLUSTER);
        assert!(create_overlay(&path, 20 * 1024).is_err());
    }

    #[test]
    fn the_l1_table_covers_the_largest_disk() {
        // One L1 entry covers 512 MiB, so 512 GiB need 1024 entries: one cluster.
        assert_eq!(empty_qcow2(512 << 30).len() as u64, 4 * CLUSTER);
        assert_eq!(empty_qcow2(8 << 40).len() as u64, 3 * CLUSTER + 2 * CLUSTER);
    }
}
