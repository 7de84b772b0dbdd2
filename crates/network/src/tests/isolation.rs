//! What guests, and a QEMU that one has taken over, must not be able to do. Every refusal is
//! checked against a server that does listen there, as seen from a place that may reach it.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt,
    process::Command,
    time::Instant,
};

use super::support::{Guest, Internet, Server, TcpServer, exchange, refused, run};
use crate::{GATEWAY_ADDRESS, GUEST_ADDRESS};

/// From the host itself.
fn assert_reachable(address: Ipv4Addr, port: u16) {
    assert_eq!(exchange(TcpStream::connect((address, port)).unwrap(), b"up"), b"up");
}

/// Addresses of the host as a guest could know them.
fn host_addresses(server: &Server, internet: &Internet) -> [Ipv4Addr; 3] {
    let slot = server.block().slot(0).unwrap();
    [internet.host, slot.host_address(), slot.namespace_address()]
}

#[test]
fn a_guest_does_not_reach_the_host() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    server.reopen(&[]);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    let listener = TcpServer::on_host();
    assert_reachable(internet.host, listener.port);
    for address in host_addresses(&server, &internet) {
        assert!(refused(&guest.try_connect(address, listener.port)), "{address}: at once");
    }
    assert!(guest.try_connect(GATEWAY_ADDRESS, listener.port).is_err());
    assert_eq!(listener.accepted(), 1);
}

#[test]
fn the_hosts_own_rules_suffice_without_those_of_the_namespace() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    let private = Ipv4Addr::new(10, 66, server.network().block(), 1);
    internet.announce(private);
    server.reopen(&[]);
    let vm = server.create(&server.instance("a"), 0);
    let other = server.create(&server.instance("b"), 1);
    let guest = Guest::boot(&vm);
    for vm in [&vm, &other] {
        vm.run_inside(|| {
            run("nft", &["delete table ip freestyle"]);
            run("nft", &["add table ip open"]);
            run("nft", &["add chain ip open nat { type nat hook postrouting priority 100; }"]);
            run("nft", &["add rule ip open nat oifname uplink masquerade"]);
        })
        .unwrap();
    }
    let listener = TcpServer::on_host();
    let outside = internet.listen(80);
    let neighbour = other.run_inside(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let neighbour = TcpServer::start(neighbour);
    let neighbour_address = server.block().slot(1).unwrap().namespace_address();
    // Nothing else protects the neighbour.
    assert_reachable(neighbour_address, 80);
    assert_eq!(exchange(guest.connect(internet.address, outside.port), b"up"), b"up");

    for address in [internet.host, server.block().slot(0).unwrap().host_address()] {
        assert!(guest.try_connect(address, listener.port).is_err(), "{address}");
    }
    assert!(guest.try_connect(private, outside.port).is_err());
    assert!(guest.try_connect(neighbour_address, 80).is_err());
    assert_eq!(listener.accepted(), 0);
    assert_eq!((outside.accepted(), neighbour.accepted()), (1, 1));
}

#[test]
fn a_guest_does_not_reach_private_ranges_or_metadata_services() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let block = server.network().block();
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    let listener = internet.listen(80);
    let denied = [[10, 66], [100, 64], [169, 254], [172, 16], [192, 168], [240, 1]]
        .map(|[a, b]| Ipv4Addr::new(a, b, block, 1));
    for (count, address) in denied.into_iter().enumerate() {
        internet.announce(address);
        assert_reachable(address, listener.port);
        assert!(refused(&guest.try_connect(address, listener.port)), "{address}: at once");
        assert_eq!(listener.accepted(), count + 1, "{address}");
    }
}

#[test]
fn subnets_of_the_host_and_extra_ranges_are_denied() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    let gateway = Ipv4Addr::from(u32::from(internet.host) + 1);
    let listener = internet.listen(80);
    assert_reachable(gateway, listener.port);
    server.reopen(&[]);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    assert!(guest.try_connect(gateway, listener.port).is_err());
    assert_eq!(listener.accepted(), 1);
    assert_eq!(exchange(guest.connect(internet.address, listener.port), b"up"), b"up");
}

#[test]
fn a_guest_does_not_reach_another_guest_of_its_server_or_of_another() {
    let (server, stranger) = (Server::start(), Server::start());
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    for (owner, slot) in [(&server, 1), (&stranger, 1)] {
        let instance = owner.instance("b");
        let neighbour = Guest::boot(&owner.create(&instance, slot));
        let listener = neighbour.listen(80);
        let control = owner.wait(owner.network().connect_tcp(&instance, 80)).unwrap();
        assert_eq!(exchange(owner.blocking(control), b"up"), b"up");
        let slot = owner.block().slot(slot).unwrap();
        for address in [slot.namespace_address(), slot.host_address()] {
            assert!(guest.try_connect(address, 80).is_err(), "{address}");
        }
        assert_eq!(listener.accepted(), 1);
    }
}

#[test]
fn packets_with_a_forged_source_are_dropped() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let vm = server.create(&server.instance("a"), 0);
    let guest = Guest::boot(&vm);
    let listener = internet.udp(internet.address, 7000);
    let send = |source: Ipv4Addr, content: &str| {
        guest.udp(source, 0).send_to(content.as_bytes(), (internet.address, 7000)).unwrap();
    };
    let receive = || {
        let mut buffer = [0; 16];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let forged = [Ipv4Addr::new(203, 0, 113, 250), Ipv4Addr::new(10, 0, 0, 6)];
    send(GUEST_ADDRESS, "first");
    assert_eq!(receive(), "first");
    let dropped = |source| {
        // On the same path: had the forged packet got through, it would be received first.
        send(source, "forged");
        send(GUEST_ADDRESS, "honest");
        receive() == "honest"
    };
    for source in forged {
        guest.add_address("lo", source, 32);
        assert!(dropped(source), "{source}");
    }

    // Either of two things suffices.
    let reverse_path_filter = |value: &str| {
        let setting = "/proc/sys/net/ipv4/conf/all/rp_filter";
        vm.run_inside(|| fs::write(setting, value)).unwrap().unwrap();
    };
    reverse_path_filter("0");
    assert!(forged.into_iter().all(dropped), "by the rule alone");
    vm.run_inside(|| {
        run("nft", &["flush chain ip freestyle antispoof"]);
        run("nft", &["add chain ip freestyle antispoof { policy accept; }"]);
    })
    .unwrap();
    for source in forged {
        send(source, "forged");
        assert_eq!(receive(), "forged", "without both {source} gets through");
    }
    reverse_path_filter("1");
    assert!(forged.into_iter().all(dropped), "by the setting alone");
}

#[test]
fn a_guest_cannot_fill_the_hosts_neighbour_table() {
    let server = Server::start();
    let vm = server.create(&server.instance("a"), 0);
    let guest = Guest::boot(&vm);
    let echo = guest.listen(80);
    guest.run(|| {
        for host in 10..20 {
            let forged = format!("198.51.100.{host}");
            run("ip", &["address", "add", &format!("{forged}/32"), "dev", "lo"]);
            // Asks for the gateway's address in the name of `forged`.
            run("ip", &["neighbour", "flush", "dev", "tap0"]);
            let socket = UdpSocket::bind((forged.as_str(), 0)).unwrap();
            socket.send_to(b"x", (GATEWAY_ADDRESS, 9)).unwrap();
        }
    });
    let control = vm.run_inside(|| TcpStream::connect((GUEST_ADDRESS, echo.port))).unwrap();
    drop(control.unwrap());
    let neighbours = vm.run_inside(|| run("ip", &["neighbour", "show"])).unwrap();
    assert!(neighbours.contains("10.0.0.2 "), "{neighbours}");
    assert!(!neighbours.contains("198.51.100."), "{neighbours}");
}

#[test]
fn an_unprivileged_process_in_the_namespace_cannot_send_anything() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let vm = server.create(&server.instance("a"), 0);
    let guest = Guest::boot(&vm);
    let listener = guest.udp(GUEST_ADDRESS, 7000);
    let send = |uid: u32, address: Ipv4Addr| {
        let script = format!("echo {uid} > /dev/udp/{address}/7000");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).uid(uid).gid(uid);
        vm.run_inside(|| command.output()).unwrap().unwrap().status.success()
    };
    assert!(!send(vm.uid(), GUEST_ADDRESS));
    assert!(!send(vm.uid(), internet.address));
    assert!(!send(vm.uid(), internet.host));
    assert!(!send(0, internet.address), "nor need the server go out this way");
    assert!(send(0, GUEST_ADDRESS));
    let mut buffer = [0; 16];
    let length = listener.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"0\n");
}

#[test]
fn a_guest_opens_a_bounded_number_of_connections() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let vm = server.create(&server.instance("a"), 0);
    let guest = Guest::boot(&vm);
    let sink = internet.udp(internet.address, 7000);
    let echo = internet.udp(internet.address, 7001);
    let established = guest.udp(GUEST_ADDRESS, 0);
    established.connect((internet.address, 7001)).unwrap();
    let round_trip = || {
        let mut buffer = [0; 16];
        established.send(b"ping").unwrap();
        let (_, source) = echo.recv_from(&mut buffer).unwrap();
        echo.send_to(b"pong", source).unwrap();
        established.recv(&mut buffer).unwrap();
    };

    let began = Instant::now();
    for batch in 0..40 {
        guest.run(|| {
            for port in 0..100 {
                let socket = UdpSocket::bind((GUEST_ADDRESS, 10_000 + 100 * batch + port)).unwrap();
                socket.send_to(b"new", sink.local_addr().unwrap()).unwrap();
            }
        });
        // Keeps the queues short, and shows that an open connection is never held up.
        round_trip();
    }
    let seconds = began.elapsed().as_secs() + 1;
    let count = "/proc/sys/net/netfilter/nf_conntrack_count";
    let count = vm.run_inside(|| fs::read_to_string(count)).unwrap().unwrap();
    let count: u64 = count.trim().parse().unwrap();
    assert!((2048..=2048 + 200 * seconds + 1).contains(&count), "{count} in {seconds} s");
}

#[test]
fn the_gateway_looks_the_same_in_every_namespace() {
    let server = Server::start();
    for slot in 0..2 {
        let vm = server.create(&server.instance(&format!("g{slot}")), slot);
        let link = vm.run_inside(|| run("ip", &["link", "show", "tap0"])).unwrap();
        assert!(link.contains("link/ether 06:00:0a:00:00:01"), "{link}");
    }
}
