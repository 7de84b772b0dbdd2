//! Packets (RFC 4253 section 6), sealed with AES-GCM (RFC 5647 with OpenSSH's negotiation).
//!
//! Only AES-GCM: every OpenSSH since 6.2 has it, both ends have it in hardware mostly, and where the
//! guest's CPU is emulated it still costs a quarter less than ChaCha20-Poly1305. As its nonce is a
//! counter of its own, an attacker on the wire gains nothing by dropping or injecting packets of the
//! first key exchange, as with other ciphers (Terrapin, CVE-2023-48795).

use bytes::{Buf, BytesMut};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

use crate::error::Error;

const LENGTH: usize = 4;
const MIN_PADDING: usize = 4;
/// Block size of AES; packets without a cipher are padded to it as well, which is always allowed.
const BLOCK: usize = 16;
const TAG: usize = 16;
/// Bytes and packets under one key after which it is not used any more. Peers renew their keys
/// much earlier (OpenSSH after 64 GiB); this ends a connection to one that never does.
const MAX_BYTES: u64 = 1 << 38;
const MAX_PACKETS: u64 = 1 << 31;

/// A cipher that is negotiated by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
}

impl Cipher {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "aes128-gcm@openssh.com" => Some(Self::Aes128Gcm),
            "aes256-gcm@openssh.com" => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    pub(crate) fn key_length(self) -> usize {
        self.algorithm().key_len()
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// The key of one direction and how much it was used.
struct Key {
    key: LessSafeKey,
    /// Four fixed bytes, then a counter of packets.
    fixed: [u8; 4],
    counter: u64,
    packets: u64,
    bytes: u64,
}

impl Key {
    fn new(cipher: Cipher, key: &[u8], iv: [u8; 12]) -> Self {
        let key =
            UnboundKey::new(cipher.algorithm(), key).expect("the key has the cipher's length");
        let (fixed, counter) = iv.split_first_chunk().expect("12 bytes are more than 4");
        let counter = counter.try_into().expect("12 bytes without 4 are 8");
        Self {
            key: LessSafeKey::new(key),
            fixed: *fixed,
            counter: u64::from_be_bytes(counter),
            packets: 0,
            bytes: 0,
        }
    }

    /// A nonce that was never used with this key.
    fn next_nonce(&mut self, bytes: usize) -> Result<Nonce, Error> {
        self.packets += 1;
        self.bytes += bytes as u64;
        if self.packets > MAX_PACKETS || self.bytes > MAX_BYTES {
            return Err(Error::Protocol("the peer never renewed the keys"));
        }
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Makes packets of payloads. Until it has a key they are in the clear.
#[derive(Default)]
pub(crate) struct Sealer {
    key: Option<Key>,
}

impl Sealer {
    pub(crate) fn new(cipher: Cipher, key: &[u8], iv: [u8; 12]) -> Self {
        Self { key: Some(Key::new(cipher, key, iv)) }
    }

    /// Appends a packet.
    pub(crate) fn seal(&mut self, payload: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        // The length is not part of what is encrypted, but of what is padded if nothing is.
        let header = if self.key.is_some() { 1 } else { LENGTH + 1 };
        let padding =
            MIN_PADDING + (BLOCK - (header + payload.len() + MIN_PADDING) % BLOCK) % BLOCK;
        let length = 1 + payload.len() + padding;
        let length_field = u32::try_from(length).expect("payloads are bounded").to_be_bytes();
        out.reserve(LENGTH + length + TAG);
        out.extend_from_slice(&length_field);
        let start = out.len();
        out.extend_from_slice(
            &[u8::try_from(padding).expect("padding is shorter than two blocks")],
        );
        out.extend_from_slice(payload);
        // With an AEAD nothing depends on its being random.
        out.resize(start + length, 0);
        if let Some(key) = &mut self.key {
            let nonce = key.next_nonce(length)?;
            let sealed = key.key.seal_in_place_separate_tag(
                nonce,
                Aad::from(length_field),
                &mut out[start..],
            );
            let tag = sealed.map_err(|_| Error::Protocol("a packet is too long to be sealed"))?;
            out.extend_from_slice(tag.as_ref());
        }
        Ok(())
    }
}

/// Makes payloads of packets. Until it has a key they must be in the clear.
#[derive(Default)]
pub(crate) struct Opener {
    key: Option<Key>,
}

impl Opener {
    pub(crate) fn new(cipher: Cipher, key: &[u8], iv: [u8; 12]) -> Self {
        Self { key: Some(Key::new(cipher, key, iv)) }
    }

    /// Takes the first packet out of `input`; `None` if it is not there as a whole. A length above
    /// `max_length` is an error, so that nobody can make us wait for more than that.
    pub(crate) fn open(
        &mut self,
        input: &mut BytesMut,
        max_length: usize,
    ) -> Result<Option<BytesMut>, Error> {
        let Some(length_field) = input.first_chunk::<LENGTH>().copied() else { return Ok(None) };
        let length = u32::from_be_bytes(length_field) as usize;
        let (is_aligned, tag) = match self.key {
            Some(_) => (length.is_multiple_of(BLOCK), TAG),
            None => ((LENGTH + length).is_multiple_of(8), 0),
        };
        if length > max_length || length < 1 + MIN_PADDING || !is_aligned {
            return Err(Error::Protocol("a packet has an impossible length"));
        }
        if input.len() < LENGTH + length + tag {
            return Ok(None);
        }
        let mut packet = input.split_to(LENGTH + length + tag);
        packet.advance(LENGTH);
        if let Some(key) = &mut self.key {
            let nonce = key.next_nonce(length)?;
            let opened = key.key.open_in_place(nonce, Aad::from(length_field), &mut packet);
            opened.map_err(|_| Error::Protocol("a packet was changed on its way"))?;
            packet.truncate(length);
        }
        let padding = usize::from(packet[0]);
        if padding < MIN_PADDING || padding + 1 >= length {
            return Err(Error::Protocol("a packet is empty"));
        }
        packet.truncate(length - padding);
        packet.advance(1);
        Ok(Some(packet))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;
    const IV: [u8; 12] = [1, 2, 3, 4, 255, 255, 255, 255, 255, 255, 255, 255];

    fn pair(encrypted: bool) -> (Sealer, Opener) {
        let (cipher, key) = (Cipher::Aes256Gcm, [7; 32]);
        if encrypted {
            (Sealer::new(cipher, &key, IV), Opener::new(cipher, &key, IV))
        } else {
            (Sealer::default(), Opener::default())
        }
    }

    fn sealed(sealer: &mut Sealer, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        sealer.seal(payload, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn packets_arrive_as_they_were_sent(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..5),
            encrypted: bool,
            cut in 1..50usize,
        ) {
            let (mut sealer, mut opener) = pair(encrypted);
            let mut wire = BytesMut::new();
            for payload in &payloads {
                sealer.seal(payload, &mut wire).unwrap();
            }
            let (mut input, mut received) = (BytesMut::new(), Vec::new());
            while !wire.is_empty() {
                input.extend_from_slice(&wire.split_to(cut.min(wire.len())));
                while let Some(payload) = opener.open(&mut input, MAX).unwrap() {
                    received.push(payload.to_vec());
                }
            }
            prop_assert_eq!(received, payloads);
        }

        #[test]
        fn a_changed_byte_is_noticed(at in 0..64usize, change in 1..=255u8) {
            let (mut sealer, mut opener) = pair(true);
            let mut wire = sealed(&mut sealer, b"rm -r build; echo done, and so on");
            let at = at % wire.len();
            wire[at] ^= change;
            // A length that grew may also make it wait for more.
            prop_assert!(matches!(opener.open(&mut wire, MAX), Err(_) | Ok(None)));
        }

        #[test]
        fn garbage_is_an_error_or_waited_for(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            encrypted: bool,
        ) {
            let (_, mut opener) = pair(encrypted);
            let _ = opener.open(&mut BytesMut::from(&bytes[..]), MAX);
        }
    }

    #[test]
    fn a_packet_is_accepted_once_and_in_its_turn() {
        let (mut sealer, mut opener) = pair(true);
        let (first, second) = (sealed(&mut sealer, b"first"), sealed(&mut sealer, b"second"));
        assert!(opener.open(&mut second.clone(), MAX).is_err());

        let (_, mut opener) = pair(true);
        assert_eq!(&opener.open(&mut first.clone(), MAX).unwrap().unwrap()[..], b"first");
        assert!(opener.open(&mut first.clone(), MAX).is_err());
    }

    #[test]
    fn a_longer_packet_than_allowed_is_refused_at_its_first_bytes() {
        let (mut sealer, mut opener) = pair(true);
        let wire = sealed(&mut sealer, &[0; MAX]);
        assert!(opener.open(&mut BytesMut::from(&wire[..LENGTH]), MAX).is_err());
    }

    #[test]
    fn a_key_is_not_used_for_ever() {
        let (mut sealer, _) = pair(true);
        sealer.key.as_mut().unwrap().packets = MAX_PACKETS;
        assert!(sealer.seal(b"one more", &mut BytesMut::new()).is_err());
        let (mut sealer, _) = pair(true);
        sealer.key.as_mut().unwrap().bytes = MAX_BYTES;
        assert!(sealer.seal(b"one more", &mut BytesMut::new()).is_err());
    }
}
