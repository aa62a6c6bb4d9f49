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
                write!(f, "no step is called `{name}`; `pace plan` lists them all")
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
