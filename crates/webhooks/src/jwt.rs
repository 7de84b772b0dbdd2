//! JSON Web Tokens (RFC 7519), as far as they are needed here: claims in, a signed token out.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;

use crate::keys::Key;

/// What a token says.
#[derive(Debug, Serialize)]
pub(crate) struct Claims<'a> {
    /// Who sends.
    pub(crate) iss: &'a str,
    /// The trigger.
    pub(crate) sub: &'a str,
    /// The delivery.
    pub(crate) jti: &'a str,
    /// Unix seconds, as is `exp`.
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    /// SHA-256 of the body, in hex.
    pub(crate) body_sha256: String,
}

/// The token in its compact form.
pub(crate) fn sign(key: &Key, claims: &Claims<'_>) -> String {
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": key.id });
    let claims = serde_json::to_vec(claims).expect("claims have string keys");
    let message = format!("{}.{}", part(header.to_string().into_bytes()), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}
