//! VPCs, the addresses of VMs in them, and who may join them from outside.

use std::net::Ipv4Addr;

use freestyle_store::{
    Account, NewNic, NewWireguardPeer, Settled, StoreError, VmRecord, VmSettings, VpcId, VpcRecord,
    WireguardPeer, WireguardSighting,
};

use crate::{IMAGE, SIZING, TestStore, new_vm, settings};

const CIDR: &str = "192.168.10.0/29";
const TUNNELS: &str = "100.96.0.0/16";

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 10, last)
}

fn nic(vpc: &VpcId, address: Option<Ipv4Addr>) -> NewNic {
    NewNic { vpc: vpc.clone(), address, is_default: true, excluded: Vec::new() }
}

/// A public key, of sorts.
fn key(of: &str) -> String {
    format!("{of:A<43}=")
}

impl TestStore {
    async fn vpc(&self, account: &Account) -> VpcRecord {
        let scope = self.store.account_scope(&account.id);
        scope.create_vpc(Some("net"), CIDR.parse().unwrap()).await.unwrap()
    }

    /// A VM with such a NIC and nothing in progress.
    async fn member(&self, account: &Account, nic: NewNic) -> Result<VmRecord, StoreError> {
        let scope = self.store.account_scope(&account.id);
        let settings = VmSettings { nic: Some(nic), ..settings() };
        let (_, create) = scope.insert_vm(&new_vm(), &settings, "create").await?;
        self.store.system().finish_operation(&create.id, Settled::Running).await
    }

    async fn peer(
        &self,
        account: &Account,
        new: NewWireguardPeer,
    ) -> Result<WireguardPeer, StoreError> {
        let scope = self.store.account_scope(&account.id);
        scope.create_wireguard_peer(&new, TUNNELS.parse().unwrap()).await
    }

    async fn session(&self, account: &Account, vpc: &VpcId, of: &str) -> WireguardPeer {
        let new = NewWireguardPeer { vpc: vpc.clone(), public_key: key(of), gateway: None };
        self.peer(account, new).await.unwrap()
    }
}

#[tokio::test]
async fn a_vpc_is_its_accounts_and_survives_a_restart() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let vpc = test.vpc(&owner).await;
    let test = test.reopened().await;

    let (scope, foreign) =
        (test.store.account_scope(&owner.id), test.store.account_scope(&other.id));
    assert_eq!(scope.vpc(&vpc.id).await.unwrap(), vpc);
    assert_eq!(scope.vpcs().await.unwrap(), std::slice::from_ref(&vpc));
    assert_eq!((vpc.name.as_deref(), vpc.cidr.to_string().as_str()), (Some("net"), CIDR));
    assert_eq!(foreign.vpcs().await.unwrap(), []);
    for refused in [foreign.vpc(&vpc.id).await, foreign.delete_vpc(&vpc.id).await] {
        assert!(matches!(refused, Err(StoreError::NoSuchVpc(id)) if id == vpc.id));
    }
    let refused = test.member(&other, nic(&vpc.id, None)).await;
    assert!(matches!(refused, Err(StoreError::NoSuchVpc(_))));
    let new = NewWireguardPeer { vpc: vpc.id.clone(), public_key: key("k"), gateway: None };
    assert!(matches!(test.peer(&other, new).await, Err(StoreError::NoSuchVpc(_))));
    assert_eq!(foreign.vms(true).await.unwrap(), []);

    assert_eq!(scope.delete_vpc(&vpc.id).await.unwrap(), vpc);
    assert!(matches!(scope.vpc(&vpc.id).await, Err(StoreError::NoSuchVpc(_))));
    assert_eq!(scope.vpcs().await.unwrap(), []);
    let refused = test.member(&owner, nic(&vpc.id, None)).await;
    assert!(matches!(refused, Err(StoreError::NoSuchVpc(_))));
}

#[tokio::test]
async fn no_two_vms_of_a_vpc_have_one_address() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (vpc, other) = (test.vpc(&account).await, test.vpc(&account).await);
    let member = test.member(&account, nic(&vpc.id, Some(address(3)))).await.unwrap();
    let kept = member.nic.clone().unwrap();
    assert_eq!((&kept.vpc, kept.address.to_string().as_str()), (&vpc.id, "192.168.10.3/29"));
    assert!(kept.is_default);

    let taken = test.member(&account, nic(&vpc.id, Some(address(3)))).await;
    assert!(matches!(taken, Err(StoreError::AddressTaken(taken)) if taken == address(3)));
    // In another VPC it is another address.
    test.member(&account, nic(&other.id, Some(address(3)))).await.unwrap();

    let mut chosen = Vec::new();
    for _ in 0..5 {
        let member = test.member(&account, nic(&vpc.id, None)).await.unwrap();
        chosen.push(member.nic.unwrap().address.addr());
    }
    assert_eq!(chosen, [1, 2, 4, 5, 6].map(address), "the lowest that is free");
    let full = test.member(&account, nic(&vpc.id, None)).await;
    assert!(matches!(full, Err(StoreError::NoFreeAddress { .. })));

    // It keeps the address as long as it is there, whatever it does.
    test.stopped(&member.id, "shut down").await;
    assert!(test.member(&account, nic(&vpc.id, Some(address(3)))).await.is_err());
    assert_eq!(test.live(&member.id).await.unwrap().nic, Some(kept));
    test.deleted(&member.id).await;
    test.member(&account, nic(&vpc.id, Some(address(3)))).await.unwrap();
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_refused() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vpc = test.vpc(&account).await;
    let excluded = vec!["192.168.10.0/30".parse().unwrap()];
    for bad in [address(0), address(7), address(8), address(2), Ipv4Addr::UNSPECIFIED] {
        let nic = NewNic { excluded: excluded.clone(), ..nic(&vpc.id, Some(bad)) };
        let refused = test.member(&account, nic).await;
        assert!(matches!(refused, Err(StoreError::AddressUnusable { .. })), "{bad}");
    }
    let lowest = NewNic { excluded, ..nic(&vpc.id, None) };
    let member = test.member(&account, lowest).await.unwrap();
    assert_eq!(member.nic.unwrap().address.addr(), address(4));
}

#[tokio::test]
async fn a_claimed_vm_gets_its_nic_and_none_is_claimed_without() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vpc = test.vpc(&account).await;
    test.member(&account, nic(&vpc.id, Some(address(1)))).await.unwrap();
    let pooled = test.ready(new_vm()).await;
    let scope = test.store.account_scope(&account.id);
    let with = |nic| VmSettings { nic: Some(nic), ..settings() };

    let taken = with(nic(&vpc.id, Some(address(1))));
    let refused = scope.claim_ready_vm(IMAGE, SIZING, &taken, "claim").await;
    assert!(matches!(refused, Err(StoreError::AddressTaken(_))));
    assert_eq!(test.live(&pooled.id).await, Some(pooled.clone()), "nothing was claimed");

    let any = with(nic(&vpc.id, None));
    let (claimed, _) = scope.claim_ready_vm(IMAGE, SIZING, &any, "claim").await.unwrap().unwrap();
    assert_eq!(claimed.id, pooled.id);
    assert_eq!(claimed.nic.unwrap().address.addr(), address(2));
}

#[tokio::test]
async fn a_vpc_with_vms_is_kept_and_one_without_goes_with_its_peers() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vpc = test.vpc(&account).await;
    let (scope, system) = (test.store.account_scope(&account.id), test.store.system());
    let member = test.member(&account, nic(&vpc.id, None)).await.unwrap();
    test.stopped(&member.id, "shut down").await;
    test.session(&account, &vpc.id, "laptop").await;

    let refused = scope.delete_vpc(&vpc.id).await;
    assert!(matches!(refused, Err(StoreError::VpcInUse { vms: 1, .. })));
    assert_eq!(system.wireguard_peers().await.unwrap().len(), 1);

    test.deleted(&member.id).await;
    scope.delete_vpc(&vpc.id).await.unwrap();
    assert_eq!(system.wireguard_peers().await.unwrap(), []);
    assert_eq!(system.vpcs().await.unwrap(), []);
}

#[tokio::test]
async fn every_peer_has_a_key_and_an_address_of_its_own() {
    let test = TestStore::open().await;
    let (owner, other) = (test.account().await, test.account().await);
    let (vpc, foreign) = (test.vpc(&owner).await, test.vpc(&other).await);
    let first = test.session(&owner, &vpc.id, "one").await;
    let second = test.session(&other, &foreign.id, "two").await;
    let third = test.session(&owner, &vpc.id, "three").await;
    let addresses = [&first, &second, &third].map(|peer| peer.tunnel_address.to_string());
    assert_eq!(addresses, ["100.96.0.2", "100.96.0.2", "100.96.0.3"], "in its VPC");

    let again = NewWireguardPeer { vpc: vpc.id.clone(), public_key: key("two"), gateway: None };
    assert!(matches!(test.peer(&owner, again).await, Err(StoreError::KeyInUse)));

    // Whoever is not its owner cannot close a session, nor is it closed by way of another VPC.
    let (scope, stranger) =
        (test.store.account_scope(&owner.id), test.store.account_scope(&other.id));
    assert!(!stranger.remove_wireguard_session(&vpc.id, &first.id).await.unwrap());
    assert!(!scope.remove_wireguard_session(&foreign.id, &first.id).await.unwrap());
    assert!(scope.remove_wireguard_session(&vpc.id, &first.id).await.unwrap());
    assert!(!scope.remove_wireguard_session(&vpc.id, &first.id).await.unwrap());
    let reused = test.session(&owner, &vpc.id, "four").await;
    assert_eq!(reused.tunnel_address, first.tunnel_address);
}

#[tokio::test]
async fn a_peer_with_a_gateway_lives_as_long_as_the_vm() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let (vpc, other) = (test.vpc(&account).await, test.vpc(&account).await);
    let one = test.member(&account, nic(&vpc.id, None)).await.unwrap();
    let two = test.member(&account, nic(&vpc.id, None)).await.unwrap();
    let outsider = test.running(&account).await;
    let new = |vm: &VmRecord, vpc: &VpcRecord| NewWireguardPeer {
        vpc: vpc.id.clone(),
        public_key: key("office"),
        gateway: Some(vm.id.clone()),
    };
    for (vm, vpc) in [(&outsider, &vpc), (&one, &other)] {
        let refused = test.peer(&account, new(vm, vpc)).await;
        assert!(matches!(refused, Err(StoreError::NoSuchVm(id)) if id == vm.id));
    }
    let peer = test.peer(&account, new(&one, &vpc)).await.unwrap();
    let moved = test.peer(&account, new(&two, &vpc)).await.unwrap();
    assert_eq!((&moved.id, moved.tunnel_address), (&peer.id, peer.tunnel_address));
    assert_eq!(moved.gateway, Some(two.id.clone()));
    let scope = test.store.account_scope(&account.id);
    assert!(!scope.remove_wireguard_session(&vpc.id, &peer.id).await.unwrap(), "it is no session");

    let system = test.store.system();
    assert_eq!(system.expire_wireguard_sessions(i64::MAX).await.unwrap(), 0);
    test.deleted(&one.id).await;
    assert_eq!(system.wireguard_peers().await.unwrap(), [moved]);
    test.deleted(&two.id).await;
    assert_eq!(system.wireguard_peers().await.unwrap(), []);
}

#[tokio::test]
async fn sessions_that_are_not_used_expire() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vpc = test.vpc(&account).await;
    let (used, unused) = (
        test.session(&account, &vpc.id, "one").await,
        test.session(&account, &vpc.id, "two").await,
    );
    let system = test.store.system();
    let endpoint = Some("198.51.100.7:51820".parse().unwrap());
    let later = used.last_seen_at + 1000;
    let sighting = WireguardSighting { id: used.id.clone(), at: later, endpoint };
    let gone =
        WireguardSighting { id: "wgs-aaaaaaaaaaaaaaaaaaaa".parse().unwrap(), ..sighting.clone() };
    system.record_wireguard_sightings(&[sighting, gone]).await.unwrap();

    assert_eq!(system.expire_wireguard_sessions(later).await.unwrap(), 1);
    let test = test.reopened().await;
    let left = test.store.system().wireguard_peers().await.unwrap();
    assert_eq!(left, [WireguardPeer { endpoint, last_seen_at: later, ..used }]);
    drop(unused);
}

#[tokio::test]
async fn there_is_a_limit_to_peers_and_vpcs() {
    let test = TestStore::open().await;
    let account = test.account().await;
    let vpc = test.vpc(&account).await;
    for n in 0..freestyle_store::MAX_WIREGUARD_PEERS {
        test.session(&account, &vpc.id, &n.to_string()).await;
    }
    let one_more = NewWireguardPeer { vpc: vpc.id, public_key: key("x"), gateway: None };
    let refused = test.peer(&account, one_more).await;
    assert!(matches!(refused, Err(StoreError::LimitReached { .. })));
    for _ in 1..freestyle_store::MAX_VPCS {
        test.vpc(&account).await;
    }
    let scope = test.store.account_scope(&account.id);
    let refused = scope.create_vpc(None, CIDR.parse().unwrap()).await;
    assert!(matches!(refused, Err(StoreError::LimitReached { .. })));
}
