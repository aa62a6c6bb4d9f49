//! What a plain scalar is: the core schema of YAML 1.2, where `no`, `yes`, `on` and `off` are text.

use model::expr::Value;

use super::{Scalar, Style};

impl Scalar {
    /// Nothing, or a written null.
    pub(crate) fn is_null(&self) -> bool {
        self.missing
            || (self.style == Style::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// `true` or `false`.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match (self.style, self.text.as_str()) {
            (Style::Plain, "true" | "True" | "TRUE") => Some(true),
            (Style::Plain, "false" | "False" | "FALSE") => Some(false),
            _ => None,
        }
    }

    /// A whole number, decimal, `0o` octal or `0x` hexadecimal.
    pub(crate) fn as_int(&self) -> Option<i64> {
        if self.style != Style::Plain {
            return None;
        }
        let text = self.text.as_str();
        if let Some(digits) = text.strip_prefix("0x") {
            return unsigned(digits, 16);
        }
        if let Some(digits) = text.strip_prefix("0o") {
            return unsigned(digits, 8);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if all_digits { text.parse().ok() } else { None }
    }

    /// A number, whole or not. Infinity and not-a-number are none that a pipeline could mean.
    pub(crate) fn as_number(&self) -> Option<f64> {
        if self.style != Style::Plain {
            return None;
        }
        let text = self.text.as_str();
        let number_like = text.bytes().any(|byte| byte.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
        if !number_like {
            return None;
        }
        text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The value as the core schema reads it.
    pub(crate) fn value(&self) -> Value {
        if self.is_null() {
            return Value::Null;
        }
        if let Some(value) = self.as_bool() {
            return Value::Bool(value);
        }
        if let Some(value) = self.as_int() {
            return Value::Int(value);
        }
        match self.as_number() {
            Some(value) => Value::Float(value),
            None => Value::Text(self.text.clone()),
        }
    }

    /// What it is, in a person's words.
    pub(crate) fn what(&self) -> &'static str {
        match self.value() {
            Value::Null => "empty",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            _ => "a text",
        }
    }
}

fn unsigned(digits: &str, radix: u32) -> Option<i64> {
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Scalar { text: text.into(), style: Style::Plain, missing: false }.value()
    }

    #[test]
    fn words_of_older_yaml_are_text() {
        for text in ["no", "yes", "on", "off", "y", "N", "1_000", "12:30", ".inf", "0x-1", "1e999", "--1", "1.2.3"] {
            assert_eq!(value(text), Value::Text(text.into()), "{text}");
        }
        assert_eq!(
            [value("True"), value("-3"), value("0x1F"), value("0o17"), value("1.5"), value("1e3"), value("~")],
            [
                Value::Bool(true),
                Value::Int(-3),
                Value::Int(31),
                Value::Int(15),
                Value::Float(1.5),
                Value::Float(1000.0),
                Value::Null
            ]
        );
    }
}
