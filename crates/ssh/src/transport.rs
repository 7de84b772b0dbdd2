//! The transport layer (RFC 4253) of one connection, as either side: packets in, packets out, and
//! the exchanges of keys in between. No input or output happens here: see `connection`.
//!
//! A new exchange of keys is answered and never begun. Peers begin one when a key has been used for
//! long, and whoever begins has nothing of the application in flight; if both hops of the gateway
//! could be waiting for their peers while data for either was arriving, it would have to be kept
//! somewhere, without bound.

use std::sync::Arc;

use bytes::BytesMut;
use ring::rand::SystemRandom;

use crate::cipher::{Opener, Sealer};
use crate::error::Error;
use crate::kex::{self, ClientHalf, Hash, Keys, Secret, Transcript};
use crate::key::SigningKey;
use crate::negotiation::{self, Choice, Side};
use crate::wire::{Reader, Writer, msg};

/// Longest packet before a login, as every implementation must support (RFC 4253 section 6.1).
const MAX_EARLY_PACKET: usize = 35_000;
/// And after it, as OpenSSH has it.
const MAX_PACKET: usize = 256 * 1024;

/// Characters of a peer's good-bye that are passed on.
const MAX_DESCRIPTION: usize = 256;

/// Who we are on this connection.
pub(crate) enum Role {
    /// Toward guests.
    Client,
    /// Toward clients, with the key that proves it.
    Server(Arc<SigningKey>),
}

impl Role {
    fn side(&self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Server(_) => Side::Server,
        }
    }
}

/// Where an exchange of keys stands.
enum Exchange {
    /// None is going on.
    Idle,
    /// Our offer is out.
    Offered { ours: Vec<u8> },
    /// A server knows both offers and waits for the client's key.
    Chosen { offers: Offers, choice: Choice, ignore_next: bool },
    /// A client has sent its key.
    Asked { offers: Offers, choice: Choice, half: ClientHalf },
    /// Our side is done and uses the new keys; the peer still says that it does.
    Done { opener: Box<Opener> },
}

struct Offers {
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

/// What was taken out of the input.
pub(crate) enum Incoming {
    /// A whole packet is not there.
    Nothing,
    /// Something of the transport itself, which is dealt with.
    Own,
    /// A message for the layers above: authentication and the connection protocol.
    Payload(BytesMut),
}

/// The state of one connection.
pub(crate) struct Transport {
    role: Role,
    our_id: Vec<u8>,
    peer_id: Vec<u8>,
    opener: Opener,
    sealer: Sealer,
    exchange: Exchange,
    /// The hash of the first exchange names the connection.
    session: Option<Hash>,
    is_open: bool,
    /// Received and not opened.
    pub(crate) input: BytesMut,
    /// Sealed and not sent.
    pub(crate) output: BytesMut,
}

impl Transport {
    /// Begins the first exchange; both have said what they are.
    pub(crate) fn new(role: Role, our_id: &[u8], peer_id: &[u8]) -> Result<Self, Error> {
        let mut transport = Self {
            role,
            our_id: our_id.to_vec(),
            peer_id: peer_id.to_vec(),
            opener: Opener::default(),
            sealer: Sealer::default(),
            exchange: Exchange::Idle,
            session: None,
            is_open: false,
            input: BytesMut::new(),
            output: BytesMut::new(),
        };
        let ours = transport.offer()?;
        transport.exchange = Exchange::Offered { ours };
        Ok(transport)
    }

    /// The peer is who it says: from here on packets may be as long as anybody makes them, and keys
    /// may be exchanged anew.
    pub(crate) fn open_up(&mut self) {
        self.is_open = true;
    }

    /// Whether both sides use keys and nothing is left of their exchange.
    pub(crate) fn is_ready(&self) -> bool {
        self.session.is_some() && matches!(self.exchange, Exchange::Idle)
    }

    /// What names the connection, once keys have been exchanged.
    pub(crate) fn session(&self) -> Option<&Hash> {
        self.session.as_ref()
    }

    /// Whether messages of the layers above must wait (RFC 4253 section 7.1).
    pub(crate) fn is_exchanging(&self) -> bool {
        !matches!(self.exchange, Exchange::Idle | Exchange::Done { .. })
    }

    /// Whether the peer has begun to renew the keys and is not done.
    pub(crate) fn is_renewing_keys(&self) -> bool {
        !matches!(self.exchange, Exchange::Idle)
    }

    /// Seals a message of the layers above. Must not be called while keys are exchanged.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        debug_assert!(!self.is_exchanging());
        self.seal(payload)
    }

    /// Says good-bye; nothing may be sent after it.
    pub(crate) fn disconnect(&mut self, reason: u32, description: &str) -> Result<(), Error> {
        let message = Writer::message(msg::DISCONNECT).u32(reason).string(description).string("");
        self.seal(&message.finish())
    }

    /// Takes one packet out of the input and deals with it, unless it is for the layers above.
    pub(crate) fn receive(&mut self) -> Result<Incoming, Error> {
        let max_packet = if self.is_open { MAX_PACKET } else { MAX_EARLY_PACKET };
        let Some(payload) = self.opener.open(&mut self.input, max_packet)? else {
            return Ok(Incoming::Nothing);
        };
        let is_idle = matches!(self.exchange, Exchange::Idle);
        match payload[0] {
            msg::DISCONNECT => return Err(disconnected(&payload)?),
            // Nothing may disturb the first exchange ("strict key exchange").
            msg::IGNORE | msg::DEBUG | msg::UNIMPLEMENTED if self.is_open || is_idle => {}
            msg::EXT_INFO if is_idle => {}
            msg::KEXINIT..=49 => self.exchange_keys(&payload)?,
            msg::SERVICE_REQUEST | msg::SERVICE_ACCEPT | msg::USERAUTH_REQUEST.. if is_idle => {
                return Ok(Incoming::Payload(payload));
            }
            _ => return Err(UNEXPECTED),
        }
        Ok(Incoming::Own)
    }

    fn exchange_keys(&mut self, payload: &[u8]) -> Result<(), Error> {
        let ours = std::mem::replace(&mut self.exchange, Exchange::Idle);
        self.exchange = match (ours, payload[0]) {
            (Exchange::Offered { ours }, msg::KEXINIT) => self.choose(ours, payload)?,
            (Exchange::Idle, msg::KEXINIT) if self.is_open => {
                let ours = self.offer()?;
                self.choose(ours, payload)?
            }
            // Whatever it is, it was a guess.
            (Exchange::Chosen { offers, choice, ignore_next: true }, _) => {
                Exchange::Chosen { offers, choice, ignore_next: false }
            }
            (Exchange::Chosen { offers, choice, .. }, msg::KEX_INIT) => {
                self.respond(&offers, &choice, payload)?
            }
            (Exchange::Asked { offers, choice, half }, msg::KEX_REPLY) => {
                self.accept(&offers, &choice, half, payload)?
            }
            (Exchange::Done { opener }, msg::NEWKEYS) => {
                Reader::new(&payload[1..]).end()?;
                self.opener = *opener;
                Exchange::Idle
            }
            _ => return Err(UNEXPECTED),
        };
        Ok(())
    }

    fn offer(&mut self) -> Result<Vec<u8>, Error> {
        let ours = negotiation::offer(self.role.side(), &SystemRandom::new())?;
        self.seal(&ours)?;
        Ok(ours)
    }

    fn choose(&mut self, ours: Vec<u8>, theirs: &[u8]) -> Result<Exchange, Error> {
        let choice = negotiation::choose(self.role.side(), &ours, theirs)?;
        let offers = Offers { ours, theirs: theirs.to_vec() };
        if let Role::Server(_) = self.role {
            let ignore_next = choice.ignore_guess;
            return Ok(Exchange::Chosen { offers, choice, ignore_next });
        }
        let half = ClientHalf::new()?;
        self.seal(&Writer::message(msg::KEX_INIT).string(&half.public).finish())?;
        Ok(Exchange::Asked { offers, choice, half })
    }

    /// A server's turn: the client has sent its key.
    fn respond(
        &mut self,
        offers: &Offers,
        choice: &Choice,
        payload: &[u8],
    ) -> Result<Exchange, Error> {
        let Role::Server(host_key) = &self.role else { return Err(UNEXPECTED) };
        let mut reader = Reader::new(&payload[1..]);
        let client_public = reader.string()?;
        reader.end()?;
        let (server_public, secret) = kex::respond(choice.method, client_public)?;
        let blob = host_key.public_blob();
        let transcript = Transcript {
            client_id: &self.peer_id,
            server_id: &self.our_id,
            client_offer: &offers.theirs,
            server_offer: &offers.ours,
            host_key: &blob,
            client_public,
            server_public: &server_public,
        };
        let hash = transcript.hash(&secret);
        let signature = host_key.sign(&hash);
        let reply = Writer::message(msg::KEX_REPLY).string(&blob).string(&server_public);
        self.seal(&reply.string(signature).finish())?;
        self.switch(choice, &secret, &hash)
    }

    /// A client's turn: the server has sent its key.
    fn accept(
        &mut self,
        offers: &Offers,
        choice: &Choice,
        half: ClientHalf,
        payload: &[u8],
    ) -> Result<Exchange, Error> {
        let mut reader = Reader::new(&payload[1..]);
        let (host_key, server_public, signature) =
            (reader.string()?, reader.string()?, reader.string()?);
        reader.end()?;
        let client_public = half.public.clone();
        let secret = half.finish(server_public)?;
        let transcript = Transcript {
            client_id: &self.our_id,
            server_id: &self.peer_id,
            client_offer: &offers.ours,
            server_offer: &offers.theirs,
            host_key,
            client_public: &client_public,
            server_public,
        };
        let hash = transcript.hash(&secret);
        kex::verify(host_key, &hash, signature)?;
        self.switch(choice, &secret, &hash)
    }

    /// Uses new keys for what is sent from here on.
    fn switch(&mut self, choice: &Choice, secret: &Secret, hash: &Hash) -> Result<Exchange, Error> {
        let session = *self.session.get_or_insert(*hash);
        let keys = Keys::derive(self.role.side(), choice, secret, hash, &session);
        self.seal(&[msg::NEWKEYS])?;
        self.sealer = keys.sealer;
        Ok(Exchange::Done { opener: Box::new(keys.opener) })
    }

    fn seal(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.sealer.seal(payload, &mut self.output)
    }
}

const UNEXPECTED: Error = Error::Protocol("a message came out of turn");

fn disconnected(payload: &[u8]) -> Result<Error, Error> {
    let mut reader = Reader::new(&payload[1..]);
    let reason = reader.u32()?;
    // It is shown to people: on their terminals and in logs.
    let description = String::from_utf8_lossy(reader.string()?);
    let printable = description.chars().map(|c| if c.is_control() { ' ' } else { c });
    let description = printable.take(MAX_DESCRIPTION).collect();
    Ok(Error::Disconnected { reason, description })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: &[u8] = b"SSH-2.0-client";
    const SERVER: &[u8] = b"SSH-2.0-server";

    fn pair() -> (Transport, Transport) {
        let key = Arc::new(SigningKey::from_seed(&[1; 32]));
        let client = Transport::new(Role::Client, CLIENT, SERVER).unwrap();
        (client, Transport::new(Role::Server(key), SERVER, CLIENT).unwrap())
    }

    /// Lets both say what they have to say; answers what arrived for the layers above.
    fn talk(client: &mut Transport, server: &mut Transport) -> Result<Vec<Vec<u8>>, Error> {
        let mut arrived = Vec::new();
        while !client.output.is_empty() || !server.output.is_empty() {
            server.input.unsplit(client.output.split());
            client.input.unsplit(server.output.split());
            for side in [&mut *client, &mut *server] {
                loop {
                    match side.receive()? {
                        Incoming::Nothing => break,
                        Incoming::Own => {}
                        Incoming::Payload(payload) => arrived.push(payload.to_vec()),
                    }
                }
            }
        }
        Ok(arrived)
    }

    fn ready() -> (Transport, Transport) {
        let (mut client, mut server) = pair();
        talk(&mut client, &mut server).unwrap();
        assert!(client.is_ready() && server.is_ready());
        (client, server)
    }

    /// As a peer that begins anew, which this side never does.
    fn begin_exchange(transport: &mut Transport) {
        let ours = transport.offer().unwrap();
        transport.exchange = Exchange::Offered { ours };
    }

    #[test]
    fn messages_arrive_in_both_directions_and_the_session_has_one_name() {
        let (mut client, mut server) = ready();
        assert_eq!(client.session(), server.session());
        client.send(&[90, 1]).unwrap();
        server.send(&[91, 2]).unwrap();
        assert_eq!(talk(&mut client, &mut server).unwrap(), [[91, 2], [90, 1]]);
    }

    #[test]
    fn keys_are_renewed_whoever_asks_and_the_session_keeps_its_name() {
        for client_asks in [true, false] {
            let (mut client, mut server) = ready();
            let session = *client.session().unwrap();
            client.open_up();
            server.open_up();
            begin_exchange(if client_asks { &mut client } else { &mut server });
            assert!(client.is_exchanging() || server.is_exchanging());
            assert!(talk(&mut client, &mut server).unwrap().is_empty());
            assert!(client.is_ready() && server.is_ready());
            assert_eq!((client.session(), server.session()), (Some(&session), Some(&session)));
            client.send(&[90]).unwrap();
            assert_eq!(talk(&mut client, &mut server).unwrap(), [[90]]);
        }
    }

    #[test]
    fn keys_are_not_renewed_before_a_login() {
        let (mut client, mut server) = ready();
        begin_exchange(&mut client);
        assert!(talk(&mut client, &mut server).is_err());
    }

    #[test]
    fn nothing_may_disturb_the_first_exchange() {
        for message in [msg::IGNORE, msg::DEBUG, msg::EXT_INFO, msg::SERVICE_REQUEST, 50, 80, 255] {
            let (mut client, mut server) = pair();
            client.seal(&[message, 0]).unwrap();
            assert!(talk(&mut client, &mut server).is_err(), "{message}");
        }
    }

    #[test]
    fn a_peer_that_renews_keys_says_nothing_else_meanwhile() {
        let (mut client, mut server) = ready();
        client.open_up();
        server.open_up();
        begin_exchange(&mut client);
        client.seal(&[90]).unwrap();
        assert!(talk(&mut client, &mut server).is_err());
    }

    #[test]
    fn a_server_without_the_key_it_shows_is_not_believed() {
        let (mut client, mut server) = pair();
        server.input.unsplit(client.output.split());
        while !matches!(server.receive().unwrap(), Incoming::Nothing) {}
        // Somebody in between, who changed what was offered.
        server.peer_id = b"SSH-2.0-other".to_vec();
        let error = talk(&mut client, &mut server).unwrap_err().to_string();
        assert!(error.contains("host key"), "{error}");
    }

    #[test]
    fn a_guess_that_was_wrong_is_passed_over() {
        let (mut client, mut server) = pair();
        let Exchange::Offered { ours } = &mut client.exchange else { panic!("it has offered") };
        // It says that it has guessed, and prefers a method that the server does not have.
        let (name, other) = (b"curve25519-sha256,", b"curve25519-sha999,");
        let at = ours.windows(name.len()).position(|bytes| bytes == name).unwrap();
        ours[at..at + name.len()].copy_from_slice(other);
        let flag = ours.len() - 5;
        ours[flag] = 1;
        let offer = ours.clone();
        client.output.clear();
        client.seal(&offer).unwrap();
        client.seal(&[msg::KEX_INIT, 1, 2, 3]).unwrap();
        talk(&mut client, &mut server).unwrap();
        assert!(client.is_ready() && server.is_ready());
    }

    #[test]
    fn a_long_packet_is_for_those_who_have_logged_in() {
        let long = vec![90; MAX_EARLY_PACKET];
        let (mut client, mut server) = ready();
        client.send(&long).unwrap();
        assert!(talk(&mut client, &mut server).is_err());

        let (mut client, mut server) = ready();
        server.open_up();
        client.send(&long).unwrap();
        assert_eq!(talk(&mut client, &mut server).unwrap(), [long]);
    }

    #[test]
    fn a_good_bye_can_be_printed() {
        let (mut client, mut server) = ready();
        server.disconnect(11, "bye\x1b[2J\nroot#").unwrap();
        let error = talk(&mut client, &mut server).unwrap_err();
        let Error::Disconnected { reason: 11, description } = error else { panic!("{error}") };
        assert_eq!(description, "bye [2J root#");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            number in 0..60u8,
            sealed: bool,
        ) {
            let (mut client, mut server) = if sealed { ready() } else { pair() };
            let message = [&[number], &bytes[..]].concat();
            client.seal(&message).unwrap();
            server.seal(&message).unwrap();
            server.input.unsplit(client.output.split());
            client.input.unsplit(server.output.split());
            client.input.extend_from_slice(&bytes);
            for side in [&mut client, &mut server] {
                while matches!(side.receive(), Ok(Incoming::Own | Incoming::Payload(_))) {}
            }
        }
    }
}
