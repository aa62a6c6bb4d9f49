//! Types of expressions, and what an expression may name at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::ParamKind;
use model::expr::{Expr, Value};

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// 64-bit signed.
    Int,
    /// IEEE double.
    Double,
    /// Text.
    String,
    /// `null`.
    Null,
    /// A list of items of one type.
    List(Box<Type>),
    /// A map from text to values of one type.
    Map(Box<Type>),
    /// A version.
    Semver,
    /// Known only when it runs.
    Dyn,
}

impl Type {
    /// The type of a parameter.
    pub fn of_param(kind: ParamKind) -> Type {
        match kind {
            ParamKind::String => Type::String,
            ParamKind::Boolean => Type::Bool,
            ParamKind::Integer => Type::Int,
        }
    }

    /// The type of a value; a list or map of several types has items of type dyn.
    pub fn of_value(value: &Value) -> Type {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Float(_) => Type::Double,
            Value::Text(_) => Type::String,
            Value::Semver(_) => Type::Semver,
            Value::List(items) => Type::List(Box::new(Type::common(items.iter().map(Type::of_value)))),
            Value::Map(entries) => Type::Map(Box::new(Type::common(entries.values().map(Type::of_value)))),
        }
    }

    /// The one type of all of these, or dyn.
    pub fn common(types: impl IntoIterator<Item = Type>) -> Type {
        let mut types = types.into_iter();
        let Some(first) = types.next() else { return Type::Dyn };
        if types.all(|next| next == first) { first } else { Type::Dyn }
    }

    /// The type with the article before it, for messages: `an int`.
    pub(crate) fn with_article(&self) -> String {
        format!("{} {self}", if *self == Type::Int { "an" } else { "a" })
    }

    /// Whether a value of this type may stand where `wanted` is wanted: the same type, or one of them is not known yet.
    pub fn fits(&self, wanted: &Type) -> bool {
        match (self, wanted) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.fits(b),
            _ => self == wanted,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Null => f.write_str("null"),
            Type::Semver => f.write_str("semver"),
            Type::Dyn => f.write_str("dyn"),
            Type::List(of) => write!(f, "list<{of}>"),
            Type::Map(of) => write!(f, "map<string, {of}>"),
        }
    }
}

/// What an expression may name at its place.
#[derive(Clone, Copy)]
pub(crate) struct Types<'a> {
    /// Declared parameters: the pipeline's, or within a template the template's.
    pub params: &'a BTreeMap<String, ParamKind>,
    /// Names in `env`.
    pub env: &'a BTreeSet<String>,
    /// Axes of the step's matrix.
    pub matrix: &'a BTreeMap<String, Type>,
    /// Names in the step's `secrets`.
    pub secrets: &'a BTreeSet<String>,
    /// Full ids of the steps whose values may be read here.
    pub ancestors: &'a BTreeSet<String>,
    /// Full ids of all steps.
    pub all_steps: &'a BTreeSet<String>,
    /// What the parameters of a template stand for: `params.x` is replaced by this tree.
    pub bindings: &'a BTreeMap<String, Expr>,
    /// Within a template use or an expansion the prefix of its ids with its dot (`deploy.`), else empty: `steps.t` then
    /// means `deploy.t` before it means `t`.
    pub scope: &'a str,
}
