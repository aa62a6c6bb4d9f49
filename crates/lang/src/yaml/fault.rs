//! What the YAML parser refused, said so that a person finds the place that is wrong.

use granit_parser::{ErrorKind, ScanError};
use model::Span;
use model::limits::YAML_DEPTH_MAX;

use super::codes::{SYNTAX, TAB, TOO_BIG, UNCLOSED};
use crate::diagnostic::Diagnostic;

/// The diagnostic of a parser error. `opened`: brackets that are not closed yet, outermost first; `last`: the end of
/// what was read before.
pub(super) fn explain(file: u16, text: &str, error: &ScanError, opened: &[Span], last: u32) -> Diagnostic {
    let offset = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let fault = Fault { file, text, at: char_at(file, text, offset), opened, last };
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            let message = format!("lists and maps are nested more than {YAML_DEPTH_MAX} deep");
            Diagnostic::error(&TOO_BIG, fault.at, message, "one too many")
        }
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => fault.tab(),
        ErrorKind::UnclosedQuotedScalar
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::DocumentIndicatorInQuotedScalar => fault.quote(),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => fault.mismatch(*open, *close),
        _ if fault.at_tab() => fault.tab(),
        _ if fault.bare_expression() => fault.expression(),
        _ if !opened.is_empty() => fault.bracket(error),
        kind => fault.other(kind, error),
    }
}

struct Fault<'a> {
    file: u16,
    text: &'a str,
    at: Span,
    opened: &'a [Span],
    last: u32,
}

impl Fault<'_> {
    fn at_tab(&self) -> bool {
        let line = &self.text[self.line_start()..];
        line.trim_start_matches(' ').starts_with('\t')
    }

    fn line_start(&self) -> usize {
        self.text[..self.at.start as usize].rfind('\n').map_or(0, |at| at + 1)
    }

    /// The tab nearest to where the parser stopped.
    fn tab(&self) -> Diagnostic {
        let from = self.line_start();
        let tab = self.text[from..].find('\t').map_or(self.at.start as usize, |at| from + at);
        let at = char_at(self.file, self.text, tab);
        Diagnostic::error(&TAB, at, "a line is indented with a tab", "a tab").help("YAML is indented with spaces only")
    }

    /// The quote that was never closed is the first one behind what was read well.
    fn quote(&self) -> Diagnostic {
        let opening = opening_quote(self.text, self.last as usize).unwrap_or(self.at.start as usize);
        let at = char_at(self.file, self.text, opening);
        let found = Diagnostic::error(&UNCLOSED, at, "a quote is not closed", "it is opened here");
        found.help("close it on the same line, or write the text as a block: `|` and indented lines")
    }

    fn mismatch(&self, open: char, close: char) -> Diagnostic {
        let at = self.opened.last().copied().unwrap_or(self.at);
        Diagnostic::error(&UNCLOSED, at, format!("`{open}` is closed by `{close}`"), "opened here")
            .help(format!("close it with `{}`", if open == '[' { ']' } else { '}' }))
    }

    /// `[${{ x }}]`: the braces are YAML's inside of a flow list or map.
    fn bare_expression(&self) -> bool {
        let at = self.at.start as usize;
        let around = &self.text[floor(self.text, at.saturating_sub(3))..floor(self.text, at + 3)];
        !self.opened.is_empty() && around.contains("${")
    }

    fn expression(&self) -> Diagnostic {
        Diagnostic::error(
            &SYNTAX,
            self.at,
            "inside `[ ]` and `{ }` a value with `${{ }}` wants quotes",
            "YAML reads this `{` as a map",
        )
        .help("write it in quotes: \"${{ … }}\"")
    }

    /// Inside a bracket: on the bracket's own line the place is shown, further down the bracket.
    fn bracket(&self, error: &ScanError) -> Diagnostic {
        let opened = self.opened[self.opened.len() - 1];
        let bracket = self.text.get(opened.start as usize..opened.end as usize).unwrap_or("[");
        let close = if bracket == "{" { "}" } else { "]" };
        let far = self.text[opened.start as usize..self.at.start.max(opened.start) as usize].contains('\n');
        if far || self.at.start as usize >= self.text.trim_end().len() {
            let found = Diagnostic::error(&UNCLOSED, opened, format!("`{bracket}` is not closed"), "opened here");
            return found.also(self.at, "noticed here").help(format!("close it with `{close}`"));
        }
        Diagnostic::error(&SYNTAX, self.at, format!("this does not fit inside `{bracket} {close}`"), error.info())
            .also(opened, "opened here")
            .help("separate values with `,`, write pairs as `key: value`, and put text with `:`, `,`, `[` or `{` in quotes")
    }

    fn other(&self, kind: &ErrorKind, error: &ScanError) -> Diagnostic {
        let (message, label, help) = match kind {
            ErrorKind::MappingValueNotAllowed => (
                "a second `:` on a line, or a key that is indented wrongly",
                "no `:` may stand here",
                "text with `: ` in it wants quotes around it, or a block: `|` and indented lines",
            ),
            ErrorKind::ExpectedBlockSequenceEntry
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::InvalidIndentation => (
                "this line does not belong to the lines above it",
                "its indent fits none of them",
                "keys of one map begin in the same column, and so do the `-` of one list",
            ),
            ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
                ("a key has no `:` after it", "a `key: value` was expected", "write `key: value`")
            }
            ErrorKind::UnexpectedCharacter { .. } => {
                ("a text cannot begin with this character", "YAML keeps it for itself", "put the text in quotes")
            }
            ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
                "there is more text behind a closing quote",
                "the quoted text ended before this",
                "put all of it in quotes; inside '…' a quote is written ''",
            ),
            ErrorKind::UnknownQuotedScalarEscape => (
                "a text in \"…\" has an unknown escape",
                "in this text",
                "write `\\\\` for a backslash, or use '…', where it means itself",
            ),
            ErrorKind::BlockSequenceEntryNotAllowed => {
                ("a list begins on the line of its key", "no `-` may stand here", "begin it on a line of its own")
            }
            _ => return Diagnostic::error(&SYNTAX, self.at, format!("this is not YAML: {}", error.info()), "here"),
        };
        Diagnostic::error(&SYNTAX, self.at, message, label).help(help)
    }
}

/// The span of one character; of nothing at the end and before a line break.
fn char_at(file: u16, text: &str, offset: usize) -> Span {
    let offset = floor(text, offset);
    let length = text[offset..].chars().next().filter(|c| *c != '\n' && *c != '\r').map_or(0, char::len_utf8);
    Span { file, start: offset as u32, end: (offset + length) as u32 }
}

/// The first quote from `from` on that is not in a comment.
fn opening_quote(text: &str, from: usize) -> Option<usize> {
    let mut comment = false;
    let mut before = ' ';
    for (at, c) in text.get(from..)?.char_indices() {
        match c {
            '\n' => comment = false,
            '#' if before.is_whitespace() => comment = true,
            '"' | '\'' if !comment => return Some(from + at),
            _ => {}
        }
        before = c;
    }
    None
}

fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
