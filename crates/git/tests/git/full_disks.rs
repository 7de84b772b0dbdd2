//! A disk that is full: what does not fit is refused, what was there stays, and what fits again works.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Server, new_commit, noise};

/// A small file system for the repositories; needs root, as other suites do.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let disk = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(disk.mounted()).unwrap();
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.mounted());
        assert!(mount.status().unwrap().success());
        disk
    }

    fn mounted(&self) -> PathBuf {
        self.dir.path().join("repos")
    }

    fn ballast(&self) -> PathBuf {
        self.mounted().join("ballast")
    }

    /// Takes all that is left.
    fn fill(&self) {
        let mut left = noise(7, 1 << 20).repeat(64);
        while fs::write(self.ballast(), &left).is_err() {
            // What was written of it has taken the room.
            if fs::metadata(self.ballast()).unwrap().len() > 0 {
                return;
            }
            left.truncate(left.len() / 2);
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.mounted()).status();
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_takes_nothing_with_it() {
    let disk = SmallDisk::new(16);
    let server = Server::start_at(disk.dir.path().to_owned()).await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "client").await;
    let small = client.commit("small", "1").await;
    client.git(&["push", "-q", "origin", "main"]).await;

    client.commit("large", noise(1, 24 << 20)).await;
    client.refused(&["push", "-q", "origin", "main", "main:other"]).await;
    assert_eq!(repository.branches().await.unwrap().len(), 1);
    assert_eq!(repository.branch("main").await.unwrap().sha.to_string(), small);
    server.fsck(&repository).await;
    // Nothing of it is left to take up room.
    client.git(&["reset", "-q", "--hard", &small]).await;
    client.commit("half", noise(2, 8 << 20)).await;
    client.git(&["push", "-q", "origin", "main"]).await;

    disk.fill();
    let tip = client.commit("more", noise(3, 1 << 20)).await;
    client.refused(&["push", "-q", "origin", "main"]).await;
    let text = "x".repeat(1 << 20);
    let commit = repository.create_commit(new_commit("main", &[("api", &text)])).await;
    assert!(commit.is_err(), "{commit:?}");
    assert!(repository.create_commit(new_commit("new", &[("api", &text)])).await.is_err());
    assert_eq!(repository.branches().await.unwrap().len(), 1);
    // It can still be read.
    server.clone_of(&repository, "reader").await;

    fs::remove_file(disk.ballast()).unwrap();
    client.git(&["push", "-q", "origin", "main"]).await;
    let made = repository.create_commit(new_commit("main", &[("api", "1")])).await.unwrap();
    assert_eq!(made.commit.parents[0].to_string(), tip);
    server.fsck(&repository).await;
}
