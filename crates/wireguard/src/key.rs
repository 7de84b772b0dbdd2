//! Keys, as WireGuard writes them: 32 bytes in base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;

/// Text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard key is 32 bytes in base64, which are 44 characters")]
pub struct KeyError;

/// Who somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn curve(&self) -> x25519::PublicKey {
        self.0.into()
    }

    /// Whether there is a private key behind it. With one of the few points for which there is
    /// none, everybody could do a handshake.
    fn is_sound(&self) -> bool {
        PrivateKey::generate().0.diffie_hellman(&self.curve()).was_contributory()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = Self(decode(text)?);
        if key.is_sound() { Ok(key) } else { Err(KeyError) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// What proves it. Erased when it is dropped, never in a log.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        Self(bytes.into())
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(*x25519::PublicKey::from(&self.0).as_bytes())
    }

    /// The key as text, for a file of mode 0600 or for its owner.
    pub fn expose(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    pub(crate) fn curve(&self) -> &x25519::StaticSecret {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(decode(text)?.into()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    let bytes = STANDARD.decode(text).map_err(|_| KeyError)?;
    bytes.try_into().map_err(|_| KeyError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = PrivateKey::generate();
        let again: PrivateKey = key.expose().parse().unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(key.public_key().to_string().parse(), Ok(key.public_key()));
    }

    /// From RFC 7748, section 6.1.
    #[test]
    fn the_public_half_is_that_of_the_standard() {
        let alice = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let public = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        assert_eq!(alice.parse::<PrivateKey>().unwrap().public_key().to_string(), public);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let zero = STANDARD.encode([0; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        let good = PrivateKey::generate().public_key().to_string();
        for bad in ["", "AAAA", &zero, &STANDARD.encode(one), &good[..43], &format!("{good} ")] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError), "{bad:?}");
        }
    }

    #[test]
    fn a_private_key_is_not_logged() {
        let key = PrivateKey::generate();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }
}
