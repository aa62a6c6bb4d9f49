//! Evaluation: bounded in steps and in the size of what it makes, and total (every failure is an [`EvalError`]).
//!
//! `&&` and `||` stop at the first side that decides, from left to right. (CEL also lets a right side that decides
//! absorb an error of the left side; here the error counts, so that what a person reads is what happens.)

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt::Write as _;

use super::function::{Budget, call};
use super::{BinaryOp, ContextPath, Expr, ExprKind, Macro, Root, StepField, Template, TemplatePart, UnaryOp, Value};
use crate::limits::EXPR_TREE_DEPTH_MAX;
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
    /// `values`: of the project.
    pub values: &'a BTreeMap<String, String>,
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
pub fn evaluate(expr: &Expr, scope: &Scope<'_>) -> Result<Value, EvalError> {
    Evaluator { scope, budget: Budget::full(), locals: Vec::new(), depth: 0 }.value(expr)
}

/// The value of a condition.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_bool(expr: &Expr, scope: &Scope<'_>) -> Result<bool, EvalError> {
    match evaluate(expr, scope)? {
        Value::Bool(value) => Ok(value),
        other => Err(EvalError {
            span: expr.span,
            message: format!("the condition is of type {}, not true or false", other.type_word()),
        }),
    }
}

/// The text of a template. A value is put in as it is and never read again.
///
/// # Errors
/// As [`evaluate`]; also when the text grows over [`crate::limits::EXPR_TEXT_BYTES_MAX`].
pub fn render(template: &Template, scope: &Scope<'_>) -> Result<String, EvalError> {
    let mut text = BoundedText::default();
    let mut last = Span::default();
    for part in &template.parts {
        let written = match part {
            TemplatePart::Text(plain) => text.write_str(plain),
            TemplatePart::Expr(expr) => {
                last = expr.span;
                write!(text, "{}", evaluate(expr, scope)?)
            }
        };
        written.map_err(|_| EvalError { span: last, message: super::function::too_long() })?;
    }
    Ok(text.0)
}

/// A text that refuses to grow over its bound.
#[derive(Default)]
pub(super) struct BoundedText(pub String);

impl core::fmt::Write for BoundedText {
    fn write_str(&mut self, more: &str) -> core::fmt::Result {
        if self.0.len() + more.len() > crate::limits::EXPR_TEXT_BYTES_MAX {
            return Err(core::fmt::Error);
        }
        self.0.push_str(more);
        Ok(())
    }
}

struct Evaluator<'a> {
    scope: &'a Scope<'a>,
    budget: Budget,
    /// Variables of the macros around, the innermost last.
    locals: Vec<(&'a str, Value)>,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    fn value(&mut self, expr: &'a Expr) -> Result<Value, EvalError> {
        let here = |message| EvalError { span: expr.span, message };
        self.budget.charge(1).map_err(here)?;
        if self.depth == EXPR_TREE_DEPTH_MAX {
            return Err(here(format!("the expression is nested deeper than {EXPR_TREE_DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let value = self.form(expr);
        self.depth -= 1;
        value
    }

    fn form(&mut self, expr: &'a Expr) -> Result<Value, EvalError> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Literal(value) => self.copy(value, span),
            ExprKind::Context(path) => self.context(path).map_err(|message| EvalError { span, message }),
            ExprKind::Local(name) => self.local(name, span),
            ExprKind::Field(of, name) => self.field(of, name, span),
            ExprKind::Index(of, key) => self.index(of, key, span),
            ExprKind::Unary(op, of) => self.unary(*op, of, span),
            ExprKind::Binary(op @ (BinaryOp::And | BinaryOp::Or), left, right) => self.logic(*op, left, right),
            ExprKind::Binary(op, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                binary(*op, left, right, &mut self.budget).map_err(|message| EvalError { span, message })
            }
            ExprKind::Choice(condition, yes, no) => {
                if self.truth(condition)? {
                    self.value(yes)
                } else {
                    self.value(no)
                }
            }
            ExprKind::List(items) => self.values(items).map(Value::List),
            ExprKind::Map(entries) => self.map(entries),
            ExprKind::Call(function, arguments) => {
                let values = self.values(arguments)?;
                call(*function, values, self.scope, &mut self.budget).map_err(|message| EvalError { span, message })
            }
            ExprKind::Macro(kind, over, name, body) => self.fold(*kind, over, name, body),
            ExprKind::Has(of) => self.has(of).map(Value::Bool),
        }
    }

    fn values(&mut self, exprs: &'a [Expr]) -> Result<Vec<Value>, EvalError> {
        exprs.iter().map(|expr| self.value(expr)).collect()
    }

    fn truth(&mut self, expr: &'a Expr) -> Result<bool, EvalError> {
        match self.value(expr)? {
            Value::Bool(value) => Ok(value),
            other => Err(EvalError {
                span: expr.span,
                message: format!("true or false is wanted here, this is of type {}", other.type_word()),
            }),
        }
    }

    fn copy(&mut self, value: &Value, span: Span) -> Result<Value, EvalError> {
        self.budget.charge(weight(value)).map_err(|message| EvalError { span, message })?;
        Ok(value.clone())
    }

    fn local(&mut self, name: &str, span: Span) -> Result<Value, EvalError> {
        let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| *local == name) else {
            return Err(EvalError { span, message: format!("there is no variable `{name}` here") });
        };
        self.budget.charge(weight(value)).map_err(|message| EvalError { span, message })?;
        Ok(value.clone())
    }

    fn context(&mut self, path: &ContextPath) -> Result<Value, String> {
        let (trigger, scope) = (&self.scope.trigger, self.scope);
        let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let value = match path {
            ContextPath::Step(id, StepField::Outcome) => Value::Text(self.facts(id.as_str())?.outcome.to_string()),
            ContextPath::Step(id, StepField::Value(key)) => Value::Text(self.step_value(id.as_str(), key)?),
            ContextPath::Of(root, name) => match (root, name.as_str()) {
                (Root::Event, "kind") => Value::Text(trigger.event.kind.word().to_string()),
                (Root::Event, "title") => Value::Text(trigger.event.title.clone()),
                (Root::Event, "author") => Value::Text(trigger.event.author.clone()),
                (Root::Event, "number") => number(trigger.event.number),
                (Root::Git, "commit") => Value::Text(trigger.git.commit.clone()),
                (Root::Git, "short_sha") => Value::Text(trigger.git.short_sha().to_string()),
                (Root::Git, "branch") => Value::Text(trigger.git.branch.clone()),
                (Root::Git, "tag") => Value::Text(trigger.git.tag.clone()),
                (Root::Git, "message") => Value::Text(trigger.git.message.clone()),
                (Root::Git, "author") => Value::Text(trigger.git.author.clone()),
                (Root::Git, "target") => Value::Text(trigger.git.target.clone()),
                (Root::Run, "id") => Value::Text(scope.run_id.to_string()),
                (Root::Run, "number") => number(scope.run_number),
                (Root::Secrets, name) => Value::Text(name.to_string()),
                (Root::Env, name) => {
                    let text = scope.env.get(name).ok_or_else(|| format!("`env.{name}` is not set here"))?;
                    Value::Text(text.clone())
                }
                (Root::Params, name) => {
                    scope.params.get(name).cloned().ok_or_else(|| format!("the parameter `{name}` has no value"))?
                }
                (Root::Matrix, name) => scope.matrix.get(name).cloned().ok_or_else(|| {
                    format!("this matrix cell has no `{name}`; give it a value in every `include` entry")
                })?,
                (Root::Values, name) => {
                    let text = scope.values.get(name).ok_or_else(|| {
                        format!(
                            "the project has no value `{name}`; set it on the server, or ask `has(values.{name})` first \
                             (`pace run` knows no project)"
                        )
                    })?;
                    Value::Text(text.clone())
                }
                (root, name) => return Err(format!("{root:?} has no `{name}`")),
            },
        };
        self.budget.charge(weight(&value))?;
        Ok(value)
    }

    fn facts(&mut self, id: &str) -> Result<StepFacts, String> {
        let facts = (self.scope.steps)(id).ok_or_else(|| format!("step `{id}` has not ended yet"))?;
        self.budget.charge(facts.values.iter().map(|(key, value)| 1 + (key.len() + value.len()) / 256).sum())?;
        Ok(facts)
    }

    fn step_value(&mut self, id: &str, key: &str) -> Result<String, String> {
        let mut facts = self.facts(id)?;
        if let Some(value) = facts.values.remove(key) {
            return Ok(value);
        }
        let ask_first = format!("ask `has(steps[\"{id}\"].values[\"{key}\"])` first if that is meant");
        Err(match facts.outcome {
            "success" | "failure" => format!(
                "step `{id}` wrote no value `{key}`{}; let it run `echo \"{key}=…\" >> \"$PACE_VALUES\"`, or {ask_first}",
                wrote(&facts.values)
            ),
            outcome => {
                let ended = if outcome == "skipped" { "was skipped" } else { "was cancelled" };
                format!("step `{id}` {ended}, so it wrote no value `{key}`; {ask_first}")
            }
        })
    }

    fn has(&mut self, expr: &'a Expr) -> Result<bool, EvalError> {
        match &expr.kind {
            ExprKind::Context(ContextPath::Step(id, StepField::Value(key))) => {
                let facts = self.facts(id.as_str()).map_err(|message| EvalError { span: expr.span, message })?;
                Ok(facts.values.contains_key(key))
            }
            ExprKind::Context(ContextPath::Of(Root::Env, name)) => Ok(self.scope.env.contains_key(name)),
            ExprKind::Context(ContextPath::Of(Root::Matrix, name)) => Ok(self.scope.matrix.contains_key(name)),
            ExprKind::Context(ContextPath::Of(Root::Values, name)) => Ok(self.scope.values.contains_key(name)),
            ExprKind::Field(of, name) => match self.value(of)? {
                Value::Map(entries) => Ok(entries.contains_key(name)),
                _ => Ok(true),
            },
            _ => self.value(expr).map(|_| true),
        }
    }

    fn field(&mut self, of: &'a Expr, name: &str, span: Span) -> Result<Value, EvalError> {
        let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        match (self.value(of)?, name) {
            (Value::Map(mut entries), _) => {
                entries.remove(name).ok_or_else(|| EvalError { span, message: no_key(&entries, name) })
            }
            (Value::Semver(version), "major") => Ok(number(version.major)),
            (Value::Semver(version), "minor") => Ok(number(version.minor)),
            (Value::Semver(version), "patch") => Ok(number(version.patch)),
            (Value::Semver(version), "pre") => Ok(Value::Text(version.pre)),
            (Value::Semver(version), "build") => Ok(Value::Text(version.build)),
            (other, _) => {
                Err(EvalError { span, message: format!("a value of type {} has no `{name}`", other.type_word()) })
            }
        }
    }

    fn index(&mut self, of: &'a Expr, key: &'a Expr, span: Span) -> Result<Value, EvalError> {
        let fail = |message| EvalError { span, message };
        match (self.value(of)?, self.value(key)?) {
            (Value::List(mut items), Value::Int(at)) => {
                let at_most = items.len();
                let found = usize::try_from(at).ok().filter(|at| *at < at_most);
                found
                    .map(|at| items.swap_remove(at))
                    .ok_or_else(|| fail(format!("there is no item {at}: the list has {at_most} items, counted from 0")))
            }
            (Value::Map(mut entries), Value::Text(key)) => {
                entries.remove(&key).ok_or_else(|| fail(no_key(&entries, &key)))
            }
            (of, key) => Err(fail(format!("{} cannot be asked for {}", of.a_type(), key.a_type()))),
        }
    }

    fn unary(&mut self, op: UnaryOp, of: &'a Expr, span: Span) -> Result<Value, EvalError> {
        match (op, self.value(of)?) {
            (UnaryOp::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
            (UnaryOp::Minus, Value::Float(value)) => Ok(Value::Float(-value)),
            (UnaryOp::Minus, Value::Int(value)) => value
                .checked_neg()
                .map(Value::Int)
                .ok_or_else(|| EvalError { span, message: format!("-({value}) does not fit in 64 bits") }),
            (UnaryOp::Not, other) => {
                Err(EvalError { span, message: format!("`!` wants a bool, this is of type {}", other.type_word()) })
            }
            (UnaryOp::Minus, other) => {
                Err(EvalError { span, message: format!("`-` wants a number, this is of type {}", other.type_word()) })
            }
        }
    }

    fn logic(&mut self, op: BinaryOp, left: &'a Expr, right: &'a Expr) -> Result<Value, EvalError> {
        let decides = op == BinaryOp::Or;
        if self.truth(left)? == decides {
            return Ok(Value::Bool(decides));
        }
        self.truth(right).map(Value::Bool)
    }

    fn map(&mut self, entries: &'a [(Expr, Expr)]) -> Result<Value, EvalError> {
        let mut map = BTreeMap::new();
        for (key_expr, value) in entries {
            let span = key_expr.span;
            let key = match self.value(key_expr)? {
                Value::Text(key) => key,
                other => {
                    let message = format!("a key of a map is a string, this is of type {}", other.type_word());
                    return Err(EvalError { span, message });
                }
            };
            let value = self.value(value)?;
            if map.contains_key(&key) {
                return Err(EvalError { span, message: format!("the key `{key}` stands twice in this map") });
            }
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }

    fn fold(&mut self, kind: Macro, over: &'a Expr, name: &'a str, body: &'a Expr) -> Result<Value, EvalError> {
        let items = match self.value(over)? {
            Value::List(items) => items,
            Value::Map(entries) => entries.into_keys().map(Value::Text).collect(),
            other => {
                let message = format!("a list or a map is wanted here, this is of type {}", other.type_word());
                return Err(EvalError { span: over.span, message });
            }
        };
        let mut made = Vec::new();
        let mut hits = 0u32;
        for item in items {
            self.locals.push((name, item));
            let result = if kind == Macro::Map { self.value(body) } else { self.truth(body).map(Value::Bool) };
            let item = self.locals.pop().map_or(Value::Null, |(_, item)| item);
            match (kind, result?) {
                (Macro::Map, value) => made.push(value),
                (Macro::Filter, Value::Bool(true)) => made.push(item),
                (Macro::All, Value::Bool(false)) => return Ok(Value::Bool(false)),
                (Macro::Exists, Value::Bool(true)) => return Ok(Value::Bool(true)),
                (Macro::ExistsOne, Value::Bool(true)) => hits += 1,
                _ => {}
            }
        }
        Ok(match kind {
            Macro::Map | Macro::Filter => Value::List(made),
            Macro::All => Value::Bool(true),
            Macro::Exists => Value::Bool(false),
            Macro::ExistsOne => Value::Bool(hits == 1),
        })
    }
}

/// What copying a value costs: one for each value in it, and one for each 256 bytes of text.
fn weight(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() / 256,
        Value::List(items) => items.iter().map(|item| 1 + weight(item)).sum(),
        Value::Map(entries) => entries.iter().map(|(key, item)| 1 + key.len() / 256 + weight(item)).sum(),
        Value::Semver(version) => (version.pre.len() + version.build.len()) / 256,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
    }
}

/// Keys that a message shows: enough to see a slip of the pen, not a wall.
const KEYS_SHOWN: usize = 8;

fn wrote(values: &BTreeMap<String, String>) -> String {
    if values.is_empty() {
        return String::new();
    }
    let keys: Vec<String> = values.keys().take(KEYS_SHOWN).map(|key| format!("`{key}`")).collect();
    format!(" (it wrote {})", keys.join(", "))
}

fn no_key(entries: &BTreeMap<String, Value>, name: &str) -> String {
    let keys: Vec<String> = entries.keys().take(KEYS_SHOWN).map(|key| format!("`{key}`")).collect();
    if keys.is_empty() {
        return format!("the map has no key `{name}`: it is empty");
    }
    format!("the map has no key `{name}`; it has {}", keys.join(", "))
}

fn binary(op: BinaryOp, left: Value, right: Value, budget: &mut Budget) -> Result<Value, String> {
    let ordered = |wanted: fn(Ordering) -> bool| Ok(Value::Bool(order(&left, &right)?.is_some_and(wanted)));
    match op {
        BinaryOp::Equal => Ok(Value::Bool(equal(&left, &right))),
        BinaryOp::NotEqual => Ok(Value::Bool(!equal(&left, &right))),
        BinaryOp::Less => ordered(Ordering::is_lt),
        BinaryOp::LessEqual => ordered(Ordering::is_le),
        BinaryOp::Greater => ordered(Ordering::is_gt),
        BinaryOp::GreaterEqual => ordered(Ordering::is_ge),
        BinaryOp::In => match (&left, &right) {
            (_, Value::List(items)) => Ok(Value::Bool(items.iter().any(|item| equal(item, &left)))),
            (Value::Text(key), Value::Map(entries)) => Ok(Value::Bool(entries.contains_key(key))),
            _ => Err(format!("`in` wants a list or a map on its right, this is of type {}", right.type_word())),
        },
        BinaryOp::Add => add(left, right, budget),
        BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
            arithmetic(op, &left, &right)
        }
        BinaryOp::And | BinaryOp::Or => Err("`&&` and `||` want bools".to_string()),
    }
}

/// CEL's equality: values of different types are not equal, but numbers are compared as numbers; versions by precedence.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(left), Value::Float(right)) | (Value::Float(right), Value::Int(left)) => *left as f64 == *right,
        (Value::Semver(left), Value::Semver(right)) => left.precedence(right).is_eq(),
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|((lk, lv), (rk, rv))| lk == rk && equal(lv, rv))
        }
        _ => left == right,
    }
}

/// `None`: one of them is not a number (NaN), and every comparison with it is false.
fn order(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Float(right)) => (*left as f64).partial_cmp(right),
        (Value::Float(left), Value::Int(right)) => left.partial_cmp(&(*right as f64)),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Semver(left), Value::Semver(right)) => Some(left.precedence(right)),
        _ => return Err(format!("{} and {} have no order", left.a_type(), right.a_type())),
    })
}

fn add(left: Value, right: Value, budget: &mut Budget) -> Result<Value, String> {
    match (left, right) {
        (Value::Text(mut left), Value::Text(right)) => {
            budget.text(left.len() + right.len())?;
            left.push_str(&right);
            Ok(Value::Text(left))
        }
        (Value::List(mut left), Value::List(right)) => {
            budget.charge(right.len())?;
            left.extend(right);
            Ok(Value::List(left))
        }
        (left, right) => arithmetic(BinaryOp::Add, &left, &right),
    }
}

fn arithmetic(op: BinaryOp, left: &Value, right: &Value) -> Result<Value, String> {
    let sign = match op {
        BinaryOp::Add => "+",
        BinaryOp::Subtract => "-",
        BinaryOp::Multiply => "*",
        BinaryOp::Divide => "/",
        _ => "%",
    };
    match (left, right) {
        (Value::Int(_), Value::Int(0)) if matches!(op, BinaryOp::Divide | BinaryOp::Remainder) => {
            Err(format!("`{left} {sign} 0` divides by zero"))
        }
        (Value::Int(l), Value::Int(r)) => match op {
            BinaryOp::Add => l.checked_add(*r),
            BinaryOp::Subtract => l.checked_sub(*r),
            BinaryOp::Multiply => l.checked_mul(*r),
            BinaryOp::Divide => l.checked_div(*r),
            _ => l.checked_rem(*r),
        }
        .map(Value::Int)
        .ok_or_else(|| format!("`{left} {sign} {right}` does not fit in 64 bits")),
        (Value::Float(l), Value::Float(r)) => match op {
            BinaryOp::Add => Ok(l + r),
            BinaryOp::Subtract => Ok(l - r),
            BinaryOp::Multiply => Ok(l * r),
            BinaryOp::Divide => Ok(l / r),
            _ => Err("`%` wants ints".to_string()),
        }
        .map(Value::Float),
        _ => Err(format!(
            "`{sign}` wants two numbers of one type, these are {} and {}",
            left.type_word(),
            right.type_word()
        )),
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::*;

    fn with_scope<T>(ask: impl FnOnce(&Scope<'_>) -> T) -> T {
        let (values, texts) = (BTreeMap::new(), BTreeMap::new());
        ask(&Scope {
            trigger: &Trigger::default(),
            run_id: "",
            run_number: u64::MAX,
            params: &values,
            env: &texts,
            matrix: &values,
            hashes: &BTreeMap::new(),
            caller_env: &texts,
            values: &texts,
            steps: &|_| None,
        })
    }

    fn expr(kind: ExprKind) -> Expr {
        Expr { span: Span::default(), kind }
    }

    #[test]
    fn a_tree_that_nobody_checked_is_an_error_and_not_a_panic() {
        let text = || Box::new(expr(ExprKind::Literal(Value::Text("x".into()))));
        let path = |root| expr(ExprKind::Context(ContextPath::Of(root, "nothing".into())));
        let wrong = [
            expr(ExprKind::Local("x".into())),
            expr(ExprKind::Field(text(), "x".into())),
            expr(ExprKind::Index(text(), text())),
            expr(ExprKind::Unary(UnaryOp::Not, text())),
            expr(ExprKind::Binary(BinaryOp::Multiply, text(), text())),
            expr(ExprKind::Binary(BinaryOp::And, text(), text())),
            expr(ExprKind::Binary(BinaryOp::In, text(), text())),
            expr(ExprKind::Choice(text(), text(), text())),
            expr(ExprKind::Call(super::super::Function::Replace, Vec::new())),
            expr(ExprKind::Call(super::super::Function::Hash, Vec::new())),
            expr(ExprKind::Macro(Macro::All, text(), "x".into(), text())),
            expr(ExprKind::Context(ContextPath::Step(crate::StepId::new("a"), StepField::Outcome))),
            path(Root::Git),
            path(Root::Params),
            path(Root::Env),
            path(Root::Matrix),
            path(Root::Values),
        ];
        for tree in wrong {
            let error = with_scope(|scope| evaluate(&tree, scope)).expect_err("it has no value");
            assert!(!error.message.is_empty(), "{tree:?}");
        }
    }

    #[test]
    fn a_tree_deeper_than_the_bound_is_refused() {
        let negated = |n| {
            (0..n).fold(expr(ExprKind::Literal(Value::Bool(true))), |of, _| {
                expr(ExprKind::Unary(UnaryOp::Not, Box::new(of)))
            })
        };
        assert_eq!(
            with_scope(|s| evaluate_bool(&negated(EXPR_TREE_DEPTH_MAX - 1), s)),
            Ok(EXPR_TREE_DEPTH_MAX % 2 == 1)
        );
        assert!(with_scope(|s| evaluate_bool(&negated(EXPR_TREE_DEPTH_MAX), s)).is_err());
    }

    #[test]
    fn a_number_too_large_for_an_int_is_the_largest() {
        let number = expr(ExprKind::Context(ContextPath::Of(Root::Run, "number".into())));
        assert_eq!(with_scope(|scope| evaluate(&number, scope)), Ok(Value::Int(i64::MAX)));
    }
}
