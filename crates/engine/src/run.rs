//! The state of a run: the run itself, its step instances, and a count for each step so that nothing is ever searched.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use model::{
    Cause, Group, GroupIx, NodeIx, Outcome, Plan, RunEvent, RunId, RunNumber, RunOutcome, Skip, SlaBound, Step,
    StepKind, Timestamp,
};

use crate::cells::Cells;
use crate::graph::Graph;
use crate::grow;
use crate::queue::{self, Payer};
use crate::step::StepState;
use crate::verdict::Seen;

/// Who hears of the instances that now have all they waited for.
pub(crate) type Freed<'a> = &'a mut dyn FnMut(NodeIx);

/// A run, or a draft of what becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState<'w> {
    pub(crate) head: Head,
    pub(crate) steps: Cells<'w, StepState>,
    pub(crate) groups: Cells<'w, GroupState>,
}

/// What is true of the run as a whole; small, because every draft copies it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) id: RunId,
    pub(crate) graph: Arc<Graph>,
    pub(crate) requested: Timestamp,
    pub(crate) phase: RunPhase,
    pub(crate) priority: i32,
    /// When it is due: its place in the queue.
    pub(crate) due: Timestamp,
    pub(crate) payer: Payer,
    pub(crate) bounds: Bounds,
    pub(crate) cancel: Option<Cancel>,
    /// The first instance that failed and was not allowed to.
    pub(crate) failure: Option<Arc<str>>,
    /// Instances that have not ended.
    pub(crate) open: u32,
    pub(crate) tally: Tally,
}

/// The bounds of `sla` that can still be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    pub(crate) start: Option<Timestamp>,
    pub(crate) finish: Option<Timestamp>,
}

impl Bounds {
    fn of(plan: &Plan, from: Timestamp) -> Bounds {
        let sla = plan.sla.unwrap_or_default();
        let after = |within: Option<Duration>| within.map(|within| from.after(within));
        Bounds { start: after(sla.start_within), finish: after(sla.finish_within) }
    }

    pub(crate) fn all(self) -> impl Iterator<Item = (Timestamp, SlaBound)> {
        let start = self.start.map(|at| (at, SlaBound::Start));
        start.into_iter().chain(self.finish.map(|at| (at, SlaBound::Finish)))
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// Somebody must let it go first.
    Held,
    /// Its concurrency group is taken.
    Queued,
    /// It runs.
    Started {
        /// Since when.
        at: Timestamp,
    },
    /// It ended.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        outcome: RunOutcome,
    },
}

/// Somebody asked a run to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Who or what.
    pub by: Arc<str>,
    /// Not even clean-up steps.
    pub force: bool,
}

/// Failures by kind: what they all are decides how the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    failed: u32,
    infrastructure: u32,
    refused: u32,
    cancelled: u32,
}

/// How the instances of one step ended so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupState {
    /// Have not ended.
    pub(crate) open: u32,
    /// Ended as skipped.
    pub(crate) skipped: u32,
    /// Ended as cancelled.
    pub(crate) cancelled: u32,
    /// The first that failed and was not allowed to.
    pub(crate) failed: Option<Arc<str>>,
    /// One of them did not run because something failed.
    pub(crate) blocked: bool,
}

impl RunState<'_> {
    /// A run that was asked for; `None` if its plan points outside of itself.
    pub(crate) fn requested(plan: &Arc<Plan>, at: Timestamp) -> Option<RunState<'static>> {
        let graph = Graph::new(plan.clone())?;
        let terms = &plan.context.terms;
        let held = terms.held.is_some();
        let mut run = RunState {
            head: Head {
                id: plan.context.run.clone(),
                graph: Arc::new(graph),
                requested: at,
                phase: if held { RunPhase::Held } else { RunPhase::Queued },
                priority: terms.priority(),
                due: queue::due(plan, terms.priority(), at),
                payer: terms.payer().into(),
                // Nobody is promised anything while a person is waited for.
                bounds: if held { Bounds::default() } else { Bounds::of(plan, at) },
                cancel: None,
                failure: None,
                open: 0,
                tally: Tally::default(),
            },
            steps: Cells::Own(Vec::with_capacity(plan.nodes.len())),
            groups: Cells::Own(Vec::with_capacity(plan.groups.len())),
        };
        run.open_cells(0, 0);
        Some(run)
    }

    /// A draft over this run.
    pub(crate) fn over(&self) -> RunState<'_> {
        RunState { head: self.head.clone(), steps: self.steps.over(), groups: self.groups.over() }
    }

    /// Its id.
    pub fn id(&self) -> &RunId {
        &self.head.id
    }
    /// Its number.
    pub fn number(&self) -> RunNumber {
        self.plan().context.number
    }
    /// Its plan, with what `expand` steps added so far.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.head.graph.plan
    }
    /// When it was asked for.
    pub fn requested_at(&self) -> Timestamp {
        self.head.requested
    }
    /// Its priority now.
    pub fn priority(&self) -> i32 {
        self.head.priority
    }
    /// Where it stands.
    pub fn phase(&self) -> RunPhase {
        self.head.phase
    }
    /// Who asked it to stop, if somebody did.
    pub fn cancel(&self) -> Option<&Cancel> {
        self.head.cancel.as_ref()
    }
    /// The first instance that failed and was not allowed to.
    pub fn first_failure(&self) -> Option<&str> {
        self.head.failure.as_deref()
    }
    /// Instances that have not ended.
    pub fn open(&self) -> u32 {
        self.head.open
    }
    /// The state of an instance.
    pub fn step(&self, node: NodeIx) -> Option<&StepState> {
        self.steps.get(node.at())
    }
    /// All instances with their states, in the order of the plan.
    pub fn steps(&self) -> impl Iterator<Item = (NodeIx, &StepState)> {
        self.steps.iter().enumerate().map(|(at, state)| (NodeIx(at as u32), state))
    }

    pub(crate) fn definition(&self, node: NodeIx) -> &Arc<Step> {
        self.plan().step(node)
    }
    pub(crate) fn name(&self, node: NodeIx) -> &Arc<str> {
        &self.plan().nodes[node.at()].name
    }
    /// A failure stops what has not started.
    pub(crate) fn is_halted(&self) -> bool {
        self.head.failure.is_some() && self.plan().context.on_failure != model::OnFailure::KeepGoing
    }

    /// Moves the run by one event. Instances that now have all they waited for (or, if they grew, have no open steps left)
    /// are handed to `free`. `None`, with nothing changed: that cannot happen.
    pub(crate) fn apply(&mut self, at: Timestamp, event: &RunEvent, free: Freed<'_>) -> Option<()> {
        match (self.head.phase, event) {
            (RunPhase::Ended { .. }, _) => None,
            (RunPhase::Held, RunEvent::Released { .. }) => {
                let plan = self.plan().clone();
                self.head.phase = RunPhase::Queued;
                self.head.due = queue::due(&plan, self.head.priority, at);
                self.head.bounds = Bounds::of(&plan, at);
                Some(())
            }
            (_, RunEvent::Prioritised { priority, .. }) => {
                self.head.priority = *priority;
                self.head.due = queue::due(self.plan(), *priority, self.head.requested);
                Some(())
            }
            (RunPhase::Queued, RunEvent::Started) => {
                self.head.phase = RunPhase::Started { at };
                Some(())
            }
            (_, RunEvent::SlaMissed { bound, .. }) => {
                let bound = match bound {
                    SlaBound::Start => &mut self.head.bounds.start,
                    SlaBound::Finish => &mut self.head.bounds.finish,
                };
                bound.take().map(drop)
            }
            (RunPhase::Held | RunPhase::Queued, RunEvent::StepKept { node, .. }) => self.move_step(at, *node, event),
            (_, RunEvent::CancelRequested { by, force }) => {
                self.head.cancel = Some(Cancel { by: by.as_str().into(), force: *force });
                Some(())
            }
            (_, RunEvent::Ended { outcome }) if self.head.open == 0 => {
                self.head.phase = RunPhase::Ended { at, outcome: *outcome };
                self.head.bounds = Bounds::default();
                Some(())
            }
            (phase, RunEvent::StepEnded { node, outcome, values })
                if matches!(phase, RunPhase::Started { .. }) || self.head.cancel.is_some() =>
            {
                self.end_step(at, *node, outcome, values, free)
            }
            (RunPhase::Started { .. }, RunEvent::Expanded { node, steps }) => self.grow(*node, steps, free),
            (
                RunPhase::Started { .. },
                RunEvent::StepReady { node }
                | RunEvent::LeaseExtended { node, .. }
                | RunEvent::AttemptEnded { node, .. }
                | RunEvent::RetryPlanned { node, .. }
                | RunEvent::ApprovalOpened { node, .. }
                | RunEvent::ApprovalGiven { node, .. },
            ) => self.move_step(at, *node, event),
            (RunPhase::Started { .. }, RunEvent::AttemptLeased { node, .. }) => {
                self.move_step(at, *node, event)?;
                self.head.bounds.start = None;
                Some(())
            }
            _ => None,
        }
    }

    fn move_step(&mut self, at: Timestamp, node: NodeIx, event: &RunEvent) -> Option<()> {
        let state = self.steps.get_mut(node.at())?;
        *state = state.after(at, event)?;
        Some(())
    }

    fn end_step(
        &mut self,
        at: Timestamp,
        node: NodeIx,
        outcome: &Outcome,
        values: &BTreeMap<String, String>,
        free: Freed<'_>,
    ) -> Option<()> {
        if !self.steps.get(node.at())?.may_end(outcome) {
            return None;
        }
        let blocked = self.is_blocked(node, outcome);
        let state = self.steps.get_mut(node.at())?;
        *state = StepState::Done { outcome: outcome.clone(), values: values.clone(), at, blocked };
        self.count(node, outcome, blocked);
        self.free_dependants(node, free);
        Some(())
    }

    /// It does not run because something failed, directly or before other skipped steps.
    fn is_blocked(&self, node: NodeIx, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Skipped(Skip::DependencyFailed(_) | Skip::RunFailed(_)) => true,
            Outcome::Skipped(Skip::DependencySkipped(_)) => Seen::by(self, node).trouble(),
            _ => false,
        }
    }

    fn count(&mut self, node: NodeIx, outcome: &Outcome, blocked: bool) {
        let Head { graph, open, failure, tally, .. } = &mut self.head;
        let name = &graph.plan.nodes[node.at()].name;
        let is_use = matches!(graph.group(node).step.kind, StepKind::Group);
        let Some(group) = self.groups.get_mut(graph.plan.nodes[node.at()].group.at()) else { return };
        *open = open.saturating_sub(1);
        group.open = group.open.saturating_sub(1);
        group.blocked |= blocked;
        match outcome {
            Outcome::Succeeded { .. } | Outcome::Failed { allowed: true, .. } => {}
            Outcome::Failed { cause, allowed: false } => {
                group.failed.get_or_insert_with(|| name.clone());
                failure.get_or_insert_with(|| name.clone());
                tally.add(cause);
            }
            // A template use fails with its steps: who depends on it hears which one it was.
            Outcome::Skipped(Skip::DependencyFailed(inner)) if is_use => {
                group.failed.get_or_insert_with(|| inner.clone());
            }
            Outcome::Skipped(_) => group.skipped += 1,
            Outcome::Cancelled => {
                group.cancelled += 1;
                tally.cancelled += 1;
            }
        }
    }

    fn free_dependants(&mut self, node: NodeIx, free: Freed<'_>) {
        let RunState { head, steps, groups } = self;
        let graph = &head.graph;
        for dependant in graph.needed_by_one(node) {
            one_less(steps, *dependant, free);
        }
        let Group { needed_by, made_by, .. } = graph.group(node);
        let group = graph.plan.nodes[node.at()].group;
        if groups.get(group.at()).is_some_and(|group| group.open == 0) {
            for dependant in needed_by.iter().filter(|dependant| !graph.is_by_cell(group, **dependant)) {
                graph.plan.instances(*dependant).for_each(|other| one_less(steps, other, free));
            }
        }
        if let Some(maker) = made_by {
            one_less(steps, *maker, free);
        }
    }

    fn grow(&mut self, node: NodeIx, steps: &[Arc<Step>], free: Freed<'_>) -> Option<()> {
        if !matches!(self.steps.get(node.at())?, StepState::Reported { .. }) {
            return None;
        }
        let (groups, nodes) = (self.plan().groups.len(), self.plan().nodes.len());
        let mut plan = Plan::clone(self.plan());
        grow::add(&mut plan, steps, Some(node)).ok()?;
        let left = (plan.nodes.len() - nodes) as u32;
        self.head.graph = Arc::new(self.head.graph.grown(plan));
        self.open_cells(groups, nodes);
        *self.steps.get_mut(node.at())? = StepState::Growing { left };
        if left == 0 {
            free(node);
        }
        Some(())
    }

    /// Cells for the groups and nodes of the plan from these on.
    fn open_cells(&mut self, groups: usize, nodes: usize) {
        let graph = self.head.graph.clone();
        for group in &graph.plan.groups[groups..] {
            self.groups.push(GroupState { open: group.count, skipped: 0, cancelled: 0, failed: None, blocked: false });
        }
        for node in &graph.plan.nodes[nodes..] {
            self.steps.push(StepState::Waiting { left: node.needs.len() as u32 });
            self.head.open += 1;
        }
    }

    /// How the run ends when nothing is open any more.
    pub(crate) fn outcome(&self) -> RunOutcome {
        let Tally { failed, infrastructure, refused, cancelled } = self.head.tally;
        match failed {
            _ if self.head.cancel.is_some() && cancelled > 0 => RunOutcome::Cancelled,
            0 => RunOutcome::Succeeded,
            _ if infrastructure == failed => RunOutcome::Infrastructure,
            _ if refused == failed => RunOutcome::Refused,
            _ => RunOutcome::Failed,
        }
    }

    /// The counts of a step.
    pub(crate) fn group(&self, group: GroupIx) -> Option<&GroupState> {
        self.groups.get(group.at())
    }
}

fn one_less(steps: &mut Cells<'_, StepState>, node: NodeIx, free: Freed<'_>) {
    // Looked at first: a draft copies the cell that it may change.
    if !matches!(steps.get(node.at()), Some(StepState::Waiting { .. } | StepState::Growing { .. })) {
        return;
    }
    if let Some(StepState::Waiting { left } | StepState::Growing { left }) = steps.get_mut(node.at()) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            free(node);
        }
    }
}

impl Tally {
    fn add(&mut self, cause: &Cause) {
        self.failed += 1;
        match cause {
            Cause::Lost(_) | Cause::Infrastructure(_) => self.infrastructure += 1,
            Cause::Refused(_) => self.refused += 1,
            Cause::Exit(_)
            | Cause::Signal(_)
            | Cause::TimedOut(_)
            | Cause::Idle(_)
            | Cause::Limit(_)
            | Cause::Service(_)
            | Cause::Broken(_)
            | Cause::Expression(_)
            | Cause::Declined(_)
            | Cause::Unanswered(_) => {}
        }
    }
}
