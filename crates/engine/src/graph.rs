//! What a plan is looked up by: derived from it, so it is never stored.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::{Group, GroupIx, Need, NodeIx, Plan, StepKind};

use crate::scope;

/// A plan with its indexes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Graph {
    pub(crate) plan: Arc<Plan>,
    /// Who needs one instance alone.
    by_one: BTreeMap<NodeIx, Vec<NodeIx>>,
    /// Steps in the order of who made them and id. A sorted list and no map: it is built for every run and seldom asked.
    ids: Vec<GroupIx>,
    /// Variables that every command of the run gets.
    pub(crate) run_env: Arc<BTreeMap<String, String>>,
    /// The pipeline's `env`, if it is the same for every command.
    pub(crate) env: Option<Arc<BTreeMap<String, String>>>,
}

impl Graph {
    /// `None` if the plan points outside of itself.
    pub(crate) fn new(plan: Arc<Plan>) -> Option<Graph> {
        let mut graph = Graph {
            plan: plan.clone(),
            by_one: BTreeMap::new(),
            ids: Vec::new(),
            run_env: Arc::new(run_env(&plan)),
            env: scope::shared_env(&plan).map(Arc::new),
        };
        sound(&plan).then(|| graph.index(0)).map(|()| graph)
    }

    /// The graph of a plan that grew.
    pub(crate) fn grown(&self, plan: Plan) -> Graph {
        let before = self.plan.groups.len();
        let mut graph = Graph { plan: Arc::new(plan), ..self.clone() };
        graph.index(before);
        graph
    }

    fn index(&mut self, first: usize) {
        for (at, group) in self.plan.groups.iter().enumerate().skip(first) {
            self.ids.push(GroupIx(at as u32));
            for node in group.first.0..group.first.0 + group.count {
                for need in self.plan.nodes[node as usize].needs.iter() {
                    if let Need::One(needed) = need {
                        self.by_one.entry(*needed).or_default().push(NodeIx(node));
                    }
                }
            }
        }
        let plan = &self.plan;
        self.ids.sort_by(|a, b| name_key(plan, *a).cmp(&name_key(plan, *b)));
    }

    pub(crate) fn group(&self, node: NodeIx) -> &Group {
        &self.plan.groups[self.plan.nodes[node.at()].group.at()]
    }

    /// Instances that need this one alone.
    pub(crate) fn needed_by_one(&self, node: NodeIx) -> &[NodeIx] {
        self.by_one.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Whether `dependant` needs `group` instance by instance, and not as a whole.
    pub(crate) fn is_by_cell(&self, group: GroupIx, dependant: GroupIx) -> bool {
        let first = self.plan.groups[group.at()].first;
        self.needed_by_one(first).iter().any(|node| self.plan.nodes[node.at()].group == dependant)
    }

    /// The step that `id` means for an instance: of those that were made together with it, else of those around.
    pub(crate) fn named(&self, from: NodeIx, id: &str) -> Option<GroupIx> {
        let mut maker = self.group(from).made_by;
        loop {
            if let Ok(at) = self.ids.binary_search_by(|group| name_key(&self.plan, *group).cmp(&(maker, id))) {
                return Some(self.ids[at]);
            }
            maker = self.group(maker?).made_by;
        }
    }

    /// The steps that an `expand` instance made.
    pub(crate) fn made_by(&self, node: NodeIx) -> impl Iterator<Item = GroupIx> {
        let maker = Some(node);
        let made_by = move |group: &GroupIx| self.plan.groups[group.at()].made_by;
        let first = self.ids.partition_point(|group| made_by(group) < maker);
        self.ids[first..].iter().copied().take_while(move |group| made_by(group) == maker)
    }

    /// Whether something that runs depends on a step: then its layer is kept.
    pub(crate) fn has_dependants(&self, group: &Group) -> bool {
        let direct = group.needed_by.iter().any(|dependant| {
            let dependant = &self.plan.groups[dependant.at()];
            // What a template use leaves behind runs nothing; what counts is who depends on it.
            !matches!(dependant.step.kind, StepKind::Group) || self.has_dependants(dependant)
        });
        direct || group.made_by.is_some_and(|maker| self.has_dependants(self.group(maker)))
    }
}

fn name_key(plan: &Plan, group: GroupIx) -> (Option<NodeIx>, &str) {
    let group = &plan.groups[group.at()];
    (group.made_by, group.step.id.as_str())
}

fn run_env(plan: &Plan) -> BTreeMap<String, String> {
    let context = &plan.context;
    let git = &context.trigger.git;
    BTreeMap::from([
        ("PACE_BRANCH".to_owned(), git.branch.clone()),
        ("PACE_COMMIT".to_owned(), git.commit.clone()),
        ("PACE_EVENT".to_owned(), plan.event().word().to_owned()),
        ("PACE_RUN_ID".to_owned(), context.run.as_str().to_owned()),
        ("PACE_RUN_NUMBER".to_owned(), context.number.0.to_string()),
        ("PACE_TAG".to_owned(), git.tag.clone()),
    ])
}

fn sound(plan: &Plan) -> bool {
    let (groups, nodes) = (plan.groups.len(), plan.nodes.len());
    let inside = |group: &Group| {
        let end = group.first.0.checked_add(group.count);
        end.is_some_and(|end| end as usize <= nodes) && group.needed_by.iter().all(|group| group.at() < groups)
    };
    plan.groups.iter().all(|group| inside(group) && group.made_by.is_none_or(|node| node.at() < nodes))
        && plan.nodes.iter().all(|node| {
            node.group.at() < groups
                && node.needs.iter().all(|need| match need {
                    Need::All(group) => group.at() < groups,
                    Need::One(node) => node.at() < nodes,
                })
        })
}
