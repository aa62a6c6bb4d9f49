//! What executions gave, in the action cache of whoever asked for them.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{EntryId, Key};
use prost::Message;

use crate::Service;
use crate::access::Domain;
use crate::grpc::actions::{self, KIND};

/// The writer of what was executed here. No token can be named so that it is taken for one.
const WRITER: &str = "executor";

/// What an action gave when it ran before.
pub(crate) fn recall(service: &Service, domain: &Domain, action: &Key) -> Option<api::ActionResult> {
    api::ActionResult::decode(service.action(domain, action)?.value).ok()
}

/// Writes down what an action gave; says why that cannot be.
pub(super) fn remember(
    service: &Service,
    domain: &Domain,
    action: &Key,
    result: &api::ActionResult,
) -> Result<(), String> {
    let id = EntryId { space: domain.space(KIND), hash: action.hash };
    actions::store(&service.blobs, &id, action.function, result, WRITER.into())
        .map_err(|status| format!("the result is not in the cache: {}", status.message()))
}
