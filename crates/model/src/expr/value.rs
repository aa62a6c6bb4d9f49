//! Values of expressions, parameters and matrix cells.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Semver;

/// A value.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// 64-bit signed.
    Int(i64),
    /// IEEE double.
    Float(#[serde(with = "crate::exact")] f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map with text keys.
    Map(BTreeMap<String, Value>),
    /// What `semver(x)` makes.
    Semver(Semver),
}

impl Value {
    /// The word for its type in expressions and messages: `string`, `int`, `list` and so on.
    pub fn type_word(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "double",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Semver(_) => "semver",
        }
    }

    /// Its type with the article before it, for messages.
    pub(super) fn a_type(&self) -> &'static str {
        match self {
            Value::Null => "a null",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an int",
            Value::Float(_) => "a double",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Semver(_) => "a semver",
        }
    }

    fn json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            // JSON has no word for these two.
            Value::Float(value) if !value.is_finite() => f.write_str("null"),
            Value::Text(text) => json_text(f, text),
            Value::Semver(version) => write!(f, "\"{version}\""),
            Value::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    item.json(f)?;
                }
                f.write_str("]")
            }
            Value::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    json_text(f, key)?;
                    f.write_str(":")?;
                    value.json(f)?;
                }
                f.write_str("}")
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => fmt::Display::fmt(self, f),
        }
    }
}

/// How a value reads inside `${{ }}`: text as it is, numbers and booleans as written, `null` as nothing, lists and
/// maps as JSON with sorted keys.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::Semver(value) => write!(f, "{value}"),
            Value::List(_) | Value::Map(_) => self.json(f),
        }
    }
}

fn json_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_list_or_map_reads_as_json() {
        let text = |t: &str| Value::Text(t.into());
        let inner = Value::Map([("b".into(), Value::Float(1.5)), ("a".into(), Value::Null)].into());
        let list = Value::List(alloc::vec![text("x \"y\"\n\u{1}"), inner, Value::Bool(true), Value::Float(f64::NAN)]);
        assert_eq!(list.to_string(), r#"["x \"y\"\n\u0001",{"a":null,"b":1.5},true,null]"#);
        assert_eq!(text("plain \"text\"").to_string(), "plain \"text\"");
    }
}
