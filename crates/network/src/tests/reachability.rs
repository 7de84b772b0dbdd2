//! What guests and the server must be able to do.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    thread,
};

use super::support::{Guest, Internet, Server, exchange, refused, run};
use crate::{GATEWAY_ADDRESS, GUEST_ADDRESS, NetworkError};

#[test]
fn a_guest_reaches_the_internet_by_the_hosts_address() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    let listener = internet.udp(internet.address, 7000);

    let socket = guest.udp(GUEST_ADDRESS, 6000);
    socket.send_to(b"ping", (internet.address, 7000)).unwrap();
    let mut buffer = [0; 16];
    let (_, source) = listener.recv_from(&mut buffer).unwrap();
    assert_eq!(source.ip(), internet.host);
    listener.send_to(b"pong", source).unwrap();
    let (length, source) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], source.ip()), (&b"pong"[..], internet.address.into()));
}

/// The host's uplink carries 1400 bytes, the guest believes in 1500, and the message that would
/// tell it never arrives, as is common on the internet.
#[test]
fn big_transfers_fit_through_a_narrow_uplink() {
    let server = Server::start();
    let internet = Internet::beside(&server);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    guest.run(|| {
        run("nft", &["add table ip deaf"]);
        run("nft", &["add chain ip deaf input { type filter hook input priority 0; }"]);
        run("nft", &["add rule ip deaf input icmp type destination-unreachable drop"]);
    });
    let echo = internet.listen(80);
    let content: Vec<u8> = (0..4_000_000_u32).map(|n| (n / 7) as u8).collect();
    let reply = exchange(guest.connect(internet.address, echo.port), &content);
    assert!(reply == content, "{} of {} bytes came back", reply.len(), content.len());
}

#[test]
fn dns_goes_to_the_configured_resolver_even_if_its_address_is_private() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    let resolver = Ipv4Addr::new(10, 53, server.network().block(), 53);
    internet.announce(resolver);
    server.reopen(&[resolver]);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    let (udp, tcp) = (internet.udp(resolver, 53), internet.listen(53));

    let socket = guest.udp(GUEST_ADDRESS, 0);
    socket.connect((GATEWAY_ADDRESS, 53)).unwrap();
    socket.send(b"question").unwrap();
    let mut buffer = [0; 16];
    let (_, source) = udp.recv_from(&mut buffer).unwrap();
    udp.send_to(b"answer", source).unwrap();
    assert_eq!(socket.recv(&mut buffer).unwrap(), b"answer".len());
    assert_eq!(exchange(guest.connect(GATEWAY_ADDRESS, 53), b"long question"), b"long question");

    // Only by way of the gateway, and only DNS.
    let accepted = tcp.accepted();
    let other = internet.listen(5353);
    let from_host = TcpStream::connect((resolver, other.port)).unwrap();
    assert_eq!(exchange(from_host, b"up"), b"up");
    assert!(guest.try_connect(resolver, 53).is_err());
    assert!(guest.try_connect(resolver, other.port).is_err());
    assert!(guest.try_connect(GATEWAY_ADDRESS, other.port).is_err());
    assert_eq!(tcp.accepted(), accepted);
    assert_eq!(other.accepted(), 1);
}

#[test]
fn a_public_resolver_is_not_an_alias_for_the_gateways_other_ports() {
    let mut server = Server::start();
    let internet = Internet::beside(&server);
    server.reopen(&[internet.address]);
    let guest = Guest::boot(&server.create(&server.instance("a"), 0));
    let (dns, other) = (internet.listen(53), internet.listen(80));
    assert_eq!(exchange(guest.connect(GATEWAY_ADDRESS, dns.port), b"up"), b"up");
    assert_eq!(exchange(guest.connect(internet.address, other.port), b"up"), b"up");
    assert!(refused(&guest.try_connect(GATEWAY_ADDRESS, other.port)));
}

#[test]
fn the_server_connects_to_a_guests_port() {
    let server = Server::start();
    let instance = server.instance("a");
    let guest = Guest::boot(&server.create(&instance, 0));
    let echo = guest.listen(22);
    let stream = server.wait(server.network().connect_tcp(&instance, echo.port)).unwrap();
    assert_eq!(exchange(server.blocking(stream), b"hello"), b"hello");

    let closed = server.wait(server.network().connect_tcp(&instance, 23));
    assert!(matches!(closed, Err(NetworkError::Io { source, .. })
        if source.kind() == std::io::ErrorKind::ConnectionRefused));
    let unknown = server.wait(server.network().connect_tcp(&server.instance("b"), 22));
    assert!(matches!(unknown, Err(NetworkError::UnknownInstance(_))));
}

/// A closed socket no longer shows whose it was, and most of what it sent is still to go out.
#[test]
fn what_the_server_sent_before_closing_arrives() {
    const SIZE: usize = 2_000_000;
    let server = Server::start();
    let instance = server.instance("a");
    let guest = Guest::boot(&server.create(&instance, 0));
    let listener = guest.run(|| std::net::TcpListener::bind("0.0.0.0:9000")).unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut content = Vec::new();
        stream.read_to_end(&mut content).map(|_| content.len())
    });
    let stream = server.wait(server.network().connect_tcp(&instance, 9000)).unwrap();
    let mut stream = server.blocking(stream);
    stream.write_all(&vec![1; SIZE]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drop(stream);
    assert_eq!(reader.join().unwrap().unwrap(), SIZE);
}

#[test]
fn traffic_counts_both_directions() {
    let server = Server::start();
    let instance = server.instance("a");
    let guest = Guest::boot(&server.create(&instance, 0));
    let echo = guest.listen(80);
    let count = || server.wait(server.network().traffic(&instance)).unwrap();
    let before = count();
    let vm = server.network().get(&instance).unwrap();
    let stream = vm.run_inside(|| TcpStream::connect((GUEST_ADDRESS, echo.port))).unwrap();
    assert_eq!(exchange(stream.unwrap(), &[0; 50_000]).len(), 50_000);
    let after = count();
    assert!(after.to_guest >= before.to_guest + 50_000, "{before:?} {after:?}");
    assert!(after.from_guest >= before.from_guest + 50_000, "{before:?} {after:?}");
}
