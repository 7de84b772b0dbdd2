//! Who sees a snapshot, what it may become, and what is made from it.

use freestyle_store::{
    Account, InstanceId, NewSnapshot, NewVm, SnapshotEnd, SnapshotId, SnapshotPersistence,
    SnapshotPurpose, SnapshotRecord, SnapshotState, StoreError, VmId,
};

use crate::{IMAGE, SIZING, TestStore, kept_snapshot, new_vm, settings, suspend_snapshot};

const READY: SnapshotEnd<'_> = SnapshotEnd::Ready { memory_bytes: 30 << 20, disk_bytes: 1 << 20 };
const FAILED: SnapshotEnd<'_> = SnapshotEnd::Failed { reason: "no space" };
const LOST: SnapshotEnd<'_> = SnapshotEnd::Lost { reason: "memory is missing" };

impl TestStore {
    async fn snapshot(&self, account: &Account, new: NewSnapshot) -> SnapshotRecord {
        self.store.account_scope(&account.id).insert_snapshot(&new).await.unwrap()
    }

    /// One that the account keeps and that VMs can be made from.
    async fn ready_snapshot(&self, account: &Account) -> SnapshotRecord {
        let snapshot = self.snapshot(account, kept_snapshot()).await;
        self.store.system().finish_snapshot(&snapshot.id, READY).await.unwrap()
    }
}

/// A VM of the account that is created from a snapshot.
fn vm_from(origin: &SnapshotId) -> NewVm {
    NewVm { origin: Some(origin.clone()), ..new_vm() }
}

#[tokio::test]
async fn a_snapshot_is_seen_as_it_was_inserted() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let new = NewSnapshot {
        vm_id: Some(vm.id.clone()),
        instance_id: vm.instance.map(|instance| instance.id),
        content: Some("hash".to_owned()),
        build_id: Some(freestyle_store::BuildId::random()),
        ..kept_snapshot()
    };

    let inserted = test.snapshot(&account, new.clone()).await;

    let test = test.reopened().await;
    let seen = test.store.account_scope(&account.id).snapshot(&new.id).await.unwrap();
    assert_eq!(seen.as_ref(), Some(&inserted));
    assert_eq!(inserted.account_id, account.id);
    assert_eq!((inserted.state, inserted.failure), (SnapshotState::Building, None));
    assert_eq!((inserted.memory_bytes, inserted.disk_bytes), (None, None));
    assert_eq!((inserted.last_used_at, inserted.deleted_at), (inserted.created_at, None));
    let as_inserted = NewSnapshot {
        id: inserted.id,
        purpose: inserted.purpose,
        vm_id: inserted.vm_id,
        instance_id: inserted.instance_id,
        name: inserted.name,
        persistence: inserted.persistence,
        sizing: inserted.sizing,
        image: inserted.image,
        content: inserted.content,
        build_id: inserted.build_id,
    };
    assert_eq!(as_inserted, new);
}

#[tokio::test]
async fn a_foreign_snapshot_is_no_snapshot() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let new = NewSnapshot { content: Some("hash".to_owned()), ..kept_snapshot() };
    let snapshot = test.snapshot(&owner, new).await;
    let foreign = test.store.account_scope(&other.id);

    assert_eq!(foreign.snapshot(&snapshot.id).await.unwrap(), None);
    assert_eq!(foreign.snapshots(true).await.unwrap(), []);
    assert_eq!(foreign.snapshot_by_content("hash").await.unwrap(), None);
    assert_eq!(foreign.rename_snapshot(&snapshot.id, Some("mine")).await.unwrap(), None);
    assert_eq!(foreign.delete_snapshot(&snapshot.id).await.unwrap(), None);
    foreign.touch_snapshot(&snapshot.id).await.unwrap();
    let refused = foreign.insert_vm(&vm_from(&snapshot.id), &settings(), "create").await;
    assert!(matches!(refused, Err(StoreError::NoSuchSnapshot(id)) if id == snapshot.id));

    let unchanged = test.store.account_scope(&owner.id).snapshot(&snapshot.id).await.unwrap();
    assert_eq!(unchanged, Some(snapshot));
    assert_eq!(test.store.system().live_vms().await.unwrap(), []);
}

#[tokio::test]
async fn no_snapshot_is_taken_of_a_vm_that_is_foreign_or_gone() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let foreign = test.running(&other).await.id;
    let pooled = test.ready(new_vm()).await.id;
    let gone = test.deleted(&test.running(&owner).await.id).await.id;
    let scope = test.store.account_scope(&owner.id);

    for vm in [foreign, pooled, gone, VmId::random()] {
        let refused = scope.insert_snapshot(&suspend_snapshot(&vm)).await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(id)) if id == vm));
    }
    assert_eq!(test.store.system().live_snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn a_snapshot_to_suspend_is_of_a_vm() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let of_none = NewSnapshot { purpose: SnapshotPurpose::Suspend, ..kept_snapshot() };

    let refused = test.store.account_scope(&account.id).insert_snapshot(&of_none).await;

    assert!(matches!(refused, Err(StoreError::Database(_))));
}

#[tokio::test]
async fn the_servers_own_snapshots_are_no_ones() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vm = test.running(&account).await;
    let scope = test.store.account_scope(&account.id);
    for purpose in [SnapshotPurpose::Suspend, SnapshotPurpose::Fork] {
        let content = Some("hash".to_owned());
        let new = NewSnapshot { purpose, content, ..suspend_snapshot(&vm.id) };
        let own = test.snapshot(&account, new).await;

        assert_eq!(scope.snapshot(&own.id).await.unwrap(), None);
        assert_eq!(scope.rename_snapshot(&own.id, None).await.unwrap(), None);
        assert_eq!(scope.delete_snapshot(&own.id).await.unwrap(), None);

        assert_eq!(test.live_snapshot(&own.id).await, Some(own));
    }
    assert_eq!(scope.snapshots(true).await.unwrap(), []);
    assert_eq!(scope.snapshot_by_content("hash").await.unwrap(), None);
}

#[tokio::test]
async fn snapshots_are_listed_newest_first_and_the_deleted_where_asked_for() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let mut all = vec![];
    for _ in 0..4 {
        all.push(test.snapshot(&account, kept_snapshot()).await);
    }
    let scope = test.store.account_scope(&account.id);
    all[1] = scope.delete_snapshot(&all[1].id).await.unwrap().unwrap();
    all.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    let live: Vec<_> = all.iter().filter(|one| one.deleted_at.is_none()).cloned().collect();

    assert_eq!(scope.snapshots(true).await.unwrap(), all);
    assert_eq!(scope.snapshots(false).await.unwrap(), live);
    assert_eq!(live.len(), 3);
    let mut oldest_first = test.store.system().live_snapshots().await.unwrap();
    oldest_first.reverse();
    assert_eq!(oldest_first, live);
}

#[tokio::test]
async fn a_snapshot_is_renamed_until_it_is_deleted() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let snapshot = test.ready_snapshot(&account).await;
    let scope = test.store.account_scope(&account.id);

    for name in [Some("other"), None] {
        let renamed = scope.rename_snapshot(&snapshot.id, name).await.unwrap().unwrap();
        assert_eq!(renamed, SnapshotRecord { name: name.map(str::to_owned), ..snapshot.clone() });
        assert_eq!(scope.snapshot(&snapshot.id).await.unwrap(), Some(renamed));
    }
    scope.delete_snapshot(&snapshot.id).await.unwrap();
    assert_eq!(scope.rename_snapshot(&snapshot.id, Some("late")).await.unwrap(), None);
    assert_eq!(scope.rename_snapshot(&SnapshotId::random(), None).await.unwrap(), None);
}

#[tokio::test]
async fn a_snapshot_is_deleted_once_from_every_state_and_stays_so() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    // One that is being made is cancelled by it: it will not be ready.
    let states = [
        (None, SnapshotState::Cancelled),
        (Some(READY), SnapshotState::Ready),
        (Some(FAILED), SnapshotState::Failed),
        (Some(SnapshotEnd::Cancelled), SnapshotState::Cancelled),
        (Some(LOST), SnapshotState::Lost),
    ];
    for (end, state) in states {
        let id = test.snapshot(&account, kept_snapshot()).await.id;
        if let Some(end) = end {
            system.finish_snapshot(&id, end).await.unwrap();
        }

        let deleted = scope.delete_snapshot(&id).await.unwrap().unwrap();

        assert_eq!(deleted.state, state);
        assert!(deleted.deleted_at.unwrap() >= deleted.created_at);
        assert_eq!(scope.delete_snapshot(&id).await.unwrap(), None);
        for late in [READY, FAILED, SnapshotEnd::Cancelled, LOST, SnapshotEnd::Deleted] {
            assert_eq!(system.finish_snapshot(&id, late).await.unwrap(), deleted);
        }
        scope.touch_snapshot(&id).await.unwrap();
        assert_eq!(scope.snapshot(&id).await.unwrap(), Some(deleted));
    }
    assert_eq!(system.live_snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn a_snapshot_ends_as_it_can_from_where_it_is() {
    use SnapshotState::{Building, Cancelled, Failed, Lost, Ready};

    let test = TestStore::open().await;
    let account = test.account().await;
    let system = test.store.system();
    let ends =
        [(READY, Ready), (FAILED, Failed), (SnapshotEnd::Cancelled, Cancelled), (LOST, Lost)];
    let may = |from, to| from == Building || (from == Ready && to == Lost);
    for (first, from) in ends {
        for (second, to) in ends {
            let id = test.snapshot(&account, kept_snapshot()).await.id;

            let one = system.finish_snapshot(&id, first).await.unwrap();
            assert_eq!(one.state, from, "from building");
            assert_eq!(one.failure.is_some(), matches!(from, Failed | Lost));

            let other = system.finish_snapshot(&id, second).await.unwrap();
            if may(from, to) {
                assert_eq!(other.state, to, "from {from:?}");
                assert_eq!(other.failure.as_deref(), Some("memory is missing"));
            } else {
                assert_eq!(other, one, "{from:?} does not become {to:?}");
            }
            assert_eq!(test.live_snapshot(&id).await, Some(other));
        }
    }
    let missing = SnapshotId::random();
    let refused = system.finish_snapshot(&missing, SnapshotEnd::Deleted).await;
    assert!(matches!(refused, Err(StoreError::NoSuchSnapshot(id)) if id == missing));
}

#[tokio::test]
async fn a_ready_snapshot_has_its_sizes() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let snapshot = test.ready_snapshot(&account).await;
    assert_eq!((snapshot.memory_bytes, snapshot.disk_bytes), (Some(30 << 20), Some(1 << 20)));

    // A suspended VM made it ready before they were known.
    let vm = test.suspended(&account).await;
    let memory = vm.suspended.unwrap();
    let measured = test.store.system().finish_snapshot(&memory, READY).await.unwrap();
    assert_eq!((measured.memory_bytes, measured.disk_bytes), (Some(30 << 20), Some(1 << 20)));

    let too_large = SnapshotEnd::Ready { memory_bytes: u64::MAX, disk_bytes: 0 };
    let refused = test.store.system().finish_snapshot(&memory, too_large).await;
    assert!(matches!(refused, Err(StoreError::NumberTooLarge(u64::MAX))));
}

#[tokio::test]
async fn the_newest_snapshot_of_a_spec_that_is_or_will_be_ready_is_found() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let of = |content: &str| NewSnapshot { content: Some(content.to_owned()), ..kept_snapshot() };
    let found = async || scope.snapshot_by_content("hash").await.unwrap();
    test.snapshot(&account, of("another hash")).await;
    test.snapshot(&account, kept_snapshot()).await;
    assert_eq!(found().await, None);

    let older = test.snapshot(&account, of("hash")).await;
    assert_eq!(found().await.as_ref(), Some(&older));
    let older = system.finish_snapshot(&older.id, READY).await.unwrap();
    assert_eq!(found().await.as_ref(), Some(&older));

    for end in [FAILED, SnapshotEnd::Cancelled, LOST, SnapshotEnd::Deleted] {
        let mut newer = test.snapshot(&account, of("hash")).await;
        while newer.created_at == older.created_at {
            newer = test.snapshot(&account, of("hash")).await;
        }
        assert!(found().await.unwrap().created_at > older.created_at);
        for snapshot in system.live_snapshots().await.unwrap() {
            if snapshot.state == SnapshotState::Building && snapshot.content == newer.content {
                system.finish_snapshot(&snapshot.id, end).await.unwrap();
            }
        }
        assert_eq!(found().await.as_ref(), Some(&older), "{end:?}");
    }
}

#[tokio::test]
async fn a_vm_remembers_for_ever_what_it_was_created_from() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let snapshot = test.ready_snapshot(&account).await;
    let scope = test.store.account_scope(&account.id);

    let (vm, _) = scope.insert_vm(&vm_from(&snapshot.id), &settings(), "create").await.unwrap();
    scope.delete_snapshot(&snapshot.id).await.unwrap().unwrap();

    assert_eq!(vm.origin, Some(snapshot.id));
    assert_eq!(scope.vm(&vm.id).await.unwrap(), Some(vm));
}

#[tokio::test]
async fn the_children_of_a_fork_may_be_recorded_before_it_is_taken() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let parent = test.running(&account).await;
    let purpose = SnapshotPurpose::Fork;
    let fork = NewSnapshot { purpose, ..suspend_snapshot(&parent.id) };
    let fork = test.snapshot(&account, fork).await;

    let scope = test.store.account_scope(&account.id);
    let (child, _) = scope.insert_vm(&vm_from(&fork.id), &settings(), "fork").await.unwrap();

    assert_eq!(child.origin, Some(fork.id));
}

#[tokio::test]
async fn no_vm_is_created_from_what_is_no_use() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let mut useless = vec![SnapshotId::random()];
    for end in [FAILED, SnapshotEnd::Cancelled, LOST, SnapshotEnd::Deleted] {
        let id = test.snapshot(&account, kept_snapshot()).await.id;
        useless.push(system.finish_snapshot(&id, end).await.unwrap().id);
    }
    let private = test.ready_snapshot(&account).await;
    let before = scope.snapshots(true).await.unwrap();

    for origin in useless {
        let refused = scope.insert_vm(&vm_from(&origin), &settings(), "create").await;
        assert!(matches!(refused, Err(StoreError::NoSuchSnapshot(id)) if id == origin));
    }
    let refused = system.insert_pool_vm(&vm_from(&private.id), "provision").await;
    assert!(matches!(refused, Err(StoreError::NoSuchSnapshot(id)) if id == private.id));

    assert_eq!(system.live_vms().await.unwrap(), [], "nothing remains of it");
    assert_eq!(system.unfinished_operations().await.unwrap(), []);
    assert_eq!(scope.snapshots(true).await.unwrap(), before);
}

#[tokio::test]
async fn making_a_vm_from_a_snapshot_uses_it() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let last_used = async |id: &SnapshotId| scope.snapshot(id).await.unwrap().unwrap().last_used_at;
    let (made_from, touched) =
        (test.ready_snapshot(&account).await, test.ready_snapshot(&account).await);
    let untouched = test.ready_snapshot(&account).await;

    // The clock has to move on for it to show.
    while last_used(&made_from.id).await == made_from.created_at {
        scope.insert_vm(&vm_from(&made_from.id), &settings(), "create").await.unwrap();
    }
    while last_used(&touched.id).await == touched.created_at {
        scope.touch_snapshot(&touched.id).await.unwrap();
    }

    assert!(last_used(&made_from.id).await > made_from.created_at);
    assert!(last_used(&touched.id).await > touched.created_at);
    assert_eq!(last_used(&untouched.id).await, untouched.created_at);
}

#[tokio::test]
async fn a_run_that_is_long_gone_may_be_named_as_the_source() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let instance_id = Some(InstanceId::random());
    let persistence = SnapshotPersistence::Persistent;
    let new = NewSnapshot { instance_id: instance_id.clone(), persistence, ..kept_snapshot() };

    let snapshot = test.snapshot(&account, new).await;

    assert_eq!((snapshot.instance_id, snapshot.persistence), (instance_id, persistence));
    assert_eq!((snapshot.sizing, snapshot.image.as_str()), (SIZING, IMAGE));
}
