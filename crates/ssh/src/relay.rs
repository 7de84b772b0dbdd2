//! Two connections made one: whatever client and guest say to each other in the connection protocol
//! (RFC 4254) passes as it is.
//!
//! Channels, their numbers and their windows are those of the two ends. So whatever both know works
//! (shells, sftp, forwarding in every direction, agents, what will be invented), a client that does
//! not read one channel holds up that channel and no other, and there is nothing to keep: a message
//! is taken from one side only when the other has room for it.

use std::time::Duration;

use tokio::time::timeout;

use crate::connection::{Connection, Stream};
use crate::error::Error;
use crate::transport::Incoming;
use crate::wire::{Reader, msg};

/// Nothing has moved in either direction for so long: the peers are not there any more.
const IDLE_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What ended it.
#[derive(Debug)]
pub(crate) enum End {
    Client(Error),
    Guest(Error),
    /// Neither: they were told why.
    Told(&'static str),
}

/// Bytes of messages that were passed on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) to_guest: u64,
    pub(crate) to_client: u64,
}

/// Passes messages until one of the two ends. May be given up at any time.
pub(crate) async fn relay<C: Stream, G: Stream>(
    client: &mut Connection<C>,
    guest: &mut Connection<G>,
    passed: &mut Passed,
) -> End {
    loop {
        match pass(client, guest, is_for_guest, &mut passed.to_guest) {
            Ok(()) => {}
            Err(Failed::From(error)) => return End::Client(error),
            Err(Failed::To(error)) => return End::Guest(error),
        }
        match pass(guest, client, is_for_client, &mut passed.to_client) {
            Ok(()) => {}
            Err(Failed::From(error)) => return End::Guest(error),
            Err(Failed::To(error)) => return End::Client(error),
        }
        let (read_client, read_guest) = (takes_from(client, guest), takes_from(guest, client));
        let moved = async {
            tokio::select! {
                moved = client.move_bytes(read_client) => moved.map_err(End::Client),
                moved = guest.move_bytes(read_guest) => moved.map_err(End::Guest),
            }
        };
        match timeout(IDLE_LIMIT, moved).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return End::Told("nothing was said for a day"),
        }
    }
}

/// Whether something can be done with what arrives.
fn takes_from<A: Stream, B: Stream>(from: &mut Connection<A>, to: &Connection<B>) -> bool {
    to.has_room() || from.transport().is_renewing_keys()
}

enum Failed {
    From(Error),
    To(Error),
}

/// Passes on what has arrived whole, as far as there is room.
fn pass<A: Stream, B: Stream>(
    from: &mut Connection<A>,
    to: &mut Connection<B>,
    is_meant: fn(&[u8]) -> bool,
    passed: &mut u64,
) -> Result<(), Failed> {
    while takes_from(from, to) {
        match from.transport().receive().map_err(Failed::From)? {
            Incoming::Nothing => break,
            Incoming::Own => {}
            Incoming::Payload(payload) if is_meant(&payload) => {
                *passed += payload.len() as u64;
                to.transport().send(&payload).map_err(Failed::To)?;
            }
            Incoming::Payload(_) => {}
        }
    }
    Ok(())
}

/// Further requests for a login are to be ignored (RFC 4252 section 5.1).
fn is_for_guest(payload: &[u8]) -> bool {
    payload[0] >= msg::FIRST_OF_CONNECTION
}

/// The guest's host keys are not those of the server that the client knows: it must not learn them.
fn is_for_client(payload: &[u8]) -> bool {
    let name = Reader::new(&payload[1..]).string();
    let is_host_keys = payload[0] == msg::GLOBAL_REQUEST && name == Ok(b"hostkeys-00@openssh.com");
    payload[0] >= msg::FIRST_OF_CONNECTION && !is_host_keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    #[test]
    fn only_the_connection_protocol_passes() {
        for number in 1..=255u8 {
            let passes = number >= 80;
            assert_eq!(is_for_guest(&[number, 0]), passes, "{number}");
            assert_eq!(is_for_client(&[number, 0]), passes, "{number}");
        }
    }

    #[test]
    fn other_requests_of_the_guest_pass_than_the_one_about_its_keys() {
        let request = |name: &str| Writer::message(msg::GLOBAL_REQUEST).string(name).finish();
        assert!(!is_for_client(&request("hostkeys-00@openssh.com")));
        assert!(is_for_client(&request("keepalive@openssh.com")));
        assert!(is_for_client(&request("hostkeys-00@openssh.comx")));
        assert!(is_for_guest(&request("tcpip-forward")));
    }
}
