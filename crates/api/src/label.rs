//! Names that people give to things.

use crate::error::{ApiError, Code};

/// A label for people; `bad` is the code for one that is none.
pub(crate) fn label(name: Option<String>, bad: Code) -> Result<Option<String>, ApiError> {
    const MAX_CHARS: usize = 255;
    let Some(name) = name else { return Ok(None) };
    if name.is_empty() || name.chars().count() > MAX_CHARS {
        return Err(ApiError::new(bad, format!("name must have 1 to {MAX_CHARS} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(ApiError::new(bad, "name must not hold control characters"));
    }
    Ok(Some(name))
}
