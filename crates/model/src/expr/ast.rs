//! The checked tree of an expression. Only `lang` makes one; whoever holds one may rely on its types.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::Value;
use crate::{Span, StepId};

/// An expression with the place it was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Expr {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: ExprKind,
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ExprKind {
    /// `1`, `"x"`, `true`, `null`.
    Literal(Value),
    /// `git.branch`, `matrix.go`, `steps.build.values.key`.
    Context(ContextPath),
    /// A variable of the macro around it.
    Local(String),
    /// `x.field` of a map or a semver.
    Field(Box<Expr>, String),
    /// `x[y]`.
    Index(Box<Expr>, Box<Expr>),
    /// `!x`, `-x`.
    Unary(UnaryOp, Box<Expr>),
    /// `x op y`.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `c ? x : y`.
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `[x, y]`.
    List(Vec<Expr>),
    /// `{"k": x}`.
    Map(Vec<(Expr, Expr)>),
    /// `f(x)`, `x.f(y)`: the receiver is the first argument.
    Call(Function, Vec<Expr>),
    /// `list.all(v, body)` and its kin.
    Macro(Macro, Box<Expr>, String, Box<Expr>),
    /// `has(x.y)`: a step wrote the value, a map has the key. Holds a [`ExprKind::Context`] or [`ExprKind::Field`].
    Has(Box<Expr>),
}

/// A value from outside the expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum ContextPath {
    /// `event.kind` and so on, `git.branch` and so on, `run.number`, `run.id`, `params.x`, `env.X`, `matrix.x`,
    /// `secrets.X` (which is the name `X`, never the value), `values.X`.
    Of(Root, String),
    /// `steps.<id>.outcome` or `steps.<id>.values.<key>`.
    Step(StepId, StepField),
}

/// The contexts but `steps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Root {
    /// `event`: kind, title, number, author.
    Event,
    /// `git`: commit, short_sha, branch, tag, message, author, target.
    Git,
    /// `run`: id, number.
    Run,
    /// `params`.
    Params,
    /// `env`: the pipeline's and the step's own `env`.
    Env,
    /// `matrix`.
    Matrix,
    /// `secrets`: names only.
    Secrets,
    /// `values`: of the project, on a server.
    Values,
}

/// What an expression may ask of another step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum StepField {
    /// `success`, `failure`, `skipped` or `cancelled`.
    Outcome,
    /// A line `key=value` it wrote to `$PACE_VALUES`. Of a step with several instances: the last instance's that wrote it.
    Value(String),
}

/// `!`, `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum UnaryOp {
    /// `!`.
    Not,
    /// `-`.
    Minus,
}

/// Operators between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each is its own sign")]
pub enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Functions and methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Function {
    /// `hash(glob…)`: SHA-256 over the matching files of the repository as the run found it; literal arguments only.
    Hash,
    /// `semver(x)`.
    Semver,
    /// `env("NAME")`: the caller's variable, empty when not set; a literal argument only.
    Env,
    /// `size(x)`, `x.size()`.
    Size,
    /// `string(x)`.
    String,
    /// `int(x)`.
    Int,
    /// `double(x)`.
    Double,
    /// `bool(x)`.
    Bool,
    /// `x.contains(y)`.
    Contains,
    /// `x.startsWith(y)`.
    StartsWith,
    /// `x.endsWith(y)`.
    EndsWith,
    /// `x.matches(regex)`.
    Matches,
    /// `x.lowerAscii()`.
    LowerAscii,
    /// `x.upperAscii()`.
    UpperAscii,
    /// `x.replace(y, z)`.
    Replace,
    /// `x.split(y)`.
    Split,
    /// `x.trim()`.
    Trim,
    /// `list.join(y)`.
    Join,
}

/// Macros over a list or the keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each is the CEL macro of its name")]
pub enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// A text with `${{ }}` in it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Template {
    /// Its parts in order.
    pub parts: Vec<TemplatePart>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum TemplatePart {
    /// As written.
    Text(String),
    /// The value of an expression.
    Expr(Expr),
}

impl Template {
    /// A template without expressions.
    pub fn plain(text: impl Into<String>) -> Self {
        Template { parts: alloc::vec![TemplatePart::Text(text.into())] }
    }
    /// The text, if there is no expression in it.
    pub fn as_plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Text(text)] => Some(text),
            _ => None,
        }
    }
}
