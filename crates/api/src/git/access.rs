//! Repositories as callers reach them: an extractor for each kind of access, so that no handler can
//! forget to ask for it. What is more than reading and writing is for accounts, and takes
//! [`crate::authenticate::Account`].

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use freestyle_access::{Access, RepositoryLevel};
use freestyle_repos::{Repo, Repos};

use crate::authenticate::Anyone;
use crate::error::ApiError;
use crate::path::RepoPath;

/// A repository that the caller may read.
pub(super) struct Readable(pub(super) Repo);

/// A repository that the caller may write to.
pub(super) struct Writable(pub(super) Repo);

impl<S> FromRequestParts<S> for Readable
where
    S: Send + Sync,
    Access: FromRef<S>,
    Repos: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        reach(parts, state, RepositoryLevel::Read).await.map(Self)
    }
}

impl<S> FromRequestParts<S> for Writable
where
    S: Send + Sync,
    Access: FromRef<S>,
    Repos: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        reach(parts, state, RepositoryLevel::Write).await.map(Self)
    }
}

async fn reach<S>(parts: &mut Parts, state: &S, need: RepositoryLevel) -> Result<Repo, ApiError>
where
    S: Send + Sync,
    Access: FromRef<S>,
    Repos: FromRef<S>,
{
    let Anyone(caller) = Anyone::from_request_parts(parts, state).await?;
    let RepoPath(id) = RepoPath::from_request_parts(parts, state).await?;
    let right = Access::from_ref(state).repository(Some(&caller), id.as_str(), need).await;
    let right = right.map_err(ApiError::from_denied)?;
    Repos::from_ref(state).get(right.owner(), &id).await.map_err(ApiError::from_repos)
}
