//! Repositories: whose they are, and that only those that are ready exist.

use freestyle_store::{Account, RepositoryRecord, RepositoryState};

use crate::TestStore;

const MOST: u64 = 100;

fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

impl TestStore {
    async fn creating_repository(&self, account: &Account, n: u32) -> RepositoryRecord {
        let scope = self.store.account_scope(&account.id);
        scope.insert_repository(&id(n), Some("web"), false, MOST).await.unwrap().unwrap()
    }

    async fn repository(&self, account: &Account, n: u32) -> RepositoryRecord {
        let record = self.creating_repository(account, n).await;
        assert!(self.store.system().finish_repository(&record.id).await.unwrap());
        RepositoryRecord { state: RepositoryState::Ready, ..record }
    }
}

#[tokio::test]
async fn a_repository_exists_from_when_it_is_ready_until_it_is_being_deleted() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());

    let creating = test.creating_repository(&account, 1).await;
    assert_eq!(creating.state, RepositoryState::Creating);
    assert_eq!(scope.repository(&creating.id).await.unwrap(), None);
    assert_eq!(scope.repositories(None, 10, 0).await.unwrap().total, 0);
    assert!(!scope.begin_repository_delete(&creating.id).await.unwrap());
    assert_eq!(system.unfinished_repositories().await.unwrap(), std::slice::from_ref(&creating));

    assert!(system.finish_repository(&creating.id).await.unwrap());
    assert!(!system.finish_repository(&creating.id).await.unwrap(), "it was finished");
    let ready = scope.repository(&creating.id).await.unwrap().unwrap();
    assert_eq!(ready, RepositoryRecord { state: RepositoryState::Ready, ..creating });
    assert_eq!(system.all_repositories().await.unwrap(), std::slice::from_ref(&ready));
    assert_eq!(system.unfinished_repositories().await.unwrap(), []);
    system.remove_repository(&ready.id).await.unwrap();
    assert!(scope.repository(&ready.id).await.unwrap().is_some(), "one that exists stays");

    assert!(scope.begin_repository_delete(&ready.id).await.unwrap());
    assert!(!scope.begin_repository_delete(&ready.id).await.unwrap(), "it is being deleted");
    assert_eq!(scope.repository(&ready.id).await.unwrap(), None);
    assert_eq!(scope.set_repository_public(&ready.id, true).await.unwrap(), None);
    assert_eq!(system.all_repositories().await.unwrap(), []);
    assert_eq!(system.unfinished_repositories().await.unwrap().len(), 1);
    system.remove_repository(&ready.id).await.unwrap();
    assert_eq!(system.unfinished_repositories().await.unwrap(), []);
}

#[tokio::test]
async fn a_foreign_repository_is_no_repository() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let repository = test.repository(&owner, 1).await;
    let foreign = test.store.account_scope(&other.id);

    assert_eq!(foreign.repository(&repository.id).await.unwrap(), None);
    assert_eq!(foreign.repositories(None, 10, 0).await.unwrap().repositories, []);
    assert_eq!(foreign.repositories(Some(&repository.id), 10, 0).await.unwrap().total, 0);
    assert_eq!(foreign.set_repository_public(&repository.id, true).await.unwrap(), None);
    assert!(!foreign.begin_repository_delete(&repository.id).await.unwrap());

    let unchanged = test.store.account_scope(&owner.id).repository(&repository.id).await.unwrap();
    assert_eq!(unchanged, Some(repository));
}

#[tokio::test]
async fn only_what_is_public_is_everybodys() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let repository = test.repository(&account, 1).await;

    assert_eq!(system.public_repository(&repository.id).await.unwrap(), None);
    let public = scope.set_repository_public(&repository.id, true).await.unwrap().unwrap();
    assert!(public.public);
    assert_eq!(system.public_repository(&repository.id).await.unwrap(), Some(public));
    scope.set_repository_public(&repository.id, false).await.unwrap().unwrap();
    assert_eq!(system.public_repository(&repository.id).await.unwrap(), None);

    scope.set_repository_public(&repository.id, true).await.unwrap().unwrap();
    scope.begin_repository_delete(&repository.id).await.unwrap();
    assert_eq!(system.public_repository(&repository.id).await.unwrap(), None);
}

#[tokio::test]
async fn lists_are_in_pages_newest_first_and_can_be_searched() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let scope = test.store.account_scope(&account.id);
    for (n, name) in [(1, Some("web")), (2, Some("Web_API")), (3, Some("100%")), (4, None)] {
        scope.insert_repository(&id(n), name, false, MOST).await.unwrap().unwrap();
        test.store.system().finish_repository(&id(n)).await.unwrap();
    }
    let ids = async |search: Option<&str>, limit, offset| {
        let page = scope.repositories(search, limit, offset).await.unwrap();
        let ids: Vec<_> = page.repositories.into_iter().map(|found| found.id).collect();
        (ids, page.total)
    };

    let newest_first = ids(None, 10, 0).await;
    assert_eq!(newest_first.1, 4);
    let pages = [ids(None, 3, 0).await, ids(None, 3, 3).await, ids(None, 3, 6).await];
    assert_eq!(pages.clone().map(|(_, total)| total), [4, 4, 4]);
    assert_eq!(pages.map(|(ids, _)| ids).concat(), newest_first.0);
    assert_eq!(ids(None, 0, 0).await, (vec![], 4));

    let mut webs = ids(Some("WEB"), 10, 0).await.0;
    webs.sort();
    assert_eq!(webs, [id(1), id(2)]);
    // Nothing in a search stands for anything else.
    assert_eq!(ids(Some("b_a"), 10, 0).await.0, [id(2)]);
    assert_eq!(ids(Some("e_A"), 10, 0).await.0, Vec::<String>::new());
    assert_eq!(ids(Some("%"), 10, 0).await.0, [id(3)]);
    assert_eq!(ids(Some("\\"), 10, 0).await.0, Vec::<String>::new());
    assert_eq!(ids(Some(&id(4)), 10, 0).await.0, [id(4)]);
}

#[tokio::test]
async fn an_account_has_only_as_many_as_it_may() {
    let test = TestStore::open().await;
    let (account, other) = (test.account().await, test.account().await);
    let scope = test.store.account_scope(&account.id);
    for n in [1, 2] {
        assert!(scope.insert_repository(&id(n), None, false, 2).await.unwrap().is_some());
    }
    assert_eq!(scope.insert_repository(&id(3), None, false, 2).await.unwrap(), None);
    let theirs = test.store.account_scope(&other.id);
    assert!(theirs.insert_repository(&id(3), None, false, 2).await.unwrap().is_some());
    test.store.system().remove_repository(&id(1)).await.unwrap();
    assert!(scope.insert_repository(&id(4), None, false, 2).await.unwrap().is_some());
}
