//! Where a connection is opened to, and where not.

use freestyle_outbound::OutboundError;

use crate::support::{Server, in_own_network, ok, outbound};

fn is_refused<T>(result: &Result<T, OutboundError>) -> bool {
    matches!(result, Err(OutboundError::Refused { .. }))
}

#[test]
fn a_public_address_is_reached_and_no_other() {
    in_own_network(async |names| {
        let server = Server::start(ok("")).await;
        names.set("public.test", &[&[[11, 0, 0, 1]]]);
        names.set("private.test", &[&[[127, 0, 0, 1]]]);
        names.set("own.test", &[&[[12, 0, 0, 1]]]);
        names.set("neighbour.test", &[&[[12, 0, 0, 9]]]);
        // A name must not hide a private address behind a public one.
        names.set("both.test", &[&[[11, 0, 0, 1], [127, 0, 0, 1]]]);
        let outbound = outbound(&[]);

        for public in ["public.test", "11.0.0.7", "::ffff:11.0.0.7"] {
            let reached = outbound.connect(public, server.port).await;
            assert!(reached.is_ok(), "{public}: {reached:?}");
        }
        for other in [
            "private.test",
            "own.test",
            "neighbour.test",
            "both.test",
            "localhost",
            "127.0.0.1",
            // As the C library reads them: all of them are 127.0.0.1.
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "0",
            "::1",
            "::ffff:127.0.0.1",
            "12.0.0.1",
        ] {
            let reached = outbound.connect(other, server.port).await;
            assert!(is_refused(&reached), "{other}: {reached:?}");
            let message = reached.unwrap_err().to_string();
            assert!(other.contains("127.0.0.1") || !message.contains("127.0.0.1"), "{message}");
        }
        let unknown = outbound.connect("unknown.test", server.port).await;
        assert!(matches!(unknown, Err(OutboundError::UnknownHost { .. })), "{unknown:?}");
    });
}

#[test]
fn what_the_operator_lists_is_reached_too() {
    in_own_network(async |names| {
        let server = Server::start(ok("")).await;
        names.set("private.test", &[&[[127, 0, 0, 1]]]);
        let outbound = outbound(&["127.0.0.0/8", "::1/128"]);
        for listed in ["private.test", "127.0.0.1", "127.1", "11.0.0.1"] {
            let reached = outbound.connect(listed, server.port).await;
            assert!(reached.is_ok(), "{listed}: {reached:?}");
        }
        assert!(is_refused(&outbound.connect("12.0.0.1", server.port).await));
    });
}

#[test]
fn a_name_that_changes_its_mind_between_check_and_use_gains_nothing() {
    in_own_network(async |names| {
        let server = Server::start(ok("")).await;
        // Answers come in turns: whoever resolves twice gets one of each.
        names.set("rebinds.test", &[&[[11, 0, 0, 1]], &[[127, 0, 0, 1]]]);
        let outbound = outbound(&[]);
        let (mut reached, mut refused) = (0, 0);
        for _ in 0..10 {
            match outbound.connect("rebinds.test", server.port).await {
                Ok(stream) => {
                    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "11.0.0.1");
                    reached += 1;
                }
                Err(OutboundError::Refused { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((reached, refused), (5, 5));
    });
}

#[test]
fn nobody_listening_is_said() {
    in_own_network(async |_| {
        let server = Server::start(ok("")).await;
        let outbound = outbound(&[]);
        let reached = outbound.connect("11.0.0.1", server.port + 1).await;
        let Err(OutboundError::Unreachable { reason, .. }) = reached else { panic!("{reached:?}") };
        assert_eq!(reason, "connection refused");
    });
}
