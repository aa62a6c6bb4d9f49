//! Which boxes a graph has, and which of them stand after which.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::units::show_duration;
use model::{GroupIx, NodeIx, Timestamp};

use super::super::part::{Tone, step_word};
use crate::run::Counts;
use crate::{RunView, StepState, StepView, ansi};

/// A graph of more steps than this folds steps that stand at the same place.
const SINGLE_MAX: usize = 40;
/// So many steps at the same place are worth folding.
const FOLDED_MIN: usize = 6;

/// A box.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The first of its instances.
    pub node: NodeIx,
    /// Instances.
    pub count: usize,
    /// Its name.
    pub name: String,
    /// The line below: how far it is.
    pub note: String,
    /// All that is to be said.
    pub title: String,
    /// How it stands.
    pub tone: Tone,
}

/// One box that stands after another.
pub type Edge = (usize, usize);

/// The boxes and, for each, which ones it stands after. No edge that follows from others is there.
pub fn cards(view: &RunView, now: Timestamp) -> (Vec<Card>, Vec<Edge>) {
    let edges = reduced(view.groups().len(), &needs(view));
    let places = folded(view.groups().len(), &edges);
    let mut members: BTreeMap<usize, Vec<GroupIx>> = BTreeMap::new();
    for (group, place) in places.iter().enumerate() {
        members.entry(*place).or_default().push(GroupIx(group as u32));
    }
    let at: BTreeMap<usize, usize> = members.keys().enumerate().map(|(at, place)| (*place, at)).collect();
    let cards = members.values().map(|groups| card(view, groups, now)).collect();
    let mut edges: Vec<Edge> = edges.iter().map(|(from, to)| (at[&places[*from]], at[&places[*to]])).collect();
    edges.sort_unstable();
    edges.dedup();
    (cards, edges)
}

/// What stands after what, by step, as it is written.
fn needs(view: &RunView) -> Vec<Edge> {
    let ids: BTreeMap<&str, usize> =
        view.groups().iter().enumerate().map(|(at, group)| (group.step.id.as_str(), at)).collect();
    let maker = |node: NodeIx| view.step(node).and_then(|step| step.group).map(GroupIx::at);
    let mut edges = Vec::new();
    for (to, group) in view.groups().iter().enumerate() {
        edges.extend(group.step.depends_on.iter().filter_map(|id| Some((*ids.get(id.as_str())?, to))));
        edges.extend(group.made_by.and_then(maker).map(|from| (from, to)));
    }
    edges.retain(|(from, to)| from != to);
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The edges without those that follow from others: `a` before `c` when `a` is before `b` and `b` before `c`.
fn reduced(count: usize, edges: &[Edge]) -> Vec<Edge> {
    let order = super::layers::order(count, edges);
    let words = count.div_ceil(64);
    let mut above = vec![0u64; words * count];
    let mut into: Vec<Vec<usize>> = vec![Vec::new(); count];
    edges.iter().for_each(|(from, to)| into[*to].push(*from));
    let mut place = vec![0; count];
    order.iter().enumerate().for_each(|(at, vertex)| place[*vertex] = at);
    let mut kept = Vec::new();
    for to in order {
        // The nearest first: what stands above one of them needs no edge of its own.
        into[to].sort_unstable_by_key(|from| std::cmp::Reverse(place[*from]));
        for from in into[to].iter().copied().filter(|from| place[*from] < place[to]) {
            if above[to * words + from / 64] >> (from % 64) & 1 == 1 {
                continue;
            }
            kept.push((from, to));
            for word in 0..words {
                above[to * words + word] |= above[from * words + word];
            }
            above[to * words + from / 64] |= 1 << (from % 64);
        }
    }
    kept.sort_unstable();
    kept
}

/// For each step the first one that stands at the same place: after and before the same ones.
fn folded(count: usize, edges: &[Edge]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    if count <= SINGLE_MAX {
        return places;
    }
    let mut around = vec![(Vec::new(), Vec::new()); count];
    for (from, to) in edges {
        around[*to].0.push(*from);
        around[*from].1.push(*to);
    }
    let mut same: BTreeMap<&(Vec<usize>, Vec<usize>), Vec<usize>> = BTreeMap::new();
    around.iter().enumerate().for_each(|(vertex, around)| same.entry(around).or_default().push(vertex));
    for vertices in same.values().filter(|vertices| vertices.len() >= FOLDED_MIN) {
        vertices.iter().for_each(|vertex| places[*vertex] = vertices[0]);
    }
    places
}

fn card(view: &RunView, groups: &[GroupIx], now: Timestamp) -> Card {
    let first = &view.groups()[groups[0].at()];
    let instances = |group: &GroupIx| {
        let group = &view.groups()[group.at()];
        (group.first.0..group.first.0.saturating_add(group.count)).map(NodeIx)
    };
    let steps: Vec<&StepView> = groups.iter().flat_map(instances).filter_map(|node| view.step(node)).collect();
    let tone = steps.iter().map(|step| Tone::of_step(&step.state)).reduce(super::louder).unwrap_or(Tone::Wait);
    let name: Arc<str> = first.step.id.as_str().into();
    let (name, note) = match (groups.len(), steps.as_slice()) {
        (1, [only]) => (ansi::strip(&only.name), note_of_one(only, now)),
        (1, _) => (format!("{} ×{}", ansi::strip(&name), steps.len()), note_of_many(&steps)),
        (many, _) => (format!("{many} steps"), note_of_many(&steps)),
    };
    let names = groups.iter().take(NAMES_SHOWN_MAX).map(|group| view.groups()[group.at()].step.id.as_str());
    let title = match groups.len() {
        1 => format!(
            "{name}: {}",
            steps.first().filter(|_| steps.len() == 1).map_or(note.clone(), |step| why(step, &note))
        ),
        many => format!("{}{}: {note}", ansi::strip(&names.collect::<Vec<_>>().join(", ")), more(many)),
    };
    Card { node: first.first, count: steps.len(), name, note, title, tone }
}

/// Names that a box of several lists when asked.
const NAMES_SHOWN_MAX: usize = 20;

fn more(many: usize) -> String {
    match many.saturating_sub(NAMES_SHOWN_MAX) {
        0 => String::new(),
        left => format!(" and {left} more"),
    }
}

fn note_of_one(step: &StepView, now: Timestamp) -> String {
    match &step.state {
        StepState::Running { since, .. } => format!("running {}", show_duration(now.since(*since))),
        _ => match step.took() {
            Some(took) => format!("{} · {}", step_word(step), show_duration(took)),
            None => step_word(step).to_owned(),
        },
    }
}

fn why(step: &StepView, note: &str) -> String {
    match (&step.reason, &step.state) {
        (Some(reason), _) => ansi::strip(reason),
        (None, StepState::Done { outcome: model::Outcome::Failed { cause, .. }, .. }) => {
            ansi::strip_lines(&format!("{note}, {cause}"))
        }
        (None, StepState::Done { outcome: model::Outcome::Skipped(skip), .. }) => {
            ansi::strip(&format!("{note}: {skip}"))
        }
        _ => note.to_owned(),
    }
}

fn note_of_many(steps: &[&StepView]) -> String {
    let mut counts = Counts::default();
    steps.iter().for_each(|step| counts.add(&step.state));
    let Counts { total, running, failed, .. } = counts;
    let mut parts = vec![format!("{} of {total} done", counts.done())];
    parts.extend((failed > 0).then(|| format!("{failed} failed")));
    parts.extend((running > 0).then(|| format!("{running} running")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_follows_from_others_is_not_drawn() {
        assert_eq!(reduced(4, &[(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)]), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(reduced(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]), [(0, 1), (0, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn a_circle_does_no_harm() {
        assert_eq!(reduced(3, &[(0, 1), (1, 0), (1, 2)]).len(), 2);
    }
}
