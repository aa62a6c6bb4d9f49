//! Expressions: the typed tree that `lang` makes from CEL source after checking it, and its evaluation.
//!
//! The language is the Common Expression Language (the CEL specification, github.com/google/cel-spec), without
//! protobuf messages, and with our contexts and functions. Parsing and type checking live in `lang`, with the
//! diagnostics; evaluation lives here, because the engine evaluates conditions and may use nothing but `model`.

mod ast;
mod eval;
mod function;
mod semver;
mod value;

pub use ast::{
    BinaryOp, ContextPath, Expr, ExprKind, Function, Macro, Root, StepField, Template, TemplatePart, UnaryOp,
};
pub use eval::{EvalError, Scope, StepFacts, evaluate, evaluate_bool, render};
pub use function::check_pattern;
pub use semver::Semver;
pub use value::Value;
