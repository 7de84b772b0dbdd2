//! The credentials of a GitHub App: the token by which the app says who it is, and the proof that a
//! webhook comes from GitHub.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use crate::GitHubError;

/// GitHub refuses tokens that are good for more than ten minutes; clocks may differ by one.
const VALID_SECONDS: u64 = 9 * 60;
const CLOCK_SECONDS: u64 = 60;

/// The private key of an app, as GitHub gives it out: RSA, in PEM.
pub(crate) struct AppKey(KeyPair);

impl AppKey {
    pub(crate) fn parse(pem: &str) -> Result<Self, GitHubError> {
        let invalid = |_| GitHubError::Invalid("the private key is not an RSA key in PEM");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| invalid(()))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(invalid(())),
        };
        pair.map(Self).map_err(|_| invalid(()))
    }

    /// The app's own token.
    pub(crate) fn token(&self, app_id: &str) -> Result<String, GitHubError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": app_id,
            "iat": now.saturating_sub(CLOCK_SECONDS),
            "exp": now + VALID_SECONDS,
        });
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| GitHubError::Internal("the private key cannot sign".to_owned()))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Whether a body was signed with the secret. `signature` is the header `X-Hub-Signature-256`.
pub(crate) fn is_signed(secret: &str, body: &[u8], signature: &str) -> bool {
    let Some(digits) = signature.strip_prefix("sha256=") else { return false };
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    });
    let Some(tag) = bytes.collect::<Option<Vec<u8>>>() else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, body, &tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_proved_by_its_signature() {
        // The example of GitHub's documentation.
        let secret = "It's a Secret to Everybody";
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(is_signed(secret, b"Hello, World!", signature));
        for (secret, body, signature) in [
            ("another", &b"Hello, World!"[..], signature),
            (secret, b"Hello, World?", signature),
            (secret, b"Hello, World!", &signature[..60]),
            (secret, b"Hello, World!", "sha256="),
            (secret, b"Hello, World!", "sha1=757107ea"),
            (secret, b"Hello, World!", "sha256=+57107ea0eb2509f"),
            (secret, b"Hello, World!", ""),
        ] {
            assert!(!is_signed(secret, body, signature), "{signature}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in
            ["", "key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"]
        {
            assert!(matches!(AppKey::parse(bad), Err(GitHubError::Invalid(_))), "{bad}");
        }
    }
}
