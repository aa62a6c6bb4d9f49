//! Expanded files: steps that a former step of the run wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::expr::{Template, Value};
use model::limits::EXPANSION_DEPTH_MAX;
use model::{ParamKind, Pipeline, Plan, Span, Step, StepId};

use super::codes::TEMPLATE_DEPTH;
use super::graph::Graph;
use super::load::{bounded, decode};
use super::typing::{Reader, Scene, untrusted_names};
use super::unfold;
use crate::diagnostic::Diagnostic;
use crate::keyword::EXPANDED;
use crate::report::{Report, Sources};

/// What an expanded file sees of the pipeline around it.
#[derive(Clone, Debug, Default)]
pub struct Outer {
    /// The pipeline's parameters.
    pub params: BTreeMap<String, ParamKind>,
    /// Names in the pipeline's `env`.
    pub env: BTreeSet<String>,
    /// Those of them that hold what a stranger can set.
    pub untrusted_env: BTreeSet<String>,
}

impl Outer {
    /// What steps of a pipeline see around them.
    pub fn of_pipeline(pipeline: &Pipeline) -> Self {
        let params = pipeline.params.iter().map(|(name, param)| (name.clone(), param.kind)).collect();
        Self::of(params, &pipeline.env)
    }

    /// What steps of a running plan see around them.
    pub fn of_plan(plan: &Plan) -> Self {
        let kind = |value: &Value| match value {
            Value::Bool(_) => ParamKind::Boolean,
            Value::Int(_) => ParamKind::Integer,
            _ => ParamKind::String,
        };
        Self::of(plan.context.params.iter().map(|(name, value)| (name.clone(), kind(value))).collect(), &plan.env)
    }

    fn of(params: BTreeMap<String, ParamKind>, env: &BTreeMap<String, Template>) -> Self {
        let untrusted_env = untrusted_names(env, &params, &BTreeSet::new());
        Outer { params, env: env.keys().cloned().collect(), untrusted_env }
    }
}

/// Reads and checks steps that a former step wrote. The file has `steps`, and may have `templates`, `env` and
/// `defaults`. Ids get `<parent>.` before them; steps depend on steps of the file only, and those without a dependency
/// have none: the caller starts them after `parent`. `depth`: how many expanded files are around, 0 for the first.
///
/// There are steps exactly if the report has no errors.
pub fn load_expansion(
    path: &str,
    bytes: &[u8],
    parent: &StepId,
    depth: usize,
    outer: &Outer,
) -> (Option<Vec<Arc<Step>>>, Report) {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    let steps = assemble(path, bytes, parent, depth, outer, &mut sources, &mut out);
    let report = Report::new(sources, out);
    (steps.filter(|_| !report.has_errors()), report)
}

fn assemble(
    path: &str,
    bytes: &[u8],
    parent: &StepId,
    depth: usize,
    outer: &Outer,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<Vec<Arc<Step>>> {
    let file = decode(path, bytes, "an expanded file", EXPANDED, sources, out)?;
    if depth >= EXPANSION_DEPTH_MAX {
        let message = format!("expanded files expand more than {EXPANSION_DEPTH_MAX} deep");
        out.push(Diagnostic::error(&TEMPLATE_DEPTH, Span::default(), message, "this file is one too many"));
        return None;
    }
    let unfolded = unfold::unfold(&file.steps, &file.templates, &format!("{parent}."), out);
    let graph = Graph::of(&unfolded, out);
    if !bounded(&unfolded, out) {
        return None;
    }
    let mut scene = Scene::new(&unfolded, &graph, &outer.params);
    scene.see_env(outer.env.clone(), outer.untrusted_env.clone());
    let mut reader = Reader::new(sources, out);
    reader.too_late = true;
    Some(scene.steps(&file.defaults, &file.env, &mut reader))
}
