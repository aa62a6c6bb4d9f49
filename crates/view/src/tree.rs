//! The steps in the order they are shown: file order, with what a template use or an `expand` step made below it.

use std::collections::BTreeMap;

use model::{Group, GroupIx, NodeIx};

/// A step with its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which step.
    pub group: GroupIx,
    /// How many steps it lies below.
    pub depth: usize,
}

/// All steps, parents before children.
pub fn order(groups: &[Group]) -> Vec<Place> {
    let mut children = vec![Vec::new(); groups.len()];
    let mut roots = Vec::new();
    let by_id: BTreeMap<_, _> = groups.iter().enumerate().map(|(at, group)| (&group.step.id, at)).collect();
    for (at, group) in groups.iter().enumerate() {
        let scope = group.step.scope.as_ref().and_then(|scope| by_id.get(scope).copied());
        match scope.or_else(|| maker(groups, group.made_by?)).filter(|parent| *parent != at) {
            Some(parent) => children[parent].push(at),
            None => roots.push(at),
        }
    }
    walk(roots, &mut children)
}

/// The step's name below its parent: without the parent's id, which stands above it.
pub fn short_name<'a>(group: &Group, name: &'a str) -> &'a str {
    let scope = group.step.scope.as_ref();
    scope.and_then(|scope| name.strip_prefix(scope.as_str())?.strip_prefix('.')).unwrap_or(name)
}

fn maker(groups: &[Group], node: NodeIx) -> Option<usize> {
    let after = groups.partition_point(|group| group.first <= node);
    after.checked_sub(1).filter(|at| node.0 - groups[*at].first.0 < groups[*at].count)
}

fn walk(roots: Vec<usize>, children: &mut [Vec<usize>]) -> Vec<Place> {
    let mut places = Vec::with_capacity(children.len());
    let mut stack: Vec<(usize, usize)> = roots.into_iter().rev().map(|at| (at, 0)).collect();
    while let Some((at, depth)) = stack.pop() {
        places.push(Place { group: GroupIx(at as u32), depth });
        // Taken, not read: nothing is shown twice, whatever the scopes say.
        let below = std::mem::take(&mut children[at]);
        stack.extend(below.into_iter().rev().map(|child| (child, depth + 1)));
    }
    places
}
