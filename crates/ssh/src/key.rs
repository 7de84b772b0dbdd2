//! Ed25519 keys as SSH has them (RFC 8709), and the file that OpenSSH keeps them in.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::negotiation::HOST_KEY as KIND;
use crate::wire::{Malformed, Reader, Writer};

const SEED: usize = 32;
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const LINE: usize = 70;
/// Files of keys have some four hundred bytes.
const MAX_FILE: u64 = 64 * 1024;

/// A private key.
pub struct SigningKey {
    seed: [u8; SEED],
    pair: Ed25519KeyPair,
}

/// Nothing of it may be printed.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.fingerprint())
    }
}

impl SigningKey {
    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: &[u8; SEED]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        Self { seed: *seed, pair }
    }

    /// Reads the file of a key without a passphrase, as `ssh-keygen -t ed25519` makes them too, or
    /// makes one of mode 0600. Blocks.
    ///
    /// # Errors
    /// If it cannot be read or written, or holds something else.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > MAX_FILE => Err(not_a_key()),
            Ok(_) => Self::decode(&fs::read_to_string(path)?).map_err(|Malformed| not_a_key()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut seed = [0; SEED];
        SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
        let key = Self::from_seed(&seed);
        // A half-written key must not be found by the next start.
        let temporary = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(key.encode().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(key)
    }

    fn encode(&self) -> String {
        let public = self.pair.public_key().as_ref();
        // Readers compare two numbers to see whether a passphrase was right; there is none.
        let private = Writer::default().u32(0).u32(0).string(KIND).string(public);
        let mut private = private.string([&self.seed, public].concat()).string("").finish();
        private.extend((1..).take((8 - private.len() % 8) % 8));
        let file = Writer::default().bytes(MAGIC).string("none").string("none").string("").u32(1);
        let text = STANDARD.encode(file.string(self.public_blob()).string(private).finish());
        let lines: Vec<&str> = (0..text.len())
            .step_by(LINE)
            .map(|start| &text[start..text.len().min(start + LINE)])
            .collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    fn decode(text: &str) -> Result<Self, Malformed> {
        let text = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let text: String = text.ok_or(Malformed)?.split_ascii_whitespace().collect();
        let file = STANDARD.decode(text).map_err(|_| Malformed)?;
        let mut file = Reader::new(file.strip_prefix(MAGIC).ok_or(Malformed)?);
        if (file.text()?, file.text()?, file.string()?, file.u32()?) != ("none", "none", b"", 1) {
            return Err(Malformed);
        }
        let _public = file.string()?;
        let mut private = Reader::new(file.string()?);
        file.end()?;
        if private.u32()? != private.u32()? || private.text()? != KIND {
            return Err(Malformed);
        }
        let (public, secret) = (private.string()?, private.string()?);
        let (seed, same) = secret.split_first_chunk().ok_or(Malformed)?;
        let key = Self::from_seed(seed);
        if public != same || public != key.pair.public_key().as_ref() {
            return Err(Malformed);
        }
        Ok(key)
    }

    /// The public key as it is sent.
    pub(crate) fn public_blob(&self) -> Vec<u8> {
        Writer::default().string(KIND).string(self.pair.public_key()).finish()
    }

    /// The public key as it stands in `known_hosts` and `authorized_keys`.
    pub fn public_line(&self) -> String {
        format!("{KIND} {}", STANDARD.encode(self.public_blob()))
    }

    /// As `ssh` shows it to who connects for the first time.
    pub fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, &self.public_blob());
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }

    /// A signature as it is sent.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        Writer::default().string(KIND).string(self.pair.sign(message)).finish()
    }
}

fn not_a_key() -> io::Error {
    let kind = io::ErrorKind::InvalidData;
    io::Error::new(kind, "it is not an Ed25519 key of OpenSSH without a passphrase")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::kex;

    #[test]
    fn a_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host-key");
        let made = SigningKey::open_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let found = SigningKey::open_or_create(&path).unwrap();
        assert_eq!(found.public_line(), made.public_line());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host-key");
        fs::write(&path, "precious").unwrap();
        assert!(SigningKey::open_or_create(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_signature_is_of_its_key_and_message() {
        let (key, other) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signature = key.sign(&[3; 32]);
        assert!(kex::verify(&key.public_blob(), &[3; 32], &signature).is_ok());
        assert!(kex::verify(&key.public_blob(), &[4; 32], &signature).is_err());
        assert!(kex::verify(&other.public_blob(), &[3; 32], &signature).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert!(format!("{:?}", SigningKey::from_seed(&[1; 32])).starts_with("SigningKey(SHA256:"));
    }

    proptest! {
        #[test]
        fn any_seed_survives_its_file(seed: [u8; 32]) {
            let key = SigningKey::decode(&SigningKey::from_seed(&seed).encode()).unwrap();
            prop_assert_eq!(key.seed, seed);
        }

        #[test]
        fn a_damaged_file_is_no_key(at in 0..300usize, byte in 33..127u8) {
            let mut text = SigningKey::from_seed(&[1; 32]).encode().into_bytes();
            text[at] = byte;
            if let Ok(text) = String::from_utf8(text) {
                let _ = SigningKey::decode(&text);
            }
        }
    }
}
