//! Real QEMUs that run a guest without a system: what the monitor, the memory and the disk do
//! together. Needs root.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;

use freestyle_qemu::disk::Disk;
use freestyle_qemu::memory::{Capture, Delta, SealedMemory};
use freestyle_qemu::{Event, QemuError, RunState};
use tokio::task::spawn_blocking;

use freestyle_qemu::tiny_guest::{ROUND, counter, moment as moment_of};
use support::{DISK_MIB, Host, MEMORY_MIB, Machine};

/// Lets a running machine write to a new layer from now on.
async fn switch(host: &Host, machine: &Machine, to: &str) {
    let from = machine.qmp.top_node().await.unwrap();
    machine.qmp.add_overlay(to, host.overlay(to)).await.unwrap();
    machine.qmp.pause().await.unwrap();
    machine.qmp.switch_disk(&from, to).await.unwrap();
    machine.qmp.resume().await.unwrap();
    machine.qmp.release_files().await.unwrap();
}

/// Freezes a running machine: memory and devices in files called after `to`, its disk under the
/// new top layer `to`. Answers the counter of that moment.
async fn capture(host: &Host, machine: &Machine, to: &str) -> u32 {
    let Machine { qmp, .. } = machine;
    let from = qmp.top_node().await.unwrap();
    let (pid, path) = (machine.pid(), host.path(&format!("{to}.memory")));
    let capture = spawn_blocking(move || Capture::prepare(pid, MEMORY_MIB, &path));
    let capture = capture.await.unwrap().unwrap();
    let devices = File::create(host.path(&format!("{to}.devices"))).unwrap();
    qmp.add_overlay(to, host.overlay(to)).await.unwrap();

    qmp.pause().await.unwrap();
    qmp.switch_disk(&from, to).await.unwrap();
    qmp.save_devices(devices.as_fd()).await.unwrap();
    let copied = spawn_blocking(|| capture.copy()).await.unwrap().unwrap();
    let counter = moment_of(&machine.memory()).unwrap();
    qmp.resume().await.unwrap();

    qmp.release_files().await.unwrap();
    spawn_blocking(|| copied.finish(false)).await.unwrap().unwrap();
    counter
}

/// Starts a machine that goes on from what was captured under this name, by pouring.
async fn pour(host: &Host, slot: u16, captured: &str, disk: Disk) -> Machine {
    let delta = Delta::open(&host.path(&format!("{captured}.memory"))).unwrap();
    delta.verify().unwrap();
    let devices = fs::read(host.path(&format!("{captured}.devices"))).unwrap();
    let (receiver, mut sender) = std::io::pipe().unwrap();
    let machine = host.restore(slot, disk, &host.zeroed, receiver).await;
    // QEMU waits for its devices and answers meanwhile.
    assert_eq!(machine.qmp.run_state().await.unwrap(), RunState::Incoming);
    delta.pour(machine.pid(), MEMORY_MIB).unwrap();
    spawn_blocking(move || sender.write_all(&devices)).await.unwrap().unwrap();
    machine.qmp.wait_for_incoming().await.unwrap();
    assert_eq!(machine.qmp.run_state().await.unwrap(), RunState::Paused);
    machine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_is_forked_with_memory_devices_and_disk() {
    let host = Host::new();
    let parent = host.boot(0, host.disk("first", &[])).await;
    parent.count_beyond(ROUND).await;
    let moment = capture(&host, &parent, "second").await;
    parent.count_beyond(moment + 2 * ROUND).await;
    assert_eq!(parent.qmp.top_node().await.unwrap(), "second");
    let open = ["base", "first", "second"].map(|name| (name.to_owned(), false));
    let mut open = BTreeSet::from(open);
    open.insert(("second".to_owned(), true));
    assert_eq!(parent.disk_files(&host), open, "what is frozen cannot be written any more");

    let poured = pour(&host, 1, "second", host.disk("poured", &["first"])).await;
    let delta = Delta::open(&host.path("second.memory")).unwrap();
    let memory = SealedMemory::compose(&host.zeroed, &delta).unwrap();
    let devices = File::open(host.path("second.devices")).unwrap();
    let composed = host.restore(2, host.disk("composed", &["first"]), &memory, devices).await;
    composed.qmp.wait_for_incoming().await.unwrap();
    for child in [&poured, &composed] {
        assert_eq!(moment_of(&child.memory()).unwrap(), moment);
        child.qmp.resume().await.unwrap();
        child.count_beyond(moment + 2 * ROUND).await;
        child.qmp.pause().await.unwrap();
        moment_of(&child.memory()).unwrap();
    }

    // A fork of a fork: its own layer stands on the one it shares.
    poured.qmp.resume().await.unwrap();
    let moment = capture(&host, &poured, "third").await;
    let grandchild = pour(&host, 3, "third", host.disk("fourth", &["poured", "first"])).await;
    assert_eq!(moment_of(&grandchild.memory()).unwrap(), moment);
    grandchild.qmp.resume().await.unwrap();
    grandchild.count_beyond(moment + ROUND).await;

    // The guest would notice a layer that is missing.
    let wrong = pour(&host, 4, "third", host.disk("wrong", &["first"])).await;
    wrong.qmp.resume().await.unwrap();
    wrong.fail().await;

    for machine in [parent, poured, composed, grandchild, wrong] {
        machine.end().await;
    }
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_shortened_without_the_guest_noticing() {
    let host = Host::new();
    let machine = host.boot(0, host.disk("a", &[])).await;
    let qmp = &machine.qmp;
    machine.count_beyond(ROUND).await;
    switch(&host, &machine, "b").await;
    switch(&host, &machine, "c").await;

    // So slow that it does not end.
    let stream = qmp.stream("c", "base", 1).await.unwrap();
    assert_eq!(stream.progress().await.unwrap().total, DISK_MIB << 20);
    assert_eq!(qmp.top_node().await.unwrap(), "c");
    let refused = qmp.resize_disk("c", DISK_MIB * 2).await;
    assert!(matches!(refused, Err(QemuError::Refused { .. })), "{refused:?}");
    drop(stream);
    let stream = qmp.running_stream().await.unwrap().expect("it goes on without us");
    assert_eq!(stream.top(), "c");
    assert!(!stream.cancel().await.unwrap(), "it was not done");
    assert!(qmp.running_stream().await.unwrap().is_none());
    let files = |machine: &Machine| -> BTreeSet<String> {
        machine.disk_files(&host).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(files(&machine), ["a", "b", "base", "c"].map(str::to_owned).into());

    // Paused, so that it is the stream that brings all of it up.
    qmp.pause().await.unwrap();
    let moment = moment_of(&machine.memory()).unwrap();
    qmp.stream("c", "base", 0).await.unwrap().finish().await.unwrap();
    qmp.resume().await.unwrap();
    machine.count_beyond(moment + ROUND).await;
    qmp.release_files().await.unwrap();
    assert_eq!(files(&machine), ["base", "c"].map(str::to_owned).into());
    assert_eq!(qmp.top_node().await.unwrap(), "c");

    // It can begin anew, and grow.
    switch(&host, &machine, "d").await;
    qmp.stream("d", "base", 0).await.unwrap().finish().await.unwrap();
    assert_eq!(files(&machine), ["base", "d"].map(str::to_owned).into());
    qmp.resize_disk("d", DISK_MIB * 2).await.unwrap();
    machine.count_beyond(counter(&machine.memory()) + ROUND).await;
    machine.end().await;

    let header = fs::read(host.path("d")).unwrap();
    assert_eq!(header[16..20], [0; 4], "the length of the name of what it stands on");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_was_not_needed_is_taken_back() {
    let host = Host::new();
    let machine = host.boot(0, host.disk("a", &[])).await;
    let before = machine.disk_files(&host);
    let qmp = &machine.qmp;
    qmp.add_overlay("b", host.overlay("b")).await.unwrap();
    assert_ne!(machine.disk_files(&host), before);
    qmp.remove_overlay("b").await.unwrap();
    assert_eq!(machine.disk_files(&host), before);

    // Not a disk at all.
    let text = File::options().read(true).write(true).open(host.path("boot/kernel")).unwrap();
    let refused = qmp.add_overlay("c", text).await;
    assert!(matches!(refused, Err(QemuError::Refused { .. })), "{refused:?}");
    assert_eq!(machine.disk_files(&host), before);
    machine.end().await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_being_written_is_not_opened_below_another() {
    let host = Host::new();
    let writer = host.boot(0, host.disk("a", &[])).await;
    let disk = host.disk("b", &["a"]);
    let refused = host.try_boot(1, disk).await.err().expect("QEMU holds a lock");
    assert!(refused.contains("lock"), "{refused}");
    writer.end().await;
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_finds_the_machine_and_hears_of_its_end() {
    let host = Host::new();
    let machine = host.boot(0, host.disk("a", &[])).await;
    machine.count_beyond(0).await;
    let mut machine = host.reconnect(machine).await;
    assert_eq!(machine.qmp.run_state().await.unwrap(), RunState::Running);
    assert_eq!(machine.qmp.top_node().await.unwrap(), "a");
    switch(&host, &machine, "b").await;
    let writable = machine.disk_files(&host).into_iter().filter(|(_, writable)| *writable);
    assert_eq!(writable.collect::<Vec<_>>(), [("b".to_owned(), true)]);
    machine.qmp.execute("system_reset", serde_json::json!({})).await.unwrap();
    assert_eq!(machine.events.next().await, Some(Event::Shutdown { reset: false }));
    machine.process.exited().await;
    assert_eq!(machine.events.next().await, None);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_host_passes_its_self_test() {
    let host = Host::new();
    host.self_test(0).await.unwrap();
    host.close().await;
}
