//! VPCs: who is in reach of whom, by which address, and what is left after crashes.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    lifecycle::by_hand,
    support::{Guest, Internet, PATIENCE, Server, TcpServer, exchange, refused, run},
};
use crate::{
    GUEST_ADDRESS, NetworkError, Nic, TUNNEL_ADDRESS, Vpc, address::Block, namespace,
    records::Records, vm, vpc,
};

const RANGE: &str = "192.168.10.0/24";
const ONE: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 2);

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 10_000];
    let (length, source) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), source)
}

fn send(from: &Guest, source: Ipv4Addr, to: Ipv4Addr, content: &str) {
    from.udp(source, 0).send_to(content.as_bytes(), (to, 7000)).unwrap();
}

#[test]
fn vms_of_a_vpc_reach_each_other_by_their_addresses() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let (one, two) = (server.member(&vpc, 0, ONE), server.member(&vpc, 1, TWO));
    let (at_one, at_two) = (one.listen(80), two.listen(80));
    let content: Vec<u8> = (0..4_000_000_u32).map(|n| (n / 7) as u8).collect();
    assert!(exchange(one.connect(TWO, at_two.port), &content) == content);
    assert!(exchange(two.connect(ONE, at_one.port), &content) == content);

    // Neither is translated: each sees the other as what it is, also in fragments.
    let (socket, peer) = (two.udp(TWO, 7000), one.udp(ONE, 6000));
    let long = "x".repeat(9000);
    peer.send_to(long.as_bytes(), (TWO, 7000)).unwrap();
    assert_eq!(receive(&socket), (long, SocketAddr::from((ONE, 6000))));
    socket.send_to(b"pong", (ONE, 6000)).unwrap();
    assert_eq!(receive(&peer), ("pong".to_owned(), SocketAddr::from((TWO, 7000))));

    // Nothing listens there, and nobody is there: both are said at once.
    assert!(refused(&one.try_connect(TWO, 81)));
    let nobody = one.try_connect(Ipv4Addr::new(192, 168, 10, 77), 80).unwrap_err();
    assert_ne!(nobody.kind(), io::ErrorKind::TimedOut, "{nobody}");
}

#[test]
fn the_connections_of_a_vpc_are_not_tracked() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let (one, two) = (server.member(&vpc, 0, ONE), server.member(&vpc, 1, TWO));
    let echo = two.listen(80);
    let before = tracked(&server, "m0");
    let streams: Vec<TcpStream> = (0..20).map(|_| one.connect(TWO, echo.port)).collect();
    assert_eq!(tracked(&server, "m0"), before);
    assert_eq!(tracked_in_vpc(&vpc), 0);
    drop(streams);
}

fn tracked(server: &Server, tag: &str) -> u64 {
    server.network().get(&server.instance(tag)).unwrap().run_inside(tracked_here).unwrap()
}

fn tracked_in_vpc(vpc: &Vpc) -> u64 {
    vpc.inside(tracked_here).unwrap()
}

fn tracked_here() -> u64 {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn vpcs_with_the_same_range_know_nothing_of_each_other() {
    let server = Server::start();
    let (a, b) = (server.vpc("a", RANGE), server.vpc("b", RANGE));
    let outsider = Guest::boot(&server.create(&server.instance("o"), 9));
    let guests = [
        (server.member(&a, 0, ONE), server.member(&a, 1, TWO), "a"),
        (server.member(&b, 2, ONE), server.member(&b, 3, TWO), "b"),
    ];
    let sockets: Vec<UdpSocket> = guests.iter().map(|(_, two, _)| two.udp(TWO, 7000)).collect();
    for (one, _, name) in &guests {
        send(one, ONE, TWO, name);
    }
    for (socket, (_, _, name)) in sockets.iter().zip(&guests) {
        assert_eq!(receive(socket).0, *name);
    }
    let listener = guests[0].1.listen(80);
    assert_eq!(exchange(guests[0].0.connect(TWO, 80), b"up"), b"up");
    assert!(refused(&outsider.try_connect(TWO, 80)), "a VM without a NIC");
    // Not even if it behaves as if it had one.
    outsider.join(&a, Ipv4Addr::new(192, 168, 10, 3));
    assert!(outsider.try_connect(TWO, 80).is_err());
    assert!(guests[1].0.try_connect(TWO, 80).is_err(), "that of the other VPC");
    assert_eq!(listener.accepted(), 1);
}

#[test]
fn a_vm_of_a_vpc_reaches_the_internet_and_dns_by_either_address() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    // The resolver has an address of the VPC's range.
    let range = format!("10.{}.0.0/16", server.network().block());
    let resolver = Ipv4Addr::new(10, server.network().block(), 53, 53);
    internet.announce(resolver);
    server.reopen(&[resolver]);
    let address = Ipv4Addr::new(10, server.network().block(), 0, 9);
    let vpc = server.vpc("a", &range);
    let guest = server.member(&vpc, 0, address);
    let (outside, dns) = (internet.udp(internet.address, 7000), internet.udp(resolver, 53));
    for source in [GUEST_ADDRESS, address] {
        let socket = guest.udp(source, 0);
        socket.send_to(b"ping", (internet.address, 7000)).unwrap();
        let (_, seen) = receive(&outside);
        assert_eq!(seen.ip(), internet.host);
        outside.send_to(b"pong", seen).unwrap();
        assert_eq!(receive(&socket).0, "pong");

        socket.send_to(b"question", (crate::GATEWAY_ADDRESS, 53)).unwrap();
        let (_, seen) = receive(&dns);
        dns.send_to(b"answer", seen).unwrap();
        assert_eq!(receive(&socket).0, "answer");
    }
}

/// The range that the SDK takes where none is named contains the guest's own subnet.
#[test]
fn a_range_around_the_guests_own_subnet_works() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let vpc = server.vpc("a", "10.0.0.0/16");
    let addresses = [Ipv4Addr::new(10, 0, 0, 4), Ipv4Addr::new(10, 0, 200, 1)];
    let one = server.member(&vpc, 0, addresses[0]);
    let two = server.member(&vpc, 1, addresses[1]);
    let (inside, outside) = (two.listen(80), internet.listen(80));
    assert_eq!(exchange(one.connect(addresses[1], inside.port), b"up"), b"up");
    assert_eq!(exchange(one.connect(internet.address, outside.port), b"up"), b"up");
    let instance = server.instance("m1");
    let control = server.network().connect_tcp(&instance, inside.port);
    assert_eq!(exchange(server.blocking(server.wait(control).unwrap()), b"up"), b"up");
}

#[test]
fn a_member_sends_from_its_own_address_only() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let (one, two) = (server.member(&vpc, 0, ONE), server.member(&vpc, 1, TWO));
    let three = server.member(&vpc, 2, Ipv4Addr::new(192, 168, 10, 3));
    let socket = three.udp(Ipv4Addr::new(192, 168, 10, 3), 7000);
    let target = Ipv4Addr::new(192, 168, 10, 3);
    let forged =
        [TWO, GUEST_ADDRESS, CLIENT, Ipv4Addr::new(192, 168, 10, 9), Ipv4Addr::new(203, 0, 113, 1)];
    for source in forged {
        if source != GUEST_ADDRESS {
            one.add_address("lo", source, 32);
        }
    }
    let dropped = |source| {
        send(&one, source, target, "forged");
        send(&one, ONE, target, "honest");
        receive(&socket).0 == "honest"
    };
    assert!(forged.into_iter().all(&dropped));

    // Of the member next door, either of two things suffices.
    let member = server.network().get(&server.instance("m0")).unwrap();
    let reverse_path_filter = |value: &str| {
        let setting = "/proc/sys/net/ipv4/conf/all/rp_filter";
        vpc.inside(|| std::fs::write(setting, value)).unwrap().unwrap();
    };
    reverse_path_filter("0");
    assert!(dropped(TWO), "by the VM's rules alone");
    member
        .run_inside(|| {
            run("nft", &["delete table ip freestyle"]);
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/vpc/rp_filter", "0").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/tap0/rp_filter", "0").unwrap();
        })
        .unwrap();
    send(&one, TWO, target, "forged");
    assert_eq!(receive(&socket).0, "forged", "without both it gets through");
    reverse_path_filter("1");
    assert!(dropped(TWO), "by the VPC's route alone");
    drop(two);
}

#[test]
fn a_member_reaches_its_peers_and_nothing_else_by_way_of_the_vpc() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let (one, two) = (server.member(&vpc, 0, ONE), server.member(&vpc, 1, TWO));
    let listener = two.listen(80);
    let on_host = TcpServer::on_host();
    let in_vpc = vpc.inside(|| std::net::TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let in_vpc = TcpServer::start(in_vpc);
    let peer = server.network().get(&server.instance("m1")).unwrap();
    let in_peer = peer.run_inside(|| std::net::TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let in_peer = TcpServer::start(in_peer);
    assert_eq!(exchange(one.connect(TWO, 80), b"up"), b"up");

    let slot = |index| server.block().slot(index).unwrap();
    let others = [
        slot(0).vpc_gateway(),
        slot(0).vpc_address(),
        slot(1).vpc_gateway(),
        slot(1).vpc_address(),
        slot(1).host_address(),
        slot(1).namespace_address(),
        TUNNEL_ADDRESS,
        CLIENT,
        Ipv4Addr::new(192, 168, 10, 255),
        Ipv4Addr::new(192, 168, 11, 2),
    ];
    for address in others {
        for port in [80, on_host.port] {
            assert!(one.try_connect(address, port).is_err(), "{address}:{port}");
        }
    }
    assert_eq!([listener.accepted(), in_vpc.accepted(), in_peer.accepted()], [1, 0, 0]);
    assert_eq!(on_host.accepted(), 0);
}

/// An IPv4 packet with a UDP datagram, as one writes it to a tunnel.
fn datagram(source: Ipv4Addr, destination: Ipv4Addr, content: &[u8]) -> Vec<u8> {
    let length = 28 + content.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let words = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(6000_u16.to_be_bytes());
    packet.extend(7000_u16.to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    // No checksum.
    packet.extend([0, 0]);
    packet.extend(content);
    packet
}

/// The next packet that comes out of a tunnel.
fn read_packet(tunnel: &mut File) -> Vec<u8> {
    let mut ready = [PollFd::new(tunnel, PollFlags::IN)];
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut ready, Some(&patience)).unwrap(), 1, "nothing comes out of the tunnel");
    let mut packet = vec![0; 2000];
    let length = tunnel.read(&mut packet).unwrap();
    packet.truncate(length);
    packet
}

#[test]
fn the_tunnel_leads_to_vms_and_back() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let guest = server.member(&vpc, 0, ONE);
    let mut tunnel = File::from(server.wait(server.network().open_tunnel(vpc.clone())).unwrap());
    let socket = guest.udp(ONE, 7000);
    let write = |mut tunnel: &File, packet: Vec<u8>| tunnel.write_all(&packet).unwrap();
    write(&tunnel, datagram(CLIENT, ONE, b"ping"));
    let (content, source) = receive(&socket);
    assert_eq!((content.as_str(), source), ("ping", SocketAddr::from((CLIENT, 6000))));
    socket.send_to(b"pong", source).unwrap();
    let reply = read_packet(&mut tunnel);
    assert_eq!((&reply[12..16], &reply[28..]), (&ONE.octets()[..], &b"pong"[..]));

    // Only from the tunnel's range, and only to members: not even to what the host could reach.
    for forged in [TWO, ONE, Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(10, 0, 0, 1)] {
        write(&tunnel, datagram(forged, ONE, b"forged"));
        write(&tunnel, datagram(CLIENT, ONE, b"honest"));
        assert_eq!(receive(&socket).0, "honest", "{forged}");
    }
    let second = server.network().open_tunnel(vpc.clone());
    assert!(matches!(server.wait(second), Err(NetworkError::Io { .. })), "one at a time");
    drop(tunnel);
    let tunnel = File::from(server.wait(server.network().open_tunnel(vpc)).unwrap());
    write(&tunnel, datagram(CLIENT, ONE, b"again"));
    assert_eq!(receive(&socket).0, "again");
}

/// A guest believes in 1500 bytes until it hears otherwise.
#[test]
fn what_is_too_large_for_the_tunnel_is_said_to_be_so() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let guest = server.member(&vpc, 0, ONE);
    let mut tunnel = File::from(server.wait(server.network().open_tunnel(vpc)).unwrap());
    let (socket, began) = (guest.udp(ONE, 0), Instant::now());
    let path = || guest.run(|| run("ip", &["route", "get", &CLIENT.to_string()]));
    while !path().contains("mtu 1420") {
        assert!(began.elapsed() < PATIENCE, "{}", path());
        // Refused once the guest knows.
        let _ = socket.send_to(&[0; 1472], (CLIENT, 7000));
    }
    socket.send_to(&[1; 1392], (CLIENT, 7000)).unwrap();
    while *read_packet(&mut tunnel).last().unwrap() != 1 {}
}

#[test]
fn removing_a_member_and_the_vpc_leaves_nothing() {
    let server = Server::start();
    let before = server.traces();
    let vpc = server.vpc("a", RANGE);
    let instance = server.create_in(&vpc, 0, ONE).instance().to_owned();
    assert_eq!(server.network().vpcs(), [vpc.name.as_str()]);
    server.wait(server.network().remove(&instance)).unwrap();
    let links = vpc.inside(|| run("ip", &["-o", "link", "show"])).unwrap();
    assert!(!links.contains("v0"), "{links}");
    for _ in 0..2 {
        server.wait(server.network().remove_vpc(vpc.name.as_str())).unwrap();
        assert_eq!(server.traces(), before);
        assert_eq!(server.network().vpcs(), [] as [String; 0]);
    }
}

#[test]
fn a_slot_and_an_address_can_be_used_again_at_once() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let two = server.member(&vpc, 1, TWO);
    let echo = two.listen(80);
    for _ in 0..3 {
        let one = server.member(&vpc, 0, ONE);
        assert_eq!(exchange(one.connect(TWO, echo.port), b"up"), b"up");
        // As after a crash of QEMU: the guest is cut off while it runs.
        let instance = server.instance("m0");
        server.wait(server.network().remove(&instance)).unwrap();
        drop(one);
    }
}

#[test]
fn a_running_vm_can_be_plugged_in_and_doing_it_again_changes_nothing() {
    let server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let two = server.member(&vpc, 1, TWO);
    let echo = two.listen(80);
    // A VM of the pool, which belongs to nobody yet.
    let guest = Guest::boot(&server.create(&server.instance("m0"), 0));
    server.create_in(&vpc, 0, ONE);
    guest.join(&vpc, ONE);
    let connection = guest.connect(TWO, echo.port);
    server.create_in(&vpc, 0, ONE);
    assert_eq!(exchange(connection, b"still here"), b"still here");
}

#[test]
fn a_restarted_server_finds_its_vpcs() {
    let mut server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let (one, two) = (server.member(&vpc, 0, ONE), server.member(&vpc, 1, TWO));
    let echo = two.listen(80);
    let connection = one.connect(TWO, echo.port);
    server.reopen(&[]);
    assert_eq!(server.network().vpcs(), [vpc.name.as_str()]);
    let three = server.member(&vpc, 2, Ipv4Addr::new(192, 168, 10, 3));
    assert_eq!(exchange(three.connect(TWO, echo.port), b"up"), b"up");
    assert_eq!(exchange(connection, b"still here"), b"still here");

    // With VMs in it nothing is given back, without them all is.
    server.take().close().unwrap();
    assert_eq!(exchange(one.connect(TWO, echo.port), b"up"), b"up");
    server.reopen(&[]);
    drop((one, two, three));
}

#[test]
fn closing_a_server_without_vms_removes_its_vpcs() {
    let mut server = Server::start();
    let vpc = server.vpc("a", RANGE);
    let block = server.block();
    drop(server.wait(server.network().open_tunnel(vpc.clone())).unwrap());
    let other = server.network().clone();
    server.take().close().unwrap();
    assert_eq!(super::support::traces(block), [] as [String; 0]);
    let late = server.wait(other.open_tunnel(vpc));
    assert!(matches!(late, Err(NetworkError::ShuttingDown)));
}

fn vpc_records(block: Block) -> Records {
    Records::open(format!("/run/freestyle/blocks/{block}/vpcs").into()).unwrap()
}

#[test]
fn a_crash_behind_any_step_of_a_vpc_is_listed_removed_or_continued() {
    for count in 1..=vpc::STEPS.len() {
        let mut server = Server::start();
        let before = server.traces();
        let make = |server: &Server, tag| {
            let vpc = server.vpc(tag, RANGE);
            for (_, step) in &vpc::STEPS[..count] {
                step(&vpc_records(server.block()), &vpc).unwrap();
                step(&vpc_records(server.block()), &vpc).unwrap();
            }
            vpc
        };
        let (removed, continued) = (make(&server, "a"), make(&server, "b"));
        server.reopen(&[]);
        assert_eq!(server.network().vpcs().len(), 2, "after {}", vpc::STEPS[count - 1].0);
        server.wait(server.network().remove_vpc(removed.name.as_str())).unwrap();
        {
            let one = server.member(&continued, 0, ONE);
            let two = server.member(&continued, 1, TWO);
            let echo = two.listen(80);
            assert_eq!(exchange(one.connect(TWO, echo.port), b"up"), b"up");
        }
        for tag in ["m0", "m1"] {
            server.wait(server.network().remove(&server.instance(tag))).unwrap();
        }
        server.wait(server.network().remove_vpc(continued.name.as_str())).unwrap();
        assert_eq!(server.traces(), before, "after {}", vpc::STEPS[count - 1].0);
    }
}

#[test]
fn a_crash_behind_any_step_of_a_member_is_removed_or_continued() {
    for count in 1..=vm::STEPS.len() {
        let mut server = Server::start();
        let vpc = server.vpc("a", RANGE);
        let two = server.member(&vpc, 1, TWO);
        let echo = two.listen(80);
        let (site, vm) = by_hand(&server, "m0", 0);
        let nic = Nic::new(vpc.clone(), ONE).unwrap();
        let crash = || {
            for (_, step) in &vm::STEPS[..count] {
                step(&site, &vm, Some(&nic)).unwrap();
                step(&site, &vm, Some(&nic)).unwrap();
            }
        };
        crash();
        server.reopen(&[]);
        let instance = server.instance("m0");
        server.wait(server.network().remove(&instance)).unwrap();
        assert!(!namespace::exists(&vm.instance.namespace()));
        crash();
        server.reopen(&[]);
        let one = server.member(&vpc, 0, ONE);
        assert_eq!(exchange(one.connect(TWO, echo.port), b"up"), b"up", "after {count} steps");
    }
}

#[test]
fn a_vpc_of_another_server_is_neither_adopted_nor_removed() {
    let (one, two) = (Server::start(), Server::start());
    let vpc = one.vpc("a", RANGE);
    one.create_in(&vpc, 0, ONE);
    let before = one.traces();
    let nic = Nic::new(vpc.clone(), TWO).unwrap();
    let created = two.wait(two.network().create(&two.instance("m0"), 0, Some(nic)));
    assert!(matches!(created, Err(NetworkError::ForeignNamespace(_))));
    two.wait(two.network().remove_vpc(vpc.name.as_str())).unwrap();
    assert_eq!(two.network().vpcs(), [] as [String; 0]);
    assert_eq!(one.traces(), before);
}
