//! Evaluation: bounded in steps and in the size of what it makes, and total (every failure is an [`EvalError`]).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Expr, Template, TemplatePart, Value};
use crate::{Span, Trigger};

/// Everything an expression can see.
pub struct Scope<'a> {
    /// `event`, `git`.
    pub trigger: &'a Trigger,
    /// `run.id`.
    pub run_id: &'a str,
    /// `run.number`.
    pub run_number: u64,
    /// `params`.
    pub params: &'a BTreeMap<String, Value>,
    /// `env`: rendered values.
    pub env: &'a BTreeMap<String, String>,
    /// `matrix` of this instance.
    pub matrix: &'a BTreeMap<String, Value>,
    /// `hash(…)` by its argument list.
    pub hashes: &'a BTreeMap<Vec<String>, String>,
    /// `env("NAME")`.
    pub caller_env: &'a BTreeMap<String, String>,
    /// `steps.<id>`; `None` while it has not ended.
    pub steps: &'a dyn Fn(&str) -> Option<StepFacts>,
}

/// What an expression can see of a step that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFacts {
    /// `success`, `failure`, `skipped`, `cancelled`.
    pub outcome: &'static str,
    /// Its values.
    pub values: BTreeMap<String, String>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// Where in the pipeline.
    pub span: Span,
    /// What went wrong, a whole sentence.
    pub message: String,
}

/// The value of an expression.
///
/// # Errors
/// Division by zero, overflow, a missing key, an unreadable number or version, or a cost above
/// [`crate::limits::EXPR_COST_MAX`].
pub fn evaluate(expr: &Expr, _scope: &Scope<'_>) -> Result<Value, EvalError> {
    Err(EvalError { span: expr.span, message: "not implemented".to_string() })
}

/// The value of a condition.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_bool(expr: &Expr, scope: &Scope<'_>) -> Result<bool, EvalError> {
    match evaluate(expr, scope)? {
        Value::Bool(value) => Ok(value),
        other => {
            Err(EvalError { span: expr.span, message: alloc::format!("the condition is `{other}`, not true or false") })
        }
    }
}

/// The text of a template. A value is put in as it is and never read again.
///
/// # Errors
/// As [`evaluate`]; also when the text grows over [`crate::limits::EXPR_TEXT_BYTES_MAX`].
pub fn render(template: &Template, scope: &Scope<'_>) -> Result<String, EvalError> {
    let mut text = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Text(plain) => text.push_str(plain),
            TemplatePart::Expr(expr) => text.push_str(&evaluate(expr, scope)?.to_string()),
        }
    }
    Ok(text)
}
