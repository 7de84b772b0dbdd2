//! Computers that join a VPC.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use freestyle_vpc::{VpcError, VpnHost, VpnSession};

use crate::support::{Laptop, PATIENCE, Server, exchange, run};

const RANGE: &str = "192.168.10.0/24";
const VM: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 10);

async fn connect(server: &Server, vpc: &freestyle_store::VpcRecord, laptop: &Laptop) -> VpnSession {
    let called_by = VpnHost::of_authority(&laptop.host.to_string());
    server.vpcs().connect(&server.account, &vpc.id, called_by).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laptop_joins_with_wg_quick_and_what_it_was_given() {
    let server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    let mut laptop = Laptop::beside(&server, 0);
    let session = connect(&server, &vpc, &laptop).await;
    assert_eq!(session.peer.endpoint_host.as_str(), laptop.host.to_string());
    laptop.up(&session.peer.client_config);

    guest.echo(4321);
    let mut stream = laptop.connect(VM, 4321);
    exchange(&mut stream, b"hello").unwrap();

    // Each is known to the other by its own address.
    let (at_guest, at_laptop) =
        (guest.udp(VM, 7000), laptop.udp(session.peer.client_address, 6000));
    at_laptop.send_to(b"ping", (VM, 7000)).unwrap();
    let mut buffer = [0; 16];
    let (_, source) = at_guest.recv_from(&mut buffer).unwrap();
    assert_eq!(source, SocketAddr::from((session.peer.client_address, 6000)));
    at_guest.send_to(b"pong", source).unwrap();
    assert_eq!(at_laptop.recv_from(&mut buffer).unwrap().1, SocketAddr::from((VM, 7000)));

    // And a VM may call the laptop.
    laptop.echo(8080);
    exchange(&mut guest.connect(session.peer.client_address, 8080), b"from the VM").unwrap();
    laptop.down();
    assert!(laptop.try_connect(VM, 4321).is_err());
}

/// 100 MB each way, over a path that carries less than either end believes at first.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_transfer_arrives_whole() {
    const SIZE: usize = 100_000_000;
    let server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    guest.echo(4321);
    let mut laptop = Laptop::beside(&server, 0);
    laptop.up(&connect(&server, &vpc, &laptop).await.peer.client_config);
    let mut stream = laptop.connect(VM, 4321);
    let byte = |at: usize| (at / 7 + at / 65_536) as u8;
    let mut writer = stream.try_clone().unwrap();
    let began = Instant::now();
    let writing = thread::spawn(move || {
        for start in (0..SIZE).step_by(100_000) {
            let chunk: Vec<u8> = (start..start + 100_000).map(byte).collect();
            writer.write_all(&chunk).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut received, mut buffer) = (0, vec![0; 100_000]);
    loop {
        let length = stream.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        let expected = (received..received + length).map(byte);
        assert!(expected.eq(buffer[..length].iter().copied()), "after {received} bytes");
        received += length;
    }
    writing.join().unwrap();
    assert_eq!(received, SIZE);
    println!("100 MB each way in {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_closed_is_over_at_once() {
    let server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    guest.echo(4321);
    let (mut laptop, mut other) = (Laptop::beside(&server, 0), Laptop::beside(&server, 1));
    let session = connect(&server, &vpc, &laptop).await;
    laptop.up(&session.peer.client_config);
    other.up(&connect(&server, &vpc, &other).await.peer.client_config);
    let mut stream = laptop.connect(VM, 4321);
    exchange(&mut stream, b"before").unwrap();
    let mut others = other.connect(VM, 4321);
    exchange(&mut others, b"before").unwrap();

    let stranger = server.store.system().create_account("stranger").await.unwrap().id;
    let foreign = server.vpcs().disconnect(&stranger, &vpc.id, &session.peer.id).await;
    assert!(matches!(foreign, Err(VpcError::NotFound(_))));
    exchange(&mut stream, b"still").unwrap();

    for _ in 0..2 {
        server.vpcs().disconnect(&server.account, &vpc.id, &session.peer.id).await.unwrap();
    }
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    stream.write_all(b"after").unwrap();
    let silence = stream.read(&mut [0; 5]).unwrap_err();
    assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
    assert!(laptop.try_connect(VM, 4321).is_err());
    exchange(&mut others, b"others go on").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_the_server() {
    let mut server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    guest.echo(4321);
    let mut laptop = Laptop::beside(&server, 0);
    laptop.up(&connect(&server, &vpc, &laptop).await.peer.client_config);
    let mut stream = laptop.connect(VM, 4321);
    exchange(&mut stream, b"before").unwrap();

    server.take().shut_down().await;
    server.open().await;
    exchange(&mut stream, b"after a restart").unwrap();

    // Whoever is killed has no time to say where its clients are: they find out by themselves.
    drop(server.take());
    server.open().await;
    exchange(&mut stream, b"after a crash").unwrap();
    exchange(&mut laptop.connect(VM, 4321), b"and anew").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_its_vpc_and_nothing_else() {
    let server = Server::start().await;
    let (vpc, other) = (server.vpc(RANGE).await, server.vpc(RANGE).await);
    let (guest, foreign) = (server.guest(&vpc, VM).await, server.guest(&other, VM).await);
    let beside = Ipv4Addr::new(192, 168, 10, 20);
    let only_there = server.guest(&other, beside).await;
    guest.echo(4321);
    only_there.echo(4321);
    let (mut laptop, mut second) = (Laptop::beside(&server, 0), Laptop::beside(&server, 1));
    let session = connect(&server, &vpc, &laptop).await;
    // A client that believes the whole world to be behind its tunnel.
    let greedy = session.peer.client_config.replace(
        RANGE,
        "192.168.0.0/16, 10.0.0.0/8, 203.0.113.0/24, 100.64.0.0/10, 169.254.0.0/16",
    );
    laptop.up(&greedy);
    second.up(&connect(&server, &vpc, &second).await.peer.client_config);
    exchange(&mut laptop.connect(VM, 4321), b"its own").unwrap();

    let host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    run("ip", &["address", "add", "203.0.113.77/32", "dev", "lo"]);
    let reached = [
        (beside, 4321),
        (Ipv4Addr::new(203, 0, 113, 77), port),
        (Ipv4Addr::new(10, 0, 0, 2), 4321),
        (Ipv4Addr::new(100, 96, 0, 1), port),
        (Ipv4Addr::new(100, 96, 0, 3), port),
        (Ipv4Addr::new(169, 254, 0, 1), port),
    ]
    .map(|(address, port)| laptop.try_connect(address, port).is_ok());
    run("ip", &["address", "delete", "203.0.113.77/32", "dev", "lo"]);
    assert_eq!(reached, [false; 6]);
    drop(foreign);

    // Nor does it pass for another.
    let at_guest = guest.udp(VM, 7000);
    for forged in ["100.96.0.3", "100.96.9.9", "192.168.10.11", "8.8.8.8"] {
        laptop.ip(&format!("address add {forged}/32 dev {}", laptop.interface()));
        let send = |source: &str, content: &[u8]| {
            let socket = laptop.udp(source.parse().unwrap(), 0);
            socket.send_to(content, (VM, 7000)).unwrap();
        };
        send(forged, b"forged");
        send(&session.peer.client_address.to_string(), b"honest");
        let mut buffer = [0; 16];
        let (length, _) = at_guest.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"honest", "{forged}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computer_with_a_key_of_its_own_joins_as_long_as_its_gateway_exists() {
    let server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    guest.echo(4321);
    let gateway = server.vm(&vpc, Ipv4Addr::new(192, 168, 10, 11)).await;
    let outsider = server.vm(&server.vpc(RANGE).await, VM).await;
    let mut laptop = Laptop::beside(&server, 0);
    let private = run("wg", &["genkey"]);
    let public = public_key(&private);
    let called_by = VpnHost::of_authority(&laptop.host.to_string());
    let configure = async |vm, key| {
        let vpcs = server.vpcs();
        vpcs.configure_peer(&server.account, &vpc.id, vm, key, called_by.clone()).await
    };
    assert!(matches!(configure(&outsider.id, &public).await, Err(VpcError::NoSuchMember { .. })));
    for bad in ["", "AAAA", "not a key at all", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        assert!(matches!(configure(&gateway.id, bad).await, Err(VpcError::BadRequest(_))), "{bad}");
    }
    let peer = configure(&gateway.id, &public).await.unwrap();
    assert_eq!(configure(&gateway.id, &public).await.unwrap().id, peer.id);
    let line = format!("PrivateKey = {}", private.trim());
    let config =
        peer.client_config.replace("# PrivateKey = the private key of this computer", &line);
    laptop.up(&config);
    exchange(&mut laptop.connect(VM, 4321), b"hello").unwrap();

    // Its end is noticed in the next round.
    server.delete(&gateway.id).await;
    let began = Instant::now();
    while laptop.try_connect(VM, 4321).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is still let in");
    }
}

fn public_key(private: &str) -> String {
    let mut wg = Command::new("wg")
        .arg("pubkey")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wg.stdin.take().unwrap().write_all(private.as_bytes()).unwrap();
    let output = wg.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// As a client of ours would see them: streams of one test, kept apart.
#[tokio::test(flavor = "multi_thread")]
async fn several_laptops_are_in_a_vpc_at_once() {
    let server = Server::start().await;
    let vpc = server.vpc(RANGE).await;
    let guest = server.guest(&vpc, VM).await;
    guest.echo(4321);
    let mut laptops = [Laptop::beside(&server, 0), Laptop::beside(&server, 1)];
    for laptop in &mut laptops {
        let session = connect(&server, &vpc, laptop).await;
        laptop.up(&session.peer.client_config);
    }
    let mut streams: Vec<TcpStream> =
        laptops.iter().flat_map(|laptop| (0..3).map(|_| laptop.connect(VM, 4321))).collect();
    for round in 0..20_u8 {
        for (index, stream) in streams.iter_mut().enumerate() {
            exchange(stream, &[round, index as u8]).unwrap();
        }
    }
}
