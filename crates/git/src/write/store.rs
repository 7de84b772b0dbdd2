//! New objects on disk, durable before any ref needs them.
//!
//! A few objects are written loose, as git does; many become one pack file, because each file costs
//! a flush to disk.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::ObjectId;
use gix_object::{Exists, Kind};

use crate::GitError;
use crate::disk::{create_synced, sync_directory};
use crate::objects::{Reader, SHA1};

/// More objects than these become a pack.
const MOST_LOOSE: usize = 12;

/// Objects that are not stored yet.
#[derive(Debug, Default)]
pub(super) struct NewObjects {
    objects: HashMap<ObjectId, (Kind, Bytes)>,
}

impl NewObjects {
    /// Adds an object, unless the repository has it, and answers its id.
    pub(super) fn add(
        &mut self,
        reader: &Reader<'_>,
        kind: Kind,
        bytes: Bytes,
    ) -> Result<ObjectId, GitError> {
        let id = gix_object::compute_hash(SHA1, kind, &bytes).map_err(GitError::objects)?;
        // The empty tree seems to be there always.
        if self.objects.contains_key(&id) || reader.odb.exists(&id) {
            return Ok(id);
        }
        self.objects.insert(id, (kind, bytes));
        Ok(id)
    }

    /// Writes all of them. They are durable when this returns.
    pub(super) fn write(self, repository: &Path) -> Result<(), GitError> {
        let objects = repository.join("objects");
        let written = if self.objects.len() <= MOST_LOOSE {
            let mut each = self.objects.into_iter();
            let loose =
                each.try_for_each(|(id, (kind, bytes))| write_loose(&objects, id, kind, &bytes));
            // Folders may be new, or made by a process that did not get to flush them.
            loose.and_then(|()| sync_directory(&objects))
        } else {
            write_pack(&objects.join("pack"), self.objects)
        };
        written.map_err(GitError::io("cannot write the objects of a commit"))
    }
}

fn write_loose(objects: &Path, id: ObjectId, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    write!(encoder, "{kind} {}\0", bytes.len())?;
    encoder.write_all(bytes)?;
    // Not in the folder: what a crash leaves is found in one place.
    let temporary = Temporary::new(objects, "obj");
    create_synced(&temporary.0, &encoder.finish()?)?;
    set_read_only(&temporary.0)?;
    let hex = id.to_string();
    let folder = objects.join(&hex[..2]);
    move_into(&temporary.0, &folder, &hex[2..])?;
    sync_directory(&folder)
}

/// Moves a file into a folder, which git removes whenever it is empty.
fn move_into(file: &Path, folder: &Path, name: &str) -> io::Result<()> {
    const ATTEMPTS: usize = 8;
    let mut last = io::ErrorKind::NotFound.into();
    for _ in 0..ATTEMPTS {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match fs::rename(file, folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// Writes a pack of whole objects, without deltas (the upkeep makes those), and its index.
fn write_pack(folder: &Path, objects: HashMap<ObjectId, (Kind, Bytes)>) -> io::Result<()> {
    let mut objects: Vec<_> = objects.into_iter().collect();
    objects.sort_unstable_by_key(|(id, _)| *id);
    let temporary = Temporary::new(folder, "pack");
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary.0)?;
    let mut pack = Pack { file: io::BufWriter::new(file), hasher: gix_hash::hasher(SHA1), at: 0 };
    let count = u32::try_from(objects.len()).map_err(io::Error::other)?;
    pack.write(b"PACK\0\0\0\x02")?;
    pack.write(&count.to_be_bytes())?;
    let mut places = Vec::with_capacity(objects.len());
    for (id, (kind, bytes)) in &objects {
        let mut entry = entry_head(*kind, bytes.len());
        let mut encoder = ZlibEncoder::new(&mut entry, Compression::fast());
        encoder.write_all(bytes)?;
        encoder.finish()?;
        places.push(Place { id: *id, offset: pack.at, crc: crc32fast::hash(&entry) });
        pack.write(&entry)?;
    }
    let checksum = pack.hasher.try_finalize().map_err(io::Error::other)?;
    pack.file.write_all(checksum.as_slice())?;
    pack.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    set_read_only(&temporary.0)?;

    let index = Temporary::new(folder, "idx");
    create_synced(&index.0, &encode_index(&places, checksum)?)?;
    set_read_only(&index.0)?;
    // The index last: git sees a pack by its index.
    fs::rename(&temporary.0, folder.join(format!("pack-{checksum}.pack")))?;
    fs::rename(&index.0, folder.join(format!("pack-{checksum}.idx")))?;
    sync_directory(folder)
}

struct Pack {
    file: io::BufWriter<fs::File>,
    hasher: gix_hash::Hasher,
    at: u64,
}

impl Pack {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// Where an object is in a pack.
struct Place {
    id: ObjectId,
    offset: u64,
    crc: u32,
}

/// Kind and size in front of an object in a pack: four bits of the size in the first byte, seven in
/// each further one.
fn entry_head(kind: Kind, size: usize) -> Vec<u8> {
    let kind = match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    };
    let mut head = Vec::new();
    let mut byte = (kind << 4) | (size & 0x0f) as u8;
    let mut rest = size >> 4;
    while rest > 0 {
        head.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    head.push(byte);
    head
}

/// Version 2 of the index of a pack. `places` are ordered by id.
fn encode_index(places: &[Place], pack_checksum: ObjectId) -> io::Result<Vec<u8>> {
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255u8 {
        let up_to = places.partition_point(|place| place.id.as_slice()[0] <= first);
        index.extend_from_slice(&u32::try_from(up_to).map_err(io::Error::other)?.to_be_bytes());
    }
    for place in places {
        index.extend_from_slice(place.id.as_slice());
    }
    for place in places {
        index.extend_from_slice(&place.crc.to_be_bytes());
    }
    for place in places {
        // Larger offsets have a table of their own; commits are limited to much less.
        let offset = u32::try_from(place.offset).ok().filter(|offset| *offset < 1 << 31);
        let offset = offset.ok_or_else(|| io::Error::other("the pack is too large"))?;
        index.extend_from_slice(&offset.to_be_bytes());
    }
    index.extend_from_slice(pack_checksum.as_slice());
    let mut hasher = gix_hash::hasher(SHA1);
    hasher.update(&index);
    let checksum = hasher.try_finalize().map_err(io::Error::other)?;
    index.extend_from_slice(checksum.as_slice());
    Ok(index)
}

/// A file that is removed unless it was renamed. Git takes it for its own and would remove it too.
struct Temporary(PathBuf);

impl Temporary {
    fn new(folder: &Path, what: &str) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the operating system has a random source");
        Self(folder.join(format!("tmp_{what}_{:016x}", u64::from_le_bytes(random))))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn set_read_only(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o444))
}
