//! Which rows a frame has room for: what is quiet folds first, what failed and what runs goes last.

use model::{Group, NodeIx, Outcome};

use crate::run::{Counts, RunView, StepState};
use crate::tree::Place;

/// What stands in one line of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// One instance; `true`: with its whole name.
    Node(NodeIx, usize, bool),
    /// A step with several instances; `true`: with its whole name.
    Step(Place, bool),
    /// Quiet instances by number.
    Folded(Quiet, usize),
    /// Rows that had no room.
    More(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    Finished,
    Waiting,
}

/// How much of the tree is shown, most first.
const DETAILS: [Detail; 5] =
    [Detail::All, Detail::BusyMatrices, Detail::NoInstances, Detail::NoFinished, Detail::NoWaiting];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    All,
    BusyMatrices,
    NoInstances,
    NoFinished,
    NoWaiting,
}

/// How loud a row is, loudest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noise {
    Failed,
    Running,
    Waiting,
    Finished,
}

/// The most detailed rows that fit.
pub fn rows(view: &RunView, height: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for detail in DETAILS {
        rows = rows_at(view, view.order(), detail);
        if rows.len() <= height {
            return rows;
        }
    }
    rows.sort_by_key(|row| row_noise(view, row));
    let kept = height.saturating_sub(1);
    let more = rows.len() - kept;
    rows.truncate(kept);
    rows.extend((height > 0).then_some(Row::More(more)));
    rows
}

fn rows_at(view: &RunView, order: &[Place], detail: Detail) -> Vec<Row> {
    let flat = detail >= Detail::NoFinished;
    let (mut rows, mut finished, mut waiting) = (Vec::new(), 0, 0);
    let mut push = |row: Row, instances: usize| match row_noise(view, &row) {
        Noise::Finished if flat => finished += instances,
        Noise::Waiting if detail >= Detail::NoWaiting => waiting += instances,
        _ => rows.push(row),
    };
    for place in order {
        let group = &view.groups()[place.group.at()];
        let silent = view.step(group.first).is_some_and(|step| step.silent);
        match group.count {
            _ if silent && flat => {}
            1 => push(Row::Node(group.first, place.depth, flat), 1),
            count => {
                push(Row::Step(*place, flat), count as usize);
                if shows_instances(view, group, detail) {
                    instances(group).for_each(|node| push(Row::Node(node, place.depth + 1, flat), 1));
                }
            }
        }
    }
    let homeless = view.steps().iter().enumerate().filter(|(_, step)| step.group.is_none());
    homeless.for_each(|(at, _)| push(Row::Node(NodeIx(at as u32), 0, true), 1));
    rows.extend((finished > 0).then_some(Row::Folded(Quiet::Finished, finished)));
    rows.extend((waiting > 0).then_some(Row::Folded(Quiet::Waiting, waiting)));
    rows
}

fn shows_instances(view: &RunView, group: &Group, detail: Detail) -> bool {
    match detail {
        Detail::All => true,
        Detail::BusyMatrices => group_noise(view, group) <= Noise::Running,
        _ => false,
    }
}

fn instances(group: &Group) -> impl Iterator<Item = NodeIx> + use<> {
    (group.first.0..group.first.0.saturating_add(group.count)).map(NodeIx)
}

fn row_noise(view: &RunView, row: &Row) -> Noise {
    match row {
        Row::Node(node, ..) => view.step(*node).map_or(Noise::Waiting, |step| noise(&step.state)),
        Row::Step(place, _) => group_noise(view, &view.groups()[place.group.at()]),
        Row::Folded(..) | Row::More(_) => Noise::Finished,
    }
}

fn noise(state: &StepState) -> Noise {
    match state {
        StepState::Running { .. } => Noise::Running,
        StepState::Waiting | StepState::Ready { .. } | StepState::Asking { .. } | StepState::Retrying { .. } => {
            Noise::Waiting
        }
        StepState::Done { outcome: Outcome::Failed { allowed: false, .. }, .. } => Noise::Failed,
        StepState::Done { .. } => Noise::Finished,
    }
}

pub fn group_noise(view: &RunView, group: &Group) -> Noise {
    let counts = group_counts(view, group);
    match counts {
        Counts { failed: 1.., .. } => Noise::Failed,
        Counts { running: 1.., .. } => Noise::Running,
        Counts { waiting: 1.., .. } => Noise::Waiting,
        _ => Noise::Finished,
    }
}

pub fn group_counts(view: &RunView, group: &Group) -> Counts {
    let mut counts = Counts::default();
    instances(group).filter_map(|node| view.step(node)).for_each(|step| counts.add(&step.state));
    counts
}
