//! Why a request over plain HTTP is not done, as the client gets to read it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::access::Denied;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// For the person who reads the client's log.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into() }
    }
    /// The request makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }
    /// What is asked for is not there: a miss.
    pub(crate) fn missing(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, message)
    }
    /// The path knows other methods.
    pub(crate) fn method(allowed: &str) -> Refusal {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path knows {allowed}"))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        let status = match denied {
            Denied::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Denied::Forbidden(_) => StatusCode::FORBIDDEN,
            Denied::UnknownInstance(_) => StatusCode::NOT_FOUND,
        };
        Refusal::new(status, denied.to_string())
    }
}

impl From<blobs::Error> for Refusal {
    fn from(error: blobs::Error) -> Refusal {
        use blobs::Error;
        let status = match error {
            // A damaged blob is gone; to the client that is a miss like any other.
            Error::Missing(_) | Error::Damaged(_) => StatusCode::NOT_FOUND,
            Error::WrongBytes { .. } => StatusCode::BAD_REQUEST,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::OutOfRange { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Error::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Error::InUse { .. } | Error::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(format!("{}\n", self.message)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"paceline\""));
        }
        response
    }
}
