//! How the git host says no: a status, and a line or two for people.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use freestyle_access::Denied;
use freestyle_git::GitError;
use freestyle_repos::ReposError;

/// What the client is told instead of what it asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, header: None, message: message.into() }
    }

    /// Has git ask its credential helpers, or the user.
    fn unauthorized(message: String) -> Self {
        let challenge = HeaderValue::from_static("Basic realm=\"freestyle\", charset=\"UTF-8\"");
        let header = Some((WWW_AUTHENTICATE, challenge));
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// Nothing was presented, and something is needed.
    pub(super) fn no_credential() -> Self {
        Self::unauthorized(
            "A credential is needed: user x-access-token with an identity's token or an API key as \
             its password."
                .to_owned(),
        )
    }

    /// What was presented opens nothing.
    pub(super) fn bad_credential(reason: &str) -> Self {
        Self::unauthorized(format!("The credential is not accepted: {reason}."))
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("The request is not understood: {message}."))
    }

    pub(super) fn unsupported_body(message: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// For a caller with a credential: there is no such repository, or none for them.
    pub(super) fn no_such_repository() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is no such repository, or it was not granted to you.\nThe path of a repository \
             is its id alone; `freestyle git list` shows them.",
        )
    }

    fn read_only() -> Self {
        Self::new(StatusCode::FORBIDDEN, "You may read this repository, and not push to it.")
    }

    pub(super) fn no_dumb_protocol() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Files of repositories are not served: git 1.6.6 or newer is needed.",
        )
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is nothing here. Git repositories are: git clone <this server>/<id of a \
             repository>",
        )
    }

    /// A failure whose cause is not the client's business and goes to the log.
    pub(super) fn failed(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server failed; its log has the cause under this answer's trace id.",
        )
    }

    /// Why the caller, if there is one, may not.
    pub(super) fn denied(denied: Denied, has_credential: bool) -> Self {
        match denied {
            Denied::Store(error) => Self::failed(&error),
            _ if !has_credential => Self::no_credential(),
            Denied::ReadOnly(_) => Self::read_only(),
            _ => Self::no_such_repository(),
        }
    }
}

impl From<ReposError> for Refusal {
    fn from(error: ReposError) -> Self {
        match error {
            // Deleted since it was found.
            ReposError::NotFound(_) => Self::no_such_repository(),
            ReposError::Git(error) => error.into(),
            error => Self::failed(&error),
        }
    }
}

impl From<GitError> for Refusal {
    fn from(error: GitError) -> Self {
        match &error {
            GitError::RepositoryNotFound(_) => Self::no_such_repository(),
            GitError::Busy => {
                let header = Some((RETRY_AFTER, HeaderValue::from_static("10")));
                let message = error.to_string();
                Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
            }
            GitError::TimedOut => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            GitError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            GitError::InvalidRequest(message) => Self::bad_request(message),
            _ => Self::failed(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
        let mut response = (self.status, kind, self.message + "\n").into_response();
        response.headers_mut().extend(self.header);
        response
    }
}
