//! Path parameters, taken from the path as it was sent: the SDK percent-encodes each parameter as
//! one segment (protocol section 1), and a bad escape must be refused, not guessed at.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use freestyle_git::RepositoryId;
use freestyle_store::{
    DeliveryId, IdentityId, ParseIdError, SnapshotId, TokenId, TriggerId, VmId, VpcId,
};
use freestyle_vm::{InvalidSessionId, SessionId};
use percent_encoding::percent_decode_str;

use crate::error::{ApiError, Code, excerpt};

/// Linux takes no longer one.
const MAX_FILE_PATH_BYTES: usize = 4096;
const VM_ID_CHARS: usize = 20;
/// Ids of the first VMs were this short; they mean the id padded with zeros (protocol section 5).
const MIN_VM_ID_CHARS: usize = 5;

/// `{vm_id}` of `/v1/vms/{vm_id}/...`.
#[derive(Debug)]
pub(crate) struct VmPath(pub(crate) VmId);

impl<S: Sync> FromRequestParts<S> for VmPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(3).unwrap_or_default();
        parse_vm_id(segment).map(Self)
    }
}

/// `{vpc_id}` of `/v1/vpcs/{vpc_id}/...`. What is not the id of a VPC is unknown.
#[derive(Debug)]
pub(crate) struct VpcPath(pub(crate) VpcId);

impl<S: Sync> FromRequestParts<S> for VpcPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(3).unwrap_or_default();
        segment.parse().map(Self).map_err(|_| {
            ApiError::new(Code::NotFound, format!("there is no VPC {}", excerpt(segment)))
        })
    }
}

/// `{snapshot_id}` of `/v1/vms/snapshots/{snapshot_id}`.
#[derive(Debug)]
pub(crate) struct SnapshotPath(pub(crate) SnapshotId);

impl<S: Sync> FromRequestParts<S> for SnapshotPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        parse_snapshot_id(segment).map(Self)
    }
}

/// `{identity}` of `/identity/v1/identities/{identity}/...`. What is not the id of an identity is
/// unknown.
#[derive(Debug)]
pub(crate) struct IdentityPath(pub(crate) IdentityId);

impl<S: Sync> FromRequestParts<S> for IdentityPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        segment.parse().map(Self).map_err(|_| {
            let message = format!("there is no identity {}", excerpt(segment));
            ApiError::new(Code::IdentityNotFound, message)
        })
    }
}

/// `{token}` of `/identity/v1/identities/{identity}/tokens/{token}`. What is not the id of a token is
/// unknown; a token itself may be among it, and is not repeated.
#[derive(Debug)]
pub(crate) struct TokenPath(pub(crate) TokenId);

impl<S: Sync> FromRequestParts<S> for TokenPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(6).unwrap_or_default();
        segment.parse().map(Self).map_err(|error: ParseIdError| {
            let message = format!("the identity has no such token: {error}");
            ApiError::new(Code::NotFound, message)
        })
    }
}

/// `{vm_id}` of `/identity/v1/identities/{identity}/permissions/vm/{vm_id}`.
#[derive(Debug)]
pub(crate) struct GrantedVmPath(pub(crate) VmId);

impl<S: Sync> FromRequestParts<S> for GrantedVmPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(7).unwrap_or_default();
        parse_vm_id(segment).map(Self)
    }
}

/// `{repo}` of `/identity/v1/identities/{identity}/permissions/git/{repo}`, as it was sent, up to a
/// length that no id of a repository has; none needs an escape either.
#[derive(Debug)]
pub(crate) struct GrantedRepositoryPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for GrantedRepositoryPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(7).unwrap_or_default();
        Ok(Self(excerpt(segment)))
    }
}

/// `{session_id}` of `/v1/vms/{vm_id}/pty/sessions/{session_id}`.
#[derive(Debug)]
pub(crate) struct PtySessionPath(pub(crate) SessionId);

impl<S: Sync> FromRequestParts<S> for PtySessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(6).unwrap_or_default();
        let text = decode(segment).map_err(|_| invalid_session_id(segment))?;
        parse_session_id(&text).map(Self)
    }
}

/// `{domain}` of `/domains/v1/mappings/{domain}` and `/domains/v1/certs/{domain}/...`, decoded.
#[derive(Debug)]
pub(crate) struct DomainPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for DomainPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        decode(segment).map(Self).map_err(|reason| {
            let domain = excerpt(segment);
            ApiError::new(Code::InvalidDomain, format!("{domain:?} is no domain: {reason}"))
                .with("domain", domain)
        })
    }
}

/// `{request_id}` of `/auth/v1/background-requests/{request_id}`, as it was sent: whatever is not
/// the id of a request is unknown.
#[derive(Debug)]
pub(crate) struct RequestPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for RequestPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        Ok(Self(segment.to_owned()))
    }
}

/// `{filepath}` of `/v1/vms/{vm_id}/files/{filepath}`, and everything behind it.
#[derive(Debug)]
pub(crate) struct FilePath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for FilePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let rest = parts.uri.path().splitn(6, '/').nth(5).unwrap_or_default();
        parse_file_path(rest).map(Self)
    }
}

/// `{repo}` of `/git/v1/repo/{repo}/...`.
#[derive(Debug)]
pub(crate) struct RepoPath(pub(crate) RepositoryId);

impl<S: Sync> FromRequestParts<S> for RepoPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(4).unwrap_or_default();
        parse_repository_id(segment).map(Self)
    }
}

/// What follows `/git/v1/repo/{repo}/contents/`: a path in a repository, empty for its root.
#[derive(Debug)]
pub(crate) struct ContentsPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for ContentsPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let rest = parts.uri.path().splitn(7, '/').nth(6).unwrap_or_default();
        parse_git_name(rest, "path").map(Self)
    }
}

/// What follows `/git/v1/repo/{repo}/git/{kind}/`: the id of an object.
#[derive(Debug)]
pub(crate) struct HashPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for HashPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let rest = parts.uri.path().splitn(8, '/').nth(7).unwrap_or_default();
        parse_git_name(rest, "object id").map(Self)
    }
}

/// What follows `/git/v1/repo/{repo}/git/refs/{kind}/`: the name of a branch or tag.
#[derive(Debug)]
pub(crate) struct RefPath(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for RefPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let rest = parts.uri.path().splitn(9, '/').nth(8).unwrap_or_default();
        parse_git_name(rest, "name").map(Self)
    }
}

/// `{trigger}` of `/git/v1/repo/{repo}/trigger/{trigger}`.
#[derive(Debug)]
pub(crate) struct TriggerPath(pub(crate) TriggerId);

impl<S: Sync> FromRequestParts<S> for TriggerPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(6).unwrap_or_default();
        parse_id(segment, "trigger").map(Self)
    }
}

/// `{delivery}` of `/git/v1/repo/{repo}/trigger/{trigger}/deliveries/{delivery}/redeliver`.
#[derive(Debug)]
pub(crate) struct DeliveryPath(pub(crate) DeliveryId);

impl<S: Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(8).unwrap_or_default();
        parse_id(segment, "delivery").map(Self)
    }
}

/// What is no id at all is answered like one that does not exist.
fn parse_id<T: FromStr>(segment: &str, what: &str) -> Result<T, ApiError> {
    let parsed = decode(segment).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        ApiError::new(Code::NotFound, format!("there is no {what} {:?}", excerpt(segment)))
    })
}

/// What is no id at all is answered like one that does not exist.
fn parse_repository_id(segment: &str) -> Result<RepositoryId, ApiError> {
    let parsed = decode(segment).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| ApiError::repository_not_found(&excerpt(segment)))
}

/// A text that git judges; `what` it is called in messages.
fn parse_git_name(rest: &str, what: &str) -> Result<String, ApiError> {
    decode(rest).map_err(|reason| {
        let message = format!("bad {what} {:?}: {reason}", excerpt(rest));
        ApiError::new(Code::GitInvalidRequest, message)
    })
}

fn parse_vm_id(segment: &str) -> Result<VmId, ApiError> {
    let invalid = |details: String| {
        let vm = excerpt(segment);
        ApiError::new(Code::InvalidVmId, format!("{vm:?} is not the id of a VM: {details}"))
            .with("vmId", vm)
            .with("details", details)
    };
    let text = decode(segment).map_err(|reason| invalid(reason.to_owned()))?;
    let padded = match text.len() {
        MIN_VM_ID_CHARS..VM_ID_CHARS => format!("{text:0<VM_ID_CHARS$}"),
        _ => text,
    };
    padded.parse().map_err(|error: ParseIdError| invalid(error.to_string()))
}

fn parse_snapshot_id(segment: &str) -> Result<SnapshotId, ApiError> {
    let invalid = |details: String| {
        let snapshot = excerpt(segment);
        let message = format!("{snapshot:?} is not the id of a snapshot: {details}");
        ApiError::new(Code::InvalidSnapshotId, message)
    };
    let text = decode(segment).map_err(|reason| invalid(reason.to_owned()))?;
    text.parse().map_err(|error: ParseIdError| invalid(error.to_string()))
}

pub(crate) fn parse_session_id(text: &str) -> Result<SessionId, ApiError> {
    text.parse().map_err(|_| invalid_session_id(text))
}

fn invalid_session_id(text: &str) -> ApiError {
    let session = excerpt(text);
    ApiError::new(Code::InvalidSessionId, format!("{session:?}: {InvalidSessionId}"))
        .with("sessionId", session)
}

fn parse_file_path(rest: &str) -> Result<String, ApiError> {
    let bad =
        |reason: &str| ApiError::new(Code::FilesBadRequest, format!("bad file path: {reason}"));
    let path = decode(rest).map_err(bad)?;
    if path.is_empty() {
        return Err(bad("it is empty"));
    }
    if path.len() > MAX_FILE_PATH_BYTES {
        return Err(bad("it is longer than 4096 bytes"));
    }
    if path.contains('\0') {
        return Err(bad("it holds a NUL byte"));
    }
    Ok(path)
}

/// Percent-decodes strictly.
fn decode(text: &str) -> Result<String, &'static str> {
    let escapes_are_whole = text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes().take(2);
        digits.len() == 2 && digits.all(|digit| digit.is_ascii_hexdigit())
    });
    if !escapes_are_whole {
        return Err("a percent sign is not followed by two hexadecimal digits");
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "it is not valid UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_ids_are_20_characters_or_padded_to_that() {
        let id = |text| parse_vm_id(text).map(String::from);
        assert_eq!(id("abcdefghij0123456789").unwrap(), "abcdefghij0123456789");
        assert_eq!(id("abcde").unwrap(), "abcde000000000000000");
        assert_eq!(id("%61bcde").unwrap(), "abcde000000000000000");
        for bad in [
            "",
            "abcd",
            "ABCDEFGHIJ0123456789",
            "abcdefghij01234567890",
            "a/b",
            "%2e%2e",
            "%zz",
            "\u{e9}bcdef",
        ] {
            let error = parse_vm_id(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidVmId, "{bad}");
            let body = error.into_body();
            assert!(body.fields.contains_key("vmId") && body.fields.contains_key("details"));
        }
    }

    #[test]
    fn snapshot_ids_are_parsed_strictly() {
        let id = |text| parse_snapshot_id(text).map(String::from);
        assert_eq!(id("sc-abcdefghij0123456789").unwrap(), "sc-abcdefghij0123456789");
        assert_eq!(id("s%63-abcdefghij0123456789").unwrap(), "sc-abcdefghij0123456789");
        for bad in ["", "sc-", "abcdefghij0123456789", "sc-abcdefghij012345678%", "sc-%00", "%2f"] {
            assert_eq!(id(bad).unwrap_err().code(), Code::InvalidSnapshotId, "{bad}");
        }
    }

    #[test]
    fn session_ids_are_parsed_strictly() {
        assert_eq!(parse_session_id("my.session_1-a").unwrap().as_str(), "my.session_1-a");
        for bad in ["", "a b", "a/b", "\u{e9}", &"x".repeat(65)] {
            let error = parse_session_id(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSessionId, "{bad}");
            assert!(error.into_body().fields.contains_key("sessionId"));
        }
    }

    #[test]
    fn file_paths_are_decoded_once_and_strictly() {
        assert_eq!(parse_file_path("%2Fsrv%2Fa%20b").unwrap(), "/srv/a b");
        assert_eq!(parse_file_path("a%2Fb").unwrap(), "a/b");
        assert_eq!(parse_file_path("srv/a").unwrap(), "srv/a");
        assert_eq!(parse_file_path("/srv/a").unwrap(), "/srv/a");
        assert_eq!(parse_file_path("100%25").unwrap(), "100%");
        assert_eq!(parse_file_path("%2525").unwrap(), "%25");
        assert_eq!(parse_file_path("a+b").unwrap(), "a+b");
        for bad in ["", "%", "%2", "%zz", "%+1", "%ff", "a%00b", &"a".repeat(4097)] {
            assert_eq!(parse_file_path(bad).unwrap_err().code(), Code::FilesBadRequest, "{bad}");
        }
    }
}
