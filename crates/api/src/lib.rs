//! The HTTP API: decode, authorise, call one service function, encode.
//!
//! Owns: routes, the table of error codes (`error`), limits on requests, the OpenAPI document, and
//! how connections are served. Does not own: any decision about a VM (`freestyle-vm`), about a
//! repository (`freestyle-repos`, `freestyle-git`) or about who may do what (`freestyle-access`),
//! anything that is stored (`freestyle-store`), or the JSON shapes (`freestyle_client::wire`, one
//! definition for both sides).
//!
//! One module per documented family: `auth`, `git`, `identities`, `vms`, `vpcs`. Endpoints of the contract that this version does
//! not have answer a typed error from one table, `not_available`.
//!
//! # Invariants
//!
//! * Every response but an archive is JSON, and every one carries the trace id header; every failure has a documented code,
//!   because the SDK repeats a create for ever when it meets another one (protocol section 3).
//! * Nothing of a request's body is read before its credential was checked, and its right to the
//!   thing of its path: handlers take an extractor of `authenticate` first.
//! * Nothing is read without a limit on its size and its time, and no answer waits for ever for a
//!   client that does not read it.
//! * A call that may be slow starts its response early: see `long_call`. A client that does not want
//!   to wait at all asks for its result later: see `background`.
//! * An operation that was begun ends, whatever becomes of the client; commands and waits end with
//!   the client.

mod auth;
mod authenticate;
mod background;
mod body;
mod builds;
mod cors;
mod dns;
mod domains;
mod error;
mod git;
mod git_host;
mod identities;
mod label;
mod long_call;
mod not_available;
mod openapi;
mod path;
mod query;
mod server;
mod ssh;
mod stalled;
#[cfg(test)]
mod tests;
mod timestamp;
mod trace;
mod vms;
mod vpcs;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::get;
use freestyle_access::Access;
use freestyle_client::wire::SshResponse;
use freestyle_domains::Domains;
use freestyle_edge::Certificates;
use freestyle_github::GitHub;
use freestyle_repos::Repos;
use freestyle_store::Store;
use freestyle_vm::VmService;
use freestyle_vpc::VpcService;
use utoipa_axum::router::OpenApiRouter;

use crate::background::Background;
use crate::body::Bodies;
use crate::error::{ApiError, Code, excerpt};
use crate::git::GitUrl;

pub use git_host::{GitHostState, git_host};
pub use openapi::document;
pub use server::serve;

/// The services behind the API.
#[derive(Clone)]
pub struct ApiState {
    /// Creates VMs and acts on them.
    pub vms: VmService,
    /// The repositories of accounts.
    pub repos: Repos,
    /// Keeps repositories equal to others at GitHub.
    pub github: GitHub,
    /// Where clients reach the git host.
    pub git_url: String,
    /// Makes VPCs and lets computers join them.
    pub vpcs: VpcService,
    /// Knows builds and identities.
    pub store: Store,
    /// Knows who may do what.
    pub access: Access,
    /// Knows whose domains are and where they lead.
    pub domains: Domains,
    /// Makes certificates for domains.
    pub certificates: Certificates,
    /// Where SSH is served, if it is.
    pub ssh: Option<SshResponse>,
}

/// What handlers share.
#[derive(Clone)]
struct App {
    vms: VmService,
    repos: Repos,
    github: GitHub,
    git_url: GitUrl,
    vpcs: VpcService,
    store: Store,
    access: Access,
    domains: Domains,
    certificates: Certificates,
    ssh: ssh::Gateway,
    bodies: Arc<Bodies>,
    background: Background,
}

impl FromRef<App> for Store {
    fn from_ref(app: &App) -> Self {
        app.store.clone()
    }
}

impl FromRef<App> for Repos {
    fn from_ref(app: &App) -> Self {
        app.repos.clone()
    }
}

impl FromRef<App> for VpcService {
    fn from_ref(app: &App) -> Self {
        app.vpcs.clone()
    }
}

impl FromRef<App> for Access {
    fn from_ref(app: &App) -> Self {
        app.access.clone()
    }
}

impl FromRef<App> for GitHub {
    fn from_ref(app: &App) -> Self {
        app.github.clone()
    }
}

impl FromRef<App> for GitUrl {
    fn from_ref(app: &App) -> Self {
        app.git_url.clone()
    }
}

impl FromRef<App> for Domains {
    fn from_ref(app: &App) -> Self {
        app.domains.clone()
    }
}

impl FromRef<App> for Certificates {
    fn from_ref(app: &App) -> Self {
        app.certificates.clone()
    }
}

impl FromRef<App> for ssh::Gateway {
    fn from_ref(app: &App) -> Self {
        app.ssh.clone()
    }
}

impl FromRef<App> for Arc<Bodies> {
    fn from_ref(app: &App) -> Self {
        app.bodies.clone()
    }
}

impl FromRef<App> for Background {
    fn from_ref(app: &App) -> Self {
        app.background.clone()
    }
}

/// The whole API as one service, the published document at `/openapi.json` included.
pub fn router(state: ApiState) -> Router {
    let ApiState { vms, vpcs, repos, github, git_url, store, access, domains, certificates, ssh } =
        state;
    let (git_url, ssh) = (GitUrl(git_url.into()), ssh::Gateway(ssh));
    let (bodies, background) = (Arc::new(Bodies::new()), Background::default());
    let app = App {
        vms,
        vpcs,
        repos,
        github,
        git_url,
        store,
        access,
        domains,
        certificates,
        ssh,
        bodies,
        background,
    };
    framed(all_routes()).with_state(app)
}

fn all_routes() -> Router<App> {
    let (documented, _) = documented_routes().split_for_parts();
    documented
        .merge(background::log_routes())
        .merge(git::courtesy_routes())
        .merge(ssh::routes())
        .merge(vms::courtesy_routes())
        .merge(not_available::routes())
}

/// The routes and their documentation, which therefore cannot differ.
fn documented_routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::preamble())
        .merge(auth::routes())
        .merge(background::routes())
        .merge(builds::routes())
        .merge(dns::routes())
        .merge(domains::routes())
        .merge(identities::routes())
        .merge(vms::routes())
        .merge(git::routes())
        .merge(vpcs::routes())
}

/// What every request meets, whatever the routes.
fn framed<S>(routes: Router<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    routes
        .route("/openapi.json", get(openapi::serve_document))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(cors::cors))
        .layer(middleware::from_fn(trace::trace))
}

async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no {method} {}", excerpt(uri.path())))
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", excerpt(uri.path()));
    ApiError::new(Code::BadRequest, message).with_status(StatusCode::METHOD_NOT_ALLOWED)
}
