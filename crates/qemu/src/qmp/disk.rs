//! What the monitor does to the disk of a running machine: a layer on top, and fewer below.
//!
//! Files are handed over as descriptors. QEMU keeps each in a set, opens `/dev/fdset/N` from it, and
//! never drops it by itself. Every descriptor carries a label that names the node it belongs to, so
//! what is no longer needed is read off QEMU itself ([`Qmp::release_files`]), whoever left it there.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::{DEVICES_LABEL, Qmp, fdset_path, unexpected};
use crate::QemuError;

/// With the node's name behind it, labels a descriptor to write a layer.
pub(crate) const WRITE_LABEL: &str = "write:";
/// With the node's name behind it, labels a descriptor to read a layer.
pub(crate) const READ_LABEL: &str = "read:";
/// With the top node's name behind it, the id of the job that shortens the chain below.
const STREAM_JOB: &str = "stream-";
/// The node that stands between the device and the top layer while the job runs.
const STREAM_FILTER: &str = "streaming";

impl Qmp {
    /// The node that the guest's disk writes to.
    pub async fn top_node(&self) -> Result<String, QemuError> {
        let reply = self.execute("query-block", json!({})).await?;
        let top = reply
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|device| device.pointer("/inserted/node-name").and_then(Value::as_str));
        let top = top.ok_or_else(|| unexpected("query-block"))?;
        if top != STREAM_FILTER {
            return Ok(top.to_owned());
        }
        let stream = self.running_stream().await?;
        stream.map(|stream| stream.top).ok_or_else(|| unexpected("query-jobs"))
    }

    /// Makes the disk `size_mib` large and tells the guest. Refused while a [`Stream`] runs.
    pub async fn resize_disk(&self, node: &str, size_mib: u64) -> Result<(), QemuError> {
        let arguments = json!({ "node-name": node, "size": size_mib << 20 });
        self.execute("block_resize", arguments).await.map(drop)
    }

    /// Opens an empty qcow2 file of the disk's size, for [`Qmp::switch_disk`]. `file` is open for
    /// reading and writing; `node` has at most 31 characters and is not in use.
    pub async fn add_overlay(&self, node: &str, file: File) -> Result<(), QemuError> {
        let _files = self.files.lock().await;
        let reader = reader_of(&file).map_err(QemuError::io("opening a disk for reading"))?;
        let set = self.add_fd(&file, &format!("{WRITE_LABEL}{node}"), None).await?;
        self.add_fd(&reader, &format!("{READ_LABEL}{node}"), Some(set)).await?;
        let mut options = top_options(node, set);
        options["backing"] = Value::Null;
        let added = self.execute("blockdev-add", options).await;
        if added.is_err() {
            self.release_unused().await?;
        }
        added.map(drop)
    }

    /// Undoes [`Qmp::add_overlay`] for a node that the disk was not switched to.
    pub async fn remove_overlay(&self, node: &str) -> Result<(), QemuError> {
        let _files = self.files.lock().await;
        self.execute("blockdev-del", json!({ "node-name": node })).await?;
        self.release_unused().await
    }

    /// Lets the guest's disk write to the overlay `to` from now on; `from`, where it wrote so far,
    /// becomes read-only below it. Others may open `from` after [`Qmp::release_files`]. Refused
    /// while a [`Stream`] runs.
    pub async fn switch_disk(&self, from: &str, to: &str) -> Result<(), QemuError> {
        let arguments = json!({ "node": from, "overlay": to });
        self.execute("blockdev-snapshot", arguments).await.map(drop)
    }

    /// Makes QEMU close the files it does not need any more, and with them what it could still
    /// write: layers that are frozen now, nodes that are gone, device state.
    ///
    /// To be called when the machine runs again after a pause: QEMU before 9.1 closes nothing while
    /// it is paused. Any number of calls do no harm.
    pub async fn release_files(&self) -> Result<(), QemuError> {
        let _files = self.files.lock().await;
        self.release_unused().await
    }

    async fn release_unused(&self) -> Result<(), QemuError> {
        let nodes = self.read_only_by_node().await?;
        for descriptor in self.descriptors().await? {
            if !descriptor.is_needed(&nodes) {
                let arguments = json!({ "fdset-id": descriptor.set, "fd": descriptor.fd });
                self.execute("remove-fd", arguments).await?;
            }
        }
        Ok(())
    }

    /// Whether each node is read-only.
    async fn read_only_by_node(&self) -> Result<HashMap<String, bool>, QemuError> {
        let reply = self.execute("query-named-block-nodes", json!({ "flat": true })).await?;
        let node = |node: &Value| {
            let name = node.get("node-name")?.as_str()?.to_owned();
            Some((name, node.get("ro")?.as_bool()?))
        };
        let nodes = reply.as_array().into_iter().flatten().map(node).collect::<Option<_>>();
        nodes.ok_or_else(|| unexpected("query-named-block-nodes"))
    }

    /// The descriptors of disks and device state that QEMU keeps.
    async fn descriptors(&self) -> Result<Vec<Descriptor>, QemuError> {
        let reply = self.execute("query-fdsets", json!({})).await?;
        let mut found = Vec::new();
        for set in reply.as_array().into_iter().flatten() {
            let id = set.get("fdset-id").and_then(Value::as_u64);
            let id = id.ok_or_else(|| unexpected("query-fdsets"))?;
            for fd in set.get("fds").and_then(Value::as_array).into_iter().flatten() {
                // The console's has no label.
                let use_ = fd.get("opaque").and_then(Value::as_str).and_then(Use::parse);
                let (Some(use_), Some(fd)) = (use_, fd.get("fd").and_then(Value::as_i64)) else {
                    continue;
                };
                found.push(Descriptor { set: id, fd, use_ });
            }
        }
        Ok(found)
    }

    /// Begins to copy what the layers between `top` and `base` hold into `top`, while the guest
    /// runs; `bytes_per_second` of 0 is no limit. Afterwards `top` stands on `base`.
    pub async fn stream(
        &self,
        top: &str,
        base: &str,
        bytes_per_second: u64,
    ) -> Result<Stream, QemuError> {
        let job = format!("{STREAM_JOB}{top}");
        let arguments = json!({
            "job-id": job,
            "device": top,
            "base-node": base,
            "filter-node-name": STREAM_FILTER,
            // Nothing below a layer is named in its header.
            "backing-file": "",
            "speed": bytes_per_second,
            // It ends, with its outcome, when we have seen it, and not before.
            "auto-dismiss": false,
        });
        self.execute("block-stream", arguments).await?;
        Ok(Stream { qmp: self.clone(), top: top.to_owned() })
    }

    /// The stream that was begun and not yet finished or cancelled, by whichever server.
    pub async fn running_stream(&self) -> Result<Option<Stream>, QemuError> {
        let jobs = self.execute("query-jobs", json!({})).await?;
        let ids = jobs.as_array().into_iter().flatten();
        let mut ids = ids.filter_map(|job| job.get("id").and_then(Value::as_str));
        let top = ids.find_map(|id| id.strip_prefix(STREAM_JOB));
        Ok(top.map(|top| Stream { qmp: self.clone(), top: top.to_owned() }))
    }

    /// Closes every read-only layer that no other stands on.
    async fn drop_unused_layers(&self) -> Result<(), QemuError> {
        let _files = self.files.lock().await;
        loop {
            let nodes = self.read_only_by_node().await?;
            let mut dropped = false;
            for descriptor in self.descriptors().await? {
                let Use::Read(node) = descriptor.use_ else { continue };
                if nodes.get(&node) != Some(&true) {
                    continue;
                }
                match self.execute("blockdev-del", json!({ "node-name": node })).await {
                    Ok(_) => dropped = true,
                    // Something stands on it: QEMU's own refusal is the test.
                    Err(QemuError::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            // A layer may have been the last to stand on another.
            if !dropped {
                return self.release_unused().await;
            }
        }
    }
}

/// How far a [`Stream`] is. Both numbers are QEMU's estimates, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What was gone through.
    pub done: u64,
    /// What there is to go through.
    pub total: u64,
}

/// A job of QEMU that copies layers into the top one. Dropping this leaves the job running;
/// [`Qmp::running_stream`] finds it again.
#[derive(Debug)]
pub struct Stream {
    qmp: Qmp,
    top: String,
}

impl Stream {
    /// The node that takes everything in.
    pub fn top(&self) -> &str {
        &self.top
    }

    /// How far it is.
    pub async fn progress(&self) -> Result<Progress, QemuError> {
        let job = self.job().await?;
        let number = |key| job.get(key).and_then(Value::as_u64);
        match (number("current-progress"), number("total-progress")) {
            (Some(done), Some(total)) => Ok(Progress { done, total }),
            _ => Err(unexpected("query-jobs")),
        }
    }

    /// Waits until everything is copied, however long that takes, and closes the layers that are
    /// not needed any more. After an error the chain is what it was.
    pub async fn finish(self) -> Result<(), QemuError> {
        let failed = self.conclude().await?;
        if let Some(message) = failed {
            return Err(QemuError::Refused { command: "block-stream".to_owned(), message });
        }
        self.qmp.drop_unused_layers().await
    }

    /// Ends it where it is and waits for that; answers whether it was done already.
    pub async fn cancel(self) -> Result<bool, QemuError> {
        match self.qmp.execute("job-cancel", json!({ "id": self.job_id() })).await {
            // One that has come to its end cannot be cancelled.
            Ok(_) | Err(QemuError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let done = self.conclude().await?.is_none();
        if done {
            self.qmp.drop_unused_layers().await?;
        }
        Ok(done)
    }

    /// Waits for the job's end and forgets it; answers its error.
    async fn conclude(&self) -> Result<Option<String>, QemuError> {
        let mut jobs = self.qmp.jobs.clone();
        let job = loop {
            // Changes from here on are seen: first look, then wait.
            jobs.borrow_and_update();
            let job = self.job().await?;
            if job.get("status").and_then(Value::as_str) == Some("concluded") {
                break job;
            }
            let ended = |_| QemuError::Monitor("the connection ended".to_owned());
            jobs.changed().await.map_err(ended)?;
        };
        self.qmp.execute("job-dismiss", json!({ "id": self.job_id() })).await?;
        Ok(job.get("error").and_then(Value::as_str).map(str::to_owned))
    }

    async fn job(&self) -> Result<Value, QemuError> {
        let jobs = self.qmp.execute("query-jobs", json!({})).await?;
        let id = self.job_id();
        let mut jobs = jobs.as_array().into_iter().flatten();
        let job = jobs.find(|job| job.get("id").and_then(Value::as_str) == Some(&id));
        job.cloned().ok_or_else(|| unexpected("query-jobs"))
    }

    fn job_id(&self) -> String {
        format!("{STREAM_JOB}{}", self.top)
    }
}

/// What a descriptor is for, as its label says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    Devices,
    Read(String),
    Write(String),
}

impl Use {
    fn parse(label: &str) -> Option<Self> {
        if label == DEVICES_LABEL {
            return Some(Self::Devices);
        }
        let read = label.strip_prefix(READ_LABEL).map(|node| Self::Read(node.to_owned()));
        read.or_else(|| label.strip_prefix(WRITE_LABEL).map(|node| Self::Write(node.to_owned())))
    }
}

/// A descriptor QEMU keeps to open a file from.
#[derive(Debug)]
struct Descriptor {
    set: u64,
    /// Its number in QEMU.
    fd: i64,
    use_: Use,
}

impl Descriptor {
    fn is_needed(&self, read_only_by_node: &HashMap<String, bool>) -> bool {
        match &self.use_ {
            Use::Devices => false,
            Use::Read(node) => read_only_by_node.contains_key(node),
            Use::Write(node) => read_only_by_node.get(node) == Some(&false),
        }
    }
}

/// The options of the layer that the guest writes, without what it stands on.
///
/// Its set has a descriptor to write and one to read: when the layer is frozen, QEMU opens it again
/// for reading. Without the second it would silently go on holding the lock of a writer.
pub(crate) fn top_options(node: &str, set: impl std::fmt::Display) -> Value {
    json!({
        "driver": "qcow2",
        "node-name": node,
        "discard": "unmap",
        "file": { "driver": "file", "filename": fdset_path(set), "discard": "unmap" },
    })
}

/// The same file, opened for reading only. Does not wait: the file is open already.
pub(crate) fn reader_of(file: &File) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(File::from(fd))
}
