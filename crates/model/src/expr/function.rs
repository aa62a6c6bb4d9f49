//! The functions of expressions, and the budget that every evaluation has.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::eval::BoundedText;
use super::{Function, Scope, Semver, Value};
use crate::limits::{EXPR_COST_MAX, EXPR_TEXT_BYTES_MAX};

/// Size of a compiled pattern: some 500 states, an order of magnitude more than any pattern for branch names needs.
const PATTERN_BYTES_MAX: usize = 16 << 10;
/// What compiling a pattern costs, in evaluation steps.
const PATTERN_COST: usize = 100;

/// What an evaluation may still spend.
pub(super) struct Budget(u32);

impl Budget {
    pub(super) fn full() -> Self {
        Budget(EXPR_COST_MAX)
    }

    pub(super) fn charge(&mut self, cost: usize) -> Result<(), String> {
        let left = u32::try_from(cost).ok().and_then(|cost| self.0.checked_sub(cost));
        self.0 = left.ok_or_else(|| format!("the expression takes more than {EXPR_COST_MAX} evaluation steps"))?;
        Ok(())
    }

    /// Pays for a text of `bytes` bytes before it is made.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > EXPR_TEXT_BYTES_MAX {
            return Err(too_long());
        }
        self.charge(bytes / 256)
    }
}

pub(super) fn too_long() -> String {
    format!("the text grows over {EXPR_TEXT_BYTES_MAX} bytes")
}

/// Whether `matches` can use this pattern.
///
/// # Errors
/// Why not: what is wrong with the syntax, or that the pattern is too large.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    compile(pattern).map(|_| ())
}

fn compile(pattern: &str) -> Result<regex_lite::Regex, String> {
    regex_lite::RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| error.to_string())
}

/// The value of a call; `lang` has checked the types, so a mismatch can only come from values of type dyn.
pub(super) fn call(
    function: Function,
    arguments: Vec<Value>,
    scope: &Scope<'_>,
    budget: &mut Budget,
) -> Result<Value, String> {
    match function {
        Function::Hash => return hash(arguments, scope),
        Function::Env => return caller_env(arguments, scope, budget),
        _ => {}
    }
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().unwrap_or(Value::Null);
    match (function, next(), next(), next()) {
        (Function::Semver, Value::Semver(version), ..) => Ok(Value::Semver(version)),
        (Function::Semver, Value::Text(text), ..) => {
            budget.charge(text.len() / 16)?;
            let version = Semver::parse(&text);
            version.map(Value::Semver).map_err(|why| format!("`{}` is not a version: {why}", shown(&text)))
        }
        (Function::Size, value, ..) => size(&value, budget).map(Value::Int),
        (Function::String, value, ..) => to_text(value, budget).map(Value::Text),
        (Function::Int, value, ..) => to_int(&value).map(Value::Int),
        (Function::Double, value, ..) => to_double(&value).map(Value::Float),
        (Function::Bool, value, ..) => to_bool(&value).map(Value::Bool),
        (Function::Contains, Value::Text(of), Value::Text(part), _) => Ok(Value::Bool(of.contains(&part))),
        (Function::StartsWith, Value::Text(of), Value::Text(part), _) => Ok(Value::Bool(of.starts_with(&part))),
        (Function::EndsWith, Value::Text(of), Value::Text(part), _) => Ok(Value::Bool(of.ends_with(&part))),
        (Function::Matches, Value::Text(of), Value::Text(pattern), _) => {
            // The engine takes time for each byte of text in each state of the pattern.
            budget.charge(PATTERN_COST + of.len())?;
            let pattern =
                compile(&pattern).map_err(|why| format!("`{}` is not a regular expression: {why}", shown(&pattern)))?;
            Ok(Value::Bool(pattern.is_match(&of)))
        }
        (Function::LowerAscii, Value::Text(text), ..) => Ok(Value::Text(text.to_ascii_lowercase())),
        (Function::UpperAscii, Value::Text(text), ..) => Ok(Value::Text(text.to_ascii_uppercase())),
        (Function::Trim, Value::Text(text), ..) => Ok(Value::Text(text.trim().to_string())),
        (Function::Replace, Value::Text(of), Value::Text(part), Value::Text(by)) => {
            replace(&of, &part, &by, budget).map(Value::Text)
        }
        (Function::Split, Value::Text(of), Value::Text(by), _) => split(&of, &by, budget).map(Value::List),
        (Function::Join, Value::List(items), by, _) => join(items, &by, budget).map(Value::Text),
        (function, of, ..) => Err(format!("{function:?} cannot take a value of type {}", of.type_word())),
    }
}

fn hash(arguments: Vec<Value>, scope: &Scope<'_>) -> Result<Value, String> {
    let globs: Vec<String> = arguments.iter().map(Value::to_string).collect();
    let known = scope.hashes.get(&globs).cloned().map(Value::Text);
    known.ok_or_else(|| format!("`hash({})` was not computed for this run", globs.join(", ")))
}

fn caller_env(arguments: Vec<Value>, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, String> {
    let name = arguments.first().map(Value::to_string).unwrap_or_default();
    let value = scope.caller_env.get(&name).cloned().unwrap_or_default();
    budget.text(value.len())?;
    Ok(Value::Text(value))
}

fn size(value: &Value, budget: &mut Budget) -> Result<i64, String> {
    let size = match value {
        Value::Text(text) => {
            budget.charge(text.len() / 256)?;
            text.chars().count()
        }
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(format!("{} has no size", other.a_type())),
    };
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

fn to_text(value: Value, budget: &mut Budget) -> Result<String, String> {
    let mut text = BoundedText::default();
    match value {
        Value::Text(text) => return Ok(text),
        other => write!(text, "{other}").map_err(|_| too_long())?,
    }
    budget.text(text.0.len())?;
    Ok(text.0)
}

fn to_int(value: &Value) -> Result<i64, String> {
    // 2^63 itself does not fit; both bounds are exact as doubles.
    const END: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Int(value) => Ok(*value),
        Value::Float(value) if *value >= -END && *value < END => Ok(*value as i64),
        Value::Float(value) => Err(format!("{value} does not fit in 64 bits")),
        Value::Text(text) => text.parse().map_err(|_| format!("`{}` is not a whole number of 64 bits", shown(text))),
        other => Err(format!("{} cannot be made an int", other.a_type())),
    }
}

fn to_double(value: &Value) -> Result<f64, String> {
    match value {
        Value::Int(value) => Ok(*value as f64),
        Value::Float(value) => Ok(*value),
        Value::Text(text) => text.parse().map_err(|_| format!("`{}` is not a number", shown(text))),
        other => Err(format!("{} cannot be made a double", other.a_type())),
    }
}

/// The words that CEL's `bool()` takes.
fn to_bool(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("`{}` is neither `true` nor `false`", shown(text))),
        },
        other => Err(format!("{} cannot be made a bool", other.a_type())),
    }
}

fn replace(of: &str, part: &str, by: &str, budget: &mut Budget) -> Result<String, String> {
    let mut text = String::new();
    let mut from = 0;
    for (at, _) in of.match_indices(part) {
        budget.charge(1)?;
        if text.len() + (at - from) + by.len() > EXPR_TEXT_BYTES_MAX {
            return Err(too_long());
        }
        text.push_str(&of[from..at]);
        text.push_str(by);
        from = at + part.len();
    }
    budget.text(text.len() + (of.len() - from))?;
    text.push_str(&of[from..]);
    Ok(text)
}

/// An empty separator gives the characters, as in CEL.
fn split(of: &str, by: &str, budget: &mut Budget) -> Result<Vec<Value>, String> {
    let mut parts = Vec::new();
    if by.is_empty() {
        for c in of.chars() {
            budget.charge(1)?;
            parts.push(Value::Text(c.to_string()));
        }
        return Ok(parts);
    }
    for part in of.split(by) {
        budget.charge(1 + part.len() / 256)?;
        parts.push(Value::Text(part.to_string()));
    }
    Ok(parts)
}

/// Without a separator the texts stand side by side, as in CEL.
fn join(items: Vec<Value>, by: &Value, budget: &mut Budget) -> Result<String, String> {
    let by = if let Value::Text(by) = by { by } else { "" };
    let mut text = BoundedText::default();
    for (index, item) in items.iter().enumerate() {
        budget.charge(1)?;
        let Value::Text(item) = item else {
            return Err(format!("`join` wants a list of strings, item {index} is of type {}", item.type_word()));
        };
        text.write_str(if index == 0 { "" } else { by }).map_err(|_| too_long())?;
        text.write_str(item).map_err(|_| too_long())?;
    }
    budget.text(text.0.len())?;
    Ok(text.0)
}

/// The start of a text, for messages.
fn shown(text: &str) -> String {
    const CHARS: usize = 60;
    let mut shown: String = text.chars().take(CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
