//! Values of rows, so that a question is written once for both backends.

use crate::StoreError;
use crate::entry::{Encoding, Packed};

/// A value that a question carries.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    Int(i64),
    Text(String),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// A row, taken from its first column on.
#[derive(Debug)]
pub(crate) struct Row(std::vec::IntoIter<Cell>);

impl Row {
    pub(crate) fn new(cells: Vec<Cell>) -> Row {
        Row(cells.into_iter())
    }

    pub(crate) fn int(&mut self) -> Result<u64, StoreError> {
        self.maybe_int()?.ok_or_else(|| unexpected("a number", &Some(Cell::Null)))
    }

    pub(crate) fn maybe_int(&mut self) -> Result<Option<u64>, StoreError> {
        match self.0.next() {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Int(number)) if number >= 0 => Ok(Some(number.unsigned_abs())),
            other => Err(unexpected("a number", &other)),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| unexpected("a text", &Some(Cell::Null)))
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(text)) => Ok(Some(text)),
            other => Err(unexpected("a text", &other)),
        }
    }

    pub(crate) fn blob(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.0.next() {
            Some(Cell::Blob(bytes)) => Ok(bytes),
            other => Err(unexpected("bytes", &other)),
        }
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        self.blob()?.try_into().map_err(|_| StoreError::Damaged("a hash is not 32 bytes long".into()))
    }

    /// Columns `encoding`, `length` and the bytes.
    pub(crate) fn packed(&mut self) -> Result<Packed, StoreError> {
        Ok(Packed { encoding: Encoding::of(self.int()?)?, length: self.int()?, bytes: self.blob()? })
    }

    /// A column of JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        parse(self.text()?.as_bytes())
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json)
        .map_err(|error| StoreError::Damaged(format!("what is there is no {}: {error}", std::any::type_name::<T>())))
}

/// As databases count; what is above 2^63 stays there.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn text(text: &str) -> Param {
    Param::Text(text.into())
}

fn unexpected(what: &str, cell: &Option<Cell>) -> StoreError {
    let met = match cell {
        None => "a row that is too short",
        Some(Cell::Null) => "nothing",
        Some(Cell::Int(_)) => "a number",
        Some(Cell::Text(_)) => "a text",
        Some(Cell::Blob(_)) => "bytes",
    };
    StoreError::Damaged(format!("a column should be {what} and is {met}"))
}
