//! Pipelines built by hand: for scenes about states that no text leads to, and for random ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::expr::{BinaryOp, ContextPath, Expr, ExprKind, StepField, Template, TemplatePart, Value};
use model::{
    Approve, Backoff, Bytes, CmdStep, Matrix, OnFailure, Pipeline, Resources, Retry, RetryOn, RunContext, RunId,
    RunNumber, Selection, Span, Step, StepId, StepKind, Timeout, Trigger, Triggers, When,
};

/// A step in the making.
#[derive(Clone, Debug)]
pub struct StepBuilder(Step);

/// A command step without anything else.
pub fn step(id: &str) -> StepBuilder {
    StepBuilder(Step {
        id: StepId::from(id),
        span: Span::default(),
        scope: None,
        kind: StepKind::Cmd(Box::new(CmdStep::new(Template::plain("true")))),
        depends_on: Vec::new(),
        when: When::Success,
        condition: None,
        allow_failure: false,
        matrix: None,
        shards: 1,
        retry: Retry { backoff: Backoff { jitter: 0.0, ..Backoff::default() }, ..Retry::default() },
        timeout: Timeout::default(),
        resources: Resources::default(),
        runs_on: Vec::new(),
    })
}

impl StepBuilder {
    /// `depends_on`.
    pub fn after(mut self, ids: &[&str]) -> Self {
        self.0.depends_on = ids.iter().map(|id| StepId::from(*id)).collect();
        self
    }
    /// `when`.
    pub fn when(mut self, when: When) -> Self {
        self.0.when = when;
        self
    }
    /// `if`.
    pub fn only_if(mut self, condition: Expr) -> Self {
        self.0.condition = Some(condition);
        self
    }
    /// `allow_failure`.
    pub fn allow_failure(mut self) -> Self {
        self.0.allow_failure = true;
        self
    }
    /// `retry`, without jitter.
    pub fn retry(mut self, attempts: u16, on: &[RetryOn]) -> Self {
        self.0.retry.attempts = attempts;
        self.0.retry.on = on.to_vec();
        self
    }
    /// An axis of `matrix`.
    pub fn matrix(mut self, axis: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| Value::Text((*value).into())).collect();
        self.0.matrix.get_or_insert_with(|| Box::new(Matrix::default())).axes.push((axis.into(), values));
        self
    }
    /// `shards`.
    pub fn shards(mut self, shards: u32) -> Self {
        self.0.shards = shards;
        self
    }
    /// The template use that it comes from.
    pub fn scope(mut self, id: &str) -> Self {
        self.0.scope = Some(StepId::from(id));
        self
    }
    /// `resources.cpu` in thousandths.
    pub fn cpu(mut self, milli: u32) -> Self {
        self.0.resources.cpu_milli = Some(milli);
        self
    }
    /// `resources.memory` in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.0.resources.memory = Some(Bytes(bytes));
        self
    }
    /// `timeout.total`.
    pub fn timeout(mut self, total: Duration) -> Self {
        self.0.timeout.total = Some(total);
        self
    }
    /// `cmd`.
    pub fn cmd(mut self, cmd: Template) -> Self {
        if let StepKind::Cmd(step) = &mut self.0.kind {
            step.cmd = cmd;
        }
        self
    }
    /// A variable of `env`.
    pub fn env(mut self, name: &str, value: Template) -> Self {
        if let StepKind::Cmd(step) = &mut self.0.kind {
            step.env.insert(name.into(), value);
        }
        self
    }
    /// An `approve` step.
    pub fn approve(mut self) -> Self {
        self.0.kind =
            StepKind::Approve(Box::new(Approve { by: vec!["team:release".into()], message: None, expires: None }));
        self
    }
    /// `runs_on`.
    pub fn runs_on(mut self, labels: &[&str]) -> Self {
        self.0.runs_on = labels.iter().map(|label| Template::plain(*label)).collect();
        self
    }
    /// An `expand` step.
    pub fn expand(mut self, path: &str) -> Self {
        self.0.kind = StepKind::Expand(path.into());
        self
    }
    /// What a template use leaves behind.
    pub fn group(mut self) -> Self {
        self.0.kind = StepKind::Group;
        self
    }
    /// The step.
    pub fn build(self) -> Arc<Step> {
        Arc::new(self.0)
    }
}

/// A pipeline of these steps.
pub fn pipeline(steps: impl IntoIterator<Item = StepBuilder>) -> Pipeline {
    Pipeline {
        name: "scene".into(),
        on: Triggers::default(),
        params: BTreeMap::new(),
        env: BTreeMap::new(),
        concurrency: None,
        sla: None,
        steps: steps.into_iter().map(StepBuilder::build).collect(),
        hash_calls: BTreeSet::new(),
        env_calls: BTreeSet::new(),
    }
}

/// The pipeline that a text says.
///
/// # Panics
/// With the whole report, if there is an error in it.
#[track_caller]
pub fn text(yaml: &str) -> Pipeline {
    let (pipeline, report) = lang::load("paceline.yaml", yaml.as_bytes(), &mut |_| Err(lang::ReadError::NotFound));
    pipeline.unwrap_or_else(|| panic!("{}", report.render(false, 100)))
}

/// A run with nothing known about it.
pub fn context(run: RunId, number: u64) -> RunContext {
    RunContext {
        run,
        number: RunNumber(number),
        trigger: Trigger::default(),
        params: BTreeMap::new(),
        hashes: BTreeMap::new(),
        caller_env: BTreeMap::new(),
        estimates: BTreeMap::new(),
        selection: Selection::default(),
        on_failure: OnFailure::Stop,
        terms: model::Terms::default(),
    }
}

fn expr(kind: ExprKind) -> Expr {
    Expr { span: Span::default(), kind }
}

/// `false`.
pub fn no() -> Expr {
    expr(ExprKind::Literal(Value::Bool(false)))
}

/// `steps.<id>.values.<key>`.
pub fn value(id: &str, key: &str) -> Expr {
    expr(ExprKind::Context(ContextPath::Step(StepId::from(id), StepField::Value(key.into()))))
}

/// `steps.<id>.outcome`.
pub fn outcome(id: &str) -> Expr {
    expr(ExprKind::Context(ContextPath::Step(StepId::from(id), StepField::Outcome)))
}

/// `left == "right"`.
pub fn is(left: Expr, right: &str) -> Expr {
    let right = expr(ExprKind::Literal(Value::Text(right.into())));
    expr(ExprKind::Binary(BinaryOp::Equal, Box::new(left), Box::new(right)))
}

/// A text with one expression in it: `before${{ it }}`.
pub fn reads(before: &str, it: Expr) -> Template {
    Template { parts: vec![TemplatePart::Text(before.into()), TemplatePart::Expr(it)] }
}
