use freestyle_guest_protocol::frame::{CUT, Frame, FrameDecoder, Kind};
use freestyle_guest_protocol::message::{self, LinkMessage, Reply, Welcome};
use freestyle_guest_protocol::mux::{MAX_DATA, WINDOW};
use freestyle_guest_protocol::{AgentConnection, CallError, ExecEnd, ExecRequest, LinkError};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::guest::{Guest, command, identity, output};

/// A guest that says welcome and then whatever a test likes.
struct Liar {
    port: UnixStream,
    decoder: FrameDecoder,
}

impl Liar {
    async fn meet() -> (Self, AgentConnection) {
        let (host, port) = UnixStream::pair().unwrap();
        let connecting = tokio::spawn(AgentConnection::connect(host, identity(1)));
        let mut liar = Self { port, decoder: FrameDecoder::default() };
        let Ok(LinkMessage::Hello(hello)) = message::decode_link(&liar.hear().await.payload) else {
            panic!("a host greets first")
        };
        let welcome = LinkMessage::Welcome(Welcome {
            epoch: hello.epoch,
            agent_version: String::new(),
            boot_id: String::new(),
            problems: Vec::new(),
        });
        liar.say(0, Kind::Link, message::encode_link(&welcome)).await.unwrap();
        (liar, connecting.await.unwrap().unwrap().0)
    }

    async fn say(&mut self, stream: u32, kind: Kind, payload: Vec<u8>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        Frame { stream, kind, payload }.encode(&mut bytes);
        self.port.write_all(&bytes).await
    }

    async fn hear(&mut self) -> Frame {
        let mut bytes = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame() {
                return frame;
            }
            let count = self.port.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the host is there");
            self.decoder.push(&bytes[..count]);
        }
    }
}

/// What a guest may not do after its welcome, with one request open on stream 1.
#[tokio::test]
async fn a_guest_that_breaks_the_protocol_loses_the_connection() {
    let credit = |amount: u32| amount.to_le_bytes().to_vec();
    let cases: Vec<(&str, u32, Kind, Vec<u8>)> = vec![
        ("data on a stream that is not open", 2, Kind::Data, vec![1]),
        ("a reply on a stream that is not open", 9, Kind::Reply, message::encode(&Reply::Done)),
        ("credit on a stream that is not open", 9, Kind::Credit, credit(1)),
        ("a request", 7, Kind::Open, vec![]),
        ("a cancel", 1, Kind::Cancel, vec![]),
        ("credit for what was not sent", 1, Kind::Credit, credit(WINDOW)),
        ("credit of the wrong length", 1, Kind::Credit, vec![1]),
        ("a malformed link message", 0, Kind::Link, vec![]),
        ("an agent of another version", 0, Kind::Link, vec![9, 9, 1]),
    ];
    for (what, stream, kind, payload) in cases {
        let (mut liar, connection) = Liar::meet().await;
        let call = tokio::spawn({
            let connection = connection.clone();
            async move { connection.exec(command("true")).await }
        });
        assert_eq!(liar.hear().await.kind, Kind::Open);
        liar.say(stream, kind, payload).await.unwrap();
        let why = connection.closed().await;
        assert!(
            matches!(why, LinkError::Violation(_) | LinkError::Version { .. }),
            "{what}: {why}"
        );
        assert_eq!(call.await.unwrap(), Err(CallError::Link(why)), "{what}");
    }
}

#[tokio::test]
async fn a_guest_that_ignores_its_credit_loses_the_connection() {
    let (mut liar, connection) = Liar::meet().await;
    // Held, and not read.
    let _stream =
        connection.open(&freestyle_guest_protocol::Request::Exec(command("yes"))).await.unwrap();
    let frames = WINDOW as usize / MAX_DATA + 1;
    for _ in 0..frames {
        if liar.say(1, Kind::Data, vec![0; MAX_DATA]).await.is_err() {
            break;
        }
    }
    let why = connection.closed().await;
    assert_eq!(why, LinkError::Violation("data exceeds the credit of its stream"));
}

#[tokio::test]
async fn a_guest_that_ignores_the_limit_is_not_listened_to() {
    let (mut liar, connection) = Liar::meet().await;
    let flood = tokio::spawn(async move {
        assert_eq!(liar.hear().await.kind, Kind::Open);
        for _ in 0..7 {
            liar.say(1, Kind::Data, vec![0; MAX_DATA]).await.unwrap();
        }
        while liar.hear().await.kind != Kind::Cancel {}
        liar
    });
    let request = ExecRequest { max_output: 100_000, ..command("yes") };
    let outcome = connection.exec(request).await.unwrap();
    assert_eq!(outcome.end, ExecEnd::OutputTooLarge);
    assert!(outcome.stdout.len() <= 100_000);
    flood.await.unwrap();
}

#[tokio::test]
async fn replies_that_do_not_fit_are_errors() {
    let replies = [
        vec![],
        vec![99],
        message::encode(&Reply::Done),
        message::encode(&Reply::Directory),
        [message::encode(&Reply::Exited { status: 0 }), vec![0]].concat(),
    ];
    for reply in replies {
        let (mut liar, connection) = Liar::meet().await;
        let call = tokio::spawn(async move { connection.exec(command("true")).await });
        liar.hear().await;
        liar.say(1, Kind::Reply, reply.clone()).await.unwrap();
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Link(LinkError::Violation(_))), "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn an_agent_of_another_version_is_refused_by_its_number() {
    let (host, mut port) = UnixStream::pair().unwrap();
    let mut bytes = Vec::new();
    let payload = vec![0x34, 0x12, 77, 77];
    Frame { stream: 0, kind: Kind::Link, payload }.encode(&mut bytes);
    port.write_all(&bytes).await.unwrap();
    let why = AgentConnection::connect(host, identity(1)).await.unwrap_err();
    assert_eq!(why, LinkError::Version { agent: 0x1234 });
}

/// Frames with valid checksums and random content, or plain garbage.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        Just(Kind::Link),
        Just(Kind::Open),
        Just(Kind::Data),
        Just(Kind::SideData),
        Just(Kind::End),
        Just(Kind::Credit),
        Just(Kind::Reply),
        Just(Kind::Cancel),
    ];
    // The first bytes of requests are kept from those that would do something to this machine.
    let payload = prop_oneof![
        Just(message::encode(&freestyle_guest_protocol::Request::Ping)),
        proptest::collection::vec(200u8.., 0..40),
        (0..3000u32).prop_map(|amount| amount.to_le_bytes().to_vec()),
    ];
    let frame = (0..4u32, kinds, payload).prop_map(|(stream, kind, payload)| {
        let mut bytes = Vec::new();
        let harmless = kind != Kind::Open || !matches!(payload.first(), Some(0..=4));
        if harmless {
            Frame { stream, kind, payload }.encode(&mut bytes);
        }
        bytes
    });
    let piece = prop_oneof![frame, proptest::collection::vec(any::<u8>(), 0..200)];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_agent_that_heard_noise_serves_the_next_host(before in noise(), after in noise()) {
        run(async move {
            let guest = Guest::start();
            // Before any greeting, and after one.
            let mut noisy = guest.plug();
            noisy.write_all(&before).await.unwrap();
            drop(noisy);
            let (host, mut tap) = UnixStream::pair().unwrap();
            let mut port = guest.plug();
            let greeted = tokio::select! {
                greeted = AgentConnection::connect(host, identity(1)) => greeted.unwrap().0,
                _ = tokio::io::copy_bidirectional(&mut tap, &mut port) => panic!("it stays open"),
            };
            port.write_all(&after).await.unwrap();
            drop((greeted, port));
            let agent = guest.connect().await;
            assert_eq!(output(&agent, "echo still here").await, "still here\n");
        });
    }

    #[test]
    fn a_host_that_hears_noise_ends_every_call(noise in noise()) {
        run(async move {
            let (mut liar, connection) = Liar::meet().await;
            let call = tokio::spawn(async move { connection.ping().await });
            assert_eq!(liar.hear().await.kind, Kind::Open);
            // It may have heard enough before the end.
            let _ = liar.port.write_all(&noise).await;
            let _ = liar.port.write_all(&CUT).await;
            drop(liar);
            let _ = call.await.expect("no panic");
        });
    }
}
