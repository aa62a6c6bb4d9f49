//! Planning: a pipeline and what is known about the run become step instances, each with what it needs.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use model::limits::{MATRIX_CELLS_MAX, STEPS_MAX};
use model::{Pipeline, Plan, RunContext};

use crate::{grow, scope, select};

/// Why a run cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A step that was asked for does not exist.
    UnknownStep {
        /// As asked for.
        name: String,
        /// A step like it.
        nearest: Option<String>,
    },
    /// More than [`STEPS_MAX`] instances.
    TooManySteps,
    /// A matrix with more than [`MATRIX_CELLS_MAX`] cells, or with values that fill megabytes.
    MatrixTooLarge {
        /// Its step.
        step: String,
    },
    /// `exclude` leaves nothing.
    MatrixEmpty {
        /// Its step.
        step: String,
    },
    /// `depends_on` names what is not there, or goes in a circle. (`lang` never lets it come this far.)
    BrokenGraph {
        /// A step in it.
        step: String,
    },
    /// `runs_on` has no value, or one that is no label.
    RunsOn {
        /// The instance.
        step: String,
        /// Why.
        message: String,
    },
    /// `concurrency.group` has no value.
    Concurrency {
        /// Why.
        message: String,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::UnknownStep { name, nearest: Some(nearest) } => {
                write!(f, "no step is called `{name}`; there is `{nearest}`")
            }
            PlanError::UnknownStep { name, nearest: None } => {
                write!(f, "no step is called `{name}`")
            }
            PlanError::TooManySteps => {
                write!(f, "matrix and shards make more than {STEPS_MAX} step instances; split the pipeline")
            }
            PlanError::MatrixTooLarge { step } => write!(
                f,
                "the matrix of step `{step}` has more than {MATRIX_CELLS_MAX} cells or megabytes of values; split the step"
            ),
            PlanError::MatrixEmpty { step } => {
                write!(
                    f,
                    "the matrix of step `{step}` has no cell left after `exclude`; exclude less, or remove the step"
                )
            }
            PlanError::BrokenGraph { step } => {
                write!(f, "`depends_on` of step `{step}` names a step that is not there, or goes in a circle")
            }
            PlanError::RunsOn { step, message } => write!(f, "`runs_on` of step `{step}`: {message}"),
            PlanError::Concurrency { message } => write!(f, "`concurrency.group` has no value: {message}"),
        }
    }
}

impl core::error::Error for PlanError {}

/// Makes the plan of a run: every instance of every step, what it needs, in which order the queue takes it, and what is
/// known beforehand not to run.
///
/// # Errors
/// A selection that names no step, a bound that is passed, a concurrency group without a value.
pub fn plan(pipeline: &Pipeline, context: RunContext) -> Result<Plan, PlanError> {
    let mut plan = Plan {
        name: pipeline.name.clone(),
        context,
        env: pipeline.env.clone(),
        concurrency: None,
        sla: pipeline.sla,
        groups: Vec::new(),
        nodes: Vec::new(),
    };
    if let Some(concurrency) = &pipeline.concurrency {
        let group = scope::of_pipeline(&plan, &concurrency.group)
            .map_err(|error| PlanError::Concurrency { message: error.message.to_string() })?;
        plan.concurrency = Some((group, concurrency.clone()));
    }
    grow::add(&mut plan, &pipeline.steps, None)?;
    select::choose(&mut plan)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::sync::Arc;
    use alloc::vec;
    use core::time::Duration;

    use model::expr::Value;
    use model::{
        Matrix, Need, NodeIx, OnFailure, PlannedSkip, Resources, Retry, RunId, RunNumber, Selection, Span, Step,
        StepId, StepKind, Timeout, Trigger, Triggers, When,
    };

    fn step(id: &str, needs: &[&str]) -> Step {
        Step {
            id: StepId::from(id),
            span: Span::default(),
            scope: None,
            kind: StepKind::Group,
            depends_on: needs.iter().map(|need| StepId::from(*need)).collect(),
            when: When::Success,
            condition: None,
            allow_failure: false,
            matrix: None,
            shards: 1,
            retry: Retry::default(),
            timeout: Timeout::default(),
            resources: Resources::default(),
            runs_on: Vec::new(),
        }
    }

    fn with_axis(mut step: Step, values: usize) -> Step {
        let values = (0..values).map(|at| Value::Int(at as i64)).collect();
        step.matrix = Some(Box::new(Matrix { axes: vec![("m".into(), values)], ..Matrix::default() }));
        step
    }

    fn pipeline(steps: Vec<Step>) -> Pipeline {
        Pipeline {
            name: "p".into(),
            on: Triggers::default(),
            params: BTreeMap::new(),
            env: BTreeMap::new(),
            concurrency: None,
            sla: None,
            steps: steps.into_iter().map(Arc::new).collect(),
            hash_calls: BTreeSet::new(),
            env_calls: BTreeSet::new(),
        }
    }

    fn context(selection: Selection) -> RunContext {
        RunContext {
            run: RunId::from("r"),
            number: RunNumber(1),
            trigger: Trigger::default(),
            params: BTreeMap::new(),
            hashes: BTreeMap::new(),
            caller_env: BTreeMap::new(),
            estimates: BTreeMap::from([("slow".into(), Duration::from_secs(60))]),
            selection,
            on_failure: OnFailure::Stop,
            terms: model::Terms::default(),
        }
    }

    fn planned(steps: Vec<Step>) -> Result<Plan, PlanError> {
        plan(&pipeline(steps), context(Selection::default()))
    }

    fn names(plan: &Plan, wanted: impl Fn(&model::Node) -> bool) -> Vec<&str> {
        plan.nodes.iter().filter(|node| wanted(node)).map(|node| &*node.name).collect()
    }

    #[test]
    fn ranks_are_the_longest_way_to_the_end_by_past_timings() {
        let plan = planned(vec![step("a", &[]), step("slow", &[]), step("b", &["a"]), step("c", &["b", "slow"])]);
        let ranks: Vec<u64> = plan.expect("a sound plan").nodes.iter().map(|node| node.rank).collect();
        assert_eq!(ranks, [3000, 61_000, 2000, 1000]);
    }

    #[test]
    fn steps_of_one_template_use_need_their_own_cell_with_all_its_shards() {
        let of_use = |step: Step| Step { scope: Some(StepId::from("u")), ..with_axis(step, 2) };
        let sharded = Step { shards: 2, ..of_use(step("u.a", &[])) };
        let plan = planned(vec![sharded, of_use(step("u.b", &["u.a"])), step("c", &["u.a"])]).expect("a sound plan");
        assert_eq!(*plan.nodes[5].needs, [Need::One(NodeIx(2)), Need::One(NodeIx(3))]);
        assert_eq!(*plan.nodes[6].needs, [Need::All(model::GroupIx(0))]);
    }

    #[test]
    fn a_selection_takes_what_it_needs_and_from_makes_dependants_fresh() {
        let steps =
            || pipeline(vec![step("a", &[]), with_axis(step("b", &["a"]), 2), step("c", &["b"]), step("d", &[])]);
        let only = Selection { only: vec!["b[m=1]".into()], ..Selection::default() };
        let one = plan(&steps(), context(only)).expect("a sound plan");
        assert_eq!(names(&one, |node| node.skip == Some(PlannedSkip::NotSelected)), ["b[m=0]", "c", "d"]);
        let from = Selection { from: vec!["b".into()], ..Selection::default() };
        let fresh = plan(&steps(), context(from)).expect("a sound plan");
        assert_eq!(names(&fresh, |node| node.fresh), ["b[m=0]", "b[m=1]", "c"]);
        let none = Selection { no_cache: true, ..Selection::default() };
        assert_eq!(names(&plan(&steps(), context(none)).expect("a sound plan"), |node| !node.fresh), [""; 0]);
    }

    #[test]
    fn who_asks_for_a_step_that_is_yet_to_be_made_asks_for_its_maker() {
        let more = Step { kind: StepKind::Expand("m.yaml".into()), ..step("more", &[]) };
        let only = Selection { only: vec!["more.build".into()], ..Selection::default() };
        let plan = plan(&pipeline(vec![step("a", &[]), more]), context(only)).expect("a sound plan");
        assert_eq!(names(&plan, |node| node.skip.is_none()), ["more"]);
    }

    #[test]
    fn a_step_that_does_not_exist_is_named_with_the_nearest() {
        let only = Selection { only: vec!["biuld".into()], ..Selection::default() };
        let error = plan(&pipeline(vec![step("build", &[])]), context(only)).expect_err("there is no such step");
        assert_eq!(error.to_string(), "no step is called `biuld`; there is `build`");
    }

    #[test]
    fn a_plan_is_bounded_and_a_broken_graph_is_an_error() {
        let many = || (0..11).map(|at| with_axis(step(&alloc::format!("s{at}"), &[]), 1000)).collect();
        assert_eq!(planned(many()), Err(PlanError::TooManySteps));
        let most: Vec<Step> = many();
        assert_eq!(planned(most[..10].to_vec()).map(|plan| plan.nodes.len()), Ok(10_000));
        let sharded = Step { shards: u32::MAX, ..with_axis(step("s", &[]), 1000) };
        assert_eq!(planned(vec![sharded]), Err(PlanError::TooManySteps));
        assert!(matches!(planned(vec![step("a", &["x"])]), Err(PlanError::BrokenGraph { .. })));
        let circle = vec![step("a", &["b"]), step("b", &["a"])];
        assert!(matches!(planned(circle), Err(PlanError::BrokenGraph { .. })));
    }
}
