//! `params`, of a pipeline and of a template.

use std::collections::BTreeMap;

use model::expr::Value;
use model::{Param, ParamKind, Span};

use super::{Entry, Keyword, MapShape, Shape, Table, codes, entries};
use crate::decode::{At, Decoder};
use crate::diagnostic::Diagnostic;
use crate::raw::RawFile;
use crate::yaml::Kind;

pub(super) const PARAMS_SHAPE: Shape =
    Shape::Named(&Shape::Map(&MapShape { name: "parameter", entries: || entries(TABLE), rest: None }));

pub(super) const PARAMS: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "params",
        shape: PARAMS_SHAPE,
        doc: "Values that whoever starts the run may set: `pace run --param version=1.2.3`, or the form of a manual start. \
              Expressions read them as `params.version`.",
        example: "params: { version: { type: string, default: \"0.0.0-dev\" } }",
        required: false,
        also: &["parameters", "inputs"],
    },
    read: |d, at, file| file.params = read(d, at),
};

/// Reads a map of parameters.
pub(super) fn read(d: &mut Decoder<'_>, at: At) -> BTreeMap<String, Param> {
    let mut params = BTreeMap::new();
    for (name, value) in d.map(at, "a map of names to parameters").unwrap_or_default() {
        if d.name_fits(&name, "a parameter's name", false) {
            let mut raw = RawParam::default();
            d.table(value, "a parameter", TABLE, &mut raw);
            let param = raw.check(d, &name.value);
            params.insert(name.value, param);
        }
    }
    params
}

#[derive(Default)]
struct RawParam {
    kind: Option<ParamKind>,
    default: Option<(Value, Span)>,
    pattern: Option<(String, Span)>,
    choices: Vec<(String, Span)>,
    description: Option<String>,
}

impl RawParam {
    /// Holds the default against type, pattern and choices.
    fn check(self, d: &mut Decoder<'_>, name: &str) -> Param {
        // Without a type the default says it; text is the most frequent.
        let kind = self.kind.unwrap_or(match &self.default {
            Some((Value::Bool(_), _)) => ParamKind::Boolean,
            Some((Value::Int(_), _)) => ParamKind::Integer,
            _ => ParamKind::String,
        });
        let mut fault =
            |span: Span, message: String| d.found(Diagnostic::error(&codes::BAD_PARAM, span, message, "here"));
        if kind != ParamKind::String {
            if let Some((_, span)) = &self.pattern {
                fault(*span, format!("`pattern` is for texts, and `{name}` is {}", word(kind)));
            }
            if let Some((_, span)) = self.choices.first() {
                fault(*span, format!("`choices` are for texts, and `{name}` is {}", word(kind)));
            }
        }
        let default = self.default.and_then(|(value, span)| match (kind, value) {
            (ParamKind::String, Value::Text(text)) => {
                if let Some((pattern, _)) = &self.pattern
                    && regex_lite::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(&text))
                {
                    fault(span, format!("the default of `{name}` does not match its `pattern`"));
                }
                if !self.choices.is_empty() && !self.choices.iter().any(|(choice, _)| *choice == text) {
                    fault(span, format!("the default of `{name}` is not among its `choices`"));
                }
                Some(Value::Text(text))
            }
            (ParamKind::Boolean, Value::Bool(value)) => Some(Value::Bool(value)),
            (ParamKind::Integer, Value::Int(value)) => Some(Value::Int(value)),
            (kind, _) => {
                fault(span, format!("the default of `{name}` is not {}", word(kind)));
                None
            }
        });
        Param {
            kind,
            default,
            pattern: self.pattern.map(|(pattern, _)| pattern),
            choices: self.choices.into_iter().map(|(choice, _)| choice).collect(),
            description: self.description,
        }
    }
}

fn word(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::String => "a text (put it in quotes)",
        ParamKind::Boolean => "`true` or `false`",
        ParamKind::Integer => "a whole number",
    }
}

const TABLE: Table<RawParam> = &[&TYPE, &DEFAULT, &PATTERN, &CHOICES, &DESCRIPTION];

const TYPE: Keyword<RawParam> = Keyword {
    entry: Entry {
        name: "type",
        shape: Shape::Words(&["string", "boolean", "integer"]),
        doc: "What it holds. Without it the default's type, or `string`.",
        example: "type: string",
        required: false,
        also: &["kind"],
    },
    read: |d, at, param| {
        let words = [("string", ParamKind::String), ("boolean", ParamKind::Boolean), ("integer", ParamKind::Integer)];
        param.kind = d.word(at, &words);
    },
};

const DEFAULT: Keyword<RawParam> = Keyword {
    entry: Entry {
        name: "default",
        shape: Shape::Scalar,
        doc: "Its value where none is given. Without a default it must be given.",
        example: "default: \"0.0.0-dev\"",
        required: false,
        also: &["value"],
    },
    read: |d, at, param| {
        if let Kind::Scalar(scalar) = d.kind(at.node)
            && !scalar.is_null()
        {
            param.default = Some((scalar.value(), d.span(at)));
        } else {
            d.wrong(at, "a text, a whole number, `true` or `false`");
        }
    },
};

const PATTERN: Keyword<RawParam> = Keyword {
    entry: Entry {
        name: "pattern",
        shape: Shape::Text,
        doc: "A regular expression that a text must match somewhere; `^` and `$` hold it at the ends.",
        example: "pattern: '^\\d+\\.\\d+\\.\\d+$'",
        required: false,
        also: &["regex", "match"],
    },
    read: |d, at, param| {
        let Some(text) = d.filled(at, "a regular expression") else { return };
        match regex_lite::RegexBuilder::new(&text.value).size_limit(1 << 20).build() {
            Ok(_) => param.pattern = Some((text.value, text.span)),
            Err(error) => d.bad(at, format_args!("this is not a regular expression: {error}")),
        }
    },
};

const CHOICES: Keyword<RawParam> = Keyword {
    entry: Entry {
        name: "choices",
        shape: Shape::List(&Shape::Text),
        doc: "The only texts it may be.",
        example: "choices: [staging, production]",
        required: false,
        also: &["options", "enum", "values"],
    },
    read: |d, at, param| {
        let texts = d.texts(at, "a list of texts");
        param.choices = texts.into_iter().map(|text| (text.value, text.span)).collect();
    },
};

const DESCRIPTION: Keyword<RawParam> = Keyword {
    entry: Entry {
        name: "description",
        shape: Shape::Text,
        doc: "A sentence for the form.",
        example: "description: The version to release",
        required: false,
        also: &["help", "doc"],
    },
    read: |d, at, param| param.description = d.text(at, "a sentence").map(|text| text.value),
};
