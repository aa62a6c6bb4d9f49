//! The graph of steps: circles are found and shown whole, and ancestors are known without walking for each question.

use std::cell::OnceCell;
use std::collections::HashMap;

use model::Span;

use super::codes::CYCLE;
use super::unfold::Unfolded;
use crate::diagnostic::Diagnostic;

/// Edges of one circle that are shown; a longer circle is named whole all the same.
const EDGES_SHOWN: usize = 12;
/// Names of one circle that are spelled out.
const NAMES_SHOWN: usize = 30;

/// Who waits for whom, by position in [`Unfolded::flats`].
pub(super) struct Graph {
    index: HashMap<String, usize>,
    needs: Vec<Vec<usize>>,
    /// Every step after all it needs; empty if there is a circle.
    order: Vec<usize>,
    /// For each step the bits of its ancestors.
    ancestors: OnceCell<Vec<Box<[u64]>>>,
}

impl Graph {
    /// The graph; circles are reported.
    pub(super) fn of(unfolded: &Unfolded, out: &mut Vec<Diagnostic>) -> Self {
        let flats = &unfolded.flats;
        let mut index = HashMap::with_capacity(flats.len());
        for (at, flat) in flats.iter().enumerate() {
            index.entry(flat.id.clone()).or_insert(at);
        }
        let needs: Vec<Vec<usize>> = flats
            .iter()
            .map(|flat| flat.depends_on.iter().filter_map(|(id, _)| index.get(id).copied()).collect())
            .collect();
        let mut graph = Graph { index, needs, order: Vec::new(), ancestors: OnceCell::new() };
        let circles = graph.sort();
        for circle in &circles {
            out.push(told(unfolded, circle));
        }
        if !circles.is_empty() {
            graph.order.clear();
        }
        graph
    }

    /// Orders the steps depth first, without recursion. Gives the circles it meets; no step is in two of them.
    fn sort(&mut self) -> Vec<Vec<usize>> {
        const NEW: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![NEW; self.needs.len()];
        let mut in_circle = vec![false; self.needs.len()];
        let mut circles = Vec::new();
        for start in 0..self.needs.len() {
            // The way from `start`, each with the number of its next dependency.
            let mut way: Vec<(usize, usize)> = Vec::new();
            if state[start] == NEW {
                state[start] = OPEN;
                way.push((start, 0));
            }
            while let Some((at, next)) = way.last_mut() {
                let Some(&need) = self.needs[*at].get(*next) else {
                    state[*at] = DONE;
                    self.order.push(*at);
                    way.pop();
                    continue;
                };
                *next += 1;
                match state[need] {
                    NEW => {
                        state[need] = OPEN;
                        way.push((need, 0));
                    }
                    OPEN => {
                        let from = way.iter().position(|(on_way, _)| *on_way == need).unwrap_or(0);
                        let circle: Vec<usize> = way[from..].iter().map(|(on_way, _)| *on_way).collect();
                        if !circle.iter().any(|step| in_circle[*step]) {
                            circle.iter().for_each(|step| in_circle[*step] = true);
                            circles.push(circle);
                        }
                    }
                    _ => {}
                }
            }
        }
        circles
    }

    /// The step of an id.
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// Whether `step` is one of `needs` or an ancestor of one. In a circle everything is taken for an ancestor: the
    /// circle was told, and more would be noise.
    pub(super) fn is_before(&self, step: usize, needs: &[usize]) -> bool {
        if self.order.len() != self.needs.len() {
            return true;
        }
        let all = self.ancestors.get_or_init(|| self.all_ancestors());
        needs.iter().any(|need| *need == step || all[*need][step / 64] >> (step % 64) & 1 == 1)
    }

    fn all_ancestors(&self) -> Vec<Box<[u64]>> {
        let words = self.needs.len().div_ceil(64);
        let mut all: Vec<Box<[u64]>> = vec![Box::default(); self.needs.len()];
        for &step in &self.order {
            let mut bits = vec![0u64; words].into_boxed_slice();
            for &need in &self.needs[step] {
                bits[need / 64] |= 1 << (need % 64);
                bits.iter_mut().zip(&all[need]).for_each(|(word, more)| *word |= more);
            }
            all[step] = bits;
        }
        all
    }
}

/// The diagnostic of a circle: each edge is a label.
fn told(unfolded: &Unfolded, circle: &[usize]) -> Diagnostic {
    let flats = &unfolded.flats;
    // Told from the step that comes first in the file.
    let first = circle.iter().enumerate().min_by_key(|(_, step)| flats[**step].raw.span).map_or(0, |(at, _)| at);
    let around: Vec<usize> = (0..circle.len()).map(|at| circle[(first + at) % circle.len()]).collect();
    let edge = |at: usize| -> (Span, String) {
        let (from, to) = (&flats[around[at]], &flats[around[(at + 1) % around.len()]]);
        let place = from.depends_on.iter().find(|(id, _)| *id == to.id).map_or(from.raw.head, |(_, span)| *span);
        (place, format!("`{}` waits for `{}`", from.id, to.id))
    };
    let (at, label) = edge(0);
    let message = match around.as_slice() {
        [alone] => format!("step `{}` waits for itself", flats[*alone].id),
        _ => {
            let mut names: Vec<&str> = around.iter().take(NAMES_SHOWN).map(|step| flats[*step].id.as_str()).collect();
            if around.len() > NAMES_SHOWN {
                names.push("…");
            }
            names.push(&flats[around[0]].id);
            format!("steps wait for each other: {}", names.join(" → "))
        }
    };
    let mut found = Diagnostic::error(&CYCLE, at, message, label);
    for further in 1..around.len().min(EDGES_SHOWN) {
        let (span, label) = edge(further);
        found = found.also(span, label);
    }
    found.help(if around.len() == 1 {
        "take it out of its own `depends_on`"
    } else {
        "one of these dependencies has to go"
    })
}
