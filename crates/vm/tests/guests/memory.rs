//! Snapshots, forks and suspended VMs of real guests.

use std::time::Duration;

use crate::support::{Server, run, within};
use freestyle_store::{SnapshotId, VmId};
use freestyle_vm::setup::{Source, Spec};
use freestyle_vm::{
    CreateVm, Sizes, SnapshotPersistence, SnapshotState, StartVm, TakeSnapshot, VmError, VmInfo,
    VmState,
};

fn small() -> CreateVm {
    let sizes = Sizes { vcpus: Some(1), memory_mib: Some(1024), disk_mib: None };
    CreateVm { spec: Spec { sizes, ..Spec::default() }, idle_timeout: None, ..CreateVm::default() }
}

/// A VM that goes on from a snapshot.
fn from_snapshot(id: SnapshotId) -> CreateVm {
    CreateVm { spec: Spec { source: Source::Snapshot(id), ..Spec::default() }, ..small() }
}

fn unnamed() -> TakeSnapshot {
    TakeSnapshot { name: None, persistence: SnapshotPersistence::Persistent }
}

/// What a command prints, which must succeed.
async fn sh(server: &Server, vm: &VmId, command: &str) -> String {
    let output = run(server, vm, command).await.unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    assert_eq!(output.status, 0, "{command}: {out}{err}");
    out.trim().to_owned()
}

/// A process that holds what it was given in its memory, and appends to a file what it is asked to.
/// Its heart beats four times a second.
const DAEMON: &str = "cat > /root/daemon.sh <<'END'\n\
    secret=$1; beats=0\n\
    while :; do beats=$((beats+1)); echo $secret $beats > /dev/shm/heart; sleep 0.25; done\n\
    END\n\
    setsid sh /root/daemon.sh";

async fn start_daemon(server: &Server, vm: &VmId, secret: &str) {
    sh(server, vm, &format!("{DAEMON} {secret} </dev/null >/dev/null 2>&1 &")).await;
    sh(server, vm, "until test -s /dev/shm/heart; do sleep 0.1; done").await;
}

/// The secret that the daemon of this VM has, and the number of its beats.
async fn heart(server: &Server, vm: &VmId) -> (String, u64) {
    let heart = sh(server, vm, "until cat /dev/shm/heart | grep .; do sleep 0.05; done").await;
    let (secret, beats) = heart.lines().last().unwrap().split_once(' ').unwrap();
    (secret.to_owned(), beats.parse().unwrap())
}

async fn goes_on(server: &Server, vm: &VmId, secret: &str, from: u64) {
    let limit = Duration::from_secs(60);
    let beats = async {
        loop {
            let (found, beats) = heart(server, vm).await;
            assert_eq!(found, secret);
            if beats > from + 1 {
                return;
            }
        }
    };
    tokio::time::timeout(limit, beats).await.expect("its daemon goes on");
}

/// The size of a large file in memory, and what is at its ends.
const BLOB: &str =
    "cd /dev/shm; stat -c %s blob; head -c 99999 blob | md5sum; tail -c 99999 blob | md5sum";

async fn delete_all(server: &Server, vms: &[&VmInfo]) {
    for vm in vms {
        server.vms.delete(&server.account, &vm.id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_fork_go_on_where_their_parent_was_and_then_go_their_own_ways() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);
    let parent = vms.create(account, small(), None).await.unwrap();
    start_daemon(&server, &parent.id, "sesame").await;
    sh(&server, &parent.id, "echo before > /root/file").await;
    let (_, beats) = heart(&server, &parent.id).await;

    let children = within(120, vms.fork(account, &parent.id, 2, None)).await.unwrap();

    assert_eq!(children.len(), 2);
    for child in &children {
        assert_eq!(child.state, VmState::Running);
        goes_on(&server, &child.id, "sesame", beats).await;
        assert_eq!(sh(&server, &child.id, "hostname").await, child.id.as_str());
        assert_eq!(sh(&server, &child.id, "cat /root/file").await, "before");
        sh(&server, &child.id, &format!("echo {} > /root/file; sync", child.id)).await;
    }
    sh(&server, &parent.id, "echo parent > /root/file; sync").await;
    goes_on(&server, &parent.id, "sesame", beats).await;
    assert_eq!(sh(&server, &parent.id, "cat /root/file").await, "parent");

    // Random numbers to come, machine ids: nobody has another's.
    let mut unique = std::collections::BTreeSet::new();
    for vm in [&parent, &children[0], &children[1]] {
        let asked = "head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id";
        unique.extend(sh(&server, &vm.id, asked).await.lines().map(str::to_owned));
    }
    assert_eq!(unique.len(), 6);

    // A grandchild has what its parent wrote, on disk and in memory.
    let child = &children[0];
    sh(&server, &child.id, "echo deep > /dev/shm/deep").await;
    let grandchild = vms.fork(account, &child.id, 1, None).await.unwrap().remove(0);
    let great = vms.fork(account, &grandchild.id, 1, None).await.unwrap().remove(0);
    vms.delete(account, &child.id).await.unwrap();
    for vm in [&grandchild, &great] {
        let read = "cat /root/file /dev/shm/deep";
        assert_eq!(sh(&server, &vm.id, read).await, format!("{}\ndeep", child.id));
    }
    // It boots from what is on its disk, long after those it came from are gone.
    delete_all(&server, &[&parent, &children[1], &grandchild]).await;
    vms.stop(account, &great.id).await.unwrap();
    assert_eq!(sh(&server, &great.id, "cat /root/file").await, child.id.as_str());
    assert_eq!(
        sh(
            &server,
            &great.id,
            "e2label /dev/vda >/dev/null; dmesg | grep -ci 'ext4-fs error' || true"
        )
        .await,
        "0"
    );

    delete_all(&server, &[&great]).await;
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_vm_uses_no_process_and_goes_on_when_it_is_needed() {
    let server = Server::start().await;
    let vm = server.vms.create(&server.account, small(), None).await.unwrap();
    start_daemon(&server, &vm.id, "sesame").await;
    let (_, beats) = heart(&server, &vm.id).await;

    let suspended = server.vms.suspend(&server.account, &vm.id).await.unwrap();
    assert_eq!(suspended.instance, vm.instance_id);
    assert_eq!(server.vms.get(&server.account, &vm.id).await.unwrap().state, VmState::Suspended);

    // Another server finds it, and a command wakes it.
    let server = server.restart().await;
    let (vms, account) = (&server.vms, &server.account);
    assert_eq!(vms.get(account, &vm.id).await.unwrap().state, VmState::Suspended);
    goes_on(&server, &vm.id, "sesame", beats).await;
    let clock: i64 = sh(&server, &vm.id, "date +%s%3N").await.parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_millis() as i64 - clock).abs() < 5000, "its clock is right");

    // Again, from what it wrote since; and while it sleeps, VMs are made from it.
    sh(&server, &vm.id, "echo awake > /dev/shm/word; echo disk > /root/word").await;
    vms.suspend(account, &vm.id).await.unwrap();
    let child = vms.fork(account, &vm.id, 1, None).await.unwrap().remove(0);
    let kept = vms.snapshot(account, &vm.id, unnamed()).await.unwrap();
    assert_eq!(vms.get(account, &vm.id).await.unwrap().state, VmState::Suspended);
    let request = from_snapshot(kept.id);
    let made = vms.create(account, request, None).await.unwrap();
    for one in [&child.id, &made.id, &vm.id] {
        goes_on(&server, one, "sesame", beats).await;
        assert_eq!(sh(&server, one, "cat /dev/shm/word /root/word").await, "awake\ndisk");
        sh(&server, one, &format!("echo {one} > /root/word")).await;
    }
    for one in [&child.id, &made.id, &vm.id] {
        assert_eq!(sh(&server, one, "cat /root/word").await, one.as_str());
    }

    // Stopped, it gives up its memory and keeps its disk.
    vms.suspend(account, &vm.id).await.unwrap();
    vms.stop(account, &vm.id).await.unwrap();
    assert_eq!(vms.get(account, &vm.id).await.unwrap().state, VmState::Stopped);
    vms.start(account, &vm.id, StartVm::default()).await.unwrap();
    assert_eq!(sh(&server, &vm.id, "cat /root/word; ls /dev/shm").await, vm.id.as_str());
    // A machine that booted has no snapshot below it.
    start_daemon(&server, &vm.id, "again").await;
    vms.suspend(account, &vm.id).await.unwrap();
    goes_on(&server, &vm.id, "again", 1).await;

    delete_all(&server, &[&vm, &child, &made]).await;
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vms_made_from_a_snapshot_have_its_memory_and_outlive_it() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);
    let source = vms.create(account, small(), None).await.unwrap();
    start_daemon(&server, &source.id, "sesame").await;
    // Large enough that the third VM shares it instead of having its own copy.
    sh(
        &server,
        &source.id,
        "yes $(cat /proc/sys/kernel/random/uuid) | head -c 130000000 > /dev/shm/blob",
    )
    .await;
    let sum = sh(&server, &source.id, BLOB).await;
    let snapshot = vms.snapshot(account, &source.id, unnamed()).await.unwrap();
    assert_eq!(snapshot.state, SnapshotState::Ready);
    assert!(snapshot.bytes.unwrap() > 120 << 20);
    vms.delete(account, &source.id).await.unwrap();

    let request = || from_snapshot(snapshot.id.clone());
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(vms.create(account, request(), None).await.unwrap());
    }
    // One that shares its memory is forked and suspended like any other.
    let child = vms.fork(account, &made[3].id, 1, None).await.unwrap().remove(0);
    vms.suspend(account, &made[2].id).await.unwrap();
    vms.delete_snapshot(account, &snapshot.id).await.unwrap();
    let refused = vms.create(account, request(), None).await;
    assert!(matches!(refused, Err(VmError::SnapshotDeleted(_))), "{refused:?}");

    for vm in made.iter().chain([&child]) {
        goes_on(&server, &vm.id, "sesame", 1).await;
        assert_eq!(sh(&server, &vm.id, BLOB).await, sum);
    }
    let other = vms.create(account, from_snapshot(snapshot.id), None).await;
    assert!(matches!(other, Err(VmError::SnapshotDeleted(_))), "{other:?}");
    delete_all(&server, &made.iter().chain([&child]).collect::<Vec<_>>()).await;
    server.stop_and_check_nothing_is_left().await;
}

/// The manifest, memory or devices of a snapshot.
fn file_of(server: &Server, snapshot: &SnapshotId, name: &str) -> std::path::PathBuf {
    server.data_dir().join("snapshots").join(snapshot.as_str()).join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_memory_is_lost_and_never_restored() {
    let server = Server::start().await;
    let vm = server.vms.create(&server.account, small(), None).await.unwrap();
    sh(&server, &vm.id, "echo disk > /root/word").await;
    let kept = server.vms.snapshot(&server.account, &vm.id, unnamed()).await.unwrap();
    let suspended = server.vms.suspend(&server.account, &vm.id).await.unwrap().snapshot.unwrap();
    for (id, name) in [(&kept.id, "memory"), (&suspended, "devices")] {
        let path = file_of(&server, id, name);
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).unwrap();
    }

    // This server has not seen them intact.
    let server = server.restart().await;
    let (vms, account) = (&server.vms, &server.account);
    let made = vms.create(account, from_snapshot(kept.id.clone()), None).await;
    assert!(matches!(&made, Err(VmError::SnapshotLost { id, .. }) if *id == kept.id), "{made:?}");
    let woken = run(&server, &vm.id, "true").await;
    assert!(
        matches!(&woken, Err(VmError::SnapshotLost { id, .. }) if *id == suspended),
        "{woken:?}"
    );

    // What was on its disk is not lost with its memory.
    vms.stop(account, &vm.id).await.unwrap();
    assert_eq!(sh(&server, &vm.id, "cat /root/word").await, "disk");

    let manifest = file_of(&server, &kept.id, "manifest.json");
    std::fs::write(&manifest, "{").unwrap();
    let server = server.restart().await;
    let info = server.vms.snapshot_info(&server.account, &kept.id).await.unwrap();
    assert_eq!(info.state, SnapshotState::Lost);
    server.vms.delete_snapshot(&server.account, &kept.id).await.unwrap();
    delete_all(&server, &[&vm]).await;
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_of_another_qemu_is_refused_until_it_is_given_up() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);
    let vm = vms.create(account, small(), None).await.unwrap();
    sh(&server, &vm.id, "echo disk > /root/word").await;
    let suspended = vms.suspend(account, &vm.id).await.unwrap().snapshot.unwrap();
    let path = file_of(&server, &suspended, "manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let version = manifest.split("\"qemu\": \"").nth(1).unwrap().split('"').next().unwrap();
    std::fs::write(&path, manifest.replace(version, "6.0.0")).unwrap();

    for _ in 0..2 {
        let woken = run(&server, &vm.id, "true").await;
        let Err(VmError::MemoryIncompatible { reason, .. }) = woken else { panic!("{woken:?}") };
        assert!(reason.contains("6.0.0") && reason.contains(version), "{reason}");
        assert_eq!(vms.get(account, &vm.id).await.unwrap().state, VmState::Suspended);
    }
    vms.stop(account, &vm.id).await.unwrap();
    assert_eq!(sh(&server, &vm.id, "cat /root/word").await, "disk");

    delete_all(&server, &[&vm]).await;
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_of_layers_is_shortened_while_the_guest_runs() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);
    let vm = vms.create(account, small(), None).await.unwrap();
    let mut kept = Vec::new();
    for number in 0..4 {
        sh(&server, &vm.id, &format!("echo {number} >> /root/numbers; sync")).await;
        kept.push(vms.snapshot(account, &vm.id, unnamed()).await.unwrap());
    }

    let message = vms.optimize(account, &vm.id).await.unwrap();

    assert_eq!(message, "the disk stands on 2 layers; it stood on 6");
    for snapshot in &kept {
        vms.delete_snapshot(account, &snapshot.id).await.unwrap();
    }
    vms.stop(account, &vm.id).await.unwrap();
    assert_eq!(sh(&server, &vm.id, "cat /root/numbers").await, "0\n1\n2\n3");
    let child = vms.fork(account, &vm.id, 1, None).await.unwrap().remove(0);
    assert_eq!(sh(&server, &child.id, "cat /root/numbers").await, "0\n1\n2\n3");
    delete_all(&server, &[&vm, &child]).await;
    server.stop_and_check_nothing_is_left().await;
}
