//! The git host: clone, fetch and push with native `git`, at the root of a listener of its own.
//!
//! Git shows people little of an answer but its status and, if it is plain text, its body. So this
//! part of the server speaks plain text, and says in one or two lines what is wrong and what to do.
//!
//! | what is asked for | without a credential | with one |
//! |---|---|---|
//! | reading a public repository | served | served |
//! | anything else of a repository that the credential is good for | 401 | served |
//! | pushing to what may only be read | 401 | 403 |
//! | a repository that is not there, or is not the caller's | 401 | 404 |
//!
//! Without a credential every name is answered alike, so that nobody learns which exist. A
//! credential that is not in force is always answered with 401.

mod credential;
mod refusal;
mod transfer;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use freestyle_access::Access;
use freestyle_repos::Repos;
use freestyle_webhooks::Webhooks;

use self::refusal::Refusal;
use crate::trace;

/// The services behind the git host.
#[derive(Clone)]
pub struct GitHostState {
    /// Who may use which repository.
    pub access: Access,
    /// The repositories.
    pub repos: Repos,
    /// Whose public keys are served here.
    pub webhooks: Webhooks,
}

impl FromRef<GitHostState> for Webhooks {
    fn from_ref(state: &GitHostState) -> Self {
        state.webhooks.clone()
    }
}

/// The git host as one service.
pub fn git_host(state: GitHostState) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/{repository}/info/refs", get(transfer::advertise))
        .route("/{repository}/git-upload-pack", post(transfer::upload_pack))
        .route("/{repository}/git-receive-pack", post(transfer::receive_pack))
        .route("/{repository}/info/lfs/{*rest}", any(no_lfs))
        .route("/{repository}/HEAD", get(no_dumb_protocol))
        .route("/{repository}/objects/{*rest}", get(no_dumb_protocol))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        // A push is as long as the limits of repositories say.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(trace::trace))
        .with_state(state)
}

/// The public keys by which webhooks can be verified.
async fn jwks(State(webhooks): State<Webhooks>) -> Result<impl IntoResponse, Refusal> {
    let keys = webhooks.jwks().await.map_err(|error| Refusal::failed(&error))?;
    // A new key is published long enough before it is used.
    Ok(([(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "max-age=300")], keys))
}

/// Git LFS shows the message.
async fn no_lfs() -> impl IntoResponse {
    let body = r#"{"message": "this server has no Git LFS: store files in the repository itself"}"#;
    let kind = [(CONTENT_TYPE, "application/vnd.git-lfs+json")];
    (axum::http::StatusCode::NOT_IMPLEMENTED, kind, body)
}

async fn no_dumb_protocol() -> Refusal {
    Refusal::no_dumb_protocol()
}

async fn nothing_here() -> Refusal {
    Refusal::nothing_here()
}
