//! VPCs themselves, without any client.

use std::net::Ipv4Addr;

use freestyle_store::{Store, VpcId, WireguardPeerId};
use freestyle_vpc::{Config, VpcError, VpcService};

use crate::support::{Server, run};

const VM: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);

#[tokio::test(flavor = "multi_thread")]
async fn a_vpc_is_listed_with_its_vms_and_deleted_without() {
    let server = Server::start().await;
    let (vpcs, account) = (server.vpcs(), &server.account);
    let vpc = server.vpc("10.9.0.0/16").await;
    let vm = server.vm(&vpc, VM).await;
    let list = vpcs.list(account).await.unwrap();
    assert_eq!((list.len(), &list[0].vpc), (1, &vpc));
    assert_eq!((&list[0].members[0].vm, list[0].members[0].address), (&vm.id, VM));

    assert!(matches!(vpcs.delete(account, &vpc.id).await, Err(VpcError::BadRequest(_))));
    server.delete(&vm.id).await;
    vpcs.delete(account, &vpc.id).await.unwrap();
    assert_eq!(vpcs.list(account).await.unwrap(), []);
    assert!(matches!(vpcs.delete(account, &vpc.id).await, Err(VpcError::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    for bad in ["", "10.9.0.0", "8.8.8.0/24", "10.9.0.1/16", "10.0.0.0/30", "fd00::/64"] {
        let refused = server.vpcs().create(&server.account, None, bad).await;
        assert!(matches!(refused, Err(VpcError::Range(_))), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_vpc_is_no_vpc() {
    let server = Server::start().await;
    let vpc = server.vpc("10.9.0.0/16").await;
    let vm = server.vm(&vpc, VM).await;
    let stranger = server.store.system().create_account("stranger").await.unwrap().id;
    let (vpcs, session) = (server.vpcs(), WireguardPeerId::random());
    let key = freestyle_wireguard::PrivateKey::generate().public_key().to_string();
    for id in [&vpc.id, &VpcId::random()] {
        let answers = [
            vpcs.delete(&stranger, id).await.map(drop),
            vpcs.connect(&stranger, id, None).await.map(drop),
            vpcs.disconnect(&stranger, id, &session).await,
            vpcs.configure_peer(&stranger, id, &vm.id, &key, None).await.map(drop),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(VpcError::NotFound(missing)) if missing == *id));
        }
    }
    assert_eq!(vpcs.list(&stranger).await.unwrap(), []);
    assert_eq!(server.store.system().wireguard_peers().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_vpc_ends_its_sessions_and_leaves_nothing_on_the_host() {
    let server = Server::start().await;
    let vpc = server.vpc("10.9.0.0/16").await;
    server.vpcs().connect(&server.account, &vpc.id, None).await.unwrap();
    let namespace = format!("fs-{}", vpc.id);
    assert!(run("ip", &["netns", "list"]).contains(&namespace));
    assert!(run("ip", &["-n", &namespace, "link", "show", "wg0"]).contains("mtu 1420"));
    server.vpcs().delete(&server.account, &vpc.id).await.unwrap();
    assert!(!run("ip", &["netns", "list"]).contains(&namespace));
    assert_eq!(server.store.system().wireguard_peers().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_vpc_that_is_gone_is_removed_at_the_start() {
    let mut server = Server::start().await;
    let vpc = server.vpc("10.9.0.0/16").await;
    server.vpcs().connect(&server.account, &vpc.id, None).await.unwrap();
    let kept = server.vpc("10.9.0.0/16").await;
    server.vpcs().connect(&server.account, &kept.id, None).await.unwrap();
    // Killed after the store was told and before the host was.
    drop(server.take());
    server.store.account_scope(&server.account).delete_vpc(&vpc.id).await.unwrap();
    server.open().await;
    assert_eq!(server.network.vpcs(), [kept.id.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_vpn_has_vpcs_nevertheless() {
    let server = Server::start().await;
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(&data.path().join("store.db")).await.unwrap();
    let account = store.system().create_account("owner").await.unwrap().id;
    let network = server.network.clone();
    let vpcs = VpcService::open(Config { vpn: None }, store.clone(), network).await.unwrap();
    assert_eq!(vpcs.vpn_address(), None);
    let vpc = vpcs.create(&account, None, "10.9.0.0/16").await.unwrap();
    let refused = vpcs.connect(&account, &vpc.id, None).await;
    assert!(matches!(refused, Err(VpcError::NoVpn)));
    assert_eq!(store.system().wireguard_peers().await.unwrap(), []);
}
