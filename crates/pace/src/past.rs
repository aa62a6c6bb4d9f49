//! A run that was made here, as its events tell it.

use std::time::Duration;

use view::json::{RunEnded, RunRequested, StepEnded, Wire, WireEvent};

/// The short story of a run.
pub struct Story<'a> {
    /// What was asked for; `None`: the process was killed before it had written that.
    pub requested: Option<&'a RunRequested>,
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// How each instance ended.
    pub steps: Vec<&'a StepEnded>,
    /// How it ended; `None`: it goes on, or was interrupted.
    pub ended: Option<&'a RunEnded>,
}

impl<'a> Story<'a> {
    /// Reads the events.
    pub fn of(events: &'a [Wire]) -> Story<'a> {
        let mut story = Story {
            requested: None,
            at_us: events.first().map_or(0, |event| event.at_us),
            steps: Vec::new(),
            ended: None,
        };
        for event in events {
            match &event.event {
                WireEvent::RunRequested(requested) => story.requested = Some(requested),
                WireEvent::StepEnded(ended) => story.steps.push(ended),
                WireEvent::RunEnded(ended) => story.ended = Some(ended),
                _ => {}
            }
        }
        story
    }

    /// How many instances ended so.
    pub fn count(&self, outcome: &str) -> usize {
        self.steps.iter().filter(|step| step.outcome == outcome).count()
    }

    /// How long it took.
    pub fn took(&self) -> Option<Duration> {
        self.ended.map(|ended| Duration::from_micros(ended.took_us))
    }

    /// Instances of the first plan that failed, were cancelled, or were not reached because of a failure.
    pub fn not_passed(&self) -> Vec<String> {
        let planned = self.requested.map_or(&[][..], |requested| &requested.steps);
        let failed = |step: &StepEnded| match step.outcome.as_str() {
            "failure" => !step.allowed,
            "cancelled" => true,
            "skipped" => {
                step.skip.as_ref().is_some_and(|skip| matches!(skip.kind.as_str(), "dependency_failed" | "run_failed"))
            }
            _ => false,
        };
        planned
            .iter()
            .filter(|step| !step.runs_nothing)
            .filter(|step| self.steps.iter().find(|ended| ended.node == step.node).is_none_or(|ended| failed(ended)))
            .map(|step| step.step.clone())
            .collect()
    }
}
