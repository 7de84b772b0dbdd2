//! Comparing two revisions.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{self as wire, CompareQuery, CompareResponse};
use freestyle_git::{CompareStatus, ComparedFile, Comparison, FileStatus};

use super::BAD;
use super::access::Readable;
use crate::error::ApiError;
use crate::query::understood;

/// Tells what one revision has that another has not.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/compare",
    operation_id = "compareRevs",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), CompareQuery),
    responses(
        (status = 200, description = "The comparison", body = CompareResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn compare(
    Readable(repo): Readable,
    query: Result<Query<CompareQuery>, QueryRejection>,
) -> Result<Json<CompareResponse>, ApiError> {
    let CompareQuery { base, head } = understood(query, BAD)?;
    let comparison = repo.git().compare(&base, &head).await.map_err(ApiError::from_git)?;
    Ok(Json(encode(comparison)))
}

fn encode(comparison: Comparison) -> CompareResponse {
    CompareResponse {
        status: match comparison.status {
            CompareStatus::Identical => wire::CompareStatus::Identical,
            CompareStatus::Ahead => wire::CompareStatus::Ahead,
            CompareStatus::Behind => wire::CompareStatus::Behind,
            CompareStatus::Diverged => wire::CompareStatus::Diverged,
        },
        ahead_by: comparison.ahead_by as u64,
        behind_by: comparison.behind_by as u64,
        total_commits: comparison.ahead_by as u64,
        files: comparison.files.into_iter().map(encode_file).collect(),
    }
}

fn encode_file(file: ComparedFile) -> wire::ComparedFile {
    let (status, previous_filename) = match file.status {
        FileStatus::Added => (wire::FileStatus::Added, None),
        FileStatus::Removed => (wire::FileStatus::Removed, None),
        FileStatus::Modified => (wire::FileStatus::Modified, None),
        FileStatus::Renamed { previous } => (wire::FileStatus::Renamed, Some(previous)),
        FileStatus::Changed => (wire::FileStatus::Changed, None),
    };
    wire::ComparedFile {
        sha: Some(file.sha.to_string()),
        filename: file.path,
        status,
        additions: file.additions,
        deletions: file.deletions,
        changes: file.additions.saturating_add(file.deletions),
        previous_filename,
    }
}
