//! What the query of a request says.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use crate::error::{ApiError, Code, cut};

/// Most items in one page of a list of identities, grants or domains.
const MAX_PAGE: u32 = 1000;

/// A query that was understood. `bad` is the family's code for one that was not; what it says of the
/// client's text is cut, as for a body.
pub(crate) fn understood<Q>(
    query: Result<Query<Q>, QueryRejection>,
    bad: Code,
) -> Result<Q, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(bad, cut(&error.body_text(), 400)))?;
    Ok(query)
}

/// How many items a list holds, and how many before them it does not.
pub(crate) fn page(limit: Option<u32>, offset: Option<u32>) -> (u64, u64) {
    (limit.unwrap_or(MAX_PAGE).min(MAX_PAGE).into(), offset.unwrap_or(0).into())
}
