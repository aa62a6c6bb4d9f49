//! Parameters of a run: what was given, held against what the pipeline declares.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use model::expr::{Expr, ExprKind, Function, Scope, Value, evaluate_bool};
use model::{Param, ParamKind, Pipeline, Span, Trigger};

use crate::nearest;

/// Longest text of a parameter; more than a person types, less than an environment holds.
const PARAM_BYTES_MAX: usize = 64 << 10;

/// The values of all parameters: given or default, of the declared type.
///
/// # Errors
/// Every complaint at once, each a sentence: unknown, missing, of the wrong type, not matching.
pub fn resolve(pipeline: &Pipeline, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, Value>, Vec<String>> {
    let mut values = BTreeMap::new();
    let mut complaints: Vec<String> =
        given.keys().filter(|name| !pipeline.params.contains_key(*name)).map(|name| unknown(pipeline, name)).collect();
    for (name, param) in &pipeline.params {
        let value = match (given.get(name), &param.default) {
            (Some(text), _) => read(name, param, text),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                Err(alloc::format!("parameter `{name}` has no default and must be given: --param {name}=…"))
            }
        };
        match value {
            Ok(value) => drop(values.insert(name.clone(), value)),
            Err(complaint) => complaints.push(complaint),
        }
    }
    if complaints.is_empty() { Ok(values) } else { Err(complaints) }
}

fn unknown(pipeline: &Pipeline, name: &str) -> String {
    match (nearest(name, pipeline.params.keys().map(String::as_str)), pipeline.params.is_empty()) {
        (Some(near), _) => alloc::format!("there is no parameter `{name}`; there is `{near}`"),
        (None, true) => alloc::format!("there is no parameter `{name}`: the pipeline declares none"),
        (None, false) => {
            let names: Vec<&str> = pipeline.params.keys().map(String::as_str).collect();
            alloc::format!("there is no parameter `{name}`; there are: {}", names.join(", "))
        }
    }
}

fn read(name: &str, param: &Param, text: &str) -> Result<Value, String> {
    if text.len() > PARAM_BYTES_MAX {
        return Err(alloc::format!("parameter `{name}` is longer than {PARAM_BYTES_MAX} bytes"));
    }
    match param.kind {
        ParamKind::String => read_text(name, param, text),
        ParamKind::Boolean => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(alloc::format!("parameter `{name}` is `true` or `false`, not `{text}`")),
        },
        ParamKind::Integer => {
            let number = text.parse().map(Value::Int);
            number.map_err(|_| alloc::format!("parameter `{name}` is a whole number of 64 bits, not `{text}`"))
        }
    }
}

fn read_text(name: &str, param: &Param, text: &str) -> Result<Value, String> {
    if !param.choices.is_empty() && !param.choices.iter().any(|choice| choice == text) {
        return Err(alloc::format!("parameter `{name}` is one of {}, not `{text}`", param.choices.join(", ")));
    }
    match &param.pattern {
        Some(pattern) if !matches(text, pattern)? => {
            Err(alloc::format!("parameter `{name}` is `{text}`, which does not match its pattern `{pattern}`"))
        }
        _ => Ok(Value::Text(text.into())),
    }
}

/// The expression `text.matches(pattern)`: the pipeline language has one kind of regular expression, and this is it.
fn matches(text: &str, pattern: &str) -> Result<bool, String> {
    let literal = |text: &str| Expr { span: Span::default(), kind: ExprKind::Literal(Value::Text(text.into())) };
    let arguments = alloc::vec![literal(text), literal(pattern)];
    let call = Expr { span: Span::default(), kind: ExprKind::Call(Function::Matches, arguments) };
    let (nothing, no_env, no_hashes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let trigger = Trigger::default();
    let scope = Scope {
        trigger: &trigger,
        run_id: "",
        run_number: 0,
        params: &nothing,
        env: &no_env,
        matrix: &nothing,
        hashes: &no_hashes,
        caller_env: &no_env,
        values: &no_env,
        steps: &|_| None,
    };
    evaluate_bool(&call, &scope).map_err(|error| error.message)
}
