//! Which instances of a plan a person asked for, and which of them must not come from the cache.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use model::{Group, Need, NodeIx, Plan, PlannedSkip, StepKind};

use crate::{PlanError, nearest};

/// Marks what was not asked for, and what `--from` makes fresh.
pub(crate) fn choose(plan: &mut Plan) -> Result<(), PlanError> {
    let only = named(plan, &plan.context.selection.only)?;
    let from = named(plan, &plan.context.selection.from)?;
    if !only.is_empty() {
        let wanted = with_needs(plan, only);
        for (node, wanted) in plan.nodes.iter_mut().zip(wanted) {
            if !wanted {
                node.skip = Some(PlannedSkip::NotSelected);
            }
        }
    }
    if !from.is_empty() {
        let fresh = with_dependants(plan, from);
        for (node, fresh) in plan.nodes.iter_mut().zip(fresh) {
            node.fresh |= fresh;
        }
    }
    Ok(())
}

/// The instances that names stand for: a step's id for all of its instances, an instance's name for one.
pub(crate) fn named(plan: &Plan, names: &[alloc::string::String]) -> Result<Vec<NodeIx>, PlanError> {
    let mut nodes = Vec::new();
    if names.is_empty() {
        return Ok(nodes);
    }
    let by_name: BTreeMap<&str, NodeIx> =
        plan.nodes.iter().enumerate().map(|(at, node)| (&*node.name, NodeIx(at as u32))).collect();
    let by_id: BTreeMap<&str, &Group> = plan.groups.iter().map(|group| (group.step.id.as_str(), group)).collect();
    for name in names {
        match (by_id.get(name.as_str()), by_name.get(name.as_str())) {
            (Some(group), _) => nodes.extend((group.first.0..group.first.0 + group.count).map(NodeIx)),
            (None, Some(node)) => nodes.push(*node),
            (None, None) => nodes.push(maker(plan, name).ok_or_else(|| unknown(plan, name))?),
        }
    }
    Ok(nodes)
}

/// A step that an `expand` step will make is not there yet; who asks for it asks for its maker.
fn maker(plan: &Plan, name: &str) -> Option<NodeIx> {
    let makes = |node: &&model::Node| {
        matches!(plan.groups[node.group.at()].step.kind, StepKind::Expand(_))
            && name.strip_prefix(&*node.name).is_some_and(|rest| rest.starts_with('.'))
    };
    let node = plan.nodes.iter().find(makes)?;
    plan.nodes.iter().position(|other| core::ptr::eq(other, node)).map(|at| NodeIx(at as u32))
}

fn unknown(plan: &Plan, name: &str) -> PlanError {
    let ids = plan.groups.iter().map(|group| group.step.id.as_str());
    let names = plan.nodes.iter().map(|node| &*node.name);
    PlanError::UnknownStep { name: name.to_string(), nearest: nearest(name, ids.chain(names)).map(ToString::to_string) }
}

fn with_needs(plan: &Plan, start: Vec<NodeIx>) -> Vec<bool> {
    // A whole step is taken once, however many instances need it: otherwise 1,000 instances that each need 1,000 others
    // would be a million visits.
    let mut group_taken = alloc::vec![false; plan.groups.len()];
    walk(plan, start, |node, found| {
        for need in plan.nodes[node.at()].needs.iter() {
            match *need {
                Need::One(node) => found.push(node),
                Need::All(group) if !core::mem::replace(&mut group_taken[group.at()], true) => {
                    found.extend(plan.instances(group));
                }
                Need::All(_) => {}
            }
        }
    })
}

pub(crate) fn with_dependants(plan: &Plan, start: Vec<NodeIx>) -> Vec<bool> {
    let mut group_done = alloc::vec![false; plan.groups.len()];
    walk(plan, start, |node, found| {
        let group = plan.nodes[node.at()].group;
        for dependant in &plan.groups[group.at()].needed_by {
            for other in plan.instances(*dependant) {
                let needs = &plan.nodes[other.at()].needs;
                // Instance by instance only if it is written so; a need of the whole step is looked at once.
                let hit = match needs.contains(&Need::All(group)) {
                    true => !group_done[group.at()],
                    false => needs.contains(&Need::One(node)),
                };
                if hit {
                    found.push(other);
                }
            }
        }
        group_done[group.at()] = true;
    })
}

fn walk(plan: &Plan, start: Vec<NodeIx>, mut next: impl FnMut(NodeIx, &mut Vec<NodeIx>)) -> Vec<bool> {
    let mut seen = alloc::vec![false; plan.nodes.len()];
    let mut open = start;
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        if !core::mem::replace(&mut seen[node.at()], true) {
            next(node, &mut found);
            open.append(&mut found);
        }
    }
    seen
}
