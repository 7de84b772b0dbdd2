//! What the owner of a build can watch.

use freestyle_store::{
    BuildEnd, BuildId, BuildPhase, BuildPhaseId, BuildRecord, BuildState, NewBuild, SnapshotId,
    StoreError, VmId,
};

use crate::TestStore;

const FAILED: BuildEnd<'_> = BuildEnd::Failed { error: "apt-get exited with 100" };

fn new_build() -> NewBuild {
    NewBuild {
        id: BuildId::random(),
        snapshot_id: Some(SnapshotId::random()),
        vm_id: Some(VmId::random()),
        content: Some("hash".to_owned()),
        planned_phases: vec!["packages".to_owned(), "systemd".to_owned()],
    }
}

fn phase(name: &str, snapshot_id: Option<SnapshotId>) -> BuildPhase {
    BuildPhase {
        id: BuildPhaseId::random(),
        name: name.to_owned(),
        snapshot_id,
        started_at: 1_760_000_000_000,
    }
}

#[tokio::test]
async fn a_build_tells_how_far_it_is_and_how_it_ended() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let new = new_build();

    let begun = scope.insert_build(&new).await.unwrap();
    assert_eq!(scope.build(&new.id).await.unwrap().as_ref(), Some(&begun));
    assert_eq!(
        (begun.state, &begun.phases, begun.finished_at),
        (BuildState::Running, &vec![], None)
    );
    assert_eq!((&begun.account_id, &begun.error), (&account.id, &None));
    assert_eq!((&begun.snapshot_id, &begun.vm_id), (&new.snapshot_id, &new.vm_id));
    assert_eq!((&begun.content, &begun.planned_phases), (&new.content, &new.planned_phases));

    let phases = [phase("packages", Some(SnapshotId::random())), phase("systemd", None)];
    let updated = system.update_build(&new.id, &phases).await.unwrap();
    assert_eq!(updated.phases, phases);
    assert!(updated.updated_at >= begun.updated_at);
    assert_eq!(scope.build(&new.id).await.unwrap().as_ref(), Some(&updated));

    let finished = system.finish_build(&new.id, BuildEnd::Succeeded).await.unwrap();
    let at = finished.finished_at.unwrap();
    let state = BuildState::Succeeded;
    let expected = BuildRecord { state, finished_at: Some(at), updated_at: at, ..updated };
    assert_eq!(finished, expected);
    let test = test.reopened().await;
    let seen = test.store.account_scope(&account.id).build(&new.id).await.unwrap();
    assert_eq!(seen, Some(finished));
}

#[tokio::test]
async fn a_build_ends_once() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    for end in [BuildEnd::Succeeded, FAILED] {
        let id = scope.insert_build(&new_build()).await.unwrap().id;
        let finished = system.finish_build(&id, end).await.unwrap();

        for late in [BuildEnd::Succeeded, FAILED] {
            assert_eq!(system.finish_build(&id, late).await.unwrap(), finished);
        }
        let late = system.update_build(&id, &[phase("packages", None)]).await.unwrap();
        assert_eq!(late, finished);
        assert_eq!(system.fail_unfinished_builds("the server ended").await.unwrap(), 0);
        assert_eq!(scope.build(&id).await.unwrap(), Some(finished));
    }
    let missing = BuildId::random();
    let refused = system.finish_build(&missing, FAILED).await;
    assert!(matches!(refused, Err(StoreError::NoSuchBuild(id)) if id == missing));
    let refused = system.update_build(&missing, &[]).await;
    assert!(matches!(refused, Err(StoreError::NoSuchBuild(id)) if id == missing));
}

#[tokio::test]
async fn a_build_fails_with_the_server_that_ran_it() {
    let test = TestStore::open().await;
    let (one, other) = (test.account().await, test.account().await);
    let mut builds = vec![];
    for account in [&one, &other] {
        let scope = test.store.account_scope(&account.id);
        builds.push((account, scope.insert_build(&new_build()).await.unwrap().id));
    }
    let test = test.reopened().await;

    let failed = test.store.system().fail_unfinished_builds("the server ended").await.unwrap();

    assert_eq!(failed, 2);
    for (account, id) in builds {
        let build = test.store.account_scope(&account.id).build(&id).await.unwrap().unwrap();
        assert_eq!(build.state, BuildState::Failed);
        assert_eq!(build.error.as_deref(), Some("the server ended"));
        assert_eq!(build.finished_at, Some(build.updated_at));
    }
}

#[tokio::test]
async fn a_vm_has_its_newest_build() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    let vm = VmId::random();
    let of_vm = || NewBuild { vm_id: Some(vm.clone()), ..new_build() };
    scope.insert_build(&new_build()).await.unwrap();
    assert_eq!(scope.build_of_vm(&vm).await.unwrap(), None);

    let first = scope.insert_build(&of_vm()).await.unwrap();
    assert_eq!(scope.build_of_vm(&vm).await.unwrap().as_ref(), Some(&first));

    // The clock has to move on for it to show.
    let mut newest = scope.insert_build(&of_vm()).await.unwrap();
    while newest.created_at == first.created_at {
        newest = scope.insert_build(&of_vm()).await.unwrap();
    }
    assert_eq!(scope.build_of_vm(&vm).await.unwrap(), Some(newest));
}

#[tokio::test]
async fn a_foreign_build_is_no_build() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let new = new_build();
    test.store.account_scope(&owner.id).insert_build(&new).await.unwrap();

    let foreign = test.store.account_scope(&other.id);
    assert_eq!(foreign.build(&new.id).await.unwrap(), None);
    assert_eq!(foreign.build_of_vm(&new.vm_id.unwrap()).await.unwrap(), None);
}
