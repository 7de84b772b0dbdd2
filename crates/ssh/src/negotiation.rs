//! Which algorithms a key exchange uses (RFC 4253 section 7.1).
//!
//! One of a kind where one is enough: Ed25519 host keys, AES-GCM, no compression. Of key exchanges
//! there are two, X25519 alone and X25519 with ML-KEM; without the second, which withstands quantum
//! computers, OpenSSH since 10.1 warns its user at every login.

use ring::rand::SecureRandom;

use crate::cipher::Cipher;
use crate::error::Error;
use crate::wire::{Reader, Writer, msg};

pub(crate) const HOST_KEY: &str = "ssh-ed25519";

const CURVE: &str = "curve25519-sha256";
/// The name it had before it was standardised.
const OLD_CURVE: &str = "curve25519-sha256@libssh.org";
const HYBRID: &str = "mlkem768x25519-sha256";
const CIPHERS: [&str; 2] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
/// Not used with AES-GCM; some peers want the list not to be empty.
const MACS: [&str; 1] = ["hmac-sha2-256"];
const COMPRESSION: [&str; 1] = ["none"];
/// Not algorithms: each side says with its own that it insists on an undisturbed first exchange.
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";

const COOKIE: usize = 16;

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    /// A guest's CPU may be emulated, and nobody can listen between it and us: as a client of
    /// guests we do without the hybrid.
    fn kex(self) -> &'static [&'static str] {
        match self {
            Self::Client => &[CURVE, OLD_CURVE, STRICT_CLIENT],
            Self::Server => &[HYBRID, CURVE, OLD_CURVE, STRICT_SERVER],
        }
    }
}

/// How the secret is agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KexMethod {
    /// RFC 8731.
    Curve25519,
    /// draft-ietf-sshm-mlkem-hybrid-kex.
    MlKem768X25519,
}

/// What both sides will use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) method: KexMethod,
    pub(crate) to_server: Cipher,
    pub(crate) to_client: Cipher,
    /// The peer has guessed the choice and sent a message by it, wrongly: it is to be ignored.
    pub(crate) ignore_guess: bool,
}

/// Our offer: a `KEXINIT`.
pub(crate) fn offer(side: Side, random: &dyn SecureRandom) -> Result<Vec<u8>, Error> {
    let mut cookie = [0; COOKIE];
    random.fill(&mut cookie).map_err(|_| Error::Protocol("there are no random numbers"))?;
    let message = Writer::message(msg::KEXINIT)
        .bytes(&cookie)
        .names(side.kex())
        .names(&[HOST_KEY])
        .names(&CIPHERS)
        .names(&CIPHERS)
        .names(&MACS)
        .names(&MACS)
        .names(&COMPRESSION)
        .names(&COMPRESSION)
        .names(&[])
        .names(&[]);
    Ok(message.boolean(false).u32(0).finish())
}

/// What `ours` and `theirs`, two offers, lead to.
pub(crate) fn choose(side: Side, ours: &[u8], theirs: &[u8]) -> Result<Choice, Error> {
    let (ours, theirs) = (Offer::read(ours)?, Offer::read(theirs)?);
    let (client, server) = match side {
        Side::Client => (&ours, &theirs),
        Side::Server => (&theirs, &ours),
    };
    let kex = first_common(&client.kex, &server.kex, "key exchange method")?;
    let method = match kex {
        CURVE | OLD_CURVE => KexMethod::Curve25519,
        HYBRID => KexMethod::MlKem768X25519,
        _ => return Err(Error::NoCommon("key exchange method")),
    };
    let host_key = first_common(&client.host_key, &server.host_key, "kind of host key")?;
    let to_server = first_common(&client.to_server, &server.to_server, "cipher")?;
    let to_client = first_common(&client.to_client, &server.to_client, "cipher")?;
    first_common(&client.compression, &server.compression, "compression")?;
    let known = |name| Cipher::by_name(name).ok_or(Error::NoCommon("cipher"));
    let guessed_right =
        theirs.kex.first() == Some(&kex) && theirs.host_key.first() == Some(&host_key);
    Ok(Choice {
        method,
        to_server: known(to_server)?,
        to_client: known(to_client)?,
        ignore_guess: theirs.has_guessed && !guessed_right,
    })
}

struct Offer<'a> {
    kex: Vec<&'a str>,
    host_key: Vec<&'a str>,
    to_server: Vec<&'a str>,
    to_client: Vec<&'a str>,
    compression: Vec<&'a str>,
    has_guessed: bool,
}

impl<'a> Offer<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(message);
        reader.bytes(1 + COOKIE)?;
        let (kex, host_key) = (reader.names()?, reader.names()?);
        let (to_server, to_client) = (reader.names()?, reader.names()?);
        let _macs = (reader.names()?, reader.names()?);
        let mut compression = reader.names()?;
        let other_way = reader.names()?;
        compression.retain(|name| other_way.contains(name));
        let _languages = (reader.names()?, reader.names()?);
        let has_guessed = reader.boolean()?;
        reader.u32()?;
        reader.end()?;
        Ok(Self { kex, host_key, to_server, to_client, compression, has_guessed })
    }
}

/// The client's favourite among those that the server has.
fn first_common<'a>(
    client: &[&'a str],
    server: &[&str],
    what: &'static str,
) -> Result<&'a str, Error> {
    let common = client.iter().find(|name| server.contains(name));
    common.copied().ok_or(Error::NoCommon(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::*;

    fn offer_of(kex: &[&str], host_key: &[&str], cipher: &[&str], guesses: bool) -> Vec<u8> {
        let message = Writer::message(msg::KEXINIT).bytes(&[0; COOKIE]).names(kex).names(host_key);
        let message = message.names(cipher).names(cipher).names(&[]).names(&[]);
        let message = message.names(&["zlib@openssh.com", "none"]).names(&["none"]);
        message.names(&[]).names(&[]).boolean(guesses).u32(0).finish()
    }

    fn as_server(theirs: &[u8]) -> Result<Choice, Error> {
        choose(Side::Server, &offer(Side::Server, &SystemRandom::new()).unwrap(), theirs)
    }

    #[test]
    fn the_clients_order_decides() {
        let kex = ["sntrup761x25519-sha512", CURVE, HYBRID, "ext-info-c", STRICT_CLIENT];
        let ciphers = ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", CIPHERS[0]];
        let choice = as_server(&offer_of(&kex, &["rsa-sha2-512", HOST_KEY], &ciphers, false));
        let choice = choice.unwrap();
        assert_eq!(choice.method, KexMethod::Curve25519);
        assert_eq!(choice.to_server, Cipher::Aes256Gcm);
        assert!(!choice.ignore_guess);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (kex, host_key, cipher, named) in [
            ("diffie-hellman-group14-sha1", HOST_KEY, CIPHERS[0], "key exchange method"),
            (STRICT_SERVER, HOST_KEY, CIPHERS[0], "key exchange method"),
            (CURVE, "ssh-rsa", CIPHERS[0], "kind of host key"),
            (CURVE, HOST_KEY, "aes128-ctr", "cipher"),
        ] {
            let error = as_server(&offer_of(&[kex], &[host_key], &[cipher], false)).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_wrong_guess_is_ignored_and_a_right_one_is_not() {
        let guess = |kex: &[&str]| as_server(&offer_of(kex, &[HOST_KEY], &CIPHERS, true)).unwrap();
        assert!(guess(&["ecdh-sha2-nistp256", CURVE]).ignore_guess);
        assert!(!guess(&[CURVE]).ignore_guess);
    }

    #[test]
    fn both_our_sides_agree_without_the_hybrid() {
        let random = SystemRandom::new();
        let client = offer(Side::Client, &random).unwrap();
        let server = offer(Side::Server, &random).unwrap();
        let choice = choose(Side::Client, &client, &server).unwrap();
        assert_eq!(choice, choose(Side::Server, &server, &client).unwrap());
        assert_eq!(choice.method, KexMethod::Curve25519);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_offer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = as_server(&bytes);
        }
    }
}
