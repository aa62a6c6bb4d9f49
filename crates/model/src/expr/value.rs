//! Values of expressions, parameters and matrix cells.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// 64-bit signed.
    Int(i64),
    /// IEEE double.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map with text keys.
    Map(BTreeMap<String, Value>),
    /// What `semver(x)` makes.
    Semver(Semver),
}

/// A version by semver.org 2.0.0; compares by precedence (build metadata is not compared).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub patch: u64,
    /// After `-`, dot-separated; empty for a release.
    pub pre: String,
    /// After `+`.
    pub build: String,
}

/// How a value reads inside `${{ }}`: text as it is, numbers and booleans as written, lists and maps as JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::Semver(v) => {
                write!(f, "{}.{}.{}", v.major, v.minor, v.patch)?;
                if !v.pre.is_empty() {
                    write!(f, "-{}", v.pre)?;
                }
                if !v.build.is_empty() {
                    write!(f, "+{}", v.build)?;
                }
                Ok(())
            }
            Value::List(_) | Value::Map(_) => write!(f, "{self:?}"),
        }
    }
}
