//! What the desk knows of active runs beside the world: whose they are, and what their instances left for others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use model::{AgentId, Digest, Fact, LayerRef, NodeIx, Plan, ProjectId, RunEvent, RunId, RunNumber};
use proto::{Known, RunBrief};

use super::RunCard;
use crate::errands::Reporters;

/// Ended runs whose ids are remembered, so that a wish that comes twice at the same time makes one run.
const ENDED_MAX: usize = 10_000;

/// What the desk knows of active runs beside the world.
#[derive(Debug, Default)]
pub(super) struct Keep {
    runs: BTreeMap<RunId, KeptRun>,
    /// The last number that was given.
    pub(super) numbers: BTreeMap<ProjectId, RunNumber>,
    /// What each agent was told of since it came.
    told: BTreeMap<AgentId, BTreeSet<(RunId, NodeIx)>>,
    ended: VecDeque<(RunId, RunNumber)>,
    /// Who hears of runs.
    pub(super) reporters: Reporters,
}

#[derive(Debug)]
struct KeptRun {
    card: Arc<RunCard>,
    left: BTreeMap<NodeIx, (Option<LayerRef>, Option<Digest>)>,
    agents: BTreeSet<AgentId>,
}

impl Keep {
    /// Takes over a fact.
    pub(super) fn fold(&mut self, project: &ProjectId, fact: &Fact) {
        match &fact.event {
            RunEvent::Requested { plan } => {
                let number = self.numbers.entry(project.clone()).or_default();
                *number = plan.context.number.max(*number);
                let card = Arc::new(card(project, plan));
                let run = KeptRun { card, left: BTreeMap::new(), agents: BTreeSet::new() };
                self.runs.insert(fact.run.clone(), run);
            }
            RunEvent::AttemptEnded { node, result, .. } | RunEvent::StepKept { node, result, .. } => {
                if let Some(run) = self.runs.get_mut(&fact.run) {
                    run.left.insert(*node, (result.layer, result.action));
                }
            }
            _ => {}
        }
    }

    /// What agents must know of a run.
    pub(super) fn card(&self, run: &RunId) -> Option<&Arc<RunCard>> {
        self.runs.get(run).map(|run| &run.card)
    }

    /// Whose a run is.
    pub(super) fn project(&self, run: &RunId) -> Option<&ProjectId> {
        self.card(run).map(|card| &card.project)
    }

    /// A run that ended lately.
    pub(super) fn ended(&self, run: &RunId) -> Option<RunNumber> {
        self.ended.iter().rev().find(|(id, _)| id == run).map(|(_, number)| *number)
    }

    /// An agent came or came again: it may have forgotten everything.
    pub(super) fn forget_told(&mut self, agent: &AgentId) {
        self.told.remove(agent);
    }

    /// A run is over.
    pub(super) fn forget(&mut self, run: &RunId, number: RunNumber) {
        let Some(kept) = self.runs.remove(run) else { return };
        for agent in kept.agents {
            if let Some(told) = self.told.get_mut(&agent) {
                let ours: Vec<_> =
                    told.range((run.clone(), NodeIx(0))..=(run.clone(), NodeIx(u32::MAX))).cloned().collect();
                ours.iter().for_each(|key| {
                    told.remove(key);
                });
            }
        }
        self.ended.push_back((run.clone(), number));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    /// All that an instance rests on and that this agent was not told of since it came. Who was told of an instance was told
    /// of all below it, so that each is walked once for an agent.
    pub(super) fn known(&mut self, run: &RunId, needs: &[NodeIx], plan: &Plan, agent: &AgentId) -> Vec<Known> {
        let Some(kept) = self.runs.get_mut(run) else { return Vec::new() };
        let told = self.told.entry(agent.clone()).or_default();
        kept.agents.insert(agent.clone());
        let (mut open, mut known) = (needs.to_vec(), Vec::new());
        while let Some(node) = open.pop() {
            if node.at() >= plan.nodes.len() || !told.insert((run.clone(), node)) {
                continue;
            }
            let needs: Vec<NodeIx> = plan.needed_nodes(node).collect();
            open.extend(&needs);
            let (layer, action) = kept.left.get(&node).copied().unwrap_or_default();
            known.push(Known { node, name: plan.nodes[node.at()].name.to_string(), needs, layer, action });
        }
        known
    }
}

fn card(project: &ProjectId, plan: &Plan) -> RunCard {
    let context = &plan.context;
    let fork = context.terms.fork || context.trigger.event.fork;
    let payer = if context.terms.tenant.is_empty() { project.as_str() } else { &context.terms.tenant };
    let brief = RunBrief {
        project: project.as_str().into(),
        number: context.number.0,
        commit: context.trigger.git.commit.clone(),
        key: format!("{project}/{}", plan.name),
        tenant: payer.into(),
        cache_scope: if fork { String::new() } else { project.as_str().into() },
        // A segment `pr` would name an overlay.
        cache_instance: payer.replace('/', "."),
        cache_writes: !fork,
    };
    RunCard { run: context.run.clone(), project: project.clone(), trigger: context.trigger.clone(), fork, brief }
}
