//! The entry of the fuzz target: any bytes as expression and as template, checked and evaluated.

use std::collections::{BTreeMap, BTreeSet};

use model::expr::{Scope, StepFacts, Template, TemplatePart, Value, evaluate, render};
use model::limits::EXPR_TEXT_BYTES_MAX;
use model::{ParamKind, Span, Trigger};

use super::{Type, Types, collect_env_calls, collect_hash_calls, expression, template};
use crate::diagnostic::Diagnostic;
use crate::span_map::SpanMap;

/// Reads bytes as an expression and as a text with expressions, and evaluates what passes the checks.
///
/// # Panics
/// When a promise is broken: a refusal without a diagnostic, a diagnostic outside the source, a text over its bound.
pub fn fuzz_expression(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes);
    let sample = Sample::new();
    let whole = Span { file: 0, start: 0, end: u32::try_from(source.len()).unwrap_or(u32::MAX) };
    let map = SpanMap::exact(whole);

    let mut out = Vec::new();
    let expr = expression(&source, &map, None, &sample.types(), &mut out);
    check_reports(expr.is_none(), &out, whole);
    if let Some(expr) = expr {
        // Not evaluating is fine: the sample may lack what it asks for. Not ending would not be.
        let _value_or_error = evaluate(&expr, &sample.scope());
        render_within_bounds(&Template { parts: vec![TemplatePart::Expr(expr)] }, &sample);
    }

    let mut out = Vec::new();
    let text = template(&source, &map, &sample.types(), &mut out);
    check_reports(text.is_none(), &out, whole);
    if let Some(text) = text {
        render_within_bounds(&text, &sample);
    }
}

fn check_reports(refused: bool, out: &[Diagnostic], whole: Span) {
    assert_eq!(refused, !out.is_empty(), "refused if and only if something is reported: {out:?}");
    for span in out.iter().flat_map(|report| report.labels.iter().chain([&report.primary])).map(|(span, _)| span) {
        assert!(span.start <= span.end && span.end <= whole.end, "{span:?} is outside of {whole:?}");
    }
}

fn render_within_bounds(template: &Template, sample: &Sample) {
    for part in &template.parts {
        if let TemplatePart::Expr(expr) = part {
            collect_hash_calls(expr, &mut BTreeSet::new());
            collect_env_calls(expr, &mut BTreeSet::new());
        }
    }
    if let Ok(text) = render(template, &sample.scope()) {
        assert!(text.len() <= EXPR_TEXT_BYTES_MAX, "{} bytes", text.len());
    }
}

/// A small world with something in every context; the tests use it too.
pub(super) struct Sample {
    pub kinds: BTreeMap<String, ParamKind>,
    pub axes: BTreeMap<String, Type>,
    pub env_names: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    pub ancestors: BTreeSet<String>,
    pub all_steps: BTreeSet<String>,
    trigger: Trigger,
    params: BTreeMap<String, Value>,
    env: BTreeMap<String, String>,
    matrix: BTreeMap<String, Value>,
    hashes: BTreeMap<Vec<String>, String>,
    caller_env: BTreeMap<String, String>,
}

static NO_BINDINGS: BTreeMap<String, model::expr::Expr> = BTreeMap::new();

impl Sample {
    pub(super) fn new() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        let text = |text: &str| Value::Text(text.to_string());
        let mut trigger = Trigger::default();
        trigger.event.kind = model::EventKind::Push;
        trigger.event.title = "Fix the build".to_string();
        trigger.event.number = 5;
        trigger.event.author = "ada".to_string();
        trigger.git.commit = "0123456789abcdef0123456789abcdef01234567".to_string();
        trigger.git.branch = "release/1.2".to_string();
        trigger.git.tag = "v1.2.3-rc.1".to_string();
        trigger.git.message = "Fix $(whoami)".to_string();
        Sample {
            kinds: [
                ("version".to_string(), ParamKind::String),
                ("deploy".to_string(), ParamKind::Boolean),
                ("count".to_string(), ParamKind::Integer),
            ]
            .into(),
            axes: [
                ("go".to_string(), Type::String),
                ("race".to_string(), Type::Bool),
                ("mixed".to_string(), Type::Dyn),
            ]
            .into(),
            env_names: names(&["MODE", "GOOS"]),
            secrets: names(&["TOKEN"]),
            ancestors: names(&["build", "go-test", "deploy.test"]),
            all_steps: names(&["build", "go-test", "deploy.test", "later"]),
            trigger,
            params: [
                ("version".to_string(), text("1.2.3")),
                ("deploy".to_string(), Value::Bool(true)),
                ("count".to_string(), Value::Int(3)),
            ]
            .into(),
            env: [("MODE".to_string(), "fast".to_string()), ("GOOS".to_string(), "linux".to_string())].into(),
            matrix: [
                ("go".to_string(), text("1.23")),
                ("race".to_string(), Value::Bool(true)),
                ("mixed".to_string(), Value::Int(7)),
            ]
            .into(),
            hashes: [(vec!["go.sum".to_string()], "abc123".to_string())].into(),
            caller_env: [("HOME".to_string(), "/home/ada".to_string())].into(),
        }
    }

    pub(super) fn types(&self) -> Types<'_> {
        Types {
            params: &self.kinds,
            env: &self.env_names,
            matrix: &self.axes,
            secrets: &self.secrets,
            ancestors: &self.ancestors,
            all_steps: &self.all_steps,
            bindings: &NO_BINDINGS,
            scope: "",
        }
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope {
            trigger: &self.trigger,
            run_id: "r1",
            run_number: 42,
            params: &self.params,
            env: &self.env,
            matrix: &self.matrix,
            hashes: &self.hashes,
            caller_env: &self.caller_env,
            values: &self.caller_env,
            steps: &|id| match id {
                "build" => Some(StepFacts {
                    outcome: "success",
                    values: [("version".to_string(), "1.2.3".to_string())].into(),
                }),
                "go-test" => Some(StepFacts { outcome: "skipped", values: BTreeMap::new() }),
                "deploy.test" => Some(StepFacts { outcome: "failure", values: BTreeMap::new() }),
                _ => None,
            },
        }
    }
}
