//! Why an action was not executed to its end, and how the protocol says it.

use std::io::ErrorKind;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::protobuf::Any;
use bazel_remote_apis::google::rpc;
use blobs::Key;
use prost::Message;
use tonic::{Code, Status};

/// Why an action was not executed to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The action makes no sense, wherever it is executed.
    Invalid(String),
    /// It asks for what is not to be had here.
    Unmet(String),
    /// Blobs that it needs are not in the store; the client may upload them and ask again.
    Missing(Vec<Key>),
    /// It was killed at its timeout.
    TimedOut {
        /// After so long.
        after: Duration,
        /// What it had printed by then.
        result: Box<api::ActionResult>,
    },
    /// Nobody waited for it any more.
    Stopped,
    /// Something ran out: disk, mostly.
    Exhausted(String),
    /// The executor failed, not the action.
    Broken(String),
}

impl Fault {
    /// As the protocol says it.
    pub(crate) fn status(&self) -> rpc::Status {
        let (code, message) = match self {
            Fault::Invalid(why) => (Code::InvalidArgument, why.clone()),
            Fault::Unmet(why) => (Code::FailedPrecondition, why.clone()),
            Fault::Missing(keys) => (Code::FailedPrecondition, missing(keys)),
            Fault::TimedOut { after, .. } => {
                (Code::DeadlineExceeded, format!("the action was killed at its timeout of {} s", after.as_secs_f64()))
            }
            Fault::Stopped => (Code::Cancelled, "nobody waited for the action any more, so it was stopped".into()),
            Fault::Exhausted(why) => (Code::ResourceExhausted, why.clone()),
            Fault::Broken(why) => (Code::Internal, why.clone()),
        };
        let details = match self {
            Fault::Missing(keys) => vec![violations(keys)],
            _ => Vec::new(),
        };
        rpc::Status { code: code.into(), message, details }
    }

    /// The same, as the end of a call.
    pub(crate) fn into_status(self) -> Status {
        let status = self.status();
        let details = status.encode_to_vec().into();
        Status::with_details(Code::from_i32(status.code), status.message, details)
    }
}

impl From<blobs::Error> for Fault {
    fn from(error: blobs::Error) -> Fault {
        match error {
            blobs::Error::Missing(key) | blobs::Error::Damaged(key) => Fault::Missing(vec![key]),
            blobs::Error::Full { .. } => Fault::Exhausted(error.to_string()),
            blobs::Error::Io { ref source, .. } if source.kind() == ErrorKind::StorageFull => {
                Fault::Exhausted(error.to_string())
            }
            error => Fault::Broken(error.to_string()),
        }
    }
}

fn missing(keys: &[Key]) -> String {
    let one = keys.first().map(Key::to_string).unwrap_or_default();
    match keys.len() {
        1 => format!("blob {one} is not in the store; upload it and ask again"),
        count => format!("{count} blobs are not in the store, {one} among them; upload them and ask again"),
    }
}

/// `google.rpc.PreconditionFailure`, which the generated code does not have. Clients look for exactly this to upload
/// what went missing.
#[derive(Clone, PartialEq, Message)]
struct PreconditionFailure {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    subject: String,
    #[prost(string, tag = "3")]
    description: String,
}

fn violations(keys: &[Key]) -> Any {
    let violation = |key: &Key| Violation {
        kind: "MISSING".into(),
        // A key is shown as resource names have it: without the function for SHA-256, with it for others.
        subject: format!("blobs/{key}"),
        description: String::new(),
    };
    let failure = PreconditionFailure { violations: keys.iter().map(violation).collect() };
    Any { type_url: "type.googleapis.com/google.rpc.PreconditionFailure".into(), value: failure.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use blobs::Function;

    use super::*;

    #[test]
    fn missing_blobs_are_named_as_the_protocol_wants_it() {
        let keys = Function::ALL.map(|function| function.key_of(b"abc"));
        let status = Fault::Missing(keys.to_vec()).status();
        assert_eq!(status.code, i32::from(Code::FailedPrecondition));
        let [detail] = &status.details[..] else { panic!("{status:?}") };
        assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.PreconditionFailure");
        let failure = PreconditionFailure::decode(&detail.value[..]).expect("readable");
        let told: Vec<_> = failure.violations.iter().map(|one| (one.kind.as_str(), one.subject.clone())).collect();
        let [sha, blake] = keys.map(|key| key.hex());
        assert_eq!(told, [("MISSING", format!("blobs/{sha}/3")), ("MISSING", format!("blobs/blake3/{blake}/3"))]);
    }
}
