//! What is known about one run: the fold of its facts and log lines that all renderers read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::limits::STEPS_MAX;
use model::{
    AttemptEnd, AttemptNo, AttemptResult, CachedFrom, Cause, Fact, Group, GroupIx, NodeIx, Outcome, Plan, RunEvent,
    RunId, RunNumber, RunOutcome, SlaBound, Step, StepKind, TAIL_LINES_MAX, Timestamp,
};

use crate::tree::{self, Place};
use crate::{ansi, errors};

/// A line of a step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// The instance.
    pub node: NodeIx,
    /// The try.
    pub attempt: AttemptNo,
    /// Secrets masked, without its line break; may hold colours and worse.
    pub text: String,
}

/// Bytes kept of a line in a tail. A tail of longest lines then takes 160 KiB, and only running steps have one.
const TAIL_LINE_BYTES_MAX: usize = 4 << 10;
/// Bytes kept of a step's last line: no terminal is wider.
const LAST_LINE_BYTES_MAX: usize = 512;
/// First error-looking lines kept of an attempt, because the first one usually is the reason and the tail has only
/// the last lines.
pub(crate) const ERROR_LINES_MAX: usize = 8;
/// Instances in all. The engine's bound counts what runs; the ids of template uses come on top.
const NODES_MAX: usize = 2 * STEPS_MAX;

/// The state of one run.
#[derive(Clone, Debug, Default)]
pub struct RunView {
    run: Option<RunId>,
    plan: Option<Arc<Plan>>,
    groups: Vec<Group>,
    order: Vec<Place>,
    steps: Vec<StepView>,
    requested_at: Timestamp,
    started_at: Option<Timestamp>,
    held: Option<String>,
    late: Vec<(SlaBound, Duration)>,
    cancelled_by: Option<String>,
    ended: Option<(Timestamp, RunOutcome)>,
}

/// One step instance.
#[derive(Clone, Debug)]
pub struct StepView {
    /// `test`, `test[go=1.23]`, `test[2/4]`.
    pub name: Arc<str>,
    /// Its step in [`RunView::groups`]; `None` while only its number is known.
    pub group: Option<GroupIx>,
    /// Where it stands.
    pub state: StepState,
    /// Attempts so far.
    pub attempts: u16,
    /// Attempts it may have in all.
    pub attempts_max: u16,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// How its last attempt ended.
    pub result: Option<Arc<AttemptResult>>,
    /// The ended run that its result was taken over from.
    pub kept: Option<CachedFrom>,
    /// Who answered its approval, with what, and what they said to it.
    pub answer: Option<Answer>,
    /// Why it waits, if somebody said.
    pub reason: Option<String>,
    /// The last line with something on it, without colours, at most 512 bytes.
    pub last_line: String,
    /// How long it took before.
    pub estimate: Option<Duration>,
    /// It runs nothing: the id of a template use.
    pub silent: bool,
    tail: VecDeque<String>,
    errors: Vec<String>,
}

/// The answer to an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub by: String,
    /// Yes or no.
    pub approved: bool,
    /// What they said to it; may be empty.
    pub comment: String,
}

/// Where an instance stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepState {
    /// For what it depends on.
    Waiting,
    /// For an agent.
    Ready {
        /// Since when.
        since: Timestamp,
    },
    /// An attempt is executed.
    Running {
        /// Since when.
        since: Timestamp,
        /// The try.
        attempt: AttemptNo,
    },
    /// For the answer of a person.
    Asking {
        /// Since when.
        since: Timestamp,
        /// What is asked; may be empty.
        message: String,
        /// Who may answer: `user:NAME`, `team:NAME`.
        by: Vec<String>,
        /// When it fails without an answer.
        expires: Timestamp,
    },
    /// For its next attempt.
    Retrying {
        /// When it may start.
        not_before: Timestamp,
        /// Why the last one did not do.
        cause: Cause,
    },
    /// It ended.
    Done {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

/// How many instances stand where. Those that run nothing are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// Waiting, ready, asking a person, or between two attempts.
    pub waiting: usize,
    /// Running.
    pub running: usize,
    /// Succeeded, from the cache or not.
    pub succeeded: usize,
    /// Succeeded from the cache.
    pub cached: usize,
    /// Failed, and somebody minds.
    pub failed: usize,
    /// Failed, and nobody minds.
    pub allowed: usize,
    /// Did not run.
    pub skipped: usize,
    /// Stopped.
    pub cancelled: usize,
}

impl Counts {
    /// Those that ended, however they did.
    pub fn done(&self) -> usize {
        self.succeeded + self.failed + self.allowed + self.skipped + self.cancelled
    }

    pub(crate) fn add(&mut self, state: &StepState) {
        self.total += 1;
        *match state {
            StepState::Waiting | StepState::Ready { .. } | StepState::Asking { .. } | StepState::Retrying { .. } => {
                &mut self.waiting
            }
            StepState::Running { .. } => &mut self.running,
            StepState::Done { outcome, .. } => match outcome {
                Outcome::Succeeded { cached } => {
                    self.cached += usize::from(*cached);
                    &mut self.succeeded
                }
                Outcome::Failed { allowed: false, .. } => &mut self.failed,
                Outcome::Failed { allowed: true, .. } => &mut self.allowed,
                Outcome::Skipped(_) => &mut self.skipped,
                Outcome::Cancelled => &mut self.cancelled,
            },
        } += 1;
    }
}

impl RunView {
    /// Nothing is known yet. The first fact says which run it is about; facts of other runs change nothing.
    pub fn new() -> Self {
        RunView::default()
    }

    /// Folds a fact in.
    pub fn fact(&mut self, fact: &Fact) {
        if *self.run.get_or_insert_with(|| fact.run.clone()) != fact.run {
            return;
        }
        let at = fact.at;
        match &fact.event {
            RunEvent::Requested { plan } => {
                self.requested_at = at;
                self.held.clone_from(&plan.context.terms.held);
                self.plan_grew(plan);
            }
            RunEvent::Released { .. } => self.held = None,
            RunEvent::SlaMissed { bound, within } => self.late.push((*bound, *within)),
            RunEvent::Prioritised { .. } | RunEvent::LeaseExtended { .. } => {}
            RunEvent::StepKept { node, from, result } => {
                if let Some(step) = self.slot(*node) {
                    step.kept = Some(from.clone());
                    step.result = Some(result.clone());
                }
            }
            RunEvent::ApprovalOpened { node, message, by, expires } => {
                let asking =
                    StepState::Asking { since: at, message: message.clone(), by: by.clone(), expires: *expires };
                self.set(*node, asking);
            }
            RunEvent::ApprovalGiven { node, by, approved, comment } => {
                if let Some(step) = self.slot(*node) {
                    step.answer = Some(Answer { by: by.clone(), approved: *approved, comment: comment.clone() });
                }
            }
            RunEvent::Started => self.started_at = Some(at),
            RunEvent::StepReady { node } => self.set(*node, StepState::Ready { since: at }),
            RunEvent::AttemptLeased { node, attempt, .. } => self.attempt_starts(*node, *attempt, at),
            RunEvent::AttemptEnded { node, result, .. } => self.attempt_ends(*node, result),
            RunEvent::RetryPlanned { node, not_before, cause } => {
                self.set(*node, StepState::Retrying { not_before: *not_before, cause: cause.clone() });
            }
            RunEvent::Expanded { node, steps } => {
                self.expand(*node, steps);
                self.order = tree::order(&self.groups);
            }
            RunEvent::StepEnded { node, outcome, .. } => {
                self.set(*node, StepState::Done { at, outcome: outcome.clone() });
            }
            RunEvent::CancelRequested { by, .. } => self.cancelled_by = Some(by.clone()),
            RunEvent::Ended { outcome } => self.ended = Some((at, *outcome)),
        }
    }

    /// Folds a line of output in. Lines of an attempt that is not the running one change nothing.
    pub fn log(&mut self, line: &LogLine) {
        let Some(step) = self.slot(line.node) else { return };
        if !matches!(step.state, StepState::Running { attempt, .. } if attempt == line.attempt) {
            return;
        }
        let shown = ansi::strip(ansi::head(&line.text, LAST_LINE_BYTES_MAX));
        if step.errors.len() < ERROR_LINES_MAX && errors::looks_like_error(&shown) {
            step.errors.push(shown.clone());
        }
        if !shown.trim().is_empty() {
            step.last_line = shown;
        }
        if step.tail.len() == TAIL_LINES_MAX {
            step.tail.pop_front();
        }
        step.tail.push_back(ansi::head(&line.text, TAIL_LINE_BYTES_MAX).to_owned());
    }

    /// Says why instances wait: all reasons that hold now, instead of those given before.
    pub fn set_reasons(&mut self, reasons: Vec<(NodeIx, String)>) {
        self.steps.iter_mut().for_each(|step| step.reason = None);
        for (node, reason) in reasons {
            if let Some(step) = self.slot(node) {
                step.reason = Some(reason);
            }
        }
    }

    /// Takes the whole plan after an `expand` step made steps: their names, matrix instances and dependencies.
    /// Without it the steps of an expansion are known by their ids only.
    pub fn plan_grew(&mut self, plan: &Arc<Plan>) {
        self.groups = plan.groups.clone();
        for (at, node) in plan.nodes.iter().enumerate() {
            let Some(step) = self.slot(NodeIx(at as u32)) else { break };
            let definition = plan.step(NodeIx(at as u32));
            step.name = node.name.clone();
            step.group = Some(node.group);
            step.attempts_max = definition.retry.attempts;
            step.silent = matches!(definition.kind, StepKind::Group);
            step.estimate = plan.context.estimates.get(&*node.name).copied();
        }
        self.plan = Some(plan.clone());
        self.order = tree::order(&self.groups);
    }

    /// The plan, once it is known.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }
    /// The run; empty before the first fact.
    pub fn run(&self) -> &str {
        self.run.as_ref().map_or("", RunId::as_str)
    }
    /// The run's number; 0 before it is known.
    pub fn number(&self) -> RunNumber {
        self.plan.as_ref().map_or(RunNumber(0), |plan| plan.context.number)
    }
    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        self.plan.as_ref().map_or("pipeline", |plan| &plan.name)
    }
    /// All step instances, in file order.
    pub fn steps(&self) -> &[StepView] {
        &self.steps
    }
    /// All steps, in file order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
    pub(crate) fn order(&self) -> &[Place] {
        &self.order
    }
    /// One step instance.
    pub fn step(&self, node: NodeIx) -> Option<&StepView> {
        self.steps.get(node.at())
    }
    /// The name of an instance; its number if nothing else is known.
    pub fn name(&self, node: NodeIx) -> Arc<str> {
        self.step(node).map_or_else(|| unnamed(node.at()), |step| step.name.clone())
    }
    /// How the run ended, if it did.
    pub fn outcome(&self) -> Option<RunOutcome> {
        self.ended.map(|(_, outcome)| outcome)
    }
    /// When it was asked for.
    pub fn requested_at(&self) -> Timestamp {
        self.requested_at
    }
    /// It may start: its concurrency group is free.
    pub fn has_started(&self) -> bool {
        self.started_at.is_some()
    }
    /// Why it is held, until somebody lets it go.
    pub fn held(&self) -> Option<&str> {
        self.held.as_deref()
    }
    /// The bounds of its `sla` that it missed, and what was promised.
    pub fn late(&self) -> &[(SlaBound, Duration)] {
        &self.late
    }
    /// Who asked to stop, if somebody did.
    pub fn cancelled_by(&self) -> Option<&str> {
        self.cancelled_by.as_deref()
    }
    /// From request to end, or to `now`.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        self.ended.map_or(now, |(at, _)| at).since(self.requested_at)
    }
    /// From request to end; `None` while it runs.
    pub fn took(&self) -> Option<Duration> {
        self.ended.map(|(at, _)| at.since(self.requested_at))
    }

    /// How many instances stand where.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.steps.iter().filter(|step| !step.silent).for_each(|step| counts.add(&step.state));
        counts
    }

    /// What the cache saved: the time the hits took when they were executed, less what fetching them took.
    pub fn saved_by_cache(&self) -> Duration {
        let hits = self.steps.iter().filter_map(|step| Some((step.cached()?.took, step.result.as_ref()?.took)));
        hits.map(|(then, now)| then.saturating_sub(now)).sum()
    }

    /// The chain of instances that made the run as long as it was, first to last: each one is what the next one
    /// waited for longest.
    pub fn critical_path(&self) -> Vec<NodeIx> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let ended = |node: &NodeIx| self.step(*node).and_then(StepView::ended_at);
        let all = (0..self.steps.len().min(plan.nodes.len()) as u32).map(NodeIx);
        let mut next = all.filter(|node| self.steps[node.at()].started_at.is_some()).max_by_key(ended);
        let mut path = Vec::new();
        while let Some(node) = next.filter(|_| path.len() < NODES_MAX) {
            path.push(node);
            next = plan.needed_nodes(node).filter(|need| ended(need).is_some()).max_by_key(ended);
        }
        path.retain(|node| self.steps[node.at()].started_at.is_some());
        path.reverse();
        path
    }

    fn set(&mut self, node: NodeIx, state: StepState) {
        if let Some(step) = self.slot(node) {
            step.state = state;
            step.reason = None;
        }
    }

    fn attempt_starts(&mut self, node: NodeIx, attempt: AttemptNo, at: Timestamp) {
        self.set(node, StepState::Running { since: at, attempt });
        let Some(step) = self.slot(node) else { return };
        step.attempts = attempt.0;
        step.started_at.get_or_insert(at);
        step.result = None;
        step.last_line.clear();
        step.tail.clear();
        step.errors.clear();
    }

    fn attempt_ends(&mut self, node: NodeIx, result: &Arc<AttemptResult>) {
        let Some(step) = self.slot(node) else { return };
        // The agent's tail is complete; ours stands in only where the agent was lost and has none.
        if result.end == AttemptEnd::Succeeded || !result.tail.is_empty() {
            step.tail = VecDeque::new();
        }
        if result.end == AttemptEnd::Succeeded {
            step.errors = Vec::new();
        }
        step.result = Some(result.clone());
    }

    fn expand(&mut self, maker: NodeIx, steps: &[Arc<Step>]) {
        // The whole plan may have come before the fact.
        if self.groups.iter().any(|group| group.made_by == Some(maker)) {
            return;
        }
        for step in steps {
            // How many instances a matrix makes is the engine's to say (`plan_grew`). From the first such step on,
            // the numbers of those after it are unknown too.
            if step.matrix.is_some() || step.shards > 1 {
                return;
            }
            let (first, group) = (self.steps.len(), GroupIx(self.groups.len() as u32));
            let Some(slot) = self.slot(NodeIx(first as u32)) else { return };
            slot.name = step.id.as_str().into();
            slot.group = Some(group);
            slot.attempts_max = step.retry.attempts;
            slot.silent = matches!(step.kind, StepKind::Group);
            let first = NodeIx(first as u32);
            self.groups.push(Group {
                step: step.clone(),
                first,
                count: 1,
                made_by: Some(maker),
                needed_by: Vec::new(),
            });
        }
    }

    /// The instance's place, made if the number is new and possible.
    fn slot(&mut self, node: NodeIx) -> Option<&mut StepView> {
        if node.at() >= self.steps.len() && node.at() < NODES_MAX {
            let from = self.steps.len();
            self.steps.extend((from..=node.at()).map(|at| StepView::new(unnamed(at))));
        }
        self.steps.get_mut(node.at())
    }
}

fn unnamed(at: usize) -> Arc<str> {
    format!("step {}", at + 1).into()
}

impl StepView {
    fn new(name: Arc<str>) -> Self {
        StepView {
            name,
            group: None,
            state: StepState::Waiting,
            attempts: 0,
            attempts_max: 1,
            started_at: None,
            result: None,
            kept: None,
            answer: None,
            reason: None,
            last_line: String::new(),
            estimate: None,
            silent: false,
            tail: VecDeque::new(),
            errors: Vec::new(),
        }
    }

    /// The last lines of its last attempt, at most [`TAIL_LINES_MAX`], as they were written.
    pub fn tail(&self) -> Vec<&str> {
        match self.result.as_ref().filter(|result| !result.tail.is_empty()) {
            Some(result) => result.tail.iter().map(String::as_str).collect(),
            None => self.tail.iter().map(String::as_str).collect(),
        }
    }

    /// The first lines of its last attempt that look like an error, without colours.
    pub fn error_lines(&self) -> &[String] {
        &self.errors
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            StepState::Done { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// When it ended, if it did.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            StepState::Done { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// From the start of its first attempt to its end; `None` if it did not run or still does.
    pub fn took(&self) -> Option<Duration> {
        Some(self.ended_at()?.since(self.started_at?))
    }

    /// The execution its result comes from, if that is the cache or a run that this one does again.
    pub fn cached(&self) -> Option<&CachedFrom> {
        matches!(self.outcome(), Some(Outcome::Succeeded { cached: true })).then_some(())?;
        self.kept.as_ref().or(self.result.as_ref()?.cached.as_ref())
    }

    /// Values that say how far it is: `attempt 2 of 3`, if there was more than one.
    pub(crate) fn attempt_words(&self) -> Option<String> {
        (self.attempts > 1).then(|| format!("attempt {} of {}", self.attempts, self.attempts_max.max(self.attempts)))
    }
}

/// Failed instances by cause, first in file order: what a summary begins with.
pub(crate) fn failures(view: &RunView) -> Vec<(&StepView, &Cause)> {
    let failed = view.steps().iter().filter(|step| !step.silent).filter_map(|step| match step.outcome() {
        Some(Outcome::Failed { cause, allowed: false }) => Some((step, cause)),
        _ => None,
    });
    failed.collect()
}

/// The names of instances by why they were skipped.
pub(crate) fn skips(view: &RunView) -> BTreeMap<String, Vec<&str>> {
    let mut skips = BTreeMap::<String, Vec<&str>>::new();
    for step in view.steps().iter().filter(|step| !step.silent) {
        if let Some(Outcome::Skipped(skip)) = step.outcome() {
            skips.entry(skip.to_string()).or_default().push(&step.name);
        }
    }
    skips
}
