//! The plan of a run: every step instance with what it needs. Made by `engine::plan`; grown by `expand`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::expr::{Template, Value};
use crate::{Concurrency, EventKind, GroupIx, NodeIx, RunId, RunNumber, Sla, Step, Terms, Trigger};

/// Everything that is known when a run is asked for, beside the pipeline itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunContext {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
    /// Why it runs.
    pub trigger: Trigger,
    /// Values of all declared parameters, checked against their types.
    pub params: BTreeMap<String, Value>,
    /// Values of the pipeline's `hash(…)` calls.
    #[serde(with = "pairs")]
    pub hashes: BTreeMap<Vec<String>, String>,
    /// Values of the pipeline's `env("…")` calls.
    pub caller_env: BTreeMap<String, String>,
    /// How long instances took before, by instance name: for order and estimates, never for results.
    pub estimates: BTreeMap<String, Duration>,
    /// Which steps are wanted.
    pub selection: Selection,
    /// What a failure does to the others.
    pub on_failure: OnFailure,
    /// On what terms it runs among others.
    #[serde(default)]
    pub terms: Terms,
}

/// A map whose keys are lists, as a list of pairs: keys of JSON are texts.
mod pairs {
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Vec<String>, String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Vec<String>, String>, D::Error> {
        Ok(Vec::<(Vec<String>, String)>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Which steps a run is asked to do.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Selection {
    /// These and what they need (step ids or instance names); empty: all.
    pub only: Vec<String>,
    /// Steps that must be executed even when the cache knows them, with everything that depends on them: `--from`.
    pub from: Vec<String>,
    /// Nothing is taken from the cache: `--no-cache`.
    pub no_cache: bool,
    /// Cached steps are executed too and compared: `--verify`.
    pub verify: bool,
}

/// What a failure does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum OnFailure {
    /// No new step starts, running ones end (default).
    #[default]
    Stop,
    /// Whatever does not depend on the failed step goes on: `--keep-going`.
    KeepGoing,
    /// No new step starts and running ones are cancelled: `--fail-fast`.
    FailFast,
}

/// All step instances of a run.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// What was known at the start.
    pub context: RunContext,
    /// The pipeline's `env`.
    pub env: BTreeMap<String, Template>,
    /// The pipeline's `concurrency`, rendered.
    pub concurrency: Option<(String, Concurrency)>,
    /// The pipeline's `sla`.
    pub sla: Option<Sla>,
    /// The steps, in file order, expanded ones after.
    pub groups: Vec<Group>,
    /// The instances; those of one step stand side by side.
    pub nodes: Vec<Node>,
}

/// A step and its instances.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// The definition.
    pub step: Arc<Step>,
    /// First instance.
    pub first: NodeIx,
    /// How many instances; at least 1.
    pub count: u32,
    /// Which `expand` step made it, if one did.
    pub made_by: Option<NodeIx>,
    /// Steps that depend on it, as a whole or instance by instance.
    pub needed_by: Vec<GroupIx>,
}

/// A step instance.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Its step.
    pub group: GroupIx,
    /// `test`, `test[go=1.23,race=true]`, `test[2/4]`: unique in the plan.
    pub name: Arc<str>,
    /// Its matrix cell.
    pub cell: Arc<BTreeMap<String, Value>>,
    /// Its shard, counted from 1, and of how many.
    pub shard: Option<(u32, u32)>,
    /// What it waits for.
    pub needs: Arc<[Need]>,
    /// Length of the longest way from its start to the end of the run by estimates, in milliseconds: the order of the queue.
    pub rank: u64,
    /// Must not be taken from the cache.
    pub fresh: bool,
    /// Known before the run that it will not run, and why.
    pub skip: Option<PlannedSkip>,
    /// Labels that its agent must have: `runs_on`, rendered, sorted, each once. `None`: any agent does.
    #[serde(default)]
    pub runs_on: Option<Arc<[Arc<str>]>>,
}

/// One thing an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Need {
    /// Every instance of a step.
    All(GroupIx),
    /// The instance with the same matrix cell, of another step of the same template use.
    One(NodeIx),
}

/// Why an instance is known not to run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PlannedSkip {
    /// Its `if` is false.
    Condition,
    /// Not among the steps that were asked for.
    NotSelected,
}

impl Plan {
    /// The step of an instance.
    pub fn step(&self, node: NodeIx) -> &Arc<Step> {
        &self.groups[self.nodes[node.at()].group.at()].step
    }
    /// The instances of a step.
    pub fn instances(&self, group: GroupIx) -> impl Iterator<Item = NodeIx> + use<> {
        let Group { first, count, .. } = self.groups[group.at()];
        (first.0..first.0 + count).map(NodeIx)
    }
    /// The instances that `node` needs directly.
    pub fn needed_nodes(&self, node: NodeIx) -> impl Iterator<Item = NodeIx> + '_ {
        self.nodes[node.at()].needs.iter().flat_map(|need| match *need {
            Need::All(group) => self.instances(group).collect::<Vec<_>>(),
            Need::One(node) => alloc::vec![node],
        })
    }
    /// What kind of event it runs for.
    pub fn event(&self) -> EventKind {
        self.context.trigger.event.kind
    }
}
