//! A write that was answered is there, whatever happens to the process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use freestyle_store::{AccountId, Settled, SnapshotId, SnapshotState, Store, VmId, VmPhase};

use crate::{TestStore, new_vm, settings, suspend_snapshot};

/// Tells a copy of this test binary to be the process that is killed, and where its database is.
const VICTIM: &str = "FREESTYLE_TEST_STORE_VICTIM";

#[test]
fn every_answered_write_survives_kill_9() {
    if let Some(database) = std::env::var_os(VICTIM) {
        return write_until_killed(Path::new(&database));
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("store.db");
    // The writers take turns, so the count decides what they are about when the end comes.
    for count in [100, 107, 114, 121, 128] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::every_answered_write_survives_kill_9", "--nocapture"])
            .env(VICTIM, &database)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut answered = |count| -> Vec<VmId> {
            // Other lines are the test runner's.
            let ids = lines.by_ref().filter_map(|line| line.unwrap().parse().ok());
            ids.take(count).collect()
        };
        let mut written = answered(count);
        victim.kill().unwrap();
        written.extend(answered(usize::MAX));
        victim.wait().unwrap();
        assert!(written.len() >= count, "the writer wrote");

        assert_all_there(&database, &written);
    }
}

/// Leads VMs through their lives from several tasks and prints the id of each after every write
/// that was answered.
#[tokio::main]
async fn write_until_killed(database: &Path) {
    let store = Store::open(database).await.unwrap();
    let account = store.system().create_account("writer").await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, account) = (store.clone(), account.id.clone());
        writers.spawn(async move {
            loop {
                write_a_life(&store, &account).await;
            }
        });
    }
    writers.join_all().await;
}

async fn write_a_life(store: &Store, account: &AccountId) {
    let (vm, scope, system) = (new_vm(), store.account_scope(account), store.system());
    let answered = || writeln!(std::io::stdout().lock(), "\n{}", vm.id).unwrap();
    let (_, create) = scope.insert_vm(&vm, &settings(), "create").await.unwrap();
    answered();
    system.finish_operation(&create.id, Settled::Running).await.unwrap();
    answered();
    let (_, suspend) = system.begin_operation(&vm.id, "suspend").await.unwrap();
    answered();
    let memory = scope.insert_snapshot(&suspend_snapshot(&vm.id)).await.unwrap();
    answered();
    let suspended = Settled::Suspended { snapshot: &memory.id };
    system.finish_operation(&suspend.id, suspended).await.unwrap();
    answered();
    let (_, wake) = system.begin_operation_with_instance(&vm.id, "wake").await.unwrap();
    answered();
    system.finish_operation(&wake.id, Settled::Running).await.unwrap();
    answered();
    let (_, delete) = system.begin_operation(&vm.id, "delete").await.unwrap();
    answered();
    system.finish_operation(&delete.id, Settled::Deleted).await.unwrap();
    answered();
}

#[tokio::main]
async fn assert_all_there(database: &Path, written: &[VmId]) {
    let store = Store::open(database).await.unwrap();
    let mut stored = vec![];
    for account in store.system().list_accounts().await.unwrap() {
        stored.extend(store.account_scope(&account.id).vms(true).await.unwrap());
    }
    for id in written {
        assert!(stored.iter().any(|vm| vm.id == *id), "{id} was answered and is gone");
    }
    assert_transactions_are_whole(&store).await;
}

/// What changes together is there together.
async fn assert_transactions_are_whole(store: &Store) {
    let system = store.system();
    let live = system.live_vms().await.unwrap();
    let unfinished = system.unfinished_operations().await.unwrap();
    for operation in &unfinished {
        assert!(live.iter().any(|vm| vm.id == operation.vm_id), "{operation:?} has no VM");
    }
    for vm in &live {
        let is_changing = unfinished.iter().any(|operation| operation.vm_id == vm.id);
        match vm.phase {
            VmPhase::Creating => assert!(vm.instance.is_some() && is_changing, "{vm:?}"),
            VmPhase::Running => assert!(vm.instance.is_some(), "{vm:?}"),
            VmPhase::Suspended => assert_eq!(vm.instance.is_some(), is_changing, "{vm:?}"),
            VmPhase::Ready | VmPhase::Stopped | VmPhase::Deleted => panic!("{vm:?}"),
        }
    }
    // A snapshot is ready exactly as long as its VM stands on it.
    let mut stood_on: Vec<SnapshotId> = live.into_iter().filter_map(|vm| vm.suspended).collect();
    stood_on.sort();
    let snapshots = system.live_snapshots().await.unwrap().into_iter();
    let ready = snapshots.filter(|snapshot| snapshot.state == SnapshotState::Ready);
    let mut ready: Vec<SnapshotId> = ready.map(|snapshot| snapshot.id).collect();
    ready.sort();
    assert_eq!(ready, stood_on);
}

#[tokio::test]
async fn the_files_are_for_the_server_only() {
    let test = TestStore::open().await;
    test.account().await;

    let mut files = vec![];
    for file in std::fs::read_dir(test.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        files.push(file.file_name().into_string().unwrap());
    }
    files.sort();
    assert_eq!(files, ["store.db", "store.db-shm", "store.db-wal"]);
}

#[tokio::test]
async fn a_database_that_was_left_readable_is_closed_again() {
    let test = TestStore::open().await;
    test.store.close().await;
    let path = test.folder.path().join("store.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

    Store::open(&path).await.unwrap();

    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_place_where_no_database_can_be_is_named() {
    let folder = tempfile::tempdir().unwrap();

    let error = Store::open(&folder.path().join("missing/store.db")).await.unwrap_err();
    assert!(error.to_string().contains("missing/store.db"), "{error}");

    let text = folder.path().join("text");
    std::fs::write(&text, "this is not a database at all, it only is a file of text\n").unwrap();
    assert!(Store::open(&text).await.is_err());
    let kept = std::fs::read_to_string(&text).unwrap();
    assert!(kept.starts_with("this is not a database"), "it is left as it was");
}
