//! One row of the tree: symbol, name, time and a word on it.

use std::time::Duration;

use model::units::show_duration;
use model::{Cause, Group, NodeIx, Outcome, Timestamp};

use super::fold::{Noise, Quiet, Row, group_counts, group_noise};
use crate::ansi::{self, Paint, Style};
use crate::run::{RunView, StepState, StepView};
use crate::tree::{self, Place};

/// What stands in a row, not yet laid out.
pub struct Parts {
    pub symbol: Symbol,
    pub name: String,
    pub time: String,
    pub detail: String,
    pub dim: bool,
}

impl Parts {
    pub fn line(&self, name_columns: usize, time_columns: usize, style: Style) -> String {
        let name = ansi::pad(&self.name, name_columns);
        let detail = if self.dim { style.dim(&self.detail) } else { self.detail.clone() };
        let (indent, word) = name.split_at(name.len() - name.trim_start().len());
        let time = format!("{:>time_columns$}", self.time);
        let gap = if time.is_empty() { "" } else { " " };
        format!("{indent}{} {word}{gap}{time}  {detail}", self.symbol.show(style)).trim_end().to_owned()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    Good,
    Bad,
    Allowed,
    Busy,
    Waits,
    Passed,
}

impl Symbol {
    pub fn show(self, style: Style) -> String {
        match self {
            Symbol::Good => style.paint(Paint::Green, style.pick("✓", "+")),
            Symbol::Bad => style.paint(Paint::Red, style.pick("✗", "x")),
            Symbol::Allowed => style.paint(Paint::Yellow, style.pick("✗", "x")),
            Symbol::Busy => style.paint(Paint::Blue, style.pick("●", "*")),
            Symbol::Waits => style.dim(style.pick("○", "-")),
            Symbol::Passed => style.dim(style.pick("⤼", "/")),
        }
    }
}

pub fn parts(view: &RunView, row: Row, now: Timestamp) -> Parts {
    match row {
        Row::Node(node, depth, whole) => node_parts(view, node, depth, whole, now),
        Row::Step(place, whole) => group_parts(view, place, whole),
        Row::Folded(Quiet::Finished, n) => quiet(Symbol::Good, format!("{n} finished")),
        Row::Folded(Quiet::Waiting, n) => quiet(Symbol::Waits, format!("{n} waiting")),
        Row::More(n) => quiet(Symbol::Waits, format!("{n} more")),
    }
}

fn quiet(symbol: Symbol, name: String) -> Parts {
    Parts { symbol, name, time: String::new(), detail: String::new(), dim: true }
}

fn node_parts(view: &RunView, node: NodeIx, depth: usize, whole: bool, now: Timestamp) -> Parts {
    let Some(step) = view.step(node) else {
        return quiet(Symbol::Waits, indented(&view.name(node), depth));
    };
    let group = step.group.and_then(|group| view.groups().get(group.at()));
    let name = match group {
        Some(group) if !whole => below_parent(group, &step.name, depth),
        _ => &step.name,
    };
    let parts = step_parts(step, indented(name, if whole { 0 } else { depth }), now);
    let busy = step.silent && group.is_some_and(|group| has_running_steps(view, group));
    if busy { Parts { symbol: Symbol::Busy, ..parts } } else { parts }
}

/// A template use waits for its steps all the time; what a person wants to see is whether they run.
fn has_running_steps(view: &RunView, used: &Group) -> bool {
    let mut inner = view.groups().iter().filter(|group| group.step.scope.as_ref() == Some(&used.step.id));
    inner.any(|group| group_counts(view, group).running > 0)
}

/// Instances stand below their step, so only what tells them apart is shown: `[go=1.22]`.
fn below_parent<'a>(group: &Group, name: &'a str, depth: usize) -> &'a str {
    match name.strip_prefix(group.step.id.as_str()) {
        Some(cell) if group.count > 1 && !cell.is_empty() => cell,
        _ if depth > 0 => tree::short_name(group, name),
        _ => name,
    }
}

fn indented(name: &str, depth: usize) -> String {
    format!("{:1$}{2}", "", depth * 2, ansi::strip(name))
}

pub fn step_parts(step: &StepView, name: String, now: Timestamp) -> Parts {
    let (symbol, time, words) = match &step.state {
        StepState::Waiting | StepState::Ready { .. } | StepState::Asking { .. } => {
            (Symbol::Waits, None, step.reason.clone().unwrap_or_default())
        }
        StepState::Running { since, .. } => (Symbol::Busy, Some(now.since(*since)), step.last_line.clone()),
        StepState::Retrying { not_before, cause } => (Symbol::Waits, None, retry_words(step, *not_before, cause, now)),
        StepState::Done { outcome, .. } => ended(step, outcome),
    };
    let attempt = step.attempt_words().filter(|_| !matches!(step.state, StepState::Retrying { .. }));
    let detail: Vec<String> = attempt.into_iter().chain(Some(words).filter(|words| !words.is_empty())).collect();
    Parts {
        symbol,
        name,
        time: time.map(show_duration).unwrap_or_default(),
        detail: ansi::strip(detail.join(": ").lines().next().unwrap_or_default()),
        dim: symbol != Symbol::Bad,
    }
}

fn retry_words(step: &StepView, not_before: Timestamp, cause: &Cause, now: Timestamp) -> String {
    let next = step.attempts.saturating_add(1);
    let wait = show_duration(not_before.since(now));
    format!("attempt {next} of {} in {wait}: {cause}", step.attempts_max.max(next))
}

fn ended(step: &StepView, outcome: &Outcome) -> (Symbol, Option<Duration>, String) {
    match outcome {
        Outcome::Succeeded { cached: false } => (Symbol::Good, step.took(), String::new()),
        Outcome::Succeeded { cached: true } => (Symbol::Good, None, cached_words(step)),
        Outcome::Failed { cause, allowed: false } => (Symbol::Bad, step.took(), cause.to_string()),
        Outcome::Failed { cause, allowed: true } => (Symbol::Allowed, step.took(), format!("allowed to fail: {cause}")),
        Outcome::Skipped(skip) => (Symbol::Passed, None, format!("skipped: {skip}")),
        Outcome::Cancelled => (Symbol::Passed, step.took(), "cancelled".to_owned()),
    }
}

/// `cached (took 3.2s in run #12)`.
pub fn cached_words(step: &StepView) -> String {
    match step.cached() {
        Some(from) => format!("cached (took {} in run {})", show_duration(from.took), from.number),
        None => "cached".to_owned(),
    }
}

fn group_parts(view: &RunView, place: Place, whole: bool) -> Parts {
    let group = &view.groups()[place.group.at()];
    let counts = group_counts(view, group);
    let symbol = match group_noise(view, group) {
        Noise::Failed => Symbol::Bad,
        Noise::Running => Symbol::Busy,
        Noise::Waiting => Symbol::Waits,
        Noise::Finished if counts.succeeded == 0 => Symbol::Passed,
        Noise::Finished => Symbol::Good,
    };
    let mut words = vec![format!("{} of {} done", counts.done(), counts.total)];
    words.extend((counts.failed > 0).then(|| format!("{} failed", counts.failed)));
    words.extend((counts.running > 0).then(|| format!("{} running", counts.running)));
    words.extend((counts.cached > 0).then(|| format!("{} cached", counts.cached)));
    let id = group.step.id.as_str();
    let name = if whole { id } else { tree::short_name(group, id) };
    let depth = if whole { 0 } else { place.depth };
    Parts { symbol, name: indented(name, depth), time: String::new(), detail: words.join(", "), dim: true }
}
