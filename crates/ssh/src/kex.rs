//! Agreement on a secret, the server's proof of who it is, and the keys that follow from both
//! (RFC 4253 sections 7.2 and 8, RFC 5656 section 4, RFC 8731).

use ml_kem::ml_kem_768;
use ml_kem::{Encapsulate, TryKeyInit};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use ring::digest::{self, SHA256};
use ring::rand::SystemRandom;
use ring::signature::{self, ED25519};

use crate::cipher::{Cipher, Opener, Sealer};
use crate::error::Error;
use crate::negotiation::{Choice, HOST_KEY, KexMethod, Side};
use crate::wire::{Reader, Writer};

/// The hash of everything that was said until the secret was known.
pub(crate) type Hash = [u8; 32];

const X25519_KEY: usize = 32;
const MLKEM_KEY: usize = 1184;

const BAD_KEY: Error = Error::Protocol("a public key is not one");
const NO_RANDOM: Error = Error::Protocol("there are no random numbers");

/// The secret, encoded as it goes into hashes: a number, or the string that the hybrid makes of it.
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    fn number(bytes: &[u8]) -> Self {
        Self(Writer::default().mpint(bytes).finish())
    }

    fn string(bytes: &[u8]) -> Self {
        Self(Writer::default().string(bytes).finish())
    }
}

/// A server's half: answers a client's public key with its own.
pub(crate) fn respond(method: KexMethod, client: &[u8]) -> Result<(Vec<u8>, Secret), Error> {
    match method {
        KexMethod::Curve25519 => {
            let (public, private) = curve_pair()?;
            let secret = curve_secret(private, client, Secret::number)?;
            Ok((public, secret))
        }
        KexMethod::MlKem768X25519 => {
            let (client_kem, client_curve) = client.split_at_checked(MLKEM_KEY).ok_or(BAD_KEY)?;
            let kem = ml_kem_768::EncapsulationKey::new_from_slice(client_kem);
            let (ciphertext, kem_secret) = kem.map_err(|_| BAD_KEY)?.encapsulate();
            let (public, private) = curve_pair()?;
            let secret = curve_secret(private, client_curve, |curve_secret| {
                let both = [kem_secret.as_slice(), curve_secret].concat();
                Secret::string(digest::digest(&SHA256, &both).as_ref())
            })?;
            Ok(([ciphertext.as_slice(), &public].concat(), secret))
        }
    }
}

/// A client's half, which knows X25519 alone ([`Side::Client`] offers nothing else).
pub(crate) struct ClientHalf {
    private: EphemeralPrivateKey,
    pub(crate) public: Vec<u8>,
}

impl ClientHalf {
    pub(crate) fn new() -> Result<Self, Error> {
        let (public, private) = curve_pair()?;
        Ok(Self { private, public })
    }

    pub(crate) fn finish(self, server: &[u8]) -> Result<Secret, Error> {
        curve_secret(self.private, server, Secret::number)
    }
}

fn curve_pair() -> Result<(Vec<u8>, EphemeralPrivateKey), Error> {
    let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new());
    let private = private.map_err(|_| NO_RANDOM)?;
    let public = private.compute_public_key().map_err(|_| NO_RANDOM)?;
    Ok((public.as_ref().to_vec(), private))
}

fn curve_secret(
    private: EphemeralPrivateKey,
    peer: &[u8],
    encode: impl FnOnce(&[u8]) -> Secret,
) -> Result<Secret, Error> {
    if peer.len() != X25519_KEY {
        return Err(BAD_KEY);
    }
    // Refuses keys that would make the secret zero.
    agreement::agree_ephemeral(private, &UnparsedPublicKey::new(&X25519, peer), encode)
        .map_err(|_| BAD_KEY)
}

/// What both sides have said.
pub(crate) struct Transcript<'a> {
    pub(crate) client_id: &'a [u8],
    pub(crate) server_id: &'a [u8],
    pub(crate) client_offer: &'a [u8],
    pub(crate) server_offer: &'a [u8],
    pub(crate) host_key: &'a [u8],
    pub(crate) client_public: &'a [u8],
    pub(crate) server_public: &'a [u8],
}

impl Transcript<'_> {
    pub(crate) fn hash(&self, secret: &Secret) -> Hash {
        let said = Writer::default()
            .string(self.client_id)
            .string(self.server_id)
            .string(self.client_offer)
            .string(self.server_offer)
            .string(self.host_key)
            .string(self.client_public)
            .string(self.server_public)
            .bytes(&secret.0);
        sha256(&said.finish())
    }
}

/// Checks a server's signature of the hash with the key that it claims to have.
pub(crate) fn verify(host_key: &[u8], hash: &Hash, signature: &[u8]) -> Result<(), Error> {
    let mut key = Reader::new(host_key);
    let mut proof = Reader::new(signature);
    if key.text()? != HOST_KEY || proof.text()? != HOST_KEY {
        return Err(Error::NoCommon("kind of host key"));
    }
    let (public, bytes) = (key.string()?, proof.string()?);
    key.end()?;
    proof.end()?;
    signature::UnparsedPublicKey::new(&ED25519, public)
        .verify(hash, bytes)
        .map_err(|_| Error::Protocol("the server does not have the host key that it shows"))
}

/// The ciphers of both directions (RFC 4253 section 7.2).
pub(crate) struct Keys {
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
}

impl Keys {
    pub(crate) fn derive(
        side: Side,
        choice: &Choice,
        secret: &Secret,
        hash: &Hash,
        session: &Hash,
    ) -> Self {
        let derive = |letter: u8| -> Hash {
            let input = Writer::default().bytes(&secret.0).bytes(hash).byte(letter).bytes(session);
            sha256(&input.finish())
        };
        let keyed = |cipher: Cipher, iv: u8, key: u8| {
            let mut nonce = [0; 12];
            nonce.copy_from_slice(&derive(iv)[..12]);
            (cipher, derive(key), nonce)
        };
        let to_server = keyed(choice.to_server, b'A', b'C');
        let to_client = keyed(choice.to_client, b'B', b'D');
        let (sealing, opening) = match side {
            Side::Client => (to_server, to_client),
            Side::Server => (to_client, to_server),
        };
        let ((cipher, key, nonce), (peer_cipher, peer_key, peer_nonce)) = (sealing, opening);
        Self {
            sealer: Sealer::new(cipher, &key[..cipher.key_length()], nonce),
            opener: Opener::new(peer_cipher, &peer_key[..peer_cipher.key_length()], peer_nonce),
        }
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    let digest = digest::digest(&SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use ml_kem::kem::{Decapsulate, KeyExport};
    use ml_kem::{Kem, MlKem768};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_sides_of_x25519_have_the_same_secret() {
        let client = ClientHalf::new().unwrap();
        let (server, secret) = respond(KexMethod::Curve25519, &client.public).unwrap();
        assert_eq!(client.finish(&server).unwrap().0, secret.0);
    }

    #[test]
    fn both_sides_of_the_hybrid_have_the_same_secret() {
        let (private_kem, public_kem) = MlKem768::generate_keypair();
        let (public_curve, private_curve) = curve_pair().unwrap();
        let client = [public_kem.to_bytes().as_slice(), &public_curve].concat();
        let (server, secret) = respond(KexMethod::MlKem768X25519, &client).unwrap();

        let (ciphertext, server_curve) = server.split_at(server.len() - X25519_KEY);
        let kem_secret = private_kem.decapsulate_slice(ciphertext).unwrap();
        let ours = curve_secret(private_curve, server_curve, |curve_secret| {
            Secret::string(&sha256(&[kem_secret.as_slice(), curve_secret].concat()))
        });
        assert_eq!(ours.unwrap().0, secret.0);
    }

    #[test]
    fn a_key_that_would_make_the_secret_known_is_refused() {
        assert!(respond(KexMethod::Curve25519, &[0; X25519_KEY]).is_err());
        assert!(ClientHalf::new().unwrap().finish(&[0; X25519_KEY]).is_err());
        let (_, public_kem) = MlKem768::generate_keypair();
        let client = [public_kem.to_bytes().as_slice(), &[0; X25519_KEY]].concat();
        assert!(respond(KexMethod::MlKem768X25519, &client).is_err());
        // Its numbers are not reduced.
        assert!(respond(KexMethod::MlKem768X25519, &[0xff; MLKEM_KEY + X25519_KEY]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let _ = respond(KexMethod::Curve25519, &bytes);
            let _ = respond(KexMethod::MlKem768X25519, &bytes);
            let _ = verify(&bytes, &[0; 32], &bytes);
        }
    }
}
