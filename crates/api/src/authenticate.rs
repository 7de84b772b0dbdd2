//! Who is calling: an extractor that runs before a request's body is read.

use axum::extract::{FromRef, FromRequestParts, MatchedPath};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use freestyle_client::wire::IDENTITY_TOKEN_HEADER;
use freestyle_store::{AccountId, Store};

use crate::error::{ApiError, Code};

/// The account whose API key came with the request.
#[derive(Debug, Clone)]
pub(crate) struct Account(pub(crate) AccountId);

impl<S> FromRequestParts<S> for Account
where
    S: Send + Sync,
    Store: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.headers.contains_key(IDENTITY_TOKEN_HEADER) {
            let reason = "identities and their access tokens are not available in this version; \
                          use an API key";
            return Err(unauthorized(parts, reason));
        }
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let Some(header) = headers.next() else {
            return Err(unauthorized(parts, "there is no Authorization header"));
        };
        if headers.next().is_some() {
            return Err(unauthorized(parts, "there is more than one Authorization header"));
        }
        let Some(key) = header.to_str().ok().and_then(bearer_credential) else {
            return Err(unauthorized(
                parts,
                "the Authorization header is not Bearer and an API key",
            ));
        };
        match Store::from_ref(state).system().authenticate_api_key(key).await {
            Ok(Some(account)) => Ok(Self(account)),
            Ok(None) => Err(unauthorized(parts, "the API key is unknown or was revoked")),
            Err(error) => Err(ApiError::internal(Code::DatabaseError, &error)),
        }
    }
}

/// The scheme's name knows no case (RFC 9110 section 11.1).
fn bearer_credential(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
}

fn unauthorized(parts: &Parts, reason: &str) -> ApiError {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let route = format!("{} {path}", parts.method);
    ApiError::new(Code::UnauthorizedError, format!("{route} needs a credential: {reason}"))
        .with("route", route)
        .with("reason", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(bearer_credential("Bearer fs_x"), Some("fs_x"));
        assert_eq!(bearer_credential("bearer  fs_x"), Some("fs_x"));
        assert_eq!(bearer_credential("Basic fs_x"), None);
        assert_eq!(bearer_credential("fs_x"), None);
    }
}
