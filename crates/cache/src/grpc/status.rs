//! What went wrong, in the codes by which clients decide to retry, to rebuild or to give up.

use std::io::ErrorKind;

use bazel_remote_apis::google::rpc;
use blobs::Error;
use tonic::{Code, Status};

use crate::access::Denied;

/// What the store refused: a blob that is gone or damaged is a miss, a full disk may have room later.
pub(crate) fn refused(error: &Error) -> Status {
    let code = match error {
        Error::Missing(_) | Error::Damaged(_) => Code::NotFound,
        Error::WrongBytes { .. } | Error::TooLarge { .. } => Code::InvalidArgument,
        Error::OutOfRange { .. } => Code::OutOfRange,
        Error::Full { .. } => Code::ResourceExhausted,
        Error::Io { source, .. } if out_of_space(source.kind()) => Code::ResourceExhausted,
        // A restart or an administrator can mend it, so a client may try again.
        Error::Io { .. } | Error::InUse { .. } => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// Why a caller was not let in. An unknown instance is a wrong argument, as other servers have it: `NOT_FOUND` would
/// look like a miss for ever.
pub(crate) fn denied(denied: Denied) -> Status {
    let code = match denied {
        Denied::Unauthenticated(_) => Code::Unauthenticated,
        Denied::Forbidden(_) => Code::PermissionDenied,
        Denied::UnknownInstance(_) => Code::InvalidArgument,
    };
    Status::new(code, denied.to_string())
}

/// The same as a part of an answer.
pub(crate) fn part(status: &Status) -> rpc::Status {
    rpc::Status { code: status.code().into(), message: status.message().into(), details: Vec::new() }
}

fn out_of_space(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use blobs::Function;

    use super::*;

    #[test]
    fn codes_let_clients_rebuild_what_is_gone_and_retry_what_may_pass() {
        let key = Function::Sha256.key_of(b"a");
        let io = |kind| Error::Io { act: "write", path: "x".into(), source: std::io::Error::from(kind) };
        let wrong = Error::WrongBytes { expected: key, actual: Function::Sha256.key_of(b"b") };
        for (error, code) in [
            (Error::Missing(key), Code::NotFound),
            (Error::Damaged(key), Code::NotFound),
            (wrong, Code::InvalidArgument),
            (Error::OutOfRange { key, offset: 2 }, Code::OutOfRange),
            (Error::Full { bytes_max: 1 }, Code::ResourceExhausted),
            (io(ErrorKind::StorageFull), Code::ResourceExhausted),
            (io(ErrorKind::Other), Code::Unavailable),
        ] {
            assert_eq!(refused(&error).code(), code, "{error}");
        }
        assert_eq!(denied(Denied::Unauthenticated(String::new())).code(), Code::Unauthenticated);
        assert_eq!(denied(Denied::Forbidden(String::new())).code(), Code::PermissionDenied);
        assert_eq!(denied(Denied::UnknownInstance(String::new())).code(), Code::InvalidArgument);
    }
}
