//! A store as a stream of lines of JSON: to look at, to keep, to move from one backend to the other.
//!
//! The first line says what it is, the last one how many came before it, so that half of one is not taken for all of it.

mod export;
mod import;

use model::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use self::export::export;
pub(crate) use self::import::Import;
use crate::StoreError;
use crate::batch::Errand;
use crate::entry::{Encoding, Hash, Packed};

/// What such lines look like.
const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    PacelineStore { version: u32, epoch: u64 },
    Entry(Box<EntryLine>),
    Delivery(Box<DeliveryLine>),
    Log { run: String, node: u32, attempt: u16, offset: u64, output: Content },
    Errand(Errand),
    End { lines: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EntryLine {
    pub sequence: u64,
    pub at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunLine>,
    pub kind: String,
    pub says: Content,
    pub hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunLine {
    pub key: u64,
    pub run: String,
    pub project: String,
    pub number: u64,
    pub sequence: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeliveryLine {
    pub id: String,
    pub project: String,
    pub at: u64,
    pub source: String,
    pub headers: Vec<(String, String)>,
    pub body: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<(u64, String)>,
}

/// Bytes, readable where they are text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    Text(String),
    Hex(String),
    /// Retention removed them; this was their SHA-256.
    Removed(String),
}

impl Content {
    fn of(packed: Packed) -> Result<Content, StoreError> {
        if packed.encoding == Encoding::Removed {
            return Ok(Content::Removed(hex(&packed.bytes)));
        }
        let bytes = packed.open()?.unwrap_or_default();
        Ok(String::from_utf8(bytes).map_or_else(|odd| Content::Hex(hex(odd.as_bytes())), Content::Text))
    }

    /// As it was kept; `None` if the digits make no sense.
    fn packed(self) -> Option<Packed> {
        Some(match self {
            Content::Text(text) => Packed::new(text.into_bytes()),
            Content::Hex(digits) => Packed::new(unhex(&digits)?),
            Content::Removed(digits) => {
                let bytes = unhex(&digits).filter(|bytes| bytes.len() == 32)?;
                Packed { encoding: Encoding::Removed, length: 0, bytes }
            }
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |ascii: u8| char::from(ascii).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn hash(digits: &str) -> Option<Hash> {
    Digest::from_hex(digits, 0).map(|digest| digest.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back() {
        for bytes in [b"plain \n".to_vec(), vec![0xff, 0, 1], Vec::new()] {
            let content = Content::of(Packed::new(bytes.clone())).unwrap();
            assert_eq!(content.packed().unwrap().open().unwrap(), Some(bytes));
        }
        assert!(Content::Hex("abc".into()).packed().is_none());
        assert!(Content::Removed("ab".into()).packed().is_none());
    }
}
