//! The keys with which the SSH gateway logs in to guests.
//!
//! Each run of a VM has its own, which follows from the run's identifier and one secret of the
//! server. So nothing has to be remembered, a server that restarts still gets in, and a VM that goes
//! on from another's memory does not let in who had the other's key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_store::InstanceId;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};

const KIND: &[u8] = b"ssh-ed25519";

/// What the keys of all runs follow from. Shows nothing of it.
#[derive(Clone)]
pub struct LoginSecret([u8; 32]);

impl LoginSecret {
    /// From 32 random bytes, the same for the life of a data directory.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of one run.
    pub(crate) fn key(&self, instance: &InstanceId) -> LoginKey {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&secret, format!("login key of {instance}").as_bytes());
        let mut seed = [0; 32];
        seed.copy_from_slice(tag.as_ref());
        LoginKey { seed }
    }
}

impl fmt::Debug for LoginSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginSecret(..)")
    }
}

/// An Ed25519 key that logs in to one run of a VM as any of its Linux users.
pub struct LoginKey {
    seed: [u8; 32],
}

impl LoginKey {
    /// The private key, as RFC 8032 has it.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public key, as a line of `authorized_keys`.
    pub(crate) fn public_line(&self) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("any 32 bytes will do");
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        let blob = [string(KIND), string(pair.public_key().as_ref())].concat();
        format!("ssh-ed25519 {} freestyle", STANDARD.encode(blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_key_of_its_own_which_is_found_again() {
        let (secret, other) = (LoginSecret::new([1; 32]), LoginSecret::new([2; 32]));
        let (run, clone) = (InstanceId::random(), InstanceId::random());
        assert_eq!(secret.key(&run).public_line(), secret.key(&run).public_line());
        assert_ne!(secret.key(&run).public_line(), secret.key(&clone).public_line());
        assert_ne!(secret.key(&run).public_line(), other.key(&run).public_line());
    }

    #[test]
    fn the_public_key_is_written_as_openssh_reads_it() {
        // RFC 8032, section 7.1, test 1.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let expected = "ssh-ed25519 \
             AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea freestyle";
        assert_eq!(LoginKey { seed }.public_line(), expected);
    }
}
