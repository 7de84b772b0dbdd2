//! Between Rust's types and the columns of a row.

use std::error::Error;
use std::str::FromStr;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::StoreError;

/// Some of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
}

/// A text column whose value has a stricter type.
pub(crate) fn parsed<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    decoded(column, row.try_get::<&str, _>(column)?.parse())
}

/// Like [`parsed`], for a column that may be NULL.
pub(crate) fn parsed_optional<T>(row: &SqliteRow, column: &str) -> Result<Option<T>, sqlx::Error>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: Option<&str> = row.try_get(column)?;
    decoded(column, text.map(str::parse).transpose())
}

/// An integer column whose value has a narrower type.
pub(crate) fn number<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: Error + Send + Sync + 'static>,
{
    decoded(column, T::try_from(row.try_get(column)?))
}

/// Like [`number`], for a column that may be NULL.
pub(crate) fn optional_number<T>(row: &SqliteRow, column: &str) -> Result<Option<T>, sqlx::Error>
where
    T: TryFrom<i64, Error: Error + Send + Sync + 'static>,
{
    let value: Option<i64> = row.try_get(column)?;
    decoded(column, value.map(T::try_from).transpose())
}

/// A text column that holds one of a few words.
pub(crate) fn word<T: Copy>(
    row: &SqliteRow,
    column: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<T, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    let known = all.iter().copied().find(|value| as_str(*value) == text);
    decoded(column, known.ok_or_else(|| UnknownWord(text.to_owned())))
}

/// A newer server or a stray hand has written this.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not known")]
struct UnknownWord(String);

/// Says which column holds a value that cannot be.
pub(crate) fn decoded<T, E>(column: &str, result: Result<T, E>) -> Result<T, sqlx::Error>
where
    E: Error + Send + Sync + 'static,
{
    result.map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(error),
    })
}

/// A number as a database integer, which is signed.
pub(crate) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::NumberTooLarge(value))
}

/// Like [`integer`], for a column that may be NULL.
pub(crate) fn optional_integer(value: Option<u64>) -> Result<Option<i64>, StoreError> {
    value.map(integer).transpose()
}

/// A JSON column that may be NULL.
pub(crate) fn optional_json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<T>, sqlx::Error> {
    let text: Option<&str> = row.try_get(column)?;
    decoded(column, text.map(serde_json::from_str).transpose())
}

/// A value as a JSON column.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.to_string()))
}
