//! Making, adopting and removing networks, with crashes in between.

use std::{collections::HashSet, fs};

use super::support::{Guest, Server, exchange, run, traces};
use crate::{
    Network, NetworkConfig, NetworkError, OwnedInstance, namespace,
    records::Records,
    rules::Policy,
    vm::{STEPS, Site, Vm},
};

#[test]
fn remove_leaves_nothing() {
    let server = Server::start();
    let before = server.traces();
    assert_eq!(before, [format!("table ip {}", server.block().table())]);
    let instance = server.instance("a");
    server.create(&instance, 7);
    assert_eq!(server.traces().len(), before.len() + 2, "a link and a namespace");
    for _ in 0..2 {
        server.wait(server.network().remove(&instance)).unwrap();
        assert_eq!(server.traces(), before);
        assert_eq!(server.network().list(), []);
    }
}

#[test]
fn create_again_changes_nothing_for_a_running_guest() {
    let server = Server::start();
    let instance = server.instance("a");
    let guest = Guest::boot(&server.create(&instance, 0));
    let echo = guest.listen(80);
    let connection = server.wait(server.network().connect_tcp(&instance, echo.port)).unwrap();
    let before = server.traces();

    let again = server.create(&instance, 0);
    assert_eq!(server.traces(), before);
    assert!(matches!(again.open_tap(), Err(NetworkError::TapBusy(_))));
    assert_eq!(exchange(server.blocking(connection), b"still here"), b"still here");
}

#[test]
fn the_tap_can_be_opened_again_when_its_holder_is_gone() {
    let server = Server::start();
    let vm = server.create(&server.instance("a"), 0);
    for _ in 0..2 {
        let guest = Guest::boot(&vm);
        assert!(matches!(vm.open_tap(), Err(NetworkError::TapBusy(_))));
        let echo = guest.listen(80);
        let instance = vm.instance();
        server.wait(server.network().connect_tcp(instance, echo.port)).unwrap();
    }
}

#[test]
fn a_restarted_server_adopts_its_block_and_instances() {
    let mut server = Server::start();
    let (block, instance) = (server.block(), server.instance("a"));
    let guest = Guest::boot(&server.create(&instance, 3));
    let echo = guest.listen(80);
    server.reopen(&[]);
    assert_eq!(server.block(), block);
    assert_eq!(server.network().list(), [OwnedInstance { instance: instance.clone(), slot: 3 }]);
    server.wait(server.network().connect_tcp(&instance, echo.port)).unwrap();
    assert_eq!(
        server.network().get(&instance).unwrap().uid(),
        900_000_003 + 1024 * u32::from(block.number())
    );
}

#[test]
fn two_servers_coexist_and_never_list_or_touch_each_others_instances() {
    let (one, two) = (Server::start(), Server::start());
    assert_ne!(one.block(), two.block());
    let (a, b) = (one.instance("a"), two.instance("b"));
    one.create(&a, 0);
    two.create(&b, 0);
    assert_eq!(one.network().list(), [OwnedInstance { instance: a, slot: 0 }]);
    let before = two.traces();
    one.wait(one.network().remove(&b)).unwrap();
    assert_eq!(two.traces(), before);
    assert!(matches!(one.network().get(&b), Err(NetworkError::UnknownInstance(_))));
}

/// The site and VM of `server`, for running steps one by one.
pub(super) fn by_hand(server: &Server, tag: &str, slot: u16) -> (Site, Vm) {
    let block = server.block();
    let directory = format!("/run/freestyle/blocks/{block}/vms");
    let records = Records::open(directory.into()).unwrap();
    let site = Site { records, policy: Policy::new(&[], &[], None) };
    let instance = server.instance(tag).parse().unwrap();
    (site, Vm { instance, slot: block.slot(slot).unwrap() })
}

#[test]
fn after_a_crash_behind_any_step_everything_is_listed_and_removed() {
    for count in 1..=STEPS.len() {
        let mut server = Server::start();
        let before = server.traces();
        let (site, vm) = by_hand(&server, "a", 0);
        for (_, step) in &STEPS[..count] {
            step(&site, &vm, None).unwrap();
        }
        server.reopen(&[]);
        let listed = server.network().list();
        assert_eq!(listed.len(), 1, "after {}", STEPS[count - 1].0);
        server.wait(server.network().remove(&listed[0].instance)).unwrap();
        assert_eq!(server.traces(), before, "after {}", STEPS[count - 1].0);
    }
}

#[test]
fn a_crash_behind_any_step_can_be_continued_and_every_step_repeated() {
    for count in 1..=STEPS.len() {
        let mut server = Server::start();
        let (site, vm) = by_hand(&server, "a", 0);
        for (_, step) in &STEPS[..count] {
            step(&site, &vm, None).unwrap();
            step(&site, &vm, None).unwrap();
        }
        server.reopen(&[]);
        let guest = Guest::boot(&server.create(vm.instance.as_str(), 0));
        let echo = guest.listen(80);
        server
            .wait(server.network().connect_tcp(vm.instance.as_str(), echo.port))
            .unwrap_or_else(|error| panic!("after {}: {error}", STEPS[count - 1].0));
    }
}

#[test]
fn a_namespace_file_that_was_never_mounted_is_completed_or_removed() {
    let server = Server::start();
    let before = server.traces();
    let instance = server.instance("a");
    let path = format!("/run/netns/fs-{instance}");
    fs::write(&path, "").unwrap();
    let vm = server.create(&instance, 0);
    assert_eq!(vm.namespace_path().to_str().unwrap(), path);
    vm.run_inside(|| run("ip", &["link", "show", "tap0"])).unwrap();

    namespace::remove(&format!("fs-{instance}")).unwrap();
    fs::write(&path, "").unwrap();
    server.wait(server.network().remove(&instance)).unwrap();
    assert_eq!(server.traces(), before);
}

#[test]
fn a_removal_that_was_cut_short_is_finished() {
    let server = Server::start();
    let before = server.traces();
    let instance = server.instance("a");
    server.create(&instance, 0);
    run("ip", &["link", "delete", &server.block().slot(0).unwrap().link_name()]);
    namespace::remove(&format!("fs-{instance}")).unwrap();
    server.wait(server.network().remove(&instance)).unwrap();
    assert_eq!(server.traces(), before);
}

#[test]
fn a_slot_and_a_name_belong_together() {
    let server = Server::start();
    let (a, b) = (server.instance("a"), server.instance("b"));
    server.create(&a, 0);
    let create = |instance: &str, slot| server.wait(server.network().create(instance, slot, None));
    assert!(
        matches!(create(&b, 0), Err(NetworkError::SlotInUse { slot: 0, instance }) if instance == a)
    );
    assert!(matches!(create(&a, 1), Err(NetworkError::SlotMismatch { slot: 0, .. })));
    assert!(matches!(create(&b, 1024), Err(NetworkError::InvalidSlot(1024))));
    assert!(matches!(create("../b", 1), Err(NetworkError::InvalidInstance(_))));
    assert_eq!(server.network().list().len(), 1);
}

/// Two servers with the same instance, as after copying a data directory.
#[test]
fn a_namespace_of_another_server_is_neither_adopted_nor_removed() {
    let (one, two) = (Server::start(), Server::start());
    let instance = one.instance("a");
    one.create(&instance, 0);
    let before = one.traces();
    let created = two.wait(two.network().create(&instance, 0, None));
    assert!(matches!(created, Err(NetworkError::ForeignNamespace(_))));
    assert_eq!(two.network().list(), []);
    two.wait(two.network().remove(&instance)).unwrap();
    assert_eq!(one.traces(), before);
}

#[test]
fn parallel_creates_and_removes_do_not_disturb_each_other() {
    let server = Server::start();
    let before = server.traces();
    let names: Vec<_> = (0..8).map(|n| server.instance(&format!("p{n}"))).collect();
    server.wait(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (slot, name) in names.iter().cloned().enumerate() {
            let network = server.network().clone();
            tasks.spawn(async move {
                // Twice at once: the second waits for the first and finds all done.
                let slot = slot as u16;
                let (one, two) = tokio::join!(
                    network.create(&name, slot, None),
                    network.create(&name, slot, None)
                );
                one.unwrap();
                two.unwrap();
                network.remove(&name).await.unwrap();
                network.create(&name, slot, None).await.unwrap().uid()
            });
        }
        let uids: HashSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(uids.len(), 8);
    });
    assert_eq!(server.network().list().len(), 8);
    assert_eq!(server.traces().len(), before.len() + 16);
    server.wait(async {
        let mut tasks = tokio::task::JoinSet::new();
        for name in names {
            let network = server.network().clone();
            tasks.spawn(async move { tokio::join!(network.remove(&name), network.remove(&name)) });
        }
        for (one, two) in tasks.join_all().await {
            one.unwrap();
            two.unwrap();
        }
    });
    assert_eq!(server.traces(), before);
}

#[test]
fn closing_an_empty_server_removes_its_rules_and_one_with_vms_keeps_them() {
    let mut server = Server::start();
    let (block, instance) = (server.block(), server.instance("a"));
    server.create(&instance, 0);
    let before = server.traces();
    server.take().close().unwrap();
    assert_eq!(traces(block), before);

    server.reopen(&[]);
    assert_eq!(server.block(), block);
    server.wait(server.network().remove(&instance)).unwrap();
    server.take().close().unwrap();
    assert_eq!(traces(block), [] as [String; 0]);
}

/// Killed, and its data directory deleted: nobody else would ever clean up.
#[test]
fn the_next_server_cleans_up_after_one_whose_data_is_gone() {
    let mut server = Server::start();
    let (block, instance) = (server.block(), server.instance("a"));
    server.create(&instance, 0);
    drop(server.take());
    fs::remove_file(server.data.path().join("network")).unwrap();

    let heir = Server::start();
    if heir.block() != block {
        // A test that runs at the same time was faster. It has the lock until it ends.
        let owner = format!("/run/freestyle/blocks/{block}/owner");
        fs::File::open(owner).unwrap().lock().unwrap();
    }
    let left = traces(block);
    assert!(!left.iter().any(|trace| trace.contains(&instance)), "{left:?}");
}

#[test]
fn open_fails_cleanly_without_a_data_directory() {
    let config = NetworkConfig::new("/nonexistent/network");
    assert!(matches!(Network::open(config), Err(NetworkError::Io { .. })));
}

#[test]
fn this_host_passes_its_own_checks() {
    let failed: Vec<_> = crate::checks().into_iter().filter(|check| !check.ok).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
