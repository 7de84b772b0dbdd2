//! Who may do what, and how long: against a real store.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::time::Duration;

use freestyle_access::{Access, Caller, Credential, Denied, Lease, RepositoryLevel};
use freestyle_store::{
    AccountId, ApiKeyId, IdentityId, NewVm, Persistence, Settled, Sizing, Store, TokenId, VmId,
    VmSettings,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// More than any lease may take to end, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// An account with a key, and a server that knows it.
struct Test {
    access: Access,
    store: Store,
    account: AccountId,
    key: ApiKeyId,
    secret: String,
    folder: TempDir,
}

/// An identity with a token.
struct Someone {
    identity: IdentityId,
    token: TokenId,
    secret: String,
    caller: Caller,
}

impl Test {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let account = store.system().create_account("owner").await.unwrap().id;
        let (key, secret) = store.account_scope(&account).create_api_key("test").await.unwrap();
        let access = Access::new(store.clone());
        let secret = secret.expose().to_owned();
        Self { access, store, account, key: key.id, secret, folder }
    }

    /// The same files in another process, as good as.
    async fn other_process(&self) -> Store {
        Store::open(&self.folder.path().join("store.db")).await.unwrap()
    }

    async fn owner(&self) -> Caller {
        let caller = self.access.authenticate(Credential::ApiKey(&self.secret)).await.unwrap();
        caller.unwrap()
    }

    async fn stranger(&self) -> Caller {
        let account = self.store.system().create_account("stranger").await.unwrap().id;
        let (_, secret) = self.store.account_scope(&account).create_api_key("x").await.unwrap();
        let caller = self.access.authenticate(Credential::ApiKey(secret.expose())).await.unwrap();
        caller.unwrap()
    }

    async fn someone(&self) -> Someone {
        let scope = self.store.account_scope(&self.account);
        let identity = scope.create_identity().await.unwrap().id;
        let (token, secret) = scope.create_token(&identity).await.unwrap();
        let secret = secret.expose().to_owned();
        let caller = self.access.authenticate(Credential::IdentityToken(&secret)).await.unwrap();
        Someone { identity, token: token.id, secret, caller: caller.unwrap() }
    }

    async fn vm(&self) -> VmId {
        let vm = NewVm {
            id: VmId::random(),
            sizing: Sizing { vcpus: 1, memory_mib: 512, disk_mib: 4096 },
            image: "image".to_owned(),
            origin: None,
        };
        let settings = VmSettings {
            name: None,
            persistence: Persistence::Persistent,
            idle_timeout_seconds: None,
            activity_threshold_bytes: None,
            recreate: false,
            nic: None,
        };
        let scope = self.store.account_scope(&self.account);
        let (_, create) = scope.insert_vm(&vm, &settings, "create").await.unwrap();
        self.store.system().finish_operation(&create.id, Settled::Running).await.unwrap();
        vm.id
    }

    async fn grant(&self, to: &Someone, vm: &VmId, users: Option<&[&str]>) {
        let users: Option<Vec<String>> =
            users.map(|users| users.iter().map(|&user| user.to_owned()).collect());
        let scope = self.store.account_scope(&self.account);
        scope.grant_vm(&to.identity, vm, users.as_deref(), &self.key).await.unwrap();
    }

    async fn repository(&self, id: &str, public: bool) {
        let scope = self.store.account_scope(&self.account);
        scope.insert_repository(id, None, public, 100).await.unwrap().unwrap();
        assert!(self.store.system().finish_repository(id).await.unwrap());
    }

    async fn grant_git(&self, to: &Someone, repository: &str, level: RepositoryLevel) {
        let scope = self.store.account_scope(&self.account);
        scope.grant_git(&to.identity, repository, level, &self.key).await.unwrap();
    }

    async fn lease(&self, caller: &Caller, vm: &VmId, user: Option<&str>) -> Lease {
        self.access.lease(self.access.vm(caller, vm, user).await.unwrap())
    }

    async fn may_act(&self, caller: &Caller, vm: &VmId, user: Option<&str>) -> bool {
        self.access.vm(caller, vm, user).await.is_ok()
    }
}

async fn ends(lease: &Lease) {
    timeout(LIMIT, lease.revoked()).await.expect("the lease ends");
}

/// Looks that one lease ends and another, about which nothing changed, does not before it.
async fn only_the_first_ends(first: &Lease, other: &Lease) {
    let first = timeout(LIMIT, first.revoked());
    tokio::select! {
        biased;
        () = other.revoked() => panic!("its right has not ended"),
        ended = first => ended.expect("the lease ends"),
    }
}

fn is_no_such_vm(answer: Result<impl Sized, Denied>, vm: &VmId) -> bool {
    matches!(answer, Err(Denied::NoSuchVm(missing)) if missing == *vm)
}

#[tokio::test]
async fn credentials_are_whose_they_are_and_of_one_kind() {
    let test = Test::new().await;
    let someone = test.someone().await;
    assert_eq!(
        test.owner().await,
        Caller::Account { account: test.account.clone(), key: test.key.clone() }
    );
    assert_eq!(
        someone.caller,
        Caller::Identity {
            account: test.account.clone(),
            identity: someone.identity.clone(),
            token: someone.token.clone(),
        },
    );
    let made_up = format!("fsi_{}", "A".repeat(43));
    for nobody in [
        Credential::ApiKey(&someone.secret),
        Credential::IdentityToken(&test.secret),
        Credential::IdentityToken(&made_up),
        Credential::IdentityToken(&someone.secret[..46]),
        Credential::IdentityToken(""),
        Credential::ApiKey(""),
    ] {
        assert_eq!(test.access.authenticate(nobody).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_was_revoked_is_nobodys() {
    let test = Test::new().await;
    let (someone, other) = (test.someone().await, test.someone().await);
    let scope = test.store.account_scope(&test.account);
    let who =
        async |secret| test.access.authenticate(Credential::IdentityToken(secret)).await.unwrap();

    scope.revoke_token(&someone.identity, &someone.token).await.unwrap();
    scope.delete_identity(&other.identity).await.unwrap();
    assert!(scope.revoke_api_key(&test.key).await.unwrap());

    assert_eq!(who(&someone.secret).await, None);
    assert_eq!(who(&other.secret).await, None);
    let key = Credential::ApiKey(&test.secret);
    assert_eq!(test.access.authenticate(key).await.unwrap(), None);
}

#[tokio::test]
async fn only_an_account_may_do_what_is_for_accounts() {
    let test = Test::new().await;
    let owner = test.owner().await;
    assert_eq!(owner.account_only().unwrap(), (&test.account, &test.key));
    let refused = test.someone().await.caller.account_only().unwrap_err();
    assert!(matches!(refused, Denied::NotForIdentities));
}

#[tokio::test]
async fn an_account_uses_its_own_vms_as_anybody() {
    let test = Test::new().await;
    let (owner, stranger, vm) = (test.owner().await, test.stranger().await, test.vm().await);
    for user in [None, Some("root"), Some("alice")] {
        let right = test.access.vm(&owner, &vm, user).await.unwrap();
        assert_eq!((right.account(), right.vm(), right.user()), (&test.account, &vm, user));
        assert!(is_no_such_vm(test.access.vm(&stranger, &vm, user).await, &vm));
    }
    assert!(is_no_such_vm(test.access.vm_info(&stranger, &vm).await, &vm));
    let never = VmId::random();
    assert!(is_no_such_vm(test.access.vm(&owner, &never, None).await, &never));
}

#[tokio::test]
async fn an_identity_uses_what_it_was_granted_and_nothing_else() {
    let test = Test::new().await;
    let (someone, other) = (test.someone().await, test.someone().await);
    let (granted, kept) = (test.vm().await, test.vm().await);

    test.grant(&someone, &granted, None).await;

    for user in [None, Some("root"), Some("alice")] {
        assert!(test.may_act(&someone.caller, &granted, user).await);
    }
    assert!(test.access.vm_info(&someone.caller, &granted).await.is_ok());
    for (caller, vm) in
        [(&someone.caller, &kept), (&other.caller, &granted), (&someone.caller, &VmId::random())]
    {
        assert!(is_no_such_vm(test.access.vm(caller, vm, None).await, vm));
        assert!(is_no_such_vm(test.access.vm_info(caller, vm).await, vm));
    }
}

#[tokio::test]
async fn a_limit_to_linux_users_is_for_acting_and_includes_who_names_none() {
    let test = Test::new().await;
    let (alice, admin, vm) = (test.someone().await, test.someone().await, test.vm().await);
    test.grant(&alice, &vm, Some(&["alice", "build"])).await;
    test.grant(&admin, &vm, Some(&["root"])).await;

    for user in ["alice", "build"] {
        assert!(test.may_act(&alice.caller, &vm, Some(user)).await);
    }
    for user in ["bob", "root", "Alice", "alice ", ""] {
        let refused = test.access.vm(&alice.caller, &vm, Some(user)).await.unwrap_err();
        assert!(refused.to_string().contains(user), "{refused}");
        let named = matches!(
            refused,
            Denied::UserNotAllowed { vm: on, user: Some(named) } if on == vm && named == user
        );
        assert!(named, "{user}");
    }
    let refused = test.access.vm(&alice.caller, &vm, None).await.unwrap_err();
    assert!(matches!(refused, Denied::UserNotAllowed { user: None, .. }), "{refused}");
    assert!(test.access.vm_info(&alice.caller, &vm).await.is_ok());

    assert!(test.may_act(&admin.caller, &vm, None).await);
    assert!(test.may_act(&admin.caller, &vm, Some("root")).await);
    assert!(!test.may_act(&admin.caller, &vm, Some("alice")).await);
}

#[tokio::test]
async fn repositories_are_read_or_written_as_granted() {
    use RepositoryLevel::{Read, Write};
    let test = Test::new().await;
    let (reader, writer, nobody) =
        (test.someone().await, test.someone().await, test.someone().await);
    test.repository("mine", false).await;
    test.grant_git(&reader, "mine", Read).await;
    test.grant_git(&writer, "mine", Write).await;
    let may = async |caller: &Caller, repository, need| {
        test.access.repository(Some(caller), repository, need).await
    };

    let owner = test.owner().await;
    for (caller, need) in [(&owner, Read), (&owner, Write), (&writer.caller, Write)] {
        let right = may(caller, "mine", need).await.unwrap();
        assert_eq!((right.owner(), right.repository()), (&test.account, "mine"));
        assert_eq!((right.caller(), right.level()), (Some(caller), need));
    }
    assert!(may(&writer.caller, "mine", Read).await.is_ok());
    assert!(may(&reader.caller, "mine", Read).await.is_ok());
    let refused = may(&reader.caller, "mine", Write).await;
    assert!(matches!(refused, Err(Denied::ReadOnly(repository)) if repository == "mine"));

    let stranger = test.stranger().await;
    for need in [Read, Write] {
        for (caller, repository) in [
            (Some(&stranger), "mine"),
            (Some(&nobody.caller), "mine"),
            (None, "mine"),
            (Some(&owner), "never-was"),
            (Some(&writer.caller), "never-was"),
        ] {
            let refused = test.access.repository(caller, repository, need).await;
            assert!(
                matches!(&refused, Err(Denied::NoSuchRepository(missing)) if missing == repository),
                "{refused:?}",
            );
        }
    }
}

#[tokio::test]
async fn everybody_reads_a_public_repository_and_nobody_else_writes_it() {
    use RepositoryLevel::{Read, Write};
    let test = Test::new().await;
    let (someone, stranger) = (test.someone().await, test.stranger().await);
    test.repository("open", true).await;

    for caller in [None, Some(&stranger), Some(&someone.caller)] {
        let right = test.access.repository(caller, "open", Read).await.unwrap();
        assert_eq!((right.owner(), right.caller()), (&test.account, caller));
        let refused = test.access.repository(caller, "open", Write).await;
        assert!(matches!(refused, Err(Denied::ReadOnly(_))), "{refused:?}");
    }

    let right = test.access.repository(None, "open", Read).await.unwrap();
    let lease = test.access.lease(right);
    let scope = test.store.account_scope(&test.account);
    scope.set_repository_public("open", false).await.unwrap().unwrap();
    ends(&lease).await;
}

#[tokio::test]
async fn a_deleted_vm_is_granted_to_nobody() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let owner = test.owner().await;
    let leases =
        [test.lease(&owner, &vm, None).await, test.lease(&someone.caller, &vm, None).await];

    let (_, delete) = test.store.system().begin_operation(&vm, "delete").await.unwrap();
    assert!(test.may_act(&someone.caller, &vm, None).await, "it is not gone yet");
    test.store.system().finish_operation(&delete.id, Settled::Deleted).await.unwrap();

    assert!(is_no_such_vm(test.access.vm(&someone.caller, &vm, None).await, &vm));
    assert!(is_no_such_vm(test.access.vm_info(&owner, &vm).await, &vm));
    for lease in &leases {
        ends(lease).await;
    }
}

#[tokio::test]
async fn a_lease_ends_with_its_token_and_no_other() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let scope = test.store.account_scope(&test.account);
    let (_, second) = scope.create_token(&someone.identity).await.unwrap();
    let second = Credential::IdentityToken(second.expose());
    let second = test.access.authenticate(second).await.unwrap().unwrap();
    let lease = test.lease(&someone.caller, &vm, None).await;
    let other = test.lease(&second, &vm, None).await;

    scope.revoke_token(&someone.identity, &someone.token).await.unwrap();

    only_the_first_ends(&lease, &other).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_grant_and_not_with_another_identitys() {
    let test = Test::new().await;
    let (someone, other, vm) = (test.someone().await, test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    test.grant(&other, &vm, None).await;
    let lease = test.lease(&someone.caller, &vm, None).await;
    let others = test.lease(&other.caller, &vm, None).await;

    let scope = test.store.account_scope(&test.account);
    scope.revoke_vm_grant(&someone.identity, &vm).await.unwrap();

    only_the_first_ends(&lease, &others).await;
}

#[tokio::test]
async fn a_lease_ends_when_its_linux_user_is_no_longer_allowed() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let as_bob = test.lease(&someone.caller, &vm, Some("bob")).await;
    let as_root = test.lease(&someone.caller, &vm, None).await;
    let as_alice = test.lease(&someone.caller, &vm, Some("alice")).await;

    let scope = test.store.account_scope(&test.account);
    let users = ["alice".to_owned()];
    scope.update_vm_grant(&someone.identity, &vm, Some(&users)).await.unwrap();

    only_the_first_ends(&as_bob, &as_alice).await;
    only_the_first_ends(&as_root, &as_alice).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_identity() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let owners = test.lease(&test.owner().await, &vm, None).await;
    let lease = test.lease(&someone.caller, &vm, None).await;

    test.store.account_scope(&test.account).delete_identity(&someone.identity).await.unwrap();

    only_the_first_ends(&lease, &owners).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_api_key_also_when_another_process_revokes_it() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let lease = test.lease(&test.owner().await, &vm, None).await;
    let identitys = test.lease(&someone.caller, &vm, None).await;

    let elsewhere = test.other_process().await;
    assert!(elsewhere.account_scope(&test.account).revoke_api_key(&test.key).await.unwrap());

    only_the_first_ends(&lease, &identitys).await;
}

#[tokio::test]
async fn a_lease_of_a_repository_ends_when_less_may_be_done() {
    use RepositoryLevel::{Read, Write};
    let test = Test::new().await;
    let someone = test.someone().await;
    test.repository("mine", false).await;
    test.grant_git(&someone, "mine", Write).await;
    let lease = async |need| {
        let right = test.access.repository(Some(&someone.caller), "mine", need).await.unwrap();
        test.access.lease(right)
    };
    let (reading, writing) = (lease(Read).await, lease(Write).await);

    let scope = test.store.account_scope(&test.account);
    scope.update_git_grant(&someone.identity, "mine", Read).await.unwrap();
    only_the_first_ends(&writing, &reading).await;

    assert!(scope.begin_repository_delete("mine").await.unwrap());
    ends(&reading).await;
}

#[tokio::test]
async fn a_right_that_ended_before_its_lease_was_asked_has_ended() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let lease = test.lease(&someone.caller, &vm, None).await;
    let scope = test.store.account_scope(&test.account);
    scope.revoke_vm_grant(&someone.identity, &vm).await.unwrap();

    for _ in 0..2 {
        ends(&lease).await;
    }
}

#[tokio::test]
async fn work_that_is_given_up_is_told_what_its_next_request_would_be() {
    let test = Test::new().await;
    let vm = test.vm().await;
    let scope = test.store.account_scope(&test.account);
    let granted = async || {
        let whose = test.someone().await;
        test.grant(&whose, &vm, None).await;
        let lease = test.lease(&whose.caller, &vm, None).await;
        (whose, lease)
    };
    let working = |lease: Lease| {
        tokio::spawn(async move { lease.while_held(std::future::pending::<()>()).await })
    };
    let why = async |work: JoinHandle<Result<(), Denied>>| {
        timeout(LIMIT, work).await.unwrap().unwrap().unwrap_err()
    };

    let (whose, lease) = granted().await;
    let work = working(lease);
    scope.revoke_token(&whose.identity, &whose.token).await.unwrap();
    assert!(matches!(why(work).await, Denied::NotInForce));

    let (whose, lease) = granted().await;
    let work = working(lease);
    scope.update_vm_grant(&whose.identity, &vm, Some(&["bob".to_owned()])).await.unwrap();
    assert!(matches!(why(work).await, Denied::UserNotAllowed { .. }));

    let (whose, lease) = granted().await;
    let work = working(lease);
    scope.revoke_vm_grant(&whose.identity, &vm).await.unwrap();
    assert!(matches!(why(work).await, Denied::NoSuchVm(missing) if missing == vm));
}

#[tokio::test]
async fn work_that_is_done_while_the_right_lasts_is_answered() {
    let test = Test::new().await;
    let (someone, vm) = (test.someone().await, test.vm().await);
    test.grant(&someone, &vm, None).await;
    let lease = test.lease(&someone.caller, &vm, None).await;
    assert_eq!(lease.while_held(async { 7 }).await.unwrap(), 7);
}

#[tokio::test]
async fn a_store_that_fails_ends_leases() {
    let test = Test::new().await;
    let vm = test.vm().await;
    let lease = test.lease(&test.owner().await, &vm, None).await;
    test.store.close().await;
    ends(&lease).await;
}
