//! A run without running: the engine decides as always, the agent only foresees. `pace plan`, `why` and `shell` ask it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use agent::{Agent, Foresight};
use engine::World;
use model::{
    AgentId, AttemptEnd, AttemptResult, AttemptSpec, Capacity, Command, Input, Labels, NodeIx, Outcome, Plan, RunEvent,
    RunId,
};

use crate::exit::Failure;
use crate::prepare::Prepared;
use crate::runner::now;

/// What would happen.
pub struct Rehearsal {
    /// The plan.
    pub plan: Arc<Plan>,
    /// What each instance that gets that far would execute, and whether it would.
    pub attempts: BTreeMap<NodeIx, (Arc<AttemptSpec>, Foresight)>,
    /// How each instance would end.
    pub outcomes: BTreeMap<NodeIx, Outcome>,
}

/// Goes through the plan. Instances that would be executed count as succeeded without values, so that what stands
/// behind them is seen too.
pub fn rehearse(plan: Arc<Plan>, prepared: &Prepared, agent: &Agent) -> Result<Rehearsal, Failure> {
    let scratch = prepared.history.folder.join("rehearsal");
    agent.begin(
        &plan.context.run,
        agent::Project {
            root: prepared.project.root.clone(),
            key: prepared.key(),
            snapshot: prepared.snapshot.clone(),
            log_dir: scratch.join("logs"),
            lock: prepared.lock.clone(),
            tenant: "local".into(),
            cache_scope: prepared.cache_scope(),
            shared_scope: None,
            cache: None,
            artifact_dir: scratch.join("artifacts"),
        },
    );
    walk(plan, &|spec| agent.foresee(spec))
}

/// Goes through the plan as if every instance were executed; asks nobody.
pub fn walk_blindly(plan: Arc<Plan>) -> Result<Rehearsal, Failure> {
    walk(plan, &|_| Foresight::Executes(String::new()))
}

fn walk(plan: Arc<Plan>, foresee: &dyn Fn(&Arc<AttemptSpec>) -> Foresight) -> Result<Rehearsal, Failure> {
    let run = plan.context.run.clone();
    let mut rehearsal = Rehearsal { plan: plan.clone(), attempts: BTreeMap::new(), outcomes: BTreeMap::new() };
    let mut world = World::new();
    let hands = Capacity { slots: u32::MAX, cpu_milli: u32::MAX, memory: u64::MAX };
    let mut inbox = VecDeque::from([
        Input::AgentJoined { agent: AgentId::from("rehearsal"), capacity: hands, labels: Labels::new() },
        Input::RunRequested { plan },
    ]);
    while let Some(input) = inbox.pop_front() {
        let decision = engine::decide(&world, &input, now());
        world
            .take(&input, &decision)
            .map_err(|illegal| Failure::internal(format!("an impossible event: {illegal}")))?;
        for fact in &decision.events {
            if let RunEvent::StepEnded { node, outcome, .. } = &fact.event {
                rehearsal.outcomes.insert(*node, outcome.clone());
            }
        }
        for command in decision.commands {
            match command {
                Command::Execute { spec, .. } => inbox.push_back(rehearsal.finish(&run, spec, foresee)),
                Command::Expand { run, node, fence, path, text, depth } => {
                    let plan = world.run(&run).map_or_else(|| rehearsal.plan.clone(), |run| run.plan().clone());
                    let steps = match text.is_empty() {
                        true => Ok(Vec::new()),
                        false => crate::runner::expansion(&plan, node, &path, &text, depth),
                    };
                    inbox.push_back(Input::Expanded { run, node, fence, steps });
                }
                Command::Stop { .. } => {}
            }
        }
    }
    if let Some(grown) = world.run(&run) {
        rehearsal.plan = grown.plan().clone();
    }
    Ok(rehearsal)
}

impl Rehearsal {
    fn finish(
        &mut self,
        run: &RunId,
        spec: Arc<AttemptSpec>,
        foresee: &dyn Fn(&Arc<AttemptSpec>) -> Foresight,
    ) -> Input {
        let foresight = foresee(&spec);
        let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
        match &foresight {
            Foresight::Cached { from, values } => {
                result.cached = Some(from.clone());
                result.values.clone_from(values);
            }
            Foresight::Reads(text) => result.text = Some(text.clone()),
            // What is not known yet makes no steps.
            Foresight::Executes(_) | Foresight::Open(_) => result.text = Some(String::new()),
        }
        let finished = Input::AttemptFinished {
            run: run.clone(),
            node: spec.node,
            attempt: spec.attempt,
            fence: spec.fence,
            result: Arc::new(result),
        };
        self.attempts.insert(spec.node, (spec, foresight));
        finished
    }

    /// The one instance that `name` means: an instance's name, or a step with one instance.
    pub fn find(&self, name: &str) -> Result<NodeIx, Failure> {
        let of_step = |at: &usize| self.plan.groups[self.plan.nodes[*at].group.at()].step.id.as_str() == name;
        let all: Vec<usize> = match (0..self.plan.nodes.len()).find(|at| &*self.plan.nodes[*at].name == name) {
            Some(exact) => vec![exact],
            None => (0..self.plan.nodes.len()).filter(of_step).collect(),
        };
        match all.as_slice() {
            [one] => Ok(NodeIx(u32::try_from(*one).unwrap_or(u32::MAX))),
            [] => {
                let ids = self.plan.groups.iter().map(|group| group.step.id.as_str());
                let help = match engine::nearest(name, ids.chain(self.plan.nodes.iter().map(|node| &*node.name))) {
                    Some(near) => format!("there is a step `{near}`"),
                    None => "`pace plan` lists them".into(),
                };
                Err(Failure::usage(format!("there is no step `{name}`")).help(help))
            }
            several => {
                let names: Vec<_> = several.iter().take(5).map(|at| self.plan.nodes[*at].name.to_string()).collect();
                Err(Failure::usage(format!("step `{name}` has {} instances", several.len()))
                    .help(format!("name one: {}", names.join(", "))))
            }
        }
    }

    /// What the instance would execute.
    pub fn spec(&self, node: NodeIx) -> Result<&(Arc<AttemptSpec>, Foresight), Failure> {
        let name = &self.plan.nodes[node.at()].name;
        self.attempts.get(&node).ok_or_else(|| match self.outcomes.get(&node) {
            Some(Outcome::Skipped(why)) => Failure::usage(format!("`{name}` would not run: {why}")),
            Some(Outcome::Failed { cause, .. }) => Failure::usage(format!("`{name}` would not run: {cause}")),
            _ => Failure::usage(format!("`{name}` runs nothing itself")),
        })
    }
}
