//! The life of VMs: commands, files, stops, kills, crashes and full disks.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{Server, run, small_disk, within};
use freestyle_vm::setup::Spec;
use freestyle_vm::{CreateVm, FileOrDir, LinuxUser, ListVms, Sizes, StartVm, VmError, VmState};

fn small() -> CreateVm {
    let sizes = Sizes { vcpus: Some(1), memory_mib: Some(1024), disk_mib: None };
    CreateVm { spec: Spec { sizes, ..Spec::default() }, ..CreateVm::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_runs_commands_keeps_its_disk_and_goes() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);

    let vm = vms.create(account, small(), None).await.unwrap();
    assert_eq!(vm.state, VmState::Running);
    let output = run(&server, &vm.id, "echo out; echo err >&2; exit 3").await.unwrap();
    assert_eq!(
        (output.stdout, output.stderr, output.status),
        (b"out\n".into(), b"err\n".into(), 3)
    );
    assert_eq!(
        run(&server, &vm.id, "hostname").await.unwrap().stdout,
        format!("{}\n", vm.id).into_bytes()
    );

    let content: Vec<u8> =
        (0..5_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vms.write_file(account, &vm.id, None, "/srv/ü b/data", content.clone()).await.unwrap();
    let read = vms.read_path(account, &vm.id, None, "/srv/ü b/data").await.unwrap();
    assert_eq!(read, FileOrDir::File(content));
    let nobody = LinuxUser::parse("nobody").unwrap();
    let refused = vms.write_file(account, &vm.id, Some(nobody), "/srv/no", vec![]).await;
    assert!(matches!(refused, Err(VmError::File(_))), "{refused:?}");

    vms.stop(account, &vm.id).await.unwrap();
    assert_eq!(vms.get(account, &vm.id).await.unwrap().state, VmState::Stopped);
    vms.start(account, &vm.id, StartVm::default()).await.unwrap();
    let output =
        run(&server, &vm.id, "stat -c %s '/srv/ü b/data'; df --output=size -BG / | tail -1")
            .await
            .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("5000000\n"), "{text}");

    vms.delete(account, &vm.id).await.unwrap();
    assert!(matches!(vms.get(account, &vm.id).await, Err(VmError::NotFound(_))));
    assert_eq!(vms.list(account, ListVms::default()).await.unwrap().total, 0);
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_powers_off_is_stopped_and_one_that_reboots_comes_back() {
    let server = Server::start().await;
    let (vms, account) = (&server.vms, &server.account);
    let vm = vms.create(account, small(), None).await.unwrap();

    let first = vm.instance_id.unwrap();
    let _ = run(&server, &vm.id, "echo mark > /root/mark; sync; systemctl reboot").await;
    server
        .wait_for(&vm.id, |vm| {
            vm.state == VmState::Running && vm.instance_id.as_ref() != Some(&first)
        })
        .await;
    assert_eq!(run(&server, &vm.id, "cat /root/mark").await.unwrap().stdout, b"mark\n");

    let _ = run(&server, &vm.id, "systemctl poweroff").await;
    server.wait_for(&vm.id, |vm| vm.state == VmState::Stopped).await;
    vms.delete(account, &vm.id).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_vms_survive_their_server() {
    let server = Server::start().await;
    let vm = server.vms.create(&server.account, small(), None).await.unwrap();
    run(&server, &vm.id, "echo kept > /dev/shm/kept").await.unwrap();

    let server = server.restart().await;

    let found = server.vms.get(&server.account, &vm.id).await.unwrap();
    assert_eq!((found.state, found.instance_id), (VmState::Running, vm.instance_id));
    assert_eq!(run(&server, &vm.id, "cat /dev/shm/kept").await.unwrap().stdout, b"kept\n");
    server.vms.delete(&server.account, &vm.id).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_share_neither_randomness_nor_identity_and_have_the_right_time() {
    let server = Server::start().await;
    let (one, other) = tokio::join!(
        server.vms.create(&server.account, small(), None),
        server.vms.create(&server.account, small(), None)
    );
    let (one, other) = (one.unwrap().id, other.unwrap().id);
    let ask = "head -c 32 /dev/urandom | sha256sum; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid";
    let first = run(&server, &one, ask).await.unwrap().stdout;
    let second = run(&server, &other, ask).await.unwrap().stdout;
    let (first, second) = (String::from_utf8(first).unwrap(), String::from_utf8(second).unwrap());
    for (a, b) in first.lines().zip(second.lines()) {
        assert_ne!(a, b);
    }
    let before = std::time::SystemTime::now();
    let guest = String::from_utf8(run(&server, &one, "date +%s.%N").await.unwrap().stdout).unwrap();
    let guest = Duration::from_secs_f64(guest.trim().parse().unwrap());
    let host = before.duration_since(std::time::UNIX_EPOCH).unwrap();
    let skew = guest.abs_diff(host);
    assert!(skew < Duration::from_secs(1), "{skew:?}");
    for vm in [one, other] {
        server.vms.delete(&server.account, &vm).await.unwrap();
    }
    server.stop_and_check_nothing_is_left().await;
}

/// The code in a VM is hostile: were it to take over its QEMU, this is what it would be.
#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_qemu_would_find_nothing() {
    let server = Server::start().await;
    let vm = server.vms.create(&server.account, small(), None).await.unwrap();
    let process = server.process_of(vm.instance_id.as_ref().unwrap());

    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>()
    };
    let uid: u32 = field("Uid:")[0].parse().unwrap();
    assert!(uid > 65_536, "a user of its own, not {uid}");
    assert_eq!(field("Uid:"), vec![uid.to_string(); 4]);
    assert_eq!(field("Groups:"), Vec::<&str>::new());
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
    assert_eq!(field("Seccomp:"), ["2"], "a system call filter");

    let namespace = |process: &std::path::Path| std::fs::read_link(process.join("ns/net")).unwrap();
    assert_ne!(namespace(&process), namespace("/proc/self".as_ref()));

    let writable: Vec<_> = std::fs::read_dir(process.join("fd"))
        .unwrap()
        .flatten()
        .filter(|fd| std::fs::metadata(fd.path()).is_ok_and(|file| file.is_file()))
        .filter(|fd| fd.path().symlink_metadata().unwrap().permissions().mode() & 0o200 != 0)
        .map(|fd| std::fs::read_link(fd.path()).unwrap())
        .collect();
    let own = |path: &std::path::Path| {
        let own = [vm.id.as_str(), vm.instance_id.as_ref().unwrap().as_str(), "/memfd:"];
        own.iter().any(|part| path.to_str().unwrap().contains(part))
    };
    assert!(writable.iter().all(|path| own(path)), "{writable:?}");
    assert!(writable.len() >= 3, "disk, memory and logs at least: {writable:?}");

    server.vms.delete(&server.account, &vm.id).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}

/// The host's disk is nearly full: nothing new is begun, what runs goes on, and space heals all.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_disk_refuses_vms_and_harms_none() {
    let server = Server::start_on(small_disk()).await;
    let (vms, account) = (&server.vms, &server.account);
    let vm = vms.create(account, small(), None).await.unwrap().id;
    let filler = server.fill_disk();

    let refused = vms.create(account, small(), None).await;
    assert!(matches!(refused, Err(VmError::NoCapacity(_))), "{refused:?}");
    assert_eq!(run(&server, &vm, "echo alive").await.unwrap().stdout, b"alive\n");
    assert_eq!(vms.list(account, ListVms::default()).await.unwrap().total, 1);

    std::fs::remove_file(filler).unwrap();
    let other = vms.create(account, small(), None).await.unwrap().id;
    for vm in [vm, other] {
        vms.delete(account, &vm).await.unwrap();
    }
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_the_disk_it_was_given() {
    let server = Server::start().await;
    let sizes = Sizes { disk_mib: Some(40 * 1024), ..small().spec.sizes };
    let request = CreateVm { spec: Spec { sizes, ..Spec::default() }, ..CreateVm::default() };
    let vm = server.vms.create(&server.account, request, None).await.unwrap().id;
    let asked = run(&server, &vm, "df --output=size -BM / | tail -1; nproc").await.unwrap();
    let text = String::from_utf8(asked.stdout).unwrap();
    let mib: u64 = text.trim_start().split('M').next().unwrap().parse().unwrap();
    // The file system's own structures take a few per cent.
    assert!((38 * 1024..=40 * 1024).contains(&mib), "{text}");
    assert_eq!(text.lines().nth(1), Some("1"));
    server.vms.delete(&server.account, &vm).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_guest_disk_is_said_in_words() {
    let server = Server::start().await;
    let vm = server.vms.create(&server.account, small(), None).await.unwrap().id;
    run(&server, &vm, "mkdir /full && mount -t tmpfs -o size=1m none /full").await.unwrap();
    let path = "/full/file";
    let written = server.vms.write_file(&server.account, &vm, None, path, vec![7; 2 << 20]).await;
    assert!(matches!(&written, Err(VmError::File(why)) if why.contains("no space")), "{written:?}");
    server.vms.delete(&server.account, &vm).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}

/// A guest that hangs hard: its QEMU is stopped, so neither the agent nor the monitor answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_guest_hinders_neither_its_deletion_nor_the_next_server() {
    let server = Server::start().await;
    let frozen = server.vms.create(&server.account, small(), None).await.unwrap();
    let other = server.vms.create(&server.account, small(), None).await.unwrap().id;
    server.freeze(frozen.instance_id.as_ref().unwrap());

    let server = within(20, server.restart()).await;

    assert_eq!(run(&server, &other, "echo alive").await.unwrap().stdout, b"alive\n");
    let shown = server.vms.get(&server.account, &frozen.id).await.unwrap();
    assert_eq!(shown.state, VmState::Starting, "it has not answered this server");
    within(20, server.vms.delete(&server.account, &frozen.id)).await.unwrap();
    server.vms.delete(&server.account, &other).await.unwrap();
    server.stop_and_check_nothing_is_left().await;
}
