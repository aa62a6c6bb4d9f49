//! Growing a plan: the instances of more steps, at the start of a run and when an `expand` step made some.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::limits::STEPS_MAX;
use model::{Group, GroupIx, Need, Node, NodeIx, Plan, PlannedSkip, Step, StepId};

use crate::matrix::{self, Cell};
use crate::{PlanError, scope};

/// What an instance is taken to last when nobody knows, in milliseconds.
const ESTIMATE_DEFAULT_MS: u64 = 1000;

/// Adds steps that depend on each other only. `made_by`: the `expand` instance that they come from.
pub(crate) fn add(plan: &mut Plan, steps: &[Arc<Step>], made_by: Option<NodeIx>) -> Result<(), PlanError> {
    let first = plan.groups.len();
    let cells = add_groups(plan, steps, made_by)?;
    let ids: BTreeMap<&StepId, GroupIx> =
        steps.iter().enumerate().map(|(at, step)| (&step.id, GroupIx((first + at) as u32))).collect();
    for at in 0..steps.len() {
        add_needs(plan, GroupIx((first + at) as u32), &ids, &cells, first)?;
    }
    let order = falling(plan, first)?;
    rank(plan, first, &order, made_by);
    skip_by_condition(plan, first);
    label(plan, first)
}

/// Groups and their nodes, without needs; gives back the cells of each step.
fn add_groups(plan: &mut Plan, steps: &[Arc<Step>], made_by: Option<NodeIx>) -> Result<Vec<Vec<Arc<Cell>>>, PlanError> {
    let one = alloc::vec![Arc::new(Cell::new())];
    let nothing: Arc<[Need]> = Arc::from([]);
    let fresh = plan.context.selection.no_cache || made_by.is_some_and(|node| plan.nodes[node.at()].fresh);
    let mut all = Vec::with_capacity(steps.len());
    for step in steps {
        let prefix = prefix(plan, step, made_by);
        let (cells, names) = match (&step.matrix, step.shards) {
            (None, 0 | 1) => (one.clone(), alloc::vec![prefix]),
            (matrix, shards) => {
                let cells = matrix::cells(step.id.as_str(), matrix.as_deref())?;
                if cells.len().saturating_mul(shards.max(1) as usize) > STEPS_MAX {
                    return Err(PlanError::TooManySteps);
                }
                let names = matrix::names(&prefix, matrix.as_deref(), &cells, shards.max(1));
                (cells, names)
            }
        };
        if plan.nodes.len() + names.len() > STEPS_MAX {
            return Err(PlanError::TooManySteps);
        }
        let group = GroupIx(plan.groups.len() as u32);
        let first = NodeIx(plan.nodes.len() as u32);
        let count = names.len() as u32;
        let shards = step.shards.max(1);
        for (at, name) in names.into_iter().enumerate() {
            plan.nodes.push(Node {
                group,
                name,
                cell: cells[at / shards as usize].clone(),
                shard: (shards > 1).then_some((at as u32 % shards + 1, shards)),
                needs: nothing.clone(),
                rank: 0,
                fresh,
                skip: None,
                runs_on: None,
            });
        }
        plan.groups.push(Group { step: step.clone(), first, count, made_by, needed_by: Vec::new() });
        all.push(cells);
    }
    Ok(all)
}

/// The step's id; of a step that one of several instances made, with that instance's name in it: `more[go=1.23].build`.
fn prefix(plan: &Plan, step: &Step, made_by: Option<NodeIx>) -> Arc<str> {
    let of_instance = made_by.and_then(|node| {
        let rest = step.id.as_str().strip_prefix(plan.step(node).id.as_str())?;
        Some(alloc::format!("{}{rest}", plan.nodes[node.at()].name))
    });
    of_instance.map_or_else(|| Arc::from(step.id.as_str()), Arc::from)
}

fn add_needs(
    plan: &mut Plan,
    group: GroupIx,
    ids: &BTreeMap<&StepId, GroupIx>,
    cells: &[Vec<Arc<Cell>>],
    first: usize,
) -> Result<(), PlanError> {
    let step = plan.groups[group.at()].step.clone();
    if step.depends_on.is_empty() {
        return Ok(());
    }
    let mut groups = Vec::with_capacity(step.depends_on.len());
    let mut seen = BTreeSet::new();
    for id in &step.depends_on {
        let needed = *ids.get(id).ok_or_else(|| PlanError::BrokenGraph { step: step.id.to_string() })?;
        if seen.insert(needed) {
            plan.groups[needed.at()].needed_by.push(group);
            groups.push(needed);
        }
    }
    let by_cell = |needed: &GroupIx| {
        let other = &plan.groups[needed.at()].step;
        step.scope.is_some()
            && other.scope == step.scope
            && step.matrix.is_some()
            && cells[needed.at() - first] == cells[group.at() - first]
    };
    let Group { first: first_node, count, .. } = plan.groups[group.at()];
    if !groups.iter().any(by_cell) {
        let needs: Arc<[Need]> = groups.into_iter().map(Need::All).collect();
        (first_node.0..first_node.0 + count).for_each(|node| plan.nodes[node as usize].needs = needs.clone());
        return Ok(());
    }
    for at in 0..count {
        let mut needs = Vec::new();
        for needed in &groups {
            match by_cell(needed) {
                true => same_cell(plan, at / step.shards.max(1), *needed, &mut needs),
                false => needs.push(Need::All(*needed)),
            }
        }
        plan.nodes[(first_node.0 + at) as usize].needs = needs.into();
    }
    Ok(())
}

/// The instances of a step that have the given cell: one for each of its shards.
fn same_cell(plan: &Plan, cell: u32, needed: GroupIx, needs: &mut Vec<Need>) {
    let Group { first, step, .. } = &plan.groups[needed.at()];
    let shards = step.shards.max(1);
    needs.extend((0..shards).map(|shard| Need::One(NodeIx(first.0 + cell * shards + shard))));
}

/// The added steps, each before those that it depends on.
fn falling(plan: &Plan, first: usize) -> Result<Vec<GroupIx>, PlanError> {
    let mut open: Vec<usize> = plan.groups[first..].iter().map(|group| group.needed_by.len()).collect();
    let mut order: Vec<GroupIx> =
        (first..plan.groups.len()).filter(|at| open[at - first] == 0).map(|at| GroupIx(at as u32)).collect();
    let mut at = 0;
    while at < order.len() {
        let mut needed: Vec<GroupIx> = Vec::new();
        for need in plan.nodes[plan.groups[order[at].at()].first.at()].needs.iter() {
            let group = match need {
                Need::All(group) => *group,
                Need::One(node) => plan.nodes[node.at()].group,
            };
            // The shards of one cell stand side by side, so comparing with the last is enough.
            if needed.last() != Some(&group) {
                needed.push(group);
            }
        }
        for group in needed {
            open[group.at() - first] -= 1;
            if open[group.at() - first] == 0 {
                order.push(group);
            }
        }
        at += 1;
    }
    match open.iter().position(|open| *open > 0) {
        Some(at) => Err(PlanError::BrokenGraph { step: plan.groups[first + at].step.id.to_string() }),
        None => Ok(order),
    }
}

/// Ranks: the longest way from an instance's start to the end of the run.
fn rank(plan: &mut Plan, first: usize, order: &[GroupIx], made_by: Option<NodeIx>) {
    let after_all = made_by.map_or(0, |node| plan.nodes[node.at()].rank);
    let mut after_group = alloc::vec![after_all; plan.groups.len() - first];
    let mut after_node: BTreeMap<NodeIx, u64> = BTreeMap::new();
    for group in order {
        for node in plan.instances(*group) {
            let tail = after_group[group.at() - first].max(after_node.get(&node).copied().unwrap_or(0));
            let rank = tail.saturating_add(estimate(plan, node));
            plan.nodes[node.at()].rank = rank;
            for need in plan.nodes[node.at()].needs.iter() {
                let after = match need {
                    Need::All(group) => &mut after_group[group.at() - first],
                    Need::One(node) => after_node.entry(*node).or_default(),
                };
                *after = (*after).max(rank);
            }
        }
    }
}

fn estimate(plan: &Plan, node: NodeIx) -> u64 {
    if plan.context.estimates.is_empty() {
        return ESTIMATE_DEFAULT_MS;
    }
    let known = plan.context.estimates.get(&*plan.nodes[node.at()].name);
    known.map_or(ESTIMATE_DEFAULT_MS, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Conditions that no other step can change are decided now. One without a value is left for its time: then the step fails
/// with the reason, as it would for any other expression.
fn skip_by_condition(plan: &mut Plan, first: usize) {
    for at in first..plan.groups.len() {
        let group = &plan.groups[at];
        let Some(condition) = &group.step.condition else { continue };
        if scope::waits_for_steps(&plan.env, &group.step, condition) {
            continue;
        }
        for node in plan.instances(GroupIx(at as u32)) {
            if scope::condition(plan, node, &|_| None) == Ok(false) {
                plan.nodes[node.at()].skip = Some(PlannedSkip::Condition);
            }
        }
    }
}

/// Which labels each instance asks for: known now, so that the queue need not ask.
fn label(plan: &mut Plan, first: usize) -> Result<(), PlanError> {
    for at in first..plan.groups.len() {
        if plan.groups[at].step.runs_on.is_empty() {
            continue;
        }
        for node in plan.instances(GroupIx(at as u32)) {
            let labels = scope::labels(plan, node)
                .map_err(|message| PlanError::RunsOn { step: plan.nodes[node.at()].name.to_string(), message })?;
            plan.nodes[node.at()].runs_on = labels;
        }
    }
    Ok(())
}

/// Nesting of an instance in `expand` steps: 0 for what stands in the pipeline itself.
pub(crate) fn depth(plan: &Plan, node: NodeIx) -> usize {
    let maker = |node: &NodeIx| plan.groups[plan.nodes[node.at()].group.at()].made_by;
    core::iter::successors(maker(&node), maker).count()
}
