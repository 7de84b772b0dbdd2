//! Who is calling, and what it may touch: extractors that run before a request's body is read.
//!
//! What an endpoint takes says who may call it: [`Account`] or [`ApiKey`] an account only,
//! [`VmViewer`] and [`VmActor`] also an identity that was granted the VM of the path, [`Anyone`]
//! whoever has a credential at all.

use axum::extract::{FromRef, FromRequestParts, MatchedPath};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use freestyle_access::{Access, Caller, Credential, Lease};
use freestyle_client::wire::{IDENTITY_TOKEN_HEADER, LINUX_USER_HEADER};
use freestyle_store::{AccountId, ApiKeyId, VmId};
use freestyle_vm::LinuxUser;

use crate::error::{ApiError, Code};
use crate::path::VmPath;

/// Whoever has a credential.
#[derive(Debug)]
pub(crate) struct Anyone(pub(crate) Caller);

/// The account whose API key came with the request. An identity is refused.
#[derive(Debug)]
pub(crate) struct Account(pub(crate) AccountId);

/// As [`Account`], with the key that was used.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) account: AccountId,
    pub(crate) key: ApiKeyId,
}

/// A caller who may be told about the VM of the path, `/v1/vms/{vm_id}/...`.
#[derive(Debug)]
pub(crate) struct VmViewer {
    /// Whose VM it is.
    pub(crate) account: AccountId,
    pub(crate) vm: VmId,
}

/// A caller who may act in the VM of the path, `/v1/vms/{vm_id}/...`, as a Linux user.
#[derive(Debug)]
pub(crate) struct VmActor {
    /// Whose VM it is.
    pub(crate) account: AccountId,
    pub(crate) vm: VmId,
    /// `None` is root.
    pub(crate) user: Option<LinuxUser>,
    /// The right to do so, for as long as the call or connection lasts.
    pub(crate) lease: Lease,
}

impl VmActor {
    /// Does some work in the VM, which is given up when the right to it ends.
    pub(crate) async fn while_allowed<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, ApiError> {
        self.lease.while_held(work).await.map_err(ApiError::from_denied)
    }
}

impl<S> FromRequestParts<S> for Anyone
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let credential = credential(&parts.headers).map_err(|why| unauthorized(parts, why))?;
        let access = Access::from_ref(state);
        match access.authenticate(credential).await {
            Ok(Some(caller)) => {
                tracing::Span::current().record("caller", tracing::field::display(&caller));
                Ok(Self(caller))
            }
            Ok(None) => Err(unauthorized(parts, unknown(credential))),
            Err(error) => Err(ApiError::internal(Code::DatabaseError, &error)),
        }
    }
}

impl<S> FromRequestParts<S> for ApiKey
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Anyone(caller) = Anyone::from_request_parts(parts, state).await?;
        let (account, key) = caller.account_only().map_err(ApiError::from_denied)?;
        Ok(Self { account: account.clone(), key: key.clone() })
    }
}

impl<S> FromRequestParts<S> for Account
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let ApiKey { account, .. } = ApiKey::from_request_parts(parts, state).await?;
        Ok(Self(account))
    }
}

impl<S> FromRequestParts<S> for VmViewer
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Anyone(caller) = Anyone::from_request_parts(parts, state).await?;
        let VmPath(vm) = VmPath::from_request_parts(parts, state).await?;
        let right = Access::from_ref(state).vm_info(&caller, &vm).await;
        let right = right.map_err(ApiError::from_denied)?;
        Ok(Self { account: right.account().clone(), vm })
    }
}

impl<S> FromRequestParts<S> for VmActor
where
    S: Send + Sync,
    Access: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Anyone(caller) = Anyone::from_request_parts(parts, state).await?;
        let VmPath(vm) = VmPath::from_request_parts(parts, state).await?;
        let user = linux_user(&parts.headers)?;
        let access = Access::from_ref(state);
        let right = access.vm(&caller, &vm, user.as_ref().map(LinuxUser::as_str)).await;
        let right = right.map_err(ApiError::from_denied)?;
        Ok(Self { account: right.account().clone(), vm, user, lease: access.lease(right) })
    }
}

/// The one credential that came with a request, or why there is none.
fn credential(headers: &HeaderMap) -> Result<Credential<'_>, &'static str> {
    let mut tokens = headers.get_all(IDENTITY_TOKEN_HEADER).iter();
    let mut keys = headers.get_all(AUTHORIZATION).iter();
    match (keys.next(), tokens.next()) {
        (None, None) => Err("there is no Authorization header with an API key, and no \
                             X-Freestyle-Identity-Access-Token header"),
        // Whoever forwards the one and adds the other would be given more than was meant.
        (Some(_), Some(_)) => Err("there are both an Authorization header and an \
                                   X-Freestyle-Identity-Access-Token header; send one of them"),
        (Some(_), None) if keys.next().is_some() => {
            Err("there is more than one Authorization header")
        }
        (None, Some(_)) if tokens.next().is_some() => {
            Err("there is more than one X-Freestyle-Identity-Access-Token header")
        }
        (Some(key), None) => key
            .to_str()
            .ok()
            .and_then(bearer_credential)
            .map(Credential::ApiKey)
            .ok_or("the Authorization header is not Bearer and an API key"),
        (None, Some(token)) => token
            .to_str()
            .map(Credential::IdentityToken)
            .map_err(|_| "the X-Freestyle-Identity-Access-Token header is no access token"),
    }
}

/// The scheme's name knows no case (RFC 9110 section 11.1).
fn bearer_credential(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
}

fn unknown(credential: Credential<'_>) -> &'static str {
    match credential {
        Credential::ApiKey(_) => "the API key is unknown or was revoked",
        Credential::IdentityToken(_) => "the access token is unknown or was revoked",
    }
}

/// The Linux user a request acts as.
fn linux_user(headers: &HeaderMap) -> Result<Option<LinuxUser>, ApiError> {
    let mut named = headers.get_all(LINUX_USER_HEADER).iter();
    let Some(header) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        let message = format!("there is more than one {LINUX_USER_HEADER} header");
        return Err(ApiError::new(Code::BadRequest, message));
    }
    let name = String::from_utf8_lossy(header.as_bytes());
    LinuxUser::parse(&name).map(Some).map_err(|error| ApiError::from_vm(error, Code::BadRequest))
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

    #[test]
    fn a_user_name_that_is_none_is_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(linux_user(&headers), Ok(None));
        headers.insert(LINUX_USER_HEADER, "alice".parse().unwrap());
        assert_eq!(linux_user(&headers).unwrap().unwrap().as_str(), "alice");
        headers.append(LINUX_USER_HEADER, "bob".parse().unwrap());
        assert_eq!(linux_user(&headers).unwrap_err().code(), Code::BadRequest);
        headers.insert(LINUX_USER_HEADER, "--help".parse().unwrap());
        assert_eq!(linux_user(&headers).unwrap_err().code(), Code::BadRequest);
    }
}
