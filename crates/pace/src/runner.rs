//! The loop that owns a local run: wait in one place, change in one place, append before effect.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::{Agent, Report};
use engine::World;
use model::{
    AgentId, Capacity, Command, Fact, Input, Labels, NodeIx, Plan, RunEvent, RunId, RunOutcome, Step, Timestamp,
};
use view::RunView;

use crate::cli::Output;
use crate::exit::Failure;
use crate::history::LiveRun;
use crate::screen::Screen;
use crate::signals::Stops;

/// How often the live tree is drawn and Ctrl-C is looked for: ten times a second reads as "at once".
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Reports taken in one round before anything is drawn.
const REPORTS_AT_ONCE: usize = 4096;

/// A local run that goes on.
pub struct Runner<'a> {
    /// The state of the world: this one run.
    pub world: World,
    /// What people see of it.
    pub view: RunView,
    agent: &'a Agent,
    reports: Receiver<Report>,
    history: LiveRun,
    screen: &'a mut Screen,
    stops: &'a Stops,
    stops_seen: usize,
    run: RunId,
    plan: Arc<Plan>,
    drawn_at: Timestamp,
    ended: Option<RunOutcome>,
}

/// The wall clock, read at the edge only.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

impl<'a> Runner<'a> {
    /// A run of `plan` that `agent` executes and `history` records.
    pub fn new(
        plan: Arc<Plan>,
        agent: &'a Agent,
        reports: Receiver<Report>,
        history: LiveRun,
        screen: &'a mut Screen,
        stops: &'a Stops,
    ) -> Self {
        Runner {
            world: World::new(),
            view: RunView::new(),
            agent,
            reports,
            history,
            screen,
            stops,
            stops_seen: 0,
            run: plan.context.run.clone(),
            plan,
            drawn_at: Timestamp(0),
            ended: None,
        }
    }

    /// Runs until the run ends. Facts that could not be recorded stop it: what is not in the log did not happen.
    pub fn run(mut self, capacity: Capacity) -> Result<(RunOutcome, RunView), Failure> {
        self.take(Input::AgentJoined { agent: local(), capacity, labels: Labels::new() })?;
        self.take(Input::RunRequested { plan: self.plan.clone() })?;
        let outcome = loop {
            if let Some(outcome) = self.ended {
                break outcome;
            }
            for input in self.next() {
                self.take(input)?;
            }
            self.draw();
        };
        self.drain();
        self.draw_last();
        Ok((outcome, self.view))
    }

    /// The only place that waits. Lines of output are shown at once: they move nothing.
    fn next(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let until_timer = self.world.next_wake().map_or(REDRAW_EVERY, |at| at.since(now()));
        match self.reports.recv_timeout(until_timer.min(REDRAW_EVERY)) {
            Ok(report) => {
                let rest: Vec<Report> = self.reports.try_iter().take(REPORTS_AT_ONCE).collect();
                inputs.extend(std::iter::once(report).chain(rest).filter_map(|report| self.heard(report)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => inputs.push(Input::AgentLeft { agent: local() }),
        }
        let stops = self.stops.count();
        if stops > self.stops_seen {
            self.stops_seen = stops;
            inputs.push(Input::CancelRequested { run: self.run.clone(), by: "Ctrl-C".into(), force: stops > 1 });
        }
        if self.world.next_wake().is_some_and(|at| at <= now()) {
            inputs.push(Input::Tick);
        }
        inputs
    }

    fn heard(&mut self, report: Report) -> Option<Input> {
        match report {
            Report::Line(agent::LogLine { at, node, attempt, text, .. }) => {
                let line = view::LogLine { at, node, attempt, text };
                self.view.log(&line);
                match self.screen.output {
                    Output::Json => self.screen.text(&view::json::log(&self.view, &line)),
                    _ if self.screen.is_live() => {}
                    _ => self.screen.text(&view::plain::log(&self.view, &line, self.screen.style())),
                }
                None
            }
            Report::Finished { run, node, attempt, fence, result } => {
                Some(Input::AttemptFinished { run, node, attempt, fence, result })
            }
        }
    }

    /// The only place that changes anything: decide, fold, append, and only then show and carry out.
    fn take(&mut self, input: Input) -> Result<(), Failure> {
        let decision = engine::decide(&self.world, &input, now());
        self.world.heard(&input, decision.at);
        let mut seen = Vec::with_capacity(decision.events.len());
        for fact in &decision.events {
            self.world.fold(fact).map_err(impossible)?;
            self.fold_view(fact);
            // The summary tells the end of a run at greater length.
            let plain = if self.ended.is_some() { None } else { view::plain::fact(&self.view, fact) };
            seen.push((view::json::fact(&self.view, fact), plain));
        }
        self.history.append(seen.iter().map(|(json, _)| json.as_str()))?;
        for (json, plain) in seen {
            self.show(json, plain);
        }
        for command in decision.commands {
            self.carry_out(command)?;
        }
        Ok(())
    }

    fn fold_view(&mut self, fact: &Fact) {
        self.view.fact(fact);
        match &fact.event {
            RunEvent::Ended { outcome } => self.ended = Some(*outcome),
            RunEvent::Expanded { .. } => self.view.plan_grew(&self.plan_now()),
            _ => {}
        }
    }

    fn show(&mut self, json: String, plain: Option<String>) {
        match (self.screen.output, plain) {
            (Output::Json, _) => self.screen.text(&json),
            (_, Some(line)) if !self.screen.is_live() => self.screen.text(&line),
            _ => {}
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Execute { spec, .. } => self.agent.execute(spec),
            Command::Stop { run, node, fence, force, .. } => self.agent.stop(&run, node, fence, force),
            Command::Expand { run, node, fence, path, text, depth } => {
                let steps = expansion(&self.plan_now(), node, &path, &text, depth);
                self.take(Input::Expanded { run, node, fence, steps })?;
            }
        }
        Ok(())
    }

    /// The plan as it has grown by now.
    fn plan_now(&self) -> Arc<Plan> {
        self.world.run(&self.run).map_or_else(|| self.plan.clone(), |run| run.plan().clone())
    }

    fn draw(&mut self) {
        let at = now();
        if !self.screen.is_live() || at.since(self.drawn_at) < REDRAW_EVERY {
            return;
        }
        self.drawn_at = at;
        let reasons = engine::waiting(&self.world, &self.run, at);
        self.view.set_reasons(reasons.into_iter().map(|(node, reason)| (node, reason.text)).collect());
        self.draw_frame(at);
    }

    /// The tree as it ended stays on the terminal, above the summary.
    fn draw_last(&mut self) {
        if self.screen.is_live() {
            self.draw_frame(now());
            self.screen.keep();
        }
    }

    fn draw_frame(&mut self, at: Timestamp) {
        let (width, height) = self.screen.size();
        let frame = view::live::frame(&self.view, at, width, height.saturating_sub(1), self.screen.style());
        self.screen.draw(&frame);
    }

    /// Lines that were still on their way when the run ended.
    fn drain(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.heard(report);
        }
    }
}

/// The steps that an `expand` step has read, checked, or the report of what is wrong with them. `depth` counts from 1.
pub fn expansion(plan: &Plan, node: NodeIx, path: &str, text: &str, depth: usize) -> Result<Vec<Arc<Step>>, String> {
    let (parent, outer) = (&plan.step(node).id, lang::Outer::of_plan(plan));
    let (steps, report) = lang::load_expansion(path, text.as_bytes(), parent, depth.saturating_sub(1), &outer);
    steps.filter(|_| !report.has_errors()).ok_or_else(|| report.render(false, 100))
}

fn impossible(illegal: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("an impossible event: {illegal}"))
        .help("this is a defect of pace: please report it with the run's events.jsonl")
}

fn local() -> AgentId {
    AgentId::from("local")
}
