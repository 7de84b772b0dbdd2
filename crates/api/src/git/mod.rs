//! The family `git`: repositories and what is in them. One module per documented page.
//!
//! Every call needs a credential, also where the repository is public: only native git takes callers
//! without one. A public repository may be read by every caller.

mod access;
mod branches;
mod commits;
mod compare;
mod contents;
mod github;
mod host;
mod large;
mod objects;
mod repositories;
mod search;
mod tags;
#[cfg(test)]
mod tests;
mod triggers;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::get;
use freestyle_access::Access;
use freestyle_github::GitHub;
use freestyle_repos::Repos;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::host::GitUrl;
use crate::body::Bodies;
use crate::error::Code;

/// The code for requests that make no sense.
const BAD: Code = Code::GitInvalidRequest;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Repos: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
    GitHub: FromRef<S>,
    GitUrl: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(host::get))
        .routes(routes!(repositories::list, repositories::create))
        .routes(routes!(repositories::get, repositories::delete))
        .routes(routes!(repositories::get_visibility, repositories::set_visibility))
        .routes(routes!(branches::get_default, branches::set_default))
        .routes(routes!(branches::list))
        .routes(routes!(branches::get, branches::create))
        .routes(routes!(tags::list))
        .routes(routes!(tags::get))
        .routes(routes!(tags::get_object))
        .routes(routes!(contents::get_root))
        .routes(routes!(contents::get))
        .routes(routes!(contents::tarball))
        .routes(routes!(contents::zip))
        .routes(routes!(objects::blob))
        .routes(routes!(objects::tree))
        .routes(routes!(commits::list, commits::create_object))
        .routes(routes!(commits::get))
        .routes(routes!(commits::create))
        .routes(routes!(compare::compare))
        .routes(routes!(search::contents))
        .routes(routes!(search::files))
        .routes(routes!(search::commits))
        .routes(routes!(search::diffs))
        .routes(routes!(triggers::list, triggers::create))
        .routes(routes!(triggers::delete))
        .routes(routes!(triggers::deliveries))
        .routes(routes!(triggers::redeliver))
        .routes(routes!(github::get, github::enable, github::disable))
        .routes(routes!(github::get_app, github::set_app, github::delete_app))
        .routes(routes!(github::webhook))
}

/// Paths and names whose slashes were not encoded, as people type them for curl. Not documented.
pub(crate) fn courtesy_routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Repos: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
{
    Router::new()
        .route("/git/v1/repo/{repo}/contents", get(contents::get_root))
        .route("/git/v1/repo/{repo}/contents/{path}/", get(contents::get))
        .route("/git/v1/repo/{repo}/contents/{path}/{*rest}", get(contents::get))
        .route("/git/v1/repo/{repo}/git/refs/heads", get(branches::list))
        .route(
            "/git/v1/repo/{repo}/git/refs/heads/{branch}/{*rest}",
            get(branches::get).post(branches::create),
        )
        .route("/git/v1/repo/{repo}/git/refs/tags", get(tags::list))
        .route("/git/v1/repo/{repo}/git/refs/tags/{tag}/{*rest}", get(tags::get))
}
