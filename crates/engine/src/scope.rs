//! What an expression of an instance sees.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::expr::{
    ContextPath, EvalError, Expr, ExprKind, Root, Scope, StepFacts, Template, TemplatePart, evaluate_bool, render,
};
use model::{NodeIx, Plan, Step, StepKind, is_label};

/// How the facts of other steps are found.
pub(crate) type Steps<'a> = &'a dyn Fn(&str) -> Option<StepFacts>;

/// Rendered `env`.
pub(crate) type Env = BTreeMap<String, String>;

/// A template of the pipeline itself, which sees neither matrix nor steps.
pub(crate) fn of_pipeline(plan: &Plan, template: &Template) -> Result<String, EvalError> {
    let nothing = BTreeMap::new();
    let seen = |_: &str| None;
    let bare = scope(plan, &nothing, &Env::new(), &seen, |scope| render_env(&plan.env, scope))?;
    scope(plan, &nothing, &bare, &seen, |scope| render(template, scope))
}

/// The `env` of the pipeline when it is the same for all instances. `None` also when it has no value: then each step that
/// renders it says so.
pub(crate) fn shared_env(plan: &Plan) -> Option<Env> {
    let is_own = |path: &ContextPath| is_step(path) || matches!(path, ContextPath::Of(Root::Matrix, _));
    if any_reads(plan.env.values(), is_own) {
        return None;
    }
    scope(plan, &BTreeMap::new(), &Env::new(), &|_| None, |scope| render_env(&plan.env, scope)).ok()
}

/// The `env` of the pipeline with the step's own over it; `shared` is the pipeline's when it was rendered before.
pub(crate) fn env(
    plan: &Plan,
    node: NodeIx,
    shared: Option<&Arc<Env>>,
    steps: Steps<'_>,
) -> Result<Arc<Env>, EvalError> {
    let cell = &plan.nodes[node.at()].cell;
    let mut env = match shared {
        Some(shared) => shared.clone(),
        None => Arc::new(scope(plan, cell, &Env::new(), steps, |scope| render_env(&plan.env, scope))?),
    };
    if let StepKind::Cmd(cmd) = &plan.step(node).kind
        && !cmd.env.is_empty()
    {
        let own = scope(plan, cell, &env, steps, |scope| render_env(&cmd.env, scope))?;
        Arc::make_mut(&mut env).extend(own);
    }
    Ok(env)
}

/// The instance's `if`; true without one.
pub(crate) fn condition(plan: &Plan, node: NodeIx, steps: Steps<'_>) -> Result<bool, EvalError> {
    let Some(condition) = &plan.step(node).condition else { return Ok(true) };
    let env = match reads(condition, &mut is_env) {
        true => env(plan, node, None, steps)?,
        false => Arc::default(),
    };
    with_env(plan, node, &env, steps, |scope| evaluate_bool(condition, scope))
}

/// The instance's `runs_on`; `None` if it asks for nothing.
pub(crate) fn labels(plan: &Plan, node: NodeIx) -> Result<Option<Arc<[Arc<str>]>>, String> {
    let templates = &plan.step(node).runs_on;
    if templates.is_empty() {
        return Ok(None);
    }
    let mut labels = BTreeSet::new();
    for template in templates {
        let label = with_env(plan, node, &Env::new(), &|_| None, |scope| render(template, scope));
        let label = label.map_err(|error| error.message)?;
        if !is_label(&label) {
            let shown: String = label.chars().take(60).collect();
            return Err(alloc::format!("`{shown}` cannot be a label"));
        }
        labels.insert(Arc::from(label));
    }
    Ok(Some(labels.into_iter().collect::<Vec<_>>().into()))
}

/// Hands the scope of an instance to `use_it`.
pub(crate) fn with_env<T>(
    plan: &Plan,
    node: NodeIx,
    env: &Env,
    steps: Steps<'_>,
    use_it: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    scope(plan, &plan.nodes[node.at()].cell, env, steps, use_it)
}

/// Whether a condition cannot be decided before other steps ended.
pub(crate) fn waits_for_steps(pipeline_env: &BTreeMap<String, Template>, step: &Step, condition: &Expr) -> bool {
    let own_env = match &step.kind {
        StepKind::Cmd(cmd) => Some(&cmd.env),
        _ => None,
    };
    let env_waits = || any_reads(pipeline_env.values().chain(own_env.into_iter().flat_map(BTreeMap::values)), is_step);
    reads(condition, &mut is_step) || (reads(condition, &mut is_env) && env_waits())
}

fn scope<T>(
    plan: &Plan,
    matrix: &BTreeMap<String, model::expr::Value>,
    env: &Env,
    steps: Steps<'_>,
    use_it: impl FnOnce(&Scope<'_>) -> T,
) -> T {
    let context = &plan.context;
    use_it(&Scope {
        trigger: &context.trigger,
        run_id: context.run.as_str(),
        run_number: context.number.0,
        params: &context.params,
        env,
        matrix,
        hashes: &context.hashes,
        caller_env: &context.caller_env,
        values: &context.terms.values,
        steps,
    })
}

fn render_env(templates: &BTreeMap<String, Template>, scope: &Scope<'_>) -> Result<Env, EvalError> {
    templates.iter().map(|(name, template)| Ok((name.clone(), render(template, scope)?))).collect()
}

fn is_step(path: &ContextPath) -> bool {
    matches!(path, ContextPath::Step(..))
}

fn is_env(path: &ContextPath) -> bool {
    matches!(path, ContextPath::Of(Root::Env, _))
}

/// Whether one of the templates reads a context for which `wanted` holds.
fn any_reads<'t>(templates: impl IntoIterator<Item = &'t Template>, wanted: impl Fn(&ContextPath) -> bool) -> bool {
    templates.into_iter().flat_map(|template| &template.parts).any(|part| match part {
        TemplatePart::Text(_) => false,
        TemplatePart::Expr(expr) => reads(expr, &mut |path| wanted(path)),
    })
}

/// Whether an expression reads a context for which `wanted` holds. As deep as the expression, which is bounded.
fn reads(expr: &Expr, wanted: &mut impl FnMut(&ContextPath) -> bool) -> bool {
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Local(_) => false,
        ExprKind::Context(path) => wanted(path),
        ExprKind::Field(inner, _) | ExprKind::Unary(_, inner) | ExprKind::Has(inner) => reads(inner, wanted),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Macro(_, a, _, b) => {
            reads(a, wanted) || reads(b, wanted)
        }
        ExprKind::Choice(a, b, c) => reads(a, wanted) || reads(b, wanted) || reads(c, wanted),
        ExprKind::List(items) | ExprKind::Call(_, items) => items.iter().any(|item| reads(item, wanted)),
        ExprKind::Map(entries) => entries.iter().any(|(key, value)| reads(key, wanted) || reads(value, wanted)),
    }
}
