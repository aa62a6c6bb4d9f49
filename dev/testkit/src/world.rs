//! The world of a scene: it acts through inputs only, and looks through what people see only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use engine::again::{Again, AgainError, Which};
use engine::{RunPhase, StepState, invariant};
use model::units::show_duration;
use model::{
    AgentId, AttemptEnd, AttemptResult, AttemptSpec, Capacity, Cause, Command, Decision, Fact, Fence, Held, Input,
    Labels, NodeIx, Outcome, Pipeline, RunContext, RunEvent, RunId, RunNumber, Step, Timestamp,
};

/// The engine with a clock, agents and a memory of all that happened.
pub struct World {
    engine: engine::World,
    now: Timestamp,
    facts: Vec<Fact>,
    /// What agents were asked to execute and have not answered.
    open: BTreeMap<Fence, (AgentId, Arc<AttemptSpec>)>,
    /// Every attempt ever asked for, for late and repeated answers.
    all: Vec<Arc<AttemptSpec>>,
    /// Files that wait to be read as steps.
    files: Vec<(RunId, NodeIx, Fence, usize)>,
    stops: Vec<(Fence, bool)>,
    /// A server's world: runs are of a project, and agents must be heard of.
    serves: bool,
    because: Vec<String>,
    timeline: String,
}

impl World {
    /// A world with agents of one slot each.
    pub fn with_agents<'a>(names: impl IntoIterator<Item = &'a str>) -> World {
        let mut world = World {
            engine: engine::World::new(),
            now: Timestamp(0),
            facts: Vec::new(),
            open: BTreeMap::new(),
            all: Vec::new(),
            files: Vec::new(),
            stops: Vec::new(),
            serves: false,
            because: Vec::new(),
            timeline: String::new(),
        };
        names.into_iter().for_each(|name| world.joins(name, 1));
        world
    }

    /// A server's world: runs are of project `web`, and an agent that is not heard of for [`World::LEASE`] loses what it has.
    pub fn serving<'a>(names: impl IntoIterator<Item = &'a str>) -> World {
        let mut world = World::with_agents([]);
        world.engine = engine::World::with_leases_of(World::LEASE);
        world.serves = true;
        names.into_iter().for_each(|name| world.joins(name, 1));
        world
    }

    /// How long the leases of an agent last without a word of it in [`World::serving`].
    pub const LEASE: Duration = Duration::from_secs(30);

    // ---- acting ----

    /// Gives the engine an input, checks every invariant, and carries out what follows.
    pub fn give(&mut self, input: Input) -> Decision {
        let decision = engine::decide(&self.engine, &input, self.now);
        self.engine.take(&input, &decision).expect("a decision fits the world it was made for");
        self.facts.extend(decision.events.iter().cloned());
        invariant::all(&self.engine, self.now)
            .and_then(|()| invariant::slots_never_exceeded(&self.engine, &decision))
            .and_then(|()| invariant::ends_once(&self.facts))
            .unwrap_or_else(|broken| panic!("after {input:?}: {broken}\n{}", self.timeline));
        decision.events.iter().for_each(|fact| self.tell(fact));
        decision.commands.iter().for_each(|command| self.carry_out(command));
        self.because = decision.because.iter().map(|reason| reason.text.clone()).collect();
        decision
    }

    /// An agent with so many slots, 64 CPUs and 64 GiB.
    pub fn joins(&mut self, agent: &str, slots: u32) {
        self.joins_with(agent, Capacity { slots, cpu_milli: 64_000, memory: 64 << 30 });
    }

    /// An agent with this capacity.
    pub fn joins_with(&mut self, agent: &str, capacity: Capacity) {
        self.give(Input::AgentJoined { agent: agent.into(), capacity, labels: Labels::new() });
    }

    /// An agent with so many slots and these labels.
    pub fn joins_labelled(&mut self, agent: &str, slots: u32, labels: &[&str]) {
        let capacity = Capacity { slots, cpu_milli: 64_000, memory: 64 << 30 };
        let labels = labels.iter().map(ToString::to_string).collect();
        self.give(Input::AgentJoined { agent: agent.into(), capacity, labels });
    }

    /// An agent says that it lives, and what it executes.
    pub fn beats(&mut self, agent: &str) {
        let held = self.held_by(agent);
        self.give(Input::Heartbeat { agent: agent.into(), held });
    }

    /// The connection of an agent breaks.
    pub fn parts(&mut self, agent: &str) {
        self.give(Input::AgentAway { agent: agent.into() });
    }

    /// An agent with so many slots connects again, and says what it executes.
    pub fn comes_back(&mut self, agent: &str, slots: u32) {
        let held = self.held_by(agent);
        let capacity = Capacity { slots, cpu_milli: 64_000, memory: 64 << 30 };
        self.give(Input::AgentBack { agent: agent.into(), capacity, labels: Labels::new(), held });
    }

    /// An agent was killed: it executes nothing any more, and says nothing.
    pub fn dies(&mut self, agent: &str) {
        self.open.retain(|_, (owner, _)| owner.as_str() != agent);
    }

    /// What an agent executes as it sees it.
    pub fn held_by(&self, agent: &str) -> Vec<Held> {
        let own = self.open.values().filter(|(owner, _)| owner.as_str() == agent);
        own.map(|(_, spec)| Held { run: spec.run.clone(), node: spec.node, attempt: spec.attempt, fence: spec.fence })
            .collect()
    }

    /// The server is killed; another one reads the log of the runs that go on. Agents are to come back.
    pub fn fails_over(&mut self) {
        let mut next = engine::World::with_leases_of(World::LEASE);
        let active: Vec<RunId> = self.engine.runs().map(|run| run.id().clone()).collect();
        let kept = self.facts.iter().filter(|fact| active.contains(&fact.run));
        // As a store keeps them.
        let texts = kept.map(|fact| serde_json::to_string(fact).expect("a fact can be written"));
        let facts: Vec<Fact> =
            texts.map(|text| serde_json::from_str(&text).expect("what was written can be read")).collect();
        facts.iter().try_for_each(|fact| next.fold(fact)).expect("the log replays");
        next.resume(self.now);
        invariant::same_runs(&next, &self.engine).expect("replay is what was");
        invariant::all(&next, self.now).expect("replay is sound");
        self.engine = next;
    }

    /// The clock jumps to so long after the start, back or forth, and nobody was asked.
    pub fn clock_jumps_to(&mut self, since_start: Duration) {
        self.now = Timestamp(0).after(since_start);
    }

    /// Somebody answers the approval of a step of the newest run.
    pub fn answers_approval(&mut self, step: &str, by: &str, approved: bool, comment: &str) -> Decision {
        let (run, node) = (self.newest().id().clone(), self.node(step));
        self.give(Input::Answered { run, node, by: by.into(), approved, comment: comment.into() })
    }

    /// Somebody wants an ended run again.
    ///
    /// # Errors
    /// Why not.
    pub fn again(&mut self, run: &RunId, which: &Which) -> Result<RunId, AgainError> {
        let number = self.engine.runs().count() + 1;
        self.again_as(run, which, &format!("r{number}"))
    }

    /// Somebody wants an ended run again, under this id.
    ///
    /// # Errors
    /// Why not.
    pub fn again_as(&mut self, run: &RunId, which: &Which, id: &str) -> Result<RunId, AgainError> {
        let facts: Vec<Fact> = self.facts.iter().filter(|fact| fact.run == *run).cloned().collect();
        let number = self.engine.runs().count() as u64 + 1;
        let new = RunId::new(id);
        let Again { plan, kept } = engine::again::again(&facts, which, new.clone(), RunNumber(number))?;
        self.give(Input::RunAgain { plan: Arc::new(plan), kept });
        Ok(new)
    }

    /// Drops what has ended, as a server does.
    pub fn forgets_ended(&mut self) {
        let ended = self.engine.runs().filter(|run| matches!(run.phase(), RunPhase::Ended { .. }));
        let ended: Vec<RunId> = ended.map(|run| run.id().clone()).collect();
        ended.iter().for_each(|run| assert!(self.engine.forget(run), "it has ended"));
    }

    /// An agent is gone, and what it was doing with it.
    pub fn vanishes(&mut self, agent: &str) {
        self.open.retain(|_, (owner, _)| owner.as_str() != agent);
        self.give(Input::AgentLeft { agent: agent.into() });
    }

    /// Asks for a run of the pipeline that a text says.
    #[track_caller]
    pub fn push(&mut self, yaml: &str) -> RunId {
        self.runs(&crate::text(yaml))
    }

    /// Asks for a run, named `r1` and so on by its number.
    pub fn runs(&mut self, pipeline: &Pipeline) -> RunId {
        self.runs_with(pipeline, |_| {})
    }

    /// Asks for a run after changing what is known about it.
    pub fn runs_with(&mut self, pipeline: &Pipeline, change: impl FnOnce(&mut RunContext)) -> RunId {
        let number = self.engine.runs().count() as u64 + 1;
        let run = RunId::new(format!("r{number}"));
        let mut context = crate::context(run.clone(), number);
        context.terms.project = self.serves.then(|| "web".into());
        change(&mut context);
        let plan = engine::plan(pipeline, context).expect("the scene's pipeline can be planned");
        self.give(Input::RunRequested { plan: Arc::new(plan) });
        run
    }

    /// The running attempt of a step ends well.
    pub fn passes(&mut self, step: &str) {
        self.ends(step, AttemptEnd::Succeeded);
    }

    /// The running attempt of a step exits with a code.
    pub fn fails(&mut self, step: &str, code: i32) {
        self.ends(step, AttemptEnd::Failed(Cause::Exit(code)));
    }

    /// The running attempt of a step ends.
    pub fn ends(&mut self, step: &str, end: AttemptEnd) {
        self.answers(step, AttemptResult::ended(end));
    }

    /// The running attempt of a step ends well and hands on values.
    pub fn says(&mut self, step: &str, values: &[(&str, &str)]) {
        let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
        result.values = values.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        self.answers(step, result);
    }

    /// The running attempt of a step ends with this result.
    pub fn answers(&mut self, step: &str, result: AttemptResult) {
        let spec = self.spec(step);
        self.open.remove(&spec.fence);
        self.reports(&spec, result);
    }

    /// A report about an attempt, however old.
    pub fn reports(&mut self, spec: &AttemptSpec, result: AttemptResult) -> Decision {
        self.give(Input::AttemptFinished {
            run: spec.run.clone(),
            node: spec.node,
            attempt: spec.attempt,
            fence: spec.fence,
            result: Arc::new(result),
        })
    }

    /// Whoever executed this attempt is not waited for any more: a scene answers in its place.
    pub fn forgets(&mut self, fence: Fence) {
        self.open.remove(&fence);
    }

    /// An `expand` step's file is read and says these steps; `Err`: the report of what is wrong with it.
    pub fn expands(&mut self, step: &str, steps: Result<Vec<Arc<Step>>, &str>) {
        let mut read = AttemptResult::ended(AttemptEnd::Succeeded);
        read.text = Some("steps: …".into());
        self.answers(step, read);
        let (run, node, fence, _) = self.files.pop().expect("the engine asks for the file to be read as steps");
        self.give(Input::Expanded { run, node, fence, steps: steps.map_err(Into::into) });
    }

    /// An `expand` step's file says this text, which is read the way `pace` reads it.
    pub fn expands_to(&mut self, step: &str, yaml: &str) {
        let spec = self.spec(step);
        let plan = self.engine.run(&spec.run).expect("it runs").plan().clone();
        let outer = lang::Outer::of_plan(&plan);
        let (steps, report) = lang::load_expansion("more.yaml", yaml.as_bytes(), &plan.step(spec.node).id, 0, &outer);
        let report = report.render(false, 100);
        self.expands(step, steps.ok_or(report.as_str()));
    }

    /// Somebody cancels the newest run.
    pub fn cancels(&mut self, by: &str, force: bool) {
        let run = self.newest().id().clone();
        self.give(Input::CancelRequested { run, by: by.into(), force });
    }

    /// Time goes on; whatever was to happen meanwhile happens at its time.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(at) = self.engine.next_wake().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.give(Input::Tick);
        }
        self.now = until;
    }

    // ---- looking ----

    /// A step of the newest run shows this text.
    #[track_caller]
    pub fn sees(&self, step: &str, text: &str) {
        assert_eq!(self.shows(step), text, "`{step}`\n{}", self.timeline);
    }

    /// What a person sees of a step of the newest run.
    pub fn shows(&self, step: &str) -> String {
        let run = self.newest();
        let node = self.node(step);
        match run.step(node).expect("a node of the plan has a state") {
            StepState::Running { attempt, lease } => match run.plan().step(node).retry.attempts {
                1 => format!("running on {}", lease.agent),
                attempts => format!("running on {} (attempt {attempt} of {attempts})", lease.agent),
            },
            StepState::Done { outcome, .. } => show_outcome(outcome),
            _ => {
                let reasons = engine::waiting(&self.engine, run.id(), self.now);
                reasons.into_iter().find(|(at, _)| *at == node).map_or_else(String::new, |(_, reason)| reason.text)
            }
        }
    }

    /// A run ended so (`success`, `failure`, `infrastructure`, `refused`, `cancelled`), or is `queued` or `running`.
    #[track_caller]
    pub fn run_is(&self, run: &RunId, word: &str) {
        let shown = match self.engine.run(run).expect("the run was asked for").phase() {
            RunPhase::Held => "held",
            RunPhase::Queued => "queued",
            RunPhase::Started { .. } => "running",
            RunPhase::Ended { outcome, .. } => outcome.word(),
        };
        assert_eq!(shown, word, "{}", self.timeline);
    }

    /// Why the last input did what it did.
    pub fn because(&self) -> &[String] {
        &self.because
    }

    /// What the running attempt of a step was asked to execute.
    #[track_caller]
    pub fn spec(&self, step: &str) -> Arc<AttemptSpec> {
        let mut running = self.open.values().rev().filter(|(_, spec)| &*spec.name == step);
        let (_, spec) = running.next().unwrap_or_else(|| panic!("`{step}` is not running\n{}", self.timeline));
        spec.clone()
    }

    /// Everything that agents are executing.
    pub fn executing(&self) -> impl Iterator<Item = (&AgentId, &Arc<AttemptSpec>)> {
        self.open.values().map(|(agent, spec)| (agent, spec))
    }

    /// Every attempt that was ever asked for.
    pub fn attempts(&self) -> &[Arc<AttemptSpec>] {
        &self.all
    }

    /// Names of the steps that were told to stop so far; `!` behind those that are killed at once.
    pub fn stopped(&self) -> Vec<String> {
        let name = |fence| self.all.iter().find(|spec| spec.fence == fence).map_or("", |spec| &*spec.name);
        self.stops.iter().map(|(fence, force)| format!("{}{}", name(*fence), if *force { "!" } else { "" })).collect()
    }

    /// All that happened, a line each.
    pub fn timeline(&self) -> &str {
        &self.timeline
    }

    /// All facts so far.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// The engine's world.
    pub fn engine(&self) -> &engine::World {
        &self.engine
    }

    /// The time in the scene.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    fn newest(&self) -> &engine::RunState<'static> {
        self.engine.runs().last().expect("the scene asked for a run")
    }

    #[track_caller]
    fn node(&self, step: &str) -> NodeIx {
        let nodes = &self.newest().plan().nodes;
        let at = nodes.iter().position(|node| &*node.name == step);
        NodeIx(at.unwrap_or_else(|| panic!("the plan has no `{step}`")) as u32)
    }

    fn carry_out(&mut self, command: &Command) {
        match command {
            Command::Execute { agent, spec } => {
                self.all.push(spec.clone());
                self.open.insert(spec.fence, (agent.clone(), spec.clone()));
            }
            Command::Stop { fence, force, .. } => self.stops.push((*fence, *force)),
            Command::Expand { run, node, fence, depth, .. } => {
                self.files.push((run.clone(), *node, *fence, *depth));
            }
        }
    }

    fn tell(&mut self, fact: &Fact) {
        let run = self.engine.run(&fact.run).expect("a fact is about a run");
        let name = |node: &NodeIx| run.plan().nodes[node.at()].name.clone();
        let text = match &fact.event {
            RunEvent::Requested { plan } => format!("run {} asked for: {} steps", run.number(), plan.nodes.len()),
            RunEvent::Started => format!("run {} starts", run.number()),
            RunEvent::Released { by } => format!("run {} let go by {by}", run.number()),
            RunEvent::Prioritised { priority, by } => format!("run {}: priority {priority} by {by}", run.number()),
            RunEvent::SlaMissed { bound, within } => {
                format!("run {}: {} {} missed", run.number(), bound.word(), show_duration(*within))
            }
            RunEvent::StepKept { node, from, .. } => format!("{}: kept from run {}", name(node), from.number),
            RunEvent::LeaseExtended { node, .. } => format!("{}: lease extended", name(node)),
            RunEvent::ApprovalOpened { node, message, .. } => format!("{}: asks: {message}", name(node)),
            RunEvent::ApprovalGiven { node, by, approved: true, .. } => format!("{}: approved by {by}", name(node)),
            RunEvent::ApprovalGiven { node, by, approved: false, .. } => format!("{}: declined by {by}", name(node)),
            RunEvent::StepReady { .. } => return,
            RunEvent::AttemptLeased { node, attempt, agent, .. } => {
                format!("{}: attempt {attempt} on {agent}", name(node))
            }
            RunEvent::AttemptEnded { node, result, .. } => match &result.end {
                AttemptEnd::Failed(cause) => format!("{}: {cause}", name(node)),
                AttemptEnd::Succeeded | AttemptEnd::Cancelled => return,
            },
            RunEvent::RetryPlanned { node, not_before, .. } => {
                format!("{}: again in {}", name(node), show_duration(not_before.since(fact.at)))
            }
            RunEvent::Expanded { node, steps } => format!("{}: makes {} steps", name(node), steps.len()),
            RunEvent::StepEnded { node, outcome, .. } => format!("{}: {}", name(node), show_outcome(outcome)),
            RunEvent::CancelRequested { by, force: false } => format!("run {} cancelled by {by}", run.number()),
            RunEvent::CancelRequested { by, force: true } => format!("run {} killed by {by}", run.number()),
            RunEvent::Ended { outcome } => format!("run {} ends: {}", run.number(), outcome.word()),
        };
        let seconds = fact.at.0 as f64 / 1e6;
        let _ = writeln!(self.timeline, "{seconds:>6.1}s  {text}");
    }
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { cached: false } => "passed".into(),
        Outcome::Succeeded { cached: true } => "cached".into(),
        Outcome::Failed { cause, allowed: false } => format!("failed: {cause}"),
        Outcome::Failed { cause, allowed: true } => format!("failed, as it may: {cause}"),
        Outcome::Skipped(skip) => format!("skipped: {skip}"),
        Outcome::Cancelled => "cancelled".into(),
    }
}
