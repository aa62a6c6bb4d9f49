//! Facts as an engine would make them.

use std::sync::Arc;
use std::time::Duration;

use model::{
    AgentId, ArtifactRef, AttemptEnd, AttemptNo, AttemptResult, Cause, Fact, Fence, NodeIx, Plan, ProjectId, RunEvent,
    RunId, RunOutcome, Timestamp,
};
use store::{Batch, LogChunk, LogId, ProjectFact};

/// A run that is asked for.
pub struct Asked<'a> {
    pub project: &'a str,
    pub run: &'a str,
    pub number: u64,
    pub branch: &'a str,
    pub commit: &'a str,
    pub pipeline: &'a str,
    pub steps: &'a [&'a str],
}

pub fn asked<'a>(project: &'a str, run: &'a str, number: u64) -> Asked<'a> {
    Asked { project, run, number, branch: "main", commit: "", pipeline: "ci", steps: &["build", "test"] }
}

impl Asked<'_> {
    pub fn fact(&self) -> ProjectFact {
        let nodes: Vec<_> = self.steps.iter().map(|name| serde_json::json!({
            "group": 0, "name": name, "cell": {}, "shard": null, "needs": [], "rank": 0, "fresh": false, "skip": null,
        })).collect();
        let plan: Plan = serde_json::from_value(serde_json::json!({
            "name": self.pipeline,
            "context": {
                "run": self.run,
                "number": self.number,
                "trigger": {
                    "event": { "kind": "Push", "title": "", "number": 0, "author": "anna", "changed": null },
                    "git": { "commit": self.commit, "branch": self.branch, "tag": "", "message": "More", "author": "anna",
                             "target": "" },
                },
                "params": {}, "hashes": [], "caller_env": {}, "estimates": {},
                "selection": { "only": [], "from": [], "no_cache": false, "verify": false },
                "on_failure": "Stop",
            },
            "env": {}, "concurrency": null, "sla": null, "groups": [], "nodes": nodes,
        }))
        .expect("a plan is kept as JSON for years: a new field needs a default");
        at(self.project, self.run, self.number, RunEvent::Requested { plan: Arc::new(plan) })
    }
}

pub fn at(project: &str, run: &str, at: u64, event: RunEvent) -> ProjectFact {
    ProjectFact { project: ProjectId::new(project), fact: Fact { at: Timestamp(at), run: RunId::new(run), event } }
}

pub fn leased(project: &str, run: &str, node: u32, fence: u64) -> ProjectFact {
    let event = RunEvent::AttemptLeased {
        node: NodeIx(node),
        attempt: AttemptNo(1),
        agent: AgentId::new("agent-1"),
        fence: Fence(fence),
        deadline: Timestamp(fence + 1),
    };
    at(project, run, fence, event)
}

pub fn succeeded(project: &str, run: &str, node: u32, took_ms: u64, artifacts: &[(&str, &str)]) -> ProjectFact {
    let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
    result.took = Duration::from_millis(took_ms);
    result.artifacts = artifacts
        .iter()
        .map(|(name, version)| ArtifactRef {
            name: (*name).into(),
            version: Some((*version).into()),
            path: format!("out/{name}"),
            files: Vec::new(),
        })
        .collect();
    ended_attempt(project, run, node, result)
}

pub fn failed(project: &str, run: &str, node: u32) -> ProjectFact {
    ended_attempt(project, run, node, AttemptResult::ended(AttemptEnd::Failed(Cause::Exit(1))))
}

fn ended_attempt(project: &str, run: &str, node: u32, result: AttemptResult) -> ProjectFact {
    at(project, run, 50, RunEvent::AttemptEnded { node: NodeIx(node), attempt: AttemptNo(1), result: Arc::new(result) })
}

pub fn started(project: &str, run: &str, when: u64) -> ProjectFact {
    at(project, run, when, RunEvent::Started)
}

pub fn ended(project: &str, run: &str, when: u64, outcome: RunOutcome) -> ProjectFact {
    at(project, run, when, RunEvent::Ended { outcome })
}

pub fn facts(facts: impl IntoIterator<Item = ProjectFact>) -> Batch {
    Batch { facts: facts.into_iter().collect(), ..Batch::default() }
}

pub fn log_id(run: &str, node: u32) -> LogId {
    LogId { run: RunId::new(run), node: NodeIx(node), attempt: AttemptNo(1) }
}

pub fn chunk(run: &str, node: u32, offset: u64, bytes: impl Into<Vec<u8>>) -> Batch {
    Batch { logs: vec![LogChunk { log: log_id(run, node), offset, bytes: bytes.into() }], ..Batch::default() }
}
