//! The server with real sockets.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freestyle_dns::{Authority, Data, Record, RecordName, Server, Unavailable, Zone, Zones};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// More than an answer takes.
const SOON: Duration = Duration::from_secs(10);

/// The zone `example.com`, in which `site.` is a host that is here, and `broken.com`, which cannot be
/// looked up.
#[derive(Clone)]
struct Example(Arc<Zone>);

impl Zones for Example {
    async fn zone(&self, name: &str) -> Result<Option<Arc<Zone>>, Unavailable> {
        match name {
            "broken.com" => Err(Unavailable),
            name => {
                Ok((name == "example.com" || name.ends_with(".example.com"))
                    .then(|| self.0.clone()))
            }
        }
    }

    async fn is_site(&self, name: &str) -> Result<bool, Unavailable> {
        Ok(name == "site.example.com")
    }

    fn proofs(&self, name: &str) -> Vec<String> {
        let is_asked = name == "_acme-challenge.example.com";
        if is_asked { vec!["proof".to_owned()] } else { Vec::new() }
    }
}

async fn start() -> SocketAddr {
    let mut records = vec![
        ("app", "A", "192.0.2.1"),
        ("www", "CNAME", "app.example.com"),
        ("out", "CNAME", "app.example.org"),
        ("loop", "CNAME", "loop.example.com"),
        ("sub", "NS", "ns.sub.example.com"),
        ("ns.sub", "A", "192.0.2.5"),
        ("*.wild", "A", "192.0.2.6"),
    ];
    let texts: Vec<_> = (0..20).map(|n| format!("{n}-{}", "x".repeat(200))).collect();
    records.extend(texts.iter().map(|text| ("large", "TXT", text.as_str())));
    let records = records.into_iter().map(|(name, kind, value)| Record {
        name: RecordName::within("example.com", name).unwrap(),
        ttl: 300,
        data: Data::parse(kind, value, None).unwrap(),
    });
    let authority = Authority {
        name_servers: vec![RecordName::parse("ns1.example.net").unwrap()],
        addresses: vec!["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    };
    let zone = Zone::new("example.com", authority.into(), 7, records);
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.address();
    tokio::spawn(server.serve(Example(zone.into()), std::future::pending()));
    address
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4242, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn udp(server: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(question).await.unwrap();
    // Over one socket what comes is in order: a question with a sure answer shows that there is none.
    let sure = self::question("app.example.com.", RecordType::SRV);
    let mut sure_bytes = sure.to_vec().unwrap();
    sure_bytes[..2].copy_from_slice(&[1, 1]);
    let mut buffer = vec![0; 65535];
    let first = timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
    match first {
        Ok(length) => Some(buffer[..length.unwrap()].to_vec()),
        Err(_) => {
            socket.send(&sure_bytes).await.unwrap();
            let length = timeout(SOON, socket.recv(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(&buffer[..2.min(length)], &[1, 1], "the server still answers");
            None
        }
    }
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let answer = udp(server, &question(name, kind).to_vec().unwrap()).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.id, answer.message_type), (4242, MessageType::Response));
    assert!(answer.recursion_desired && !answer.recursion_available);
    answer
}

async fn over_tcp(stream: &mut TcpStream, question: &Message) -> Message {
    let question = question.to_vec().unwrap();
    stream.write_u16(question.len() as u16).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let length = timeout(SOON, stream.read_u16()).await.unwrap().unwrap();
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn said(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn what_a_zone_says_is_answered_with_authority() {
    let server = start().await;
    for (name, kind, expected) in [
        ("app.example.com.", RecordType::A, &["192.0.2.1"][..]),
        ("any.wild.example.com.", RecordType::A, &["192.0.2.6"]),
        ("site.example.com.", RecordType::A, &["198.51.100.1"]),
        ("site.example.com.", RecordType::AAAA, &["2001:db8::1"]),
        ("www.example.com.", RecordType::A, &["app.example.com.", "192.0.2.1"]),
        ("www.example.com.", RecordType::CNAME, &["app.example.com."]),
        ("out.example.com.", RecordType::A, &["app.example.org."]),
        ("example.com.", RecordType::NS, &["ns1.example.net."]),
        ("_acme-challenge.example.com.", RecordType::TXT, &["proof"]),
    ] {
        let answer = ask(server, name, kind).await;
        assert_eq!(answer.response_code, ResponseCode::NoError, "{name} {kind}");
        assert!(answer.authoritative, "{name} {kind}");
        assert_eq!(said(&answer), expected, "{name} {kind}");
    }
    let soa = ask(server, "example.com.", RecordType::SOA).await;
    let RData::SOA(soa) = &soa.answers[0].data else { panic!("{soa:?}") };
    assert_eq!((soa.mname.to_string(), soa.serial), ("ns1.example.net.".to_owned(), 7));
    // Some compare every letter of the question.
    let answer = ask(server, "aPP.eXample.com.", RecordType::A).await;
    assert_eq!(answer.answers[0].name.to_string(), "aPP.eXample.com.");
    // An alias of itself leads nowhere, and not for ever.
    assert!(said(&ask(server, "loop.example.com.", RecordType::A).await).len() <= 8);
    assert_eq!(ask(server, "app.example.com.", RecordType::ANY).await.answers.len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_how_long_that_holds() {
    let server = start().await;
    for (name, kind, code) in [
        ("none.example.com.", RecordType::A, ResponseCode::NXDomain),
        ("app.example.com.", RecordType::TXT, ResponseCode::NoError),
        ("wild.example.com.", RecordType::A, ResponseCode::NoError),
    ] {
        let answer = ask(server, name, kind).await;
        assert_eq!(answer.response_code, code, "{name}");
        assert!(answer.authoritative && answer.answers.is_empty());
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
}

#[tokio::test]
async fn a_delegation_names_other_servers() {
    let answer = ask(start().await, "x.sub.example.com.", RecordType::A).await;
    assert!(!answer.authoritative && answer.answers.is_empty());
    assert_eq!(answer.authorities[0].data.to_string(), "ns.sub.example.com.");
    assert_eq!(answer.additionals[0].data.to_string(), "192.0.2.5");
}

#[tokio::test]
async fn nothing_is_resolved_and_nothing_else_is_done() {
    let server = start().await;
    let code = async |message: Message| {
        let answer = udp(server, &message.to_vec().unwrap()).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert!(answer.answers.is_empty() && answer.authorities.is_empty());
        answer.response_code
    };
    assert_eq!(code(question("example.org.", RecordType::A)).await, ResponseCode::Refused);
    assert_eq!(code(question("com.", RecordType::A)).await, ResponseCode::Refused);
    assert_eq!(code(question(".", RecordType::NS)).await, ResponseCode::Refused);
    assert_eq!(code(question("example.com.", RecordType::AXFR)).await, ResponseCode::Refused);
    assert_eq!(code(question("broken.com.", RecordType::A)).await, ResponseCode::ServFail);
    let mut chaos = question("example.com.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(chaos).await, ResponseCode::Refused);
    let mut twice = question("example.com.", RecordType::A);
    twice.add_query(Query::query(Name::from_ascii("app.example.com.").unwrap(), RecordType::A));
    assert_eq!(code(twice).await, ResponseCode::FormErr);
    let mut update = question("example.com.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(update).await, ResponseCode::NotImp);
    let mut future = question("example.com.", RecordType::SOA);
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    // A number that has two names.
    assert_eq!(u16::from(code(future).await), u16::from(ResponseCode::BADVERS));
}

#[tokio::test]
async fn a_large_answer_is_cut_over_udp_and_whole_over_tcp() {
    let server = start().await;
    let mut large = question("large.example.com.", RecordType::TXT);
    for payload in [None, Some(512), Some(65535)] {
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            large.set_edns(edns);
        }
        let bytes = udp(server, &large.to_vec().unwrap()).await.unwrap();
        assert!(bytes.len() <= 512, "{}", bytes.len());
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(cut.truncation && cut.answers.is_empty());
        assert_eq!(cut.edns.is_some(), payload.is_some());
    }
    let mut stream = TcpStream::connect(server).await.unwrap();
    // One connection is good for several questions.
    for _ in 0..3 {
        let whole = over_tcp(&mut stream, &large).await;
        assert!(!whole.truncation);
        assert_eq!(whole.answers.len(), 20);
    }
}

#[tokio::test]
async fn whoever_asks_a_lot_is_answered_in_brief_over_udp_and_in_full_over_tcp() {
    let server = start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let asked = question("app.example.com.", RecordType::A);
    let bytes = asked.to_vec().unwrap();
    let mut buffer = [0; 512];
    let mut ask = async || {
        socket.send(&bytes).await.unwrap();
        let length = timeout(SOON, socket.recv(&mut buffer)).await.unwrap().unwrap();
        (length, Message::from_vec(&buffer[..length]).unwrap())
    };
    assert_eq!(said(&ask().await.1), ["192.0.2.1"]);
    let in_brief = timeout(SOON, async {
        loop {
            let (length, answer) = ask().await;
            if answer.truncation {
                return (length, answer);
            }
        }
    });
    let (length, answer) = in_brief.await.unwrap();
    assert_eq!((length, answer.answers.len()), (bytes.len(), 0));
    let mut stream = TcpStream::connect(server).await.unwrap();
    assert_eq!(said(&over_tcp(&mut stream, &asked).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn rubbish_is_answered_by_an_error_or_not_at_all() {
    let server = start().await;
    let good = question("app.example.com.", RecordType::A).to_vec().unwrap();
    assert_eq!(udp(server, b"").await, None);
    assert_eq!(udp(server, b"short").await, None);
    assert_eq!(udp(server, &[good.clone(), vec![0; 2000]].concat()).await, None);
    // An answer, which would be answered for ever.
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(udp(server, &answer).await, None);
    // A question that is torn, one that claims to be 65535, and a name that is inside itself.
    let mut many = good.clone();
    many[4..6].copy_from_slice(&[0xff, 0xff]);
    let mut inside = good[..12].to_vec();
    inside.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    for bad in [good[..good.len() - 3].to_vec(), many, inside] {
        let answer = udp(server, &bad).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.id, answer.response_code), (4242, ResponseCode::FormErr));
    }
}

#[tokio::test]
async fn one_client_cannot_take_every_connection() {
    let server = start().await;
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(TcpStream::connect(server).await.unwrap());
    }
    let mut is_closed = 0;
    for stream in &mut connections {
        let end = timeout(Duration::from_millis(50), stream.read_u8()).await;
        is_closed += usize::from(end.is_ok());
    }
    assert_eq!(is_closed, 8);
    // Who is let in is answered all the same.
    let answer = over_tcp(&mut connections[0], &question("app.example.com.", RecordType::A)).await;
    assert_eq!(said(&answer), ["192.0.2.1"]);
}
