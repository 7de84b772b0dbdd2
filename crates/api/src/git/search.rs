//! Searching: text in files, names of files, messages of commits, and changed lines.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use freestyle_client::wire::ErrorBody;
use freestyle_client::wire::git::{
    CommitSearchMatch, CommitSearchQuery, ContentSearchFile, ContentSearchMatch,
    ContentSearchQuery, DiffSearchCommit, DiffSearchFile, DiffSearchMatch, FileSearchMatch,
    FileSearchQuery, SearchCommitsResponse, SearchContentsResponse, SearchDiffsResponse,
    SearchFilesResponse,
};
use freestyle_git::{
    CommitMatch, ContentMatch, DiffCommit, DiffFile, DiffMatch, FileMatch, Search, SearchedFile,
};

use super::BAD;
use super::access::Readable;
use super::commits::to_usize;
use crate::error::ApiError;
use crate::query::understood;

/// Searches the text of files.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/search",
    operation_id = "searchContents",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ContentSearchQuery),
    responses(
        (status = 200, description = "What was found", body = SearchContentsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn contents(
    Readable(repo): Readable,
    query: Result<Query<ContentSearchQuery>, QueryRejection>,
) -> Result<Json<SearchContentsResponse>, ApiError> {
    let search = decode(understood(query, BAD)?)?;
    let found = repo.git().search_contents(search).await.map_err(ApiError::from_git)?;
    Ok(Json(SearchContentsResponse {
        total_files: found.total_files as u64,
        total_matches: found.total_matches as u64,
        has_more: found.has_more,
        files: found.files.into_iter().map(encode_file).collect(),
    }))
}

/// Searches the names of files, directories included.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/search/files",
    operation_id = "searchFilenames",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), FileSearchQuery),
    responses(
        (status = 200, description = "What was found", body = SearchFilesResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn files(
    Readable(repo): Readable,
    query: Result<Query<FileSearchQuery>, QueryRejection>,
) -> Result<Json<SearchFilesResponse>, ApiError> {
    let query = understood(query, BAD)?;
    let search = decode(ContentSearchQuery {
        query: query.query,
        rev: query.rev,
        reference: query.reference,
        path_pattern: query.path_pattern,
        exclude_pattern: query.exclude_pattern,
        max_results: query.max_results,
        case_sensitive: query.case_sensitive,
        is_regex: query.is_regex,
        whole_word: None,
        offset: query.offset,
    })?;
    let found = repo.git().search_files(search).await.map_err(ApiError::from_git)?;
    let encode = |FileMatch { path, extension, size }| FileSearchMatch { path, extension, size };
    Ok(Json(SearchFilesResponse {
        total_files: found.total_files as u64,
        has_more: found.has_more,
        files: found.files.into_iter().map(encode).collect(),
    }))
}

/// Searches the messages of commits.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/search/commits",
    operation_id = "searchCommits",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), CommitSearchQuery),
    responses(
        (status = 200, description = "What was found", body = SearchCommitsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn commits(
    Readable(repo): Readable,
    query: Result<Query<CommitSearchQuery>, QueryRejection>,
) -> Result<Json<SearchCommitsResponse>, ApiError> {
    let query = understood(query, BAD)?;
    let search = decode(ContentSearchQuery {
        query: query.query,
        rev: query.rev,
        reference: query.reference,
        max_results: query.max_results,
        case_sensitive: query.case_sensitive,
        is_regex: query.is_regex,
        offset: query.offset,
        ..ContentSearchQuery::default()
    })?;
    let found = repo.git().search_commits(search).await.map_err(ApiError::from_git)?;
    Ok(Json(SearchCommitsResponse {
        total_commits: found.total_commits as u64,
        has_more: found.has_more,
        commits: found.commits.into_iter().map(encode_commit).collect(),
    }))
}

/// Searches the lines that commits added or removed.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/search/diffs",
    operation_id = "searchDiffs",
    tag = "git",
    params(("repo" = String, Path, description = "The repository"), ContentSearchQuery),
    responses(
        (status = 200, description = "What was found", body = SearchDiffsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn diffs(
    Readable(repo): Readable,
    query: Result<Query<ContentSearchQuery>, QueryRejection>,
) -> Result<Json<SearchDiffsResponse>, ApiError> {
    let search = decode(understood(query, BAD)?)?;
    let found = repo.git().search_diffs(search).await.map_err(ApiError::from_git)?;
    Ok(Json(SearchDiffsResponse {
        total_commits: found.total_commits as u64,
        has_more: found.has_more,
        commits: found.commits.into_iter().map(encode_diff).collect(),
    }))
}

pub(super) fn decode(query: ContentSearchQuery) -> Result<Search, ApiError> {
    let default = Search::default();
    let revision = match (query.rev, query.reference) {
        (Some(rev), Some(reference)) if rev != reference => {
            return Err(ApiError::new(BAD, "rev and ref are the same thing: give one of them"));
        }
        (rev, reference) => rev.or(reference),
    };
    Ok(Search {
        query: query.query,
        revision,
        path_pattern: query.path_pattern,
        exclude_pattern: query.exclude_pattern,
        max_results: query.max_results.map_or(default.max_results, to_usize),
        offset: query.offset.map_or(default.offset, to_usize),
        case_sensitive: query.case_sensitive.unwrap_or(default.case_sensitive),
        is_regex: query.is_regex.unwrap_or(default.is_regex),
        whole_word: query.whole_word.unwrap_or(default.whole_word),
    })
}

fn encode_file(file: SearchedFile) -> ContentSearchFile {
    let encode = |found: ContentMatch| ContentSearchMatch {
        line_number: found.line_number as u64,
        line: found.line,
        start_column: found.start_column as u64,
        end_column: found.end_column as u64,
        context_before: found.context_before,
        context_after: found.context_after,
    };
    ContentSearchFile {
        path: file.path,
        extension: file.extension,
        size: file.size,
        matches: file.matches.into_iter().map(encode).collect(),
    }
}

fn encode_commit(found: CommitMatch) -> CommitSearchMatch {
    let CommitMatch { commit, summary } = found;
    CommitSearchMatch {
        sha: commit.sha.to_string(),
        message: summary,
        full_message: commit.message,
        author_name: commit.author.name,
        author_email: commit.author.email,
        timestamp: commit.committer.date.to_string(),
    }
}

fn encode_diff(found: DiffCommit) -> DiffSearchCommit {
    let DiffCommit { commit, summary, files } = found;
    let encode = |found: DiffMatch| DiffSearchMatch {
        line: found.line,
        line_number: found.line_number as u64,
        start_column: found.start_column as u64,
        end_column: found.end_column as u64,
        is_addition: found.is_addition,
    };
    let files = files.into_iter().map(|DiffFile { path, matches }| DiffSearchFile {
        path,
        matches: matches.into_iter().map(encode).collect(),
    });
    DiffSearchCommit {
        sha: commit.sha.to_string(),
        message: summary,
        author_name: commit.author.name,
        author_email: commit.author.email,
        timestamp: commit.committer.date.to_string(),
        files: files.collect(),
    }
}
