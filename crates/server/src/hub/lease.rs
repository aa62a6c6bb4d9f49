//! Leases as they are named on the wire, and whose they are.

use model::{AgentId, AttemptNo, Fence, Held, NodeIx, RunEvent, RunId};
use store::LogId;

use super::Hub;

/// What an agent must name to speak of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) log: LogId,
    pub(super) fence: Fence,
}

impl Named {
    /// Reads a lease; `None` for numbers that are out of range.
    pub(super) fn read(lease: &proto::Lease) -> Option<Named> {
        let attempt = AttemptNo(u16::try_from(lease.attempt).ok()?);
        let log = LogId { run: RunId::new(lease.run.as_str()), node: NodeIx(lease.node), attempt };
        Some(Named { log, fence: Fence(lease.fence) })
    }

    pub(super) fn write(&self) -> proto::Lease {
        let LogId { run, node, attempt } = &self.log;
        proto::Lease { run: run.to_string(), node: node.0, attempt: u32::from(attempt.0), fence: self.fence.0 }
    }

    pub(super) fn held(&self) -> Held {
        let LogId { run, node, attempt } = self.log.clone();
        Held { run, node, attempt, fence: self.fence }
    }
}

impl Hub {
    /// The lease of a fencing number as it was given. One from before this server started has no attempt number; agents know
    /// it by its fencing number, too.
    pub(super) fn lease_of(&self, run: &RunId, node: NodeIx, fence: Fence) -> proto::Lease {
        let board = self.board();
        let first = LogId { run: run.clone(), node, attempt: AttemptNo(0) };
        let last = LogId { attempt: AttemptNo(u16::MAX), ..first.clone() };
        let given = board.leases.range(first..=last).find(|(_, (_, given))| *given == fence);
        let attempt = given.map_or(0, |(log, _)| u32::from(log.attempt.0));
        proto::Lease { run: run.to_string(), node: node.0, attempt, fence: fence.0 }
    }

    /// Whether this lease was given to this agent, ever. Asks the log when it was given before this server started. Blocks.
    pub(super) fn is_of(&self, agent: &AgentId, named: &Named) -> bool {
        if let Some((owner, fence)) = self.board().leases.get(&named.log) {
            return owner == agent && *fence == named.fence;
        }
        let Ok(facts) = self.store.facts_of(&named.log.run) else { return false };
        let given = facts.iter().find_map(|fact| match &fact.event {
            RunEvent::AttemptLeased { node, attempt, agent, fence, .. }
                if *node == named.log.node && *attempt == named.log.attempt =>
            {
                Some((agent.clone(), *fence))
            }
            _ => None,
        });
        let Some(given) = given else { return false };
        let is_own = given == (agent.clone(), named.fence);
        self.board().leases.insert(named.log.clone(), given);
        is_own
    }
}
