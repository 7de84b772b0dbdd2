//! Tags.

use axum::Json;
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{GitShaRef, GitTag, ListTagsResponse};
use freestyle_git::Tag;

use super::access::Readable;
use super::commits::encode_signature;
use crate::error::ApiError;
use crate::path::{HashPath, RefPath};

/// Lists the tags.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/refs/tags/",
    operation_id = "listTags",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The tags", body = ListTagsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(Readable(repo): Readable) -> Result<Json<ListTagsResponse>, ApiError> {
    let tags = repo.git().tags().await.map_err(ApiError::from_git)?;
    Ok(Json(ListTagsResponse { tags: tags.into_iter().map(encode).collect() }))
}

/// Shows a tag by its name.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/refs/tags/{tag}",
    operation_id = "getTagByName",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("tag" = String, Path, description = "The tag, its slashes encoded"),
    ),
    responses(
        (status = 200, description = "The tag", body = GitTag),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get(
    Readable(repo): Readable,
    RefPath(tag): RefPath,
) -> Result<Json<GitTag>, ApiError> {
    let tag = repo.git().tag(&tag).await.map_err(ApiError::from_git)?;
    Ok(Json(encode(tag)))
}

/// Shows a tag object by its id.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/git/tags/{hash}",
    operation_id = "getTagObject",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("hash" = String, Path, description = "The tag object"),
    ),
    responses(
        (status = 200, description = "The tag", body = GitTag),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn get_object(
    Readable(repo): Readable,
    HashPath(hash): HashPath,
) -> Result<Json<GitTag>, ApiError> {
    let tag = repo.git().tag_object(&hash).await.map_err(ApiError::from_git)?;
    Ok(Json(encode(tag)))
}

fn encode(tag: Tag) -> GitTag {
    GitTag {
        name: tag.name,
        tagger: tag.tagger.map(encode_signature),
        message: tag.message,
        target: GitShaRef { sha: tag.target.to_string() },
        sha: tag.sha.to_string(),
    }
}
