//! What is told to whoever asked for what cannot be: RFC 9457, `application/problem+json`. Pages render the same value.

use access::{Denied, SealError, TooManyTries};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use store::StoreError;
use utoipa::ToSchema;

use crate::desk::Refusal;

/// Why something cannot be. `type` is stable; `detail` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:paceline:problem:…`: stable, for programs.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was asked, why it cannot be, what to do.
    pub detail: String,
    /// Seconds to wait, if that helps.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after: Option<u64>,
}

/// The kinds: word, status, title.
pub const KINDS: [(&str, u16, &str); 12] = [
    ("invalid", 400, "What was sent is not what was asked for"),
    ("signed-out", 401, "Nobody is signed in"),
    ("denied", 403, "This needs more rights"),
    ("not-found", 404, "There is nothing of that name"),
    ("method-not-allowed", 405, "This cannot be done to it"),
    ("conflict", 409, "It is not in the state for that"),
    ("changed", 412, "Somebody else changed it in the meantime"),
    ("too-large", 413, "It is too large"),
    ("unprocessable", 422, "The pipeline or a parameter is wrong"),
    ("too-many", 429, "Too many tries"),
    ("defect", 500, "This server has a defect"),
    ("unavailable", 503, "It cannot be done now"),
];

impl Problem {
    /// A problem of a kind of [`KINDS`].
    pub fn new(word: &str, detail: impl Into<String>) -> Problem {
        let known = KINDS.iter().find(|(known, ..)| *known == word);
        let (word, status, title) = known.copied().unwrap_or(("defect", 500, "This server has a defect"));
        let kind = format!("urn:paceline:problem:{word}");
        Problem { kind, title: title.into(), status, detail: detail.into(), retry_after: None }
    }
    /// What was sent is wrong.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new("invalid", detail)
    }
    /// It is not there.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new("not-found", detail)
    }
    /// The last part of the kind: `not-found`.
    pub fn word(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        let word = match denied {
            Denied::Unknown => "signed-out",
            Denied::Unseen(_) => "not-found",
            Denied::Role { .. } | Denied::Scope { .. } => "denied",
        };
        Problem::new(word, denied.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let word = match refusal {
            Refusal::NotFound(_) => "not-found",
            Refusal::Conflict(_) => "conflict",
            Refusal::Invalid(_) => "unprocessable",
            Refusal::NotLeader | Refusal::Unavailable(_) => "unavailable",
        };
        Problem::new(word, refusal.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let word = match error {
            StoreError::Conflict { .. } => "changed",
            StoreError::Illegal(_) => "conflict",
            _ => "unavailable",
        };
        Problem::new(word, error.to_string())
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Problem {
        Problem::new("unavailable", format!("secrets cannot be used: {error}"))
    }
}

impl From<TooManyTries> for Problem {
    fn from(error: TooManyTries) -> Problem {
        Problem { retry_after: Some(error.wait.as_secs().max(1)), ..Problem::new("too-many", error.to_string()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"paceline\""));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_there_once_and_what_may_not_be_seen_is_not_there() {
        let words: std::collections::BTreeSet<_> = KINDS.iter().map(|(word, ..)| word).collect();
        assert_eq!(words.len(), KINDS.len());
        let unseen = Problem::from(Denied::Unseen("web".into()));
        assert_eq!((unseen.status, unseen.word()), (404, "not-found"));
        assert_eq!(Problem::new("nonsense", "").status, 500);
    }
}
