//! A lease as everything here is found by: run, instance, try and fencing number.

use model::{AttemptNo, AttemptSpec, Fence, NodeIx, RunId};
use serde::{Deserialize, Serialize};

/// Which attempt, under which fencing number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) run: RunId,
    pub(crate) node: NodeIx,
    pub(crate) attempt: AttemptNo,
    pub(crate) fence: Fence,
}

impl Lease {
    pub(crate) fn of(spec: &AttemptSpec) -> Lease {
        Lease { run: spec.run.clone(), node: spec.node, attempt: spec.attempt, fence: spec.fence }
    }

    pub(crate) fn from_wire(lease: &proto::Lease) -> Option<Lease> {
        Some(Lease {
            run: RunId::new(lease.run.as_str()),
            node: NodeIx(lease.node),
            attempt: AttemptNo(u16::try_from(lease.attempt).ok()?),
            fence: Fence(lease.fence),
        })
    }

    pub(crate) fn to_wire(&self) -> proto::Lease {
        proto::Lease {
            run: self.run.as_str().to_string(),
            node: self.node.0,
            attempt: u32::from(self.attempt.0),
            fence: self.fence.0,
        }
    }
}
