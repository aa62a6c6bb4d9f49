//! The decoder: reads nodes by keyword tables and never stops at the first fault.

use std::time::Duration;

use model::units::{parse_bytes, parse_duration};
use model::{Bytes, Glob, GlobList, Span};

use crate::diagnostic::{Diagnostic, nearest};
use crate::keyword::codes::{BAD_GLOB, BAD_NAME, BAD_VALUE, MISSING_KEY, UNKNOWN_KEY, WRONG_TYPE};
use crate::keyword::{Keyword, Table};
use crate::report::Sources;
use crate::span_map::{SpanMap, Style};
use crate::yaml::{Document, Kind, NodeId, Scalar};

/// Findings of one file before reading on is pointless: a generated file with the same fault everywhere.
pub(crate) const FOUND_MAX: usize = 1_000;

/// Reads one document.
pub(crate) struct Decoder<'a> {
    pub doc: &'a Document,
    pub out: &'a mut Vec<Diagnostic>,
}

/// A value and the keyword it is the value of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The keyword, for messages.
    pub name: &'static str,
    pub node: NodeId,
}

/// A text that may hold expressions, with the way back to the file.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub value: String,
    pub span: Span,
    pub style: Style,
}

impl Text {
    /// Maps places in `value` to the file.
    pub(crate) fn map(&self, sources: &Sources) -> SpanMap {
        SpanMap::of_scalar(sources.text(self.span.file), self.span, self.style, &self.value)
    }
}

impl<'a> Decoder<'a> {
    pub(crate) fn kind(&self, node: NodeId) -> &'a Kind {
        &self.doc.node(node).kind
    }

    /// Where to point for a value.
    pub(crate) fn span(&self, at: At) -> Span {
        self.doc.head(at.node)
    }

    pub(crate) fn is_null(&self, at: At) -> bool {
        matches!(self.kind(at.node), Kind::Scalar(scalar) if scalar.is_null())
    }

    /// What a value is, in a person's words.
    fn what(&self, node: NodeId) -> &'static str {
        match self.kind(node) {
            Kind::Scalar(scalar) => scalar.what(),
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    pub(crate) fn found(&mut self, diagnostic: Diagnostic) {
        if self.out.len() < FOUND_MAX {
            self.out.push(diagnostic);
        }
    }

    /// Says that a value is of the wrong type; `wants` continues "`key` wants …".
    pub(crate) fn wrong(&mut self, at: At, wants: &str) {
        self.wrong_with(at, wants, None);
    }

    /// Says what is wanted instead of what is there, and how it may be written.
    pub(crate) fn wrong_with(&mut self, at: At, wants: &str, help: Option<&str>) {
        let what = self.what(at.node);
        let label = if what == "empty" { "nothing is here" } else { what };
        let message = match what {
            "empty" => format!("`{}` wants {wants}, but is empty", at.name),
            what => format!("`{}` wants {wants}, this is {what}", at.name),
        };
        let found = Diagnostic::error(&WRONG_TYPE, self.span(at), message, label);
        self.found(found.help_if(help.map(Into::into)));
    }

    /// Says that a file's outermost value is no map.
    pub(crate) fn not_a_map(&mut self, at: At, what: &str) {
        let found = self.what(at.node);
        let message = format!("{what} is a map of keys, this is {found}");
        let diagnostic = Diagnostic::error(&WRONG_TYPE, self.span(at), message, found);
        self.found(diagnostic.help("the smallest pipeline is a `name` and one step with `id` and `cmd`"));
    }

    /// Says that a value has the right type but cannot be; `why` is a whole clause.
    pub(crate) fn bad(&mut self, at: At, why: impl std::fmt::Display) {
        let found = Diagnostic::error(&BAD_VALUE, self.span(at), format!("`{}`: {why}", at.name), "");
        self.found(found);
    }

    /// Reads a map by its table into `into`. `what` names the map: "a step".
    pub(crate) fn table<T: 'static>(&mut self, at: At, what: &str, table: Table<T>, into: &mut T) {
        let wants = match what.strip_prefix('`') {
            Some(_) => format!("a map with {}", names(table)),
            None => format!("a map for {what}"),
        };
        let Some(entries) = self.map(at, &wants) else { return };
        let mut seen = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if self.out.len() >= FOUND_MAX {
                return;
            }
            match table.iter().find(|keyword| keyword.entry.name == key.value) {
                Some(keyword) => {
                    seen.push(keyword.entry.name);
                    let at = At { name: keyword.entry.name, node: value.node };
                    (keyword.read)(self, at, into);
                }
                None => self.unknown(&key, what, table),
            }
        }
        for keyword in table.iter().filter(|keyword| keyword.entry.required && !seen.contains(&keyword.entry.name)) {
            let (name, example) = (keyword.entry.name, keyword.entry.example);
            let message = format!("{what} has no `{name}`");
            let found =
                Diagnostic::error(&MISSING_KEY, self.doc.head(at.node), message, format!("`{name}` is missing"));
            self.found(found.help(format!("write for example `{}`", example.lines().next().unwrap_or(name))));
        }
    }

    fn unknown<T>(&mut self, key: &Text, what: &str, table: Table<T>) {
        let shown: String = key.value.chars().take(60).collect();
        let found = Diagnostic::error(&UNKNOWN_KEY, key.span, format!("{what} has no key `{shown}`"), "unknown key");
        let other = table.iter().find(|keyword| keyword.entry.also.contains(&key.value.as_str()));
        let help = match other {
            Some(keyword) => format!("here it is called `{}`", keyword.entry.name),
            None => match nearest(&key.value, table.iter().map(|keyword| keyword.entry.name)) {
                Some(name) => format!("there is a key `{name}`"),
                None => format!("the keys of {what} are {}", names(table)),
            },
        };
        self.found(found.help(help));
    }

    /// The entries of a map, keys as texts.
    pub(crate) fn map(&mut self, at: At, wants: &str) -> Option<Vec<(Text, At)>> {
        let Kind::Map(entries) = self.kind(at.node) else {
            self.wrong(at, wants);
            return None;
        };
        let pairs = entries.iter().filter_map(|(key, value)| {
            let Kind::Scalar(scalar) = self.kind(*key) else { return None };
            Some((text_of(scalar, self.doc.node(*key).span), At { node: *value, ..at }))
        });
        Some(pairs.collect())
    }

    /// The values of a list; a lone value is told to become one.
    pub(crate) fn list(&mut self, at: At, wants: &str) -> Option<Vec<At>> {
        match self.kind(at.node) {
            Kind::List(items) => Some(items.iter().map(|node| At { node: *node, ..at }).collect()),
            Kind::Scalar(scalar) if !scalar.is_null() => {
                let message = format!("`{}` wants {wants}, this is {}", at.name, scalar.what());
                let first: String = scalar.text.lines().next().unwrap_or("").chars().take(40).collect();
                let found = Diagnostic::error(&WRONG_TYPE, self.span(at), message, "not a list");
                self.found(found.help(format!("put it in a list: `{}: [{first}]`", at.name)));
                None
            }
            _ => {
                self.wrong(at, wants);
                None
            }
        }
    }

    /// Any scalar but null, as it is written.
    pub(crate) fn text(&mut self, at: At, wants: &str) -> Option<Text> {
        match self.kind(at.node) {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(text_of(scalar, self.doc.node(at.node).span)),
            _ => {
                self.wrong(at, wants);
                None
            }
        }
    }

    /// A text with something in it.
    pub(crate) fn filled(&mut self, at: At, wants: &str) -> Option<Text> {
        let text = self.text(at, wants)?;
        if text.value.trim().is_empty() {
            self.bad(at, "the text is empty");
            return None;
        }
        Some(text)
    }

    pub(crate) fn scalar(&mut self, at: At, wants: &str) -> Option<&'a Scalar> {
        match self.kind(at.node) {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar),
            _ => {
                self.wrong(at, wants);
                None
            }
        }
    }

    pub(crate) fn bool(&mut self, at: At) -> Option<bool> {
        let scalar = self.scalar(at, "`true` or `false`")?;
        if let Some(value) = scalar.as_bool() {
            return Some(value);
        }
        let meant = match scalar.text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "1" | "true" => Some("write `true`, without quotes".to_string()),
            "no" | "off" | "n" | "0" | "false" => Some("write `false`, without quotes".to_string()),
            _ => None,
        };
        let message = format!("`{}` wants `true` or `false`, this is {}", at.name, scalar.what());
        let found = Diagnostic::error(&WRONG_TYPE, self.span(at), message, scalar.what()).help_if(meant);
        self.found(found);
        None
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&mut self, at: At, min: i64, max: i64) -> Option<i64> {
        let wants = format!("a whole number from {min} to {max}");
        let scalar = self.scalar(at, &wants)?;
        match scalar.as_int() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(number) => {
                self.bad(at, format_args!("{number} is not from {min} to {max}"));
                None
            }
            None => {
                self.wrong(at, &wants);
                None
            }
        }
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, at: At, min: f64, max: f64) -> Option<f64> {
        let wants = format!("a number from {min} to {max}");
        let scalar = self.scalar(at, &wants)?;
        match scalar.as_number() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(number) => {
                self.bad(at, format_args!("{number} is not from {min} to {max}"));
                None
            }
            None => {
                self.wrong(at, &wants);
                None
            }
        }
    }

    /// A duration that is not zero.
    pub(crate) fn duration(&mut self, at: At) -> Option<Duration> {
        let text = self.text(at, "a duration like `10m`")?;
        match parse_duration(&text.value) {
            Ok(time) if time.is_zero() => {
                self.bad(at, "a duration is longer than nothing");
                None
            }
            Ok(time) => Some(time),
            Err(why) => {
                self.bad(at, why);
                None
            }
        }
    }

    /// A size that is not zero.
    pub(crate) fn size(&mut self, at: At) -> Option<Bytes> {
        let text = self.text(at, "a size like `4GiB`")?;
        match parse_bytes(&text.value) {
            Ok(Bytes(0)) => {
                self.bad(at, "a size is more than nothing");
                None
            }
            Ok(size) => Some(size),
            Err(why) => {
                self.bad(at, why);
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Clone>(&mut self, at: At, words: &[(&str, T)]) -> Option<T> {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let text = self.text(at, &format!("one of {}", all.join(", ")))?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(value.clone());
        }
        let shown: String = text.value.chars().take(60).collect();
        let message = format!("`{}` cannot be `{shown}`", at.name);
        let help = match nearest(&text.value, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("there is `{word}`"),
            None => format!("it is one of {}", all.join(", ")),
        };
        let found = Diagnostic::error(&BAD_VALUE, text.span, message, "unknown word").help(help);
        self.found(found);
        None
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, at: At, wants: &str) -> Vec<Text> {
        let items = self.list(at, wants).unwrap_or_default();
        items.into_iter().filter_map(|item| self.filled(item, "a text in each place")).collect()
    }

    /// A list of gitignore-style patterns.
    pub(crate) fn globs(&mut self, at: At) -> Option<GlobList> {
        let items = self.list(at, "a list of patterns")?;
        Some(GlobList(items.into_iter().filter_map(|item| self.glob(item)).collect()))
    }

    fn glob(&mut self, at: At) -> Option<Glob> {
        let text = self.text(at, "a pattern like `src/**` in each place")?;
        match Glob::parse(&text.value) {
            Ok(glob) => Some(glob),
            Err(why) => {
                let found = Diagnostic::error(&BAD_GLOB, text.span, format!("`{}`: {why}", at.name), "this pattern");
                self.found(found);
                None
            }
        }
    }

    /// A path within the workspace.
    pub(crate) fn path(&mut self, at: At) -> Option<String> {
        let text = self.filled(at, "a path in the workspace")?;
        match path_fault(&text.value) {
            None => Some(text.value.trim_start_matches("./").trim_end_matches('/').to_string()),
            Some(why) => {
                self.bad(at, why);
                None
            }
        }
    }

    /// Says what is wrong with a name, if it is not letters, digits, `_` (and `-`, where `dash`), not first a digit
    /// or dash.
    pub(crate) fn name_fits(&mut self, name: &Text, what: &str, dash: bool) -> bool {
        let mut bytes = name.value.bytes();
        let first = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_' || (dash && byte.is_ascii_digit()));
        let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || (dash && byte == b'-'));
        if first && rest && name.value.len() <= model::limits::STEP_ID_BYTES_MAX {
            return true;
        }
        let shown: String = name.value.chars().take(60).collect();
        let letters =
            if dash { "letters, digits, `_` and `-`" } else { "letters, digits and `_`, and not first a digit" };
        let message = format!("`{shown}` cannot be {what}");
        let help = format!("{what} is made of {letters}, at most {}", model::limits::STEP_ID_BYTES_MAX);
        self.found(Diagnostic::error(&BAD_NAME, name.span, message, "not a name").help(help));
        false
    }

    /// A map of environment variables: name to template.
    pub(crate) fn env(&mut self, at: At) -> Vec<(Text, Text)> {
        let entries = self.map(at, "a map of names to texts").unwrap_or_default();
        if entries.len() > ENV_MAX {
            self.bad(at, format_args!("more than {ENV_MAX} variables"));
        }
        let mut env = Vec::with_capacity(entries.len().min(ENV_MAX));
        for (name, value) in entries.into_iter().take(ENV_MAX) {
            if !self.name_fits(&name, "a variable's name", false) {
                continue;
            }
            if name.value.starts_with("PACE_") {
                let message = format!("`{}` is set by pace itself", name.value);
                let found = Diagnostic::error(&BAD_NAME, name.span, message, "names with `PACE_` are taken");
                self.found(found.help("choose another name"));
                continue;
            }
            if let Some(text) = self.text(value, "a text for each name (\"\" for an empty one)") {
                env.push((name, text));
            }
        }
        env
    }
}

/// Variables of one `env`.
const ENV_MAX: usize = 1_000;

/// Why a path does not stay within the workspace.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    if path.starts_with('/') || path.starts_with('~') {
        return Some("the path begins outside of the workspace; write it relative to the workspace");
    }
    if path.split('/').any(|part| part == "..") {
        return Some("the path leaves the workspace with `..`");
    }
    path.chars().any(char::is_control).then_some("a path has no control characters")
}

pub(crate) fn text_of(scalar: &Scalar, span: Span) -> Text {
    Text { value: scalar.text.clone(), span, style: scalar.style }
}

fn names<T>(table: Table<T>) -> String {
    let all: Vec<String> = table.iter().map(|keyword: &&Keyword<T>| format!("`{}`", keyword.entry.name)).collect();
    all.join(", ")
}
