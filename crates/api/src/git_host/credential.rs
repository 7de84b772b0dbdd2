//! What a git client presents: `Authorization: Basic` with an API key or an identity's token as its
//! password, whatever the user name, or `Authorization: Bearer` with either.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_access::{Access, Caller, Credential};

use super::refusal::Refusal;

/// How an identity's token begins; everything else is taken for an API key.
const TOKEN_PREFIX: &str = "fsi_";

/// Who is calling; `None` is somebody without a credential.
pub(super) async fn caller(
    access: &Access,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::bad_request("there is more than one Authorization header"));
    }
    let secret = value.to_str().ok().and_then(secret);
    let secret = secret.ok_or_else(|| Refusal::bad_credential("it cannot be read"))?;
    let credential = match secret.starts_with(TOKEN_PREFIX) {
        true => Credential::IdentityToken(&secret),
        false => Credential::ApiKey(&secret),
    };
    match access.authenticate(credential).await {
        Ok(Some(caller)) => Ok(Some(caller)),
        Ok(None) => Err(Refusal::bad_credential("it is unknown or was revoked")),
        Err(error) => Err(Refusal::failed(&error)),
    }
}

/// The secret in a header. The scheme's name knows no case (RFC 9110 section 11.1).
fn secret(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_the_password_or_what_is_borne() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (header, expected) in [
            ("Bearer fs_x".to_owned(), Some("fs_x")),
            ("bearer  fs_x ".to_owned(), Some("fs_x")),
            (basic("x-access-token:fsi_x"), Some("fsi_x")),
            (basic(":fsi_x"), Some("fsi_x")),
            (basic("a:b:c"), Some("b:c")),
            (basic("fsi_x"), None),
            ("Basic ???".to_owned(), None),
            ("Digest fs_x".to_owned(), None),
            ("fs_x".to_owned(), None),
        ] {
            assert_eq!(secret(&header).as_deref(), expected, "{header}");
        }
    }
}
